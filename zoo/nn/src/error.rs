//! What can go wrong in a network.

use std::{panic::Location, sync::Arc};

/// Errors of this crate. `at` is the author's `file:line`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// candle refused an operation.
    #[error("{op} at {at}: {source}")]
    Op {
        /// ONNX name of the operation.
        op: &'static str,
        /// Where the author called it.
        at: String,
        /// candle's reason.
        source: Box<candle_core::Error>,
    },
    /// candle failed outside a recorded operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// An operation got what it cannot take.
    #[error("{op} at {at}: {message}")]
    Usage {
        /// ONNX name of the operation.
        op: &'static str,
        /// Where the author called it.
        at: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A graph cannot be recorded for every batch size.
    #[error("graph {graph:?} cannot be recorded: {message}")]
    Trace {
        /// The graph's name.
        graph: String,
        /// What would freeze, and where.
        message: String,
    },
    /// A parameter does not fit.
    #[error("parameter {name:?}: {message}")]
    Param {
        /// Its path.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A setting, a data set or an input does not fit.
    #[error("{0}")]
    Input(String),
    /// A number stopped being finite.
    #[error("{0}")]
    Diverged(String),
    /// The recorded graph is not well-formed.
    #[error(transparent)]
    Graph(#[from] zoo_graph::Error),
    /// The host's call-back failed.
    #[error(transparent)]
    Host(zoo_sdk::Error),
    /// What made a value fail: every value computed from it has the same.
    #[error(transparent)]
    Failed(Arc<Error>),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub(crate) fn usage(op: &'static str, at: &Location<'_>, message: impl Into<String>) -> Self {
        Self::Usage {
            op,
            at: here(at),
            message: message.into(),
        }
    }

    /// The error itself, without the values that carried it.
    fn cause(&self) -> &Self {
        match self {
            Self::Failed(error) => error.cause(),
            other => other,
        }
    }

    /// Whether this is about a graph that cannot be recorded.
    pub(crate) fn is_trace(&self) -> bool {
        matches!(self.cause(), Self::Trace { .. })
    }
}

impl From<Error> for zoo_sdk::Error {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        if let Error::Host(inner) = error {
            return inner;
        }
        match error.cause() {
            Error::Input(_) | Error::Param { .. } => Self::Input(message),
            Error::Diverged(_) => Self::Diverged(message),
            _ => Self::Internal(message),
        }
    }
}

/// `plugins/vae/src/lib.rs:120`, without what stands before the workspace.
pub(crate) fn here(location: &Location<'_>) -> String {
    format!("{}:{}", location.file(), location.line())
}
