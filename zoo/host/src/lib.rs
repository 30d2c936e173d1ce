//! What stands between plugins and people: data sets, run directories, evaluation, pictures, export and verification as
//! library calls. The `zoo` command is a thin layer over this crate.

pub mod data;
mod error;
pub mod picture;
mod registry;
pub mod run;
pub mod settings;
#[cfg(test)]
mod testing;

pub use error::{Error, Origin, Result};
pub use registry::Registry;
