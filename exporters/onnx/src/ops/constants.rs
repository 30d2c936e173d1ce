//! Values over constants, for folding. Not a runtime: what it does not know stays a node.

use zoo_graph::{Array, DType, Data};

use super::args::Args;

/// A constant may grow to this many elements, or to twice the elements that it comes from.
pub(super) const SMALL: usize = 4096;

/// A scalar of an element type.
pub(crate) fn scalar(dtype: DType, value: f64) -> Result<Array, String> {
    numbers(dtype, &[], &[value])
}

/// Numbers as an element type holds them.
pub(crate) fn numbers(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Array, String> {
    let each = values.iter().copied();
    let data = match dtype {
        DType::F32 => Data::F32(each.map(|v| v as f32).collect()),
        DType::F64 => Data::F64(values.to_vec()),
        DType::F16 => Data::F16(each.map(|v| half::f16::from_f64(v).to_bits()).collect()),
        DType::I64 => Data::I64(each.map(|v| v as i64).collect()),
        DType::I32 => Data::I32(each.map(|v| v as i32).collect()),
        DType::U8 => Data::U8(each.map(|v| v as u8).collect()),
        DType::Bool => Data::Bool(each.map(|v| u8::from(v != 0.0)).collect()),
    };
    Array::new(shape, data).map_err(|e| e.to_string())
}

/// A node whose inputs are all constant, and what it gives.
pub(crate) struct Constants<'a> {
    pub args: &'a Args<'a>,
    pub inputs: Vec<&'a Array>,
    /// Of the output.
    pub dtype: DType,
    /// Of the output.
    pub shape: Vec<usize>,
}

impl Constants<'_> {
    /// Input 0.
    pub fn x(&self) -> &Array {
        self.inputs[0]
    }

    /// Input `i`, broadcast to the output's shape.
    pub fn expanded(&self, i: usize) -> Option<Array> {
        expand(self.inputs[i], &self.shape)
    }
}

/// Elements from one position to the next along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        steps[i - 1] = steps[i] * shape[i];
    }
    steps
}

/// `source` of every index of `shape`, in row-major order.
pub(super) fn each_index(shape: &[usize], source: impl Fn(&[usize]) -> usize) -> Vec<usize> {
    let total = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut sources = Vec::with_capacity(total);
    for _ in 0..total {
        sources.push(source(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    sources
}

/// Where each element of `shape` comes from when `from` is broadcast to it.
fn broadcast_sources(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let steps = strides(from);
    let lead = shape.len() - from.len();
    each_index(shape, |index| {
        let place = |(i, step): (usize, &usize)| {
            if from[i] == 1 {
                0
            } else {
                index[lead + i] * step
            }
        };
        steps.iter().enumerate().map(place).sum()
    })
}

/// The elements at `sources`, of any type.
pub(super) fn pick(array: &Array, shape: &[usize], sources: &[usize]) -> Option<Array> {
    fn of<T: Copy>(values: &[T], sources: &[usize]) -> Option<Vec<T>> {
        sources.iter().map(|&i| values.get(i).copied()).collect()
    }
    let data = match array.data() {
        Data::F32(v) => Data::F32(of(v, sources)?),
        Data::F64(v) => Data::F64(of(v, sources)?),
        Data::F16(v) => Data::F16(of(v, sources)?),
        Data::I64(v) => Data::I64(of(v, sources)?),
        Data::I32(v) => Data::I32(of(v, sources)?),
        Data::U8(v) => Data::U8(of(v, sources)?),
        Data::Bool(v) => Data::Bool(of(v, sources)?),
    };
    Array::new(shape, data).ok()
}

/// An array broadcast to a shape.
pub(super) fn expand(array: &Array, shape: &[usize]) -> Option<Array> {
    pick(array, shape, &broadcast_sources(array.shape(), shape))
}
