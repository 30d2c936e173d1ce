//! The graph that a traced network becomes.
//!
//! A [`Graph`] holds nodes in execution order, speaks the operator vocabulary of ONNX opset 17, and keeps the batch size
//! symbolic ([`Dim`]). It knows neither candle nor protobuf: `zoo-nn` records it, `zoo-onnx` lowers and writes it.
//! Its [`Display`](std::fmt::Display) form is meant for people and for snapshots:
//!
//! ```text
//! graph decode(%z: f32[N,20]) -> (%x: f32[N,784]) {
//!   decoder.fc1.weight: f32[400,20]
//!   %decoder.fc1 = Gemm(%z, decoder.fc1.weight, decoder.fc1.bias) {transB=1} : f32[N,400]
//!   ...
//! }
//! ```

mod array;
mod dim;
mod graph;
mod names;
mod steps;
mod text;

pub use array::{Array, DType, Data};
pub use dim::{BATCH, Dim, Expression, Sizes};
pub use graph::{
    Attribute, Distribution, Graph, Initializer, Node, Port, ValueType, sizes_of, trial_sizes,
    with_sides,
};
pub use names::{GraphKind, PortRole, RuntimeId};
pub use steps::{Content, Count, ScanSteps, Slices, Stacked, State, Step, Steps};

/// What can be wrong with a graph or an array.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum Error {
    /// The element count does not follow from the shape.
    #[error("an array of shape {shape:?} holds {expected} elements, not {got}")]
    Length {
        /// The shape given.
        shape: Vec<usize>,
        /// The product of the shape.
        expected: usize,
        /// The elements given.
        got: usize,
    },
    /// The product of the dimensions overflows.
    #[error("the shape {0:?} has more elements than fit in memory")]
    Overflow(Vec<usize>),
    /// The array holds another element type.
    #[error("expected {expected}, got an array of {got}")]
    DType {
        /// The type wanted.
        expected: DType,
        /// The type held.
        got: DType,
    },
    /// A node reads a value that nothing before it produces.
    #[error(
        "in node {node:?} ({op}): input {value:?} is produced by no earlier node, input or initializer"
    )]
    Undefined {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// The missing value.
        value: String,
    },
    /// Two definitions share a name.
    #[error("{value:?} is defined twice")]
    Redefined {
        /// The name in question.
        value: String,
    },
    /// A value has no type.
    #[error("the type of value {value:?} is not recorded")]
    Untyped {
        /// The value in question.
        value: String,
    },
    /// A graph output is not produced.
    #[error("output {0:?} is produced by no node")]
    Output(String),
    /// A dimension's text cannot be read.
    #[error(
        "{0:?} is no dimension: write a number, a symbol such as N, or an expression such as 50*N, 2*H+1 or (H+1)/2"
    )]
    Dim(String),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
