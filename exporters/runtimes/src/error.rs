//! What can go wrong.

use std::path::PathBuf;

use zoo_sdk::DType;

use crate::{Device, RuntimeId, UnknownDevice};

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runtime of that name is compiled in.
    #[error("unknown runtime {name:?}: this build has {available}")]
    UnknownRuntime {
        /// The name asked for.
        name: String,
        /// The names there are.
        available: String,
    },
    /// The runtime is compiled in, but something it needs is missing or unfit.
    #[error("{runtime} cannot be used: {reason}")]
    Unavailable {
        /// Which runtime.
        runtime: RuntimeId,
        /// What is missing and what to do.
        reason: String,
    },
    /// A device's text cannot be read.
    #[error(transparent)]
    DeviceName(#[from] UnknownDevice),
    /// The device cannot be had.
    #[error("{runtime} cannot compute on {device}: {reason}")]
    Device {
        /// Which runtime.
        runtime: RuntimeId,
        /// The device asked for.
        device: Device,
        /// Why not, and what to do.
        reason: String,
    },
    /// The bytes are no sound ONNX file.
    #[error("not a usable ONNX file: {0}")]
    File(String),
    /// The runtime refuses a file.
    #[error("{runtime} cannot load the file: {reason}")]
    Load {
        /// Which runtime.
        runtime: RuntimeId,
        /// Its reason, with the node where it names one.
        reason: String,
    },
    /// The runtime fails while computing.
    #[error("{runtime} failed at {sizes}: {reason}")]
    Run {
        /// Which runtime.
        runtime: RuntimeId,
        /// The input sizes.
        sizes: String,
        /// Its reason, with the node where it names one.
        reason: String,
    },
    /// The runtime had not ended in time.
    #[error(
        "{runtime} did not {doing} within {limit:?}{said} and was given up; if it is slow rather than stuck, allow it more with --timeout"
    )]
    Deadline {
        /// Which runtime.
        runtime: RuntimeId,
        /// What it was to do.
        doing: String,
        /// How long it was waited for.
        limit: std::time::Duration,
        /// Where it was, in its own words, where it has any.
        said: String,
    },
    /// An input that the file does not have.
    #[error("unknown input {name:?}: the file reads {valid}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// The file's inputs, the nearest first.
        valid: String,
    },
    /// An input that was not given.
    #[error("missing input {name:?} ({wanted})")]
    MissingInput {
        /// Its name.
        name: String,
        /// Its type.
        wanted: String,
    },
    /// An input of another element type.
    #[error("input {name:?} must be {expected}, got {got}")]
    InputType {
        /// Its name.
        name: String,
        /// What the file says.
        expected: DType,
        /// What was given.
        got: DType,
    },
    /// An input of another shape.
    #[error("input {name:?} must have the shape {expected}, got {got:?}{hint}")]
    InputShape {
        /// Its name.
        name: String,
        /// What the file says.
        expected: String,
        /// What was given.
        got: Vec<usize>,
        /// Which dimension is at fault.
        hint: String,
    },
    /// Two sizes that should follow from one symbol.
    #[error(
        "{symbol} cannot be both {first} (input {first_port:?}) and {second} (input {second_port:?})"
    )]
    Symbol {
        /// Usually N.
        symbol: String,
        /// Its value at the first place.
        first: usize,
        /// The port that says so.
        first_port: String,
        /// Its value at the second place.
        second: usize,
        /// The port that says so.
        second_port: String,
    },
    /// An output that is not what the file says.
    #[error("{runtime} gave an output {name:?} of {got}, the file says {expected}")]
    Output {
        /// Which runtime.
        runtime: RuntimeId,
        /// The output's name.
        name: String,
        /// What the file says.
        expected: String,
        /// What came.
        got: String,
    },
    /// A library could not be installed.
    #[error("cannot install ONNX Runtime: {0}")]
    Install(String),
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

#[cfg(feature = "ort")]
impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
