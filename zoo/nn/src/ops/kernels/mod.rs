//! Our CPU kernels as candle operations, with their gradients.
//!
//! candle's own convolutions lose most of their time in naive loops, its element-wise operations are composed of scalar ones, and its backward
//! pass computes the gradient of the data too. On other devices, and for f64, the same functions call candle's operations.

mod pointwise;
mod product;
mod statistics;

use candle_core::{CpuStorage, DType, Device, Layout, Tensor, bail};
pub use pointwise::{activation, bce_rows};
pub use product::{Windows, conv_transpose2d, conv2d, linear};
pub use statistics::batch_norm_train;
use zoo_kernels::KernelError;

use crate::params::with_f32;

type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Whether our kernels take this tensor.
fn ours(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The elements of a contiguous f32 operand.
fn elements<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("the kernel takes contiguous f32 values"),
    }
}

/// A tensor of `shape` that `fill` computes from the elements of two others.
fn computed(
    a: &Tensor,
    b: &Tensor,
    shape: &[usize],
    fill: impl FnOnce(&[f32], &[f32], &mut [f32]) -> Result<(), KernelError>,
) -> Result<Tensor> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    let mut out = vec![0.0; shape.iter().product()];
    match with_f32(&a, |a| with_f32(&b, |b| fill(a, b, &mut out))).flatten() {
        Some(result) => result.map_err(candle_core::Error::wrap)?,
        None => bail!("the kernel takes contiguous f32 values"),
    }
    Tensor::from_vec(out, shape, &Device::Cpu)
}
