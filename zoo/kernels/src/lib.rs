//! CPU kernels on slices: convolutions, matrix products, fused element-wise operations
//!
//! Plain functions on contiguous `f32` slices; images are `[batch, channel, row, column]`. Work is spread
//! over rayon's current pool and cut up by the shapes alone, so that results are the same bits for every
//! number of threads. Call them from inside the pool (`pool.install`): from outside, each call wakes a
//! worker and waits for it. The instruction set is chosen at run time ([`Simd::detect`]).

mod activation;
mod conv;
mod error;
mod loss;
pub mod math;
mod matmul;
mod mixture;
mod nade;
mod norm;
mod optim;
mod orthonormal;
mod recurrent;
mod reduce;
mod scratch;
mod simd;
mod softmax;
mod strided;
mod transpose;

pub use activation::{
    Activation, activation, activation_backward, activation_grad, gated_tanh, gated_tanh_grad,
};
pub use conv::{
    Conv2dShape, ConvGrads, ConvTranspose2dShape, Taps, conv_transpose2d,
    conv_transpose2d_backward, conv_transpose2d_input_grad, conv_transpose2d_weight_grad, conv2d,
    conv2d_input_grad, conv2d_weight_grad, masked_conv2d, masked_conv2d_backward,
    masked_conv2d_input_grad, masked_conv2d_weight_grad,
};
pub use error::KernelError;
pub use loss::{bce_with_logits, bce_with_logits_grad};
pub use matmul::{MatmulShape, matmul};
pub use mixture::{MixtureShape, logistic_mixture, logistic_mixture_grad};
pub use nade::{NadeGrads, NadeShape, nade, nade_grad};
pub use norm::{BatchNormGrads, NormShape, batch_norm, batch_norm_grad, batch_statistics};
pub use optim::{AdamStep, adam};
pub use orthonormal::orthonormal;
pub use recurrent::{RowLstmShape, lstm_cell, lstm_cell_grad, row_lstm, row_lstm_grad};
pub use reduce::{bias_grad, squared_norm};
pub use simd::Simd;
pub use softmax::{cross_entropy, cross_entropy_grad, softmax, softmax_backward};
pub use strided::{Arithmetic, View, add_assign, combine, copy, sum_to};
