//! Plain tensors: what crosses every boundary of the workspace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Element types that graphs, files and boundaries know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit float, the default of everything.
    F32,
    /// 64-bit float.
    F64,
    /// 16-bit float, for stored weights.
    F16,
    /// 64-bit integer: indices, shapes, labels.
    I64,
    /// 32-bit integer.
    I32,
    /// Byte.
    U8,
    /// Truth value, one byte each.
    Bool,
}

impl DType {
    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }

    /// The short name: `f32`, `i64`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::F16 => "f16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of an [`Array`].
#[derive(Clone, PartialEq)]
pub enum Data {
    /// See [`DType::F32`].
    F32(Vec<f32>),
    /// See [`DType::F64`].
    F64(Vec<f64>),
    /// Bit patterns of [`DType::F16`].
    F16(Vec<u16>),
    /// See [`DType::I64`].
    I64(Vec<i64>),
    /// See [`DType::I32`].
    I32(Vec<i32>),
    /// See [`DType::U8`].
    U8(Vec<u8>),
    /// See [`DType::Bool`]; 0 or 1.
    Bool(Vec<u8>),
}

/// A dense tensor in row-major order.
#[derive(Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// Number of elements of `shape`, or an error where it overflows.
fn count(shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|n| {
            n.checked_mul(8)
                .is_some_and(|bytes| bytes <= isize::MAX as usize)
        })
        .ok_or_else(|| Error::Overflow(shape.to_vec()))
}

macro_rules! typed {
    ($($new:ident, $get:ident, $variant:ident, $ty:ty;)*) => {$(
        #[doc = concat!("An array of `", stringify!($variant), "` elements; an error where their number differs from the shape's.")]
        pub fn $new(shape: impl Into<Vec<usize>>, values: impl Into<Vec<$ty>>) -> Result<Self> {
            Self::new(shape, Data::$variant(values.into()))
        }

        #[doc = concat!("The elements, where they are `", stringify!($variant), "`.")]
        pub fn $get(&self) -> Result<&[$ty]> {
            match &self.data {
                Data::$variant(values) => Ok(values),
                _ => Err(Error::DType { expected: DType::$variant, got: self.dtype() }),
            }
        }
    )*};
}

/// The same for whatever the elements are.
macro_rules! each {
    ($data:expr, $values:ident => $result:expr) => {
        match $data {
            Data::F32($values) => Data::F32($result),
            Data::F64($values) => Data::F64($result),
            Data::F16($values) => Data::F16($result),
            Data::I64($values) => Data::I64($result),
            Data::I32($values) => Data::I32($result),
            Data::U8($values) => Data::U8($result),
            Data::Bool($values) => Data::Bool($result),
        }
    };
}

impl Array {
    /// An array of these elements; an error where their number differs from the shape's.
    pub fn new(shape: impl Into<Vec<usize>>, data: Data) -> Result<Self> {
        let shape = shape.into();
        let (expected, got) = (count(&shape)?, data.len());
        if expected != got {
            return Err(Error::Length {
                shape,
                expected,
                got,
            });
        }
        Ok(Self { shape, data })
    }

    typed! {
        f32, as_f32, F32, f32;
        f64, as_f64, F64, f64;
        f16_bits, as_f16_bits, F16, u16;
        i64, as_i64, I64, i64;
        i32, as_i32, I32, i32;
        u8, as_u8, U8, u8;
        bool, as_bool, Bool, u8;
    }

    /// An array of little-endian bytes, as files and pipes hold them.
    pub fn from_le_bytes(dtype: DType, shape: impl Into<Vec<usize>>, bytes: &[u8]) -> Result<Self> {
        let shape = shape.into();
        let expected = count(&shape)?;
        if bytes.len() != expected * dtype.size() {
            return Err(Error::Length {
                shape,
                expected,
                got: bytes.len() / dtype.size(),
            });
        }
        macro_rules! read {
            ($ty:ty) => {
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|b| <$ty>::from_le_bytes(*b))
                    .collect()
            };
        }
        let data = match dtype {
            DType::F32 => Data::F32(read!(f32)),
            DType::F64 => Data::F64(read!(f64)),
            DType::F16 => Data::F16(read!(u16)),
            DType::I64 => Data::I64(read!(i64)),
            DType::I32 => Data::I32(read!(i32)),
            DType::U8 => Data::U8(bytes.to_vec()),
            DType::Bool => Data::Bool(bytes.iter().map(|&b| u8::from(b != 0)).collect()),
        };
        Ok(Self { shape, data })
    }

    /// The elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        if cfg!(target_endian = "little") {
            return match &self.data {
                Data::F32(v) => bytemuck::cast_slice(v).to_vec(),
                Data::F64(v) => bytemuck::cast_slice(v).to_vec(),
                Data::F16(v) => bytemuck::cast_slice(v).to_vec(),
                Data::I64(v) => bytemuck::cast_slice(v).to_vec(),
                Data::I32(v) => bytemuck::cast_slice(v).to_vec(),
                Data::U8(v) | Data::Bool(v) => v.clone(),
            };
        }
        match &self.data {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::F64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::U8(v) | Data::Bool(v) => v.clone(),
        }
    }

    /// The elements as numbers of one type, for comparison and printing.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::F64(v) => v.clone(),
            Data::F16(v) => v.iter().map(|&x| f64::from(f16_to_f32(x))).collect(),
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::U8(v) | Data::Bool(v) => v.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// Sizes of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same elements under another shape of as many.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// Rows `start..end` of the first dimension; an empty range where it lies outside.
    pub fn rows(&self, start: usize, end: usize) -> Self {
        let rows = self.shape.first().copied().unwrap_or(0);
        let (start, end) = (start.min(rows), end.clamp(start.min(rows), rows));
        let row = self.len().checked_div(rows).unwrap_or(0);
        let range = start * row..end * row;
        let data = each!(&self.data, v => v[range].to_vec());
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = end - start;
        }
        Self { shape, data }
    }

    /// Slice `index` along `axis`, without the axis; `None` where there is no such slice.
    pub fn slice(&self, axis: usize, index: usize) -> Option<Self> {
        let size = *self.shape.get(axis)?;
        if index >= size {
            return None;
        }
        let inner: usize = self.shape[axis + 1..].iter().product();
        fn of<T: Copy>(values: &[T], index: usize, size: usize, inner: usize) -> Vec<T> {
            let blocks = values.chunks_exact((size * inner).max(1));
            let slices = blocks.flat_map(|block| &block[index * inner..(index + 1) * inner]);
            slices.copied().collect()
        }
        let mut shape = self.shape.clone();
        shape.remove(axis);
        let data = each!(&self.data, v => of(v, index, size, inner));
        Some(Self { shape, data })
    }

    /// Arrays of one shape and type side by side along a new dimension `axis`; `None` where they differ, or there are none.
    pub fn stack(parts: &[Self], axis: usize) -> Option<Self> {
        let first = parts.first()?;
        let fits = |part: &Self| part.shape == first.shape && part.dtype() == first.dtype();
        if axis > first.shape.len() || !parts.iter().all(fits) {
            return None;
        }
        let inner: usize = first.shape[axis..].iter().product();
        let outer: usize = first.shape[..axis].iter().product();
        let mut shape = first.shape.clone();
        shape.insert(axis, parts.len());
        fn of<'a, T: Copy + 'a>(
            parts: impl Fn(usize) -> Option<&'a [T]>,
            count: usize,
            outer: usize,
            inner: usize,
        ) -> Option<Vec<T>> {
            let mut values = Vec::with_capacity(count * outer * inner);
            for block in 0..outer {
                for k in 0..count {
                    values.extend_from_slice(&parts(k)?[block * inner..(block + 1) * inner]);
                }
            }
            Some(values)
        }
        macro_rules! stacked {
            ($($kind:ident),*) => {
                match first.data {
                    $(Data::$kind(_) => Data::$kind(of(
                        |k| match &parts[k].data { Data::$kind(v) => Some(&v[..]), _ => None },
                        parts.len(), outer, inner,
                    )?),)*
                }
            };
        }
        let data = stacked!(F32, F64, F16, I64, I32, U8, Bool);
        Some(Self { shape, data })
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape)
    }
}

impl Data {
    /// The element type.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::F16(_) => DType::F16,
            Self::I64(_) => DType::I64,
            Self::I32(_) => DType::I32,
            Self::U8(_) => DType::U8,
            Self::Bool(_) => DType::Bool,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U8(v) | Self::Bool(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// IEEE 754 half to single precision, exact.
fn f16_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        0 => f32::from(fraction) * 2f32.powi(-24),
        0x1f if fraction == 0 => f32::INFINITY,
        0x1f => f32::NAN,
        _ => (1.0 + f32::from(fraction) / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert!(matches!(
            Array::f32([2, 3], vec![0.0; 5]),
            Err(Error::Length {
                expected: 6,
                got: 5,
                ..
            })
        ));
        assert!(matches!(
            Array::u8([usize::MAX, 2], vec![]),
            Err(Error::Overflow(_))
        ));
        assert!(matches!(
            Array::u8([1 << 62], vec![]),
            Err(Error::Overflow(_))
        ));
    }

    #[test]
    fn bytes_and_back() {
        let array = Array::i64([2, 2], [1, -2, 3, i64::MIN]).unwrap();
        assert_eq!(
            Array::from_le_bytes(DType::I64, [2, 2], &array.to_le_bytes()).unwrap(),
            array
        );
        assert!(Array::from_le_bytes(DType::F32, [2], &[0; 7]).is_err());
    }

    #[test]
    fn rows_of_the_first_dimension() {
        let array = Array::u8([3, 2], [1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(array.rows(1, 3), Array::u8([2, 2], [3, 4, 5, 6]).unwrap());
        assert_eq!(array.rows(2, 9).shape(), [1, 2]);
        assert!(array.rows(5, 9).is_empty());
    }

    #[test]
    fn slices_along_any_dimension_and_back() {
        let array = Array::i64([2, 3, 2], (0..12).collect::<Vec<_>>()).unwrap();
        let middle = array.slice(1, 2).unwrap();
        assert_eq!(
            (middle.shape(), middle.as_i64().unwrap()),
            (&[2, 2][..], &[4, 5, 10, 11][..])
        );
        for axis in 0..3 {
            let parts = (0..array.shape()[axis]).map(|i| array.slice(axis, i).unwrap());
            let parts: Vec<_> = parts.collect();
            assert_eq!(Array::stack(&parts, axis).as_ref(), Some(&array));
        }
        assert_eq!((array.slice(1, 3), array.slice(3, 0)), (None, None));
        let other = Array::f32([2, 2], vec![0.0; 4]).unwrap();
        assert_eq!(Array::stack(&[middle.clone(), other], 0), None);
        assert_eq!(
            (Array::stack(&[], 0), Array::stack(&[middle], 3)),
            (None, None)
        );
    }

    #[test]
    fn half_precision_reads_exactly() {
        let bits = [0x3c00, 0xc000, 0x0001, 0x7c00, 0x3555];
        let half = Array::f16_bits([5], bits).unwrap().to_f64();
        assert_eq!(half[..3], [1.0, -2.0, 2f64.powi(-24)]);
        assert!(half[3].is_infinite() && (half[4] - 0.333_251_953_125).abs() < 1e-12);
    }
}
