//! Arrays as ONNX tensors, in models and in `.pb` files of their own.

use prost::Message;
use zoo_graph::{Array, DType};

use crate::{
    Error, Result,
    proto::{TensorProto, data_type},
};

/// ONNX's number of an element type.
pub(crate) fn dtype_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => data_type::FLOAT,
        DType::F64 => data_type::DOUBLE,
        DType::F16 => data_type::FLOAT16,
        DType::I64 => data_type::INT64,
        DType::I32 => data_type::INT32,
        DType::U8 => data_type::UINT8,
        DType::Bool => data_type::BOOL,
    }
}

/// The element type of ONNX's number, where graphs know it.
pub(crate) fn dtype_of(code: i32) -> Option<DType> {
    Some(match code {
        data_type::FLOAT => DType::F32,
        data_type::DOUBLE => DType::F64,
        data_type::FLOAT16 => DType::F16,
        data_type::INT64 => DType::I64,
        data_type::INT32 => DType::I32,
        data_type::UINT8 => DType::U8,
        data_type::BOOL => DType::Bool,
        _ => return None,
    })
}

pub(crate) fn to_proto(name: &str, array: &Array) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: array.shape().iter().map(|&d| d as i64).collect(),
        data_type: dtype_code(array.dtype()),
        raw_data: array.to_le_bytes(),
        ..TensorProto::default()
    }
}

/// Reads a tensor whose bytes stand in the file itself. Nothing is allocated beyond what the file holds.
pub(crate) fn from_proto(tensor: &TensorProto) -> Result<Array> {
    let err = |reason: String| Error::value(&tensor.name, reason);
    if tensor.data_location != 0 || !tensor.external_data.is_empty() {
        return Err(err(
            "its data are in another file; only tensors that stand in the file itself are read"
                .into(),
        ));
    }
    let dtype = dtype_of(tensor.data_type).ok_or_else(|| {
        err(format!(
            "its element type {} is not supported",
            tensor.data_type
        ))
    })?;
    if !tensor.segment.is_empty() || !tensor.string_data.is_empty() {
        return Err(err("segments and strings are not supported".into()));
    }
    let shape = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| err(format!("its dimension {d} is negative"))))
        .collect::<Result<Vec<usize>>>()?;
    let typed = [
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
    ];
    let fields =
        typed.iter().filter(|&&n| n > 0).count() + usize::from(!tensor.raw_data.is_empty());
    if fields > 1 {
        return Err(err("its data stand in more than one field".into()));
    }
    let array = if typed.iter().all(|&n| n == 0) {
        // An empty tensor has no data at all, whatever its type.
        Array::from_le_bytes(dtype, shape, &tensor.raw_data)
    } else {
        match dtype {
            DType::F32 => Array::f32(shape, tensor.float_data.as_slice()),
            DType::F64 => Array::f64(shape, tensor.double_data.as_slice()),
            DType::I64 => Array::i64(shape, tensor.int64_data.as_slice()),
            DType::I32 => Array::i32(shape, tensor.int32_data.as_slice()),
            DType::F16 => Array::f16_bits(shape, narrow(tensor, u16::try_from)?),
            DType::U8 => Array::u8(shape, narrow(tensor, u8::try_from)?),
            DType::Bool => Array::bool(shape, narrow(tensor, |v| u8::try_from(i32::from(v != 0)))?),
        }
    };
    array.map_err(|e| err(e.to_string()))
}

/// Small types are stored as 32-bit integers.
fn narrow<T, E>(tensor: &TensorProto, cast: impl Fn(i32) -> Result<T, E>) -> Result<Vec<T>> {
    tensor
        .int32_data
        .iter()
        .map(|&v| {
            cast(v).map_err(|_| {
                Error::value(
                    &tensor.name,
                    format!("its element {v} does not fit its type"),
                )
            })
        })
        .collect()
}

/// A tensor with its name as the bytes of a `.pb` file, the form of ONNX's test data sets.
pub fn tensor_to_pb(name: &str, array: &Array) -> Vec<u8> {
    to_proto(name, array).encode_to_vec()
}

/// Reads the bytes of a `.pb` file: the tensor's name and its elements.
pub fn tensor_from_pb(bytes: &[u8]) -> Result<(String, Array)> {
    let tensor = TensorProto::decode(bytes)?;
    Ok((tensor.name.clone(), from_proto(&tensor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Array> {
        vec![
            Array::f32([2, 2], [1.0, -0.5, f32::NAN, 3.0]).unwrap(),
            Array::f64([1], [0.1]).unwrap(),
            Array::f16_bits([2], [0x3c00, 0xc000]).unwrap(),
            Array::i64([], [-7]).unwrap(),
            Array::i32([2, 1], [1, -1]).unwrap(),
            Array::u8([3], [0, 1, 255]).unwrap(),
            Array::bool([2], [1, 0]).unwrap(),
            Array::f32([0, 3], []).unwrap(),
        ]
    }

    #[test]
    fn pb_files_keep_name_shape_and_bits() {
        for array in samples() {
            let (name, back) = tensor_from_pb(&tensor_to_pb("input.x", &array)).unwrap();
            assert_eq!(name, "input.x");
            assert_eq!(back.shape(), array.shape());
            assert_eq!(back.dtype(), array.dtype());
            assert_eq!(back.to_le_bytes(), array.to_le_bytes());
        }
    }

    #[test]
    fn typed_fields_are_read() {
        let tensor = TensorProto {
            data_type: data_type::UINT8,
            dims: vec![2],
            int32_data: vec![3, 255],
            ..TensorProto::default()
        };
        assert_eq!(
            from_proto(&tensor).unwrap(),
            Array::u8([2], [3, 255]).unwrap()
        );
        let tensor = TensorProto {
            int32_data: vec![3, 256],
            ..tensor
        };
        assert!(from_proto(&tensor).unwrap_err().to_string().contains("256"));
    }

    #[test]
    fn hostile_tensors_are_refused() {
        let good = to_proto("w", &Array::f32([2], [1.0, 2.0]).unwrap());
        type Damage = fn(&mut TensorProto);
        let cases: [(&str, Damage); 8] = [
            ("negative", |t| t.dims = vec![-2]),
            ("more elements", |t| t.dims = vec![i64::MAX, 2]),
            ("holds 3 elements", |t| t.dims = vec![3]),
            ("element type 8", |t| t.data_type = 8),
            ("another file", |t| t.data_location = 1),
            ("another file", |t| {
                t.external_data.push(crate::proto::StringStringEntryProto {
                    key: "location".into(),
                    value: "../../etc/passwd".into(),
                });
            }),
            ("more than one field", |t| t.float_data = vec![1.0, 2.0]),
            ("segments", |t| t.segment.push(vec![8, 1])),
        ];
        for (expected, damage) in cases {
            let mut tensor = good.clone();
            damage(&mut tensor);
            let message = from_proto(&tensor).unwrap_err().to_string();
            assert!(
                message.contains(expected) && message.contains("\"w\""),
                "{message}"
            );
        }
    }
}
