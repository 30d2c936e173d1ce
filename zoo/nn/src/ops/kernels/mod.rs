//! Operations by our CPU kernels, with the way back of each.
//!
//! candle's own convolutions lose most of their time in naive loops, its element-wise operations are composed of scalar ones, and its backward
//! pass computes the gradient of the data too. On other devices, and for f64, the same functions call candle's operations.

mod arithmetic;
mod layout;
mod mixture;
mod nade;
mod pointwise;
mod product;
mod recurrent;
mod reduction;
mod statistics;

pub use arithmetic::{arithmetic, broadcast_back};
pub use layout::{concat, expand, permute, reshape, slice};
pub use mixture::logistic_mixture;
pub use nade::nade;
pub use pointwise::{activation, bce_rows, gated_tanh};
pub use product::{Windows, conv_transpose2d, conv2d, linear, masked_conv2d, matmul};
pub use recurrent::{lstm_cell, row_lstm};
pub use reduction::{cross_entropy, log_softmax, softmax, sum};
pub use statistics::{batch_norm, batch_norm_train};

use zoo_kernels::KernelError;

use crate::Value;

type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Whether our kernels take all of these.
fn ours(values: &[&Value]) -> bool {
    values.iter().all(|value| value.held().is_ours())
}

/// A kernel's refusal as candle's error.
fn check(result: Result<(), KernelError>) -> Result<()> {
    result.map_err(candle_core::Error::wrap)
}
