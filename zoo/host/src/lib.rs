//! What stands between plugins and people: data sets, run directories, evaluation, pictures, export and verification as
//! library calls. The `zoo` command is a thin layer over this crate.

pub mod bench;
pub mod data;
pub mod demo;
pub mod doctor;
mod engine;
mod error;
pub mod export;
mod known;
pub mod onnx_file;
pub mod picture;
pub mod plugins;
pub mod pretrained;
mod registry;
pub mod run;
pub mod sample;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod verify;

pub use bench::{Bench, BenchOptions, bench};
pub use demo::{Demo, DemoObserver, DemoOptions, demo};
pub use doctor::{Doctor, doctor};
pub use error::{Error, Origin, Result};
pub use export::{ExportOptions, Exported, export};
pub use registry::Registry;
pub use sample::{SampleOptions, Samples, sample};
pub use verify::{Verification, VerifyOptions, verify};
pub use zoo_runtimes::Search;
