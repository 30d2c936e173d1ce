//! The operations of [`Value`]: one function each, which computes with candle and records its ONNX node.
//!
//! An operation that ONNX has, and every runtime runs, is recorded as that node. Others are composed of these, and so need no
//! export code at all.

mod conv;
mod elementwise;
mod kernels;
mod linear;
mod mixture;
mod nade;
mod recurrent;
mod reduce;
mod select;
mod shape;

pub(crate) use kernels::Windows;
pub(crate) use mixture::{inverse_scales, log_masses, middle};
pub use shape::{concat, stack};

use crate::{Error, Result, Value, trace};

/// What a kernel computes in one pass, outside a trace: a trace needs the parts that ONNX has. `tests/gradients.rs` holds both forms together.
fn fused(
    kernel: impl FnOnce() -> Option<candle_core::Result<Value>>,
) -> Option<candle_core::Result<Value>> {
    if trace::is_on() { None } else { kernel() }
}

/// The axis counted from the front; negative counts from the end.
#[track_caller]
fn axis_of(value: &Value, op: &'static str, axis: i64) -> Result<usize> {
    let rank = value.rank() as i64;
    let positive = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&positive) {
        return Ok(positive as usize);
    }
    Err(Error::usage(
        op,
        format!("axis {axis} is outside a value of shape {:?}", value.dims()),
    ))
}
