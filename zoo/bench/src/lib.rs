//! How fast networks train, beside PyTorch, and how fast kernels compute, beside candle.
//!
//! Five [networks](Network) from one set of weights, data and noise: a safetensors file of PyTorch's, or drawn by the counter-based generator that
//! `python/torch_suite.py` has too. They are `zoo_nn` models and go through the trainer that every plugin uses, so what is measured is what users
//! get. [`suite::run`] measures each in a process of its own, in turns with PyTorch where that is at hand; [`kernels`] prints tables.

mod error;
pub mod inputs;
pub mod kernels;
mod measure;
mod network;
mod networks;
mod statistics;
pub mod suite;
mod torch;

pub use error::{Error, Result};
pub use measure::{Measured, measure, training};
pub use network::{Network, Size};
pub use torch::SCRIPT;
