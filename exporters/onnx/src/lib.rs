//! Turns graphs into checked ONNX files and bundles.
//!
//! [`export`] takes a recorded [`Graph`](zoo_graph::Graph) to files: [`optimize`] folds what is constant, [`lower`] writes
//! every operator in the form that the target computes, [`encode`] makes the bytes, [`check`] holds them against
//! everything that can be known without running them. [`bundle`] keeps the files of a model together.
//!
//! The crate knows no model and runs nothing.

pub mod bundle;
mod check;
mod decode;
mod edit;
mod encode;
mod error;
mod export;
mod lower;
mod ops;
mod optimize;
mod proto;
mod steps;
mod tensor;
#[cfg(test)]
mod testing;

pub use bundle::{Bundle, BundleWriter, Card, Manifest};
pub use check::{Summary, check, check_foreign};
pub use decode::{Model, decode};
pub use encode::{IR_VERSION, OPSET, encode};
pub use error::{Error, Result};
pub use export::{Options, Variant, Weights, export, ports};
pub use lower::lower;
pub use ops::Target;
pub use optimize::optimize;
pub use tensor::{tensor_from_pb, tensor_to_pb};
pub use zoo_graph::Content;
