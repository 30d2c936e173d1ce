//! What can go wrong, and where.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no protobuf message of an ONNX model or tensor.
    #[error("the file is no ONNX protobuf, or it is cut short: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Something about the file as a whole.
    #[error("in the model: {0}")]
    Model(String),
    /// A node is wrong, or not understood.
    #[error("in node {node:?} ({op}): {reason}")]
    Node {
        /// The node's name, or its first output where it has none.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// An initializer, input, output or other value is wrong.
    #[error("in value {value:?}: {reason}")]
    Value {
        /// Its name.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// A node cannot be written so that the target computes it.
    #[error("in node {node:?} ({op}){}: {target} cannot run it: {reason}", at(.origin))]
    Lower {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// The target that lacks it.
        target: String,
        /// `file:line` of the author's call, where known.
        origin: Option<String>,
        /// What is missing, and the way out.
        reason: String,
    },
    /// No exporter serves this runtime.
    #[error(
        "nothing is exported for the runtime {:?}; the runtimes are ort, tract, web and candle-onnx",
        .0.name()
    )]
    Runtime(zoo_graph::RuntimeId),
    /// The graph itself is inconsistent.
    #[error(transparent)]
    Graph(#[from] zoo_graph::Error),
    /// A file of a bundle cannot be read or written.
    #[error(transparent)]
    Io(#[from] zoo_files::Error),
    /// A file of a bundle is not what it should be.
    #[error("{}: {reason}", path.display())]
    Bundle {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A file of a bundle was changed or damaged.
    #[error("{}: its SHA-256 is {got}, the manifest says {expected}; export the bundle again", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the manifest records.
        expected: String,
        /// What the file has.
        got: String,
    },
}

fn at(origin: &Option<String>) -> String {
    origin
        .as_ref()
        .map_or(String::new(), |o| format!(" at {o}"))
}

impl Error {
    /// An error about a node, named by its first output where it has no name.
    pub(crate) fn node(node: &zoo_graph::Node, reason: impl Into<String>) -> Self {
        let name = match node.name.is_empty() {
            false => &node.name,
            true => node.outputs.first().unwrap_or(&node.name),
        };
        Self::Node {
            node: name.clone(),
            op: node.op.clone(),
            reason: reason.into(),
        }
    }

    pub(crate) fn value(value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value {
            value: value.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn bundle(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Bundle {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
