//! The operations of [`Value`]: one function each, which computes, says its gradient, and records its ONNX node.
//!
//! An operation that ONNX has, and every runtime runs, is recorded as that node. Others are composed of these, and so need no
//! export code or gradient at all.

mod conv;
mod elementwise;
mod kernels;
mod linear;
mod mixture;
mod nade;
mod operators;
mod recurrent;
mod reduce;
mod scan;
mod select;
mod shape;

pub(crate) use conv::Windows;
pub(crate) use mixture::{inverse_scales, log_masses, middle};
pub use scan::{Pixel, Raster, Row, ScanStep, Scanned, Steps, raster_scan, repeat, scan};
pub use shape::{concat, stack};

use crate::{
    Value, recorder,
    value::{Computed, Outcome},
};

/// Whether a kernel may compute in one pass what is composed of other operations: not in a trace, which needs the parts that ONNX has, nor where gradients are
/// to be differentiated again. `tests/gradients/main.rs` holds both forms together.
fn may_fuse(inputs: &[&Value]) -> bool {
    let ready = |value: &&Value| {
        let computed = value.get();
        computed.is_ok_and(|c| c.held.is_ours() && !c.is_twice())
    };
    !recorder::is_on() && inputs.iter().all(ready)
}

/// The axis counted from the front; negative counts from the end.
fn axis_of(dims: &[usize], axis: i64) -> Outcome<usize> {
    let rank = dims.len() as i64;
    let positive = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&positive) {
        return Ok(positive as usize);
    }
    Err(format!("axis {axis} is outside a value of shape {dims:?}").into())
}

/// By candle's operation on other devices and element types, without candle's history.
fn by_candle(
    inputs: &[&Computed],
    compute: impl FnOnce(&[candle_core::Tensor]) -> candle_core::Result<candle_core::Tensor>,
) -> candle_core::Result<crate::memory::Held> {
    let tensors: Vec<_> = inputs.iter().map(|input| input.lent()).collect();
    Ok(compute(&tensors)?.into())
}
