//! Operations by our CPU kernels, with the raw way back of each.
//!
//! candle's own convolutions lose most of their time in naive loops, and its element-wise operations are composed of scalar ones. On other devices, and for
//! f64, the same functions call candle's operations.

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
pub use pointwise::{activation, activation_or, bce_rows, gated_tanh};
pub use product::{Convolution, linear, matmul};
pub use recurrent::{lstm_cell, row_lstm};
pub use reduction::{cross_entropy, softmax, sum};
pub use statistics::{batch_norm, batch_norm_train};

use zoo_kernels::KernelError;

use crate::value::Computed;

type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Whether our kernels take all of these.
fn ours(values: &[&Computed]) -> bool {
    values.iter().all(|value| value.held.is_ours())
}

/// A kernel's refusal as candle's error.
fn check(result: Result<(), KernelError>) -> Result<()> {
    result.map_err(candle_core::Error::wrap)
}
