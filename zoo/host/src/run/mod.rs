//! Run directories: settings, checkpoints, metrics, the training call that fills them, and the calls that read them.
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
mod dir;
mod disk;
mod evaluate;
mod likelihood;
mod metrics;
mod open;
mod pictures;
mod record;
mod tensorboard;
mod tensors;
mod train;

pub use checkpoint::{KEPT, Newest};
pub use dir::{Content, Layout, RunDir};
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use metrics::{Record, read_metrics};
pub use open::{Trained, Which, open};
pub(crate) use pictures::{grid_png, losses};
pub use tensors::{from_safetensors, to_safetensors};
pub(crate) use train::load_data;
pub use train::{Observer, Quiet, TrainOptions, TrainOutcome, train};

#[cfg(test)]
mod tests;
