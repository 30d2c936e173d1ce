//! Runs: which models there are, their settings, training one into a run directory, and reading what it learned.

pub mod directory;
mod error;
mod evaluate;
pub mod registry;
pub mod settings;
#[cfg(test)]
mod testing;
mod train;
mod trained;

pub use directory::{RunDir, from_safetensors, to_safetensors};
pub use error::{Error, Origin, Result};
pub use evaluate::{EvaluateOptions, Evaluation, evaluate, evaluate_by};
pub use registry::Registry;
pub use train::{Observer, Quiet, TrainOptions, TrainOutcome, load_data, train};
pub use trained::{Trained, Which, open};
