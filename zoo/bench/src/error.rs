//! What can go wrong in a measurement.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request does not fit.
    #[error("{0}")]
    Input(String),
    /// A weights file cannot be used.
    #[error("weights {}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A network refused its weights, or its training failed.
    #[error("network {network}: {source}")]
    Network {
        /// Which.
        network: &'static str,
        /// Why.
        source: zoo_sdk::Error,
    },
    /// A measuring process failed.
    #[error("measuring {what}: {message}")]
    Child {
        /// Network and threads.
        what: String,
        /// What it said.
        message: String,
    },
    /// PyTorch cannot be run.
    #[error(
        "PyTorch does not run with {}: {message}\n  try: python3 -m venv torch-venv && torch-venv/bin/pip install torch safetensors, then --torch torch-venv/bin/python",
        python.display()
    )]
    Torch {
        /// The interpreter.
        python: PathBuf,
        /// What it said.
        message: String,
    },
    /// The system does not tell what a process used.
    #[error("cannot tell the CPU time of a process: {0}")]
    Usage(String),
    /// A kernel or candle refused its operands.
    #[error("kernel {kernel:?}: {message}")]
    Kernel {
        /// Which.
        kernel: String,
        /// Why.
        message: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    /// Whether what was asked is at fault, not what was measured.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Input(_) | Self::Weights { .. } | Self::Torch { .. } => true,
            Self::Network { source, .. } => matches!(source, zoo_sdk::Error::Input(_)),
            Self::Child { .. } | Self::Usage(_) | Self::Kernel { .. } => false,
        }
    }
}
