//! What crosses a plugin boundary.
//!
//! A [`Plugin`] describes a model, trains it, and opens trained weights as a [`Session`]. Everything that passes between it
//! and the host is plain data: JSON-serialisable messages and [`Array`]s. No candle type and no Rust-ABI assumption crosses,
//! so that a plugin may be built in, loaded as a shared library or run in a process of its own.
//!
//! Most authors do not implement these traits: they implement `zoo_nn::Model`, and `zoo_nn::ModelPlugin` does the rest.

pub mod abi;
mod data;
mod degrade;
mod draw;
#[doc(hidden)]
pub mod guest;
#[cfg(feature = "host")]
pub mod host;
mod message;
mod number;
mod plugin;
mod rng;
pub mod schema;
mod wire;

pub use data::{Binarization, DataSpec, Dataset, Elements, Example, Split, View, side_by_side};
pub use degrade::{Degradation, Degradations, Picture, bicubic};
pub use draw::{draw_inputs, input_rows, must_be_given};
pub use message::{
    Checkpoint, Control, DENSITY_FAMILIES, Description, EvaluateRequest, Event, GraphInfo,
    LossTerm, OpenRequest, Paper, SHOWN_IMAGE, StateRecord, StopReason, Task, TrainReport,
    TrainRequest, is_below,
};
pub use plugin::{Context, Plugin, Session, Silent};
pub use rng::Stream;
pub use zoo_graph::{
    Array, BATCH, DType, Data, Dim, Distribution, Graph, GraphKind, Port, PortRole, RuntimeId,
    Sizes, sizes_of, trial_sizes, with_sides,
};

/// Named tensors: weights by parameter path, or the inputs and outputs of a graph by port name.
pub type Tensors = std::collections::BTreeMap<String, Array>;

/// Named numbers: `elbo_nats`, `bits_per_dim`, ...
pub type Metrics = std::collections::BTreeMap<String, f64>;

/// What a plugin can answer instead of a result.
///
/// The kinds decide the host's exit code and wording; the text must name the field, tensor or file and say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", content = "message", rename_all = "snake_case")]
pub enum Error {
    /// The request cannot be served as it stands: configuration, data, shapes, names.
    #[error("{0}")]
    Input(String),
    /// A loss or a parameter stopped being finite.
    #[error("{0}")]
    Diverged(String),
    /// The host's own call-back failed: a full disk, say.
    #[error("{0}")]
    Host(String),
    /// Anything else: a fault of the plugin or of a library below it.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// An [`Error::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}

impl From<zoo_graph::Error> for Error {
    fn from(error: zoo_graph::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
