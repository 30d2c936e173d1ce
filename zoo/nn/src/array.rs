//! Between candle's tensors and plain arrays.

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use zoo_graph::{Array, Data};

use crate::{Error, Result};

/// A plain copy of a tensor.
pub(crate) fn array_of(tensor: &Tensor) -> Result<Array> {
    let shape = tensor.dims().to_vec();
    let flat = tensor.flatten_all()?;
    let data = match tensor.dtype() {
        DType::F32 => Data::F32(flat.to_vec1()?),
        DType::F64 => Data::F64(flat.to_vec1()?),
        DType::I64 => Data::I64(flat.to_vec1()?),
        DType::U8 => Data::U8(flat.to_vec1()?),
        other => {
            return Err(Error::input(format!(
                "a tensor of {other:?} cannot leave the network: cast it to f32 or i64"
            )));
        }
    };
    Ok(Array::new(shape, data)?)
}

/// A candle tensor with the elements of `array`.
pub(crate) fn tensor_of(array: &Array, device: &Device) -> Result<Tensor> {
    let shape = array.shape();
    Ok(match array.data() {
        Data::F32(values) => Tensor::from_slice(values, shape, device)?,
        Data::F64(values) => Tensor::from_slice(values, shape, device)?,
        Data::I64(values) => Tensor::from_slice(values, shape, device)?,
        Data::U8(values) | Data::Bool(values) => Tensor::from_slice(values, shape, device)?,
        Data::I32(_) | Data::F16(_) => {
            return Err(Error::input(format!(
                "{array:?} has no place in a network: use f32, i64 or u8"
            )));
        }
    })
}

/// Runs `f` on the f32 elements of a contiguous CPU tensor; `None` for any other tensor.
pub(crate) fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Option<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        return None;
    };
    Some(f(&values[start..end]))
}
