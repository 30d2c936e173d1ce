//! What can go wrong between a trained model and the files that others run.

use std::path::PathBuf;

use zoo_sdk::RuntimeId;

/// Every error of this crate. The texts name the file, graph or option and say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model, its settings or its run.
    #[error(transparent)]
    Runs(Box<zoo_runs::Error>),
    /// A graph, an ONNX file or a bundle is not what it should be.
    #[error(transparent)]
    Onnx(#[from] zoo_onnx::Error),
    /// A runtime or a device cannot be had, or refuses a file.
    #[error(transparent)]
    Runtime(#[from] zoo_runtimes::Error),
    /// An array could not be read.
    #[error(transparent)]
    Npy(#[from] zoo_data::npy::Error),
    /// A picture could not be drawn or read.
    #[error(transparent)]
    Picture(#[from] zoo_pictures::Error),
    /// A graph that a model or bundle does not have.
    #[error("{}: the model {model:?} has no graph {graph:?}, only {}; {hint}", path.display(), graphs.join(", "))]
    NoGraph {
        /// The run or bundle.
        path: PathBuf,
        /// The model.
        model: String,
        /// The graph.
        graph: String,
        /// The graphs there are.
        graphs: Vec<String>,
        /// What needs the graph.
        hint: &'static str,
    },
    /// An exported file that does not compute what it was recorded from, or not in time.
    #[error(
        "graph {graph:?} as exported to {variant} is not proven to compute what candle computes (on {runtime}): {what}; nothing was written"
    )]
    Unproven {
        /// The graph.
        graph: String,
        /// The file.
        variant: String,
        /// The runtime that ran it.
        runtime: RuntimeId,
        /// The difference or the failure.
        what: String,
    },
    /// Options that do not fit together.
    #[error("{0}")]
    Usage(String),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<zoo_runs::Error> for Error {
    fn from(error: zoo_runs::Error) -> Self {
        Self::Runs(Box::new(error))
    }
}

impl From<zoo_runtimes::UnknownDevice> for Error {
    fn from(error: zoo_runtimes::UnknownDevice) -> Self {
        Self::Runtime(error.into())
    }
}

impl Error {
    /// The exit code of a command that ends with this error: 1 for what was computed and failed, 2 for bad usage or input.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Runs(error) => error.exit_code(),
            Self::Unproven { .. } => 1,
            _ => 2,
        }
    }

    /// For `map_err`: the answer of a model's plugin.
    pub fn plugin(model: &str) -> impl FnOnce(zoo_sdk::Error) -> Self {
        let plugin = zoo_runs::Error::plugin(model);
        move |source| plugin(source).into()
    }
}
