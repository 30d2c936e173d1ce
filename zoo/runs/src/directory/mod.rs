//! Run directories: who may write, what they hold, and how it is read again.
//!
//! ```text
//! RUN/config.toml                    resolved settings: `--config` takes them again
//!     data.json                      what the data are
//!     metrics.jsonl                  losses and metrics, a line each
//!     events.out.tfevents.*          the same for TensorBoard
//!     samples/<step>.png             what the half-trained model draws
//!     loss.png                       the losses of the whole run
//!     checkpoints/<step>/            the last three
//!     best/                          the best by the model's metric
//! ```

pub mod checkpoint;
pub(crate) mod metrics;
pub(crate) mod pictures;
mod run_dir;
pub(crate) mod tensorboard;
mod tensors;

pub use checkpoint::{KEPT, Newest};
pub use metrics::{Record, read_metrics};
pub use pictures::{grid_png, losses};
pub use run_dir::{Content, Layout, RunDir};
pub use tensors::{from_safetensors, to_safetensors};

#[cfg(test)]
mod tests;
