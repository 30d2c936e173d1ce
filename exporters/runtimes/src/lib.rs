//! Runs ONNX files behind one trait: [tract](https://github.com/sonos/tract) (always there), ONNX Runtime through
//! [ort](https://ort.pyke.io) (feature `ort`; the library itself is found when it is needed) and
//! [candle-onnx](https://github.com/huggingface/candle) (feature `candle-onnx`, needs `protoc` to build).
//!
//! ```no_run
//! use zoo_runtimes::{LoadOptions, RuntimeId, Search, find};
//!
//! # fn main() -> zoo_runtimes::Result<()> {
//! # let (model, inputs) = (Vec::new(), Default::default());
//! let runtime = find(&RuntimeId::Tract, &Search::default())?;
//! let mut loaded = runtime.load(&model, &LoadOptions::default())?;
//! let outputs = loaded.run(&inputs)?;
//! # Ok(())
//! # }
//! ```
//!
//! What holds for all of them:
//! - Inputs are checked against the file's ports before a runtime sees them, outputs after it: an error names the port.
//! - A file is checked for what is known to bring a runtime down (lying tensor sizes, missing outputs, weights outside
//!   the file), and a panic below becomes an error. That is no sandbox: a hostile file can still exhaust memory or
//!   time in a runtime, so files of strangers belong in a process of their own; [`load_within`] bounds the time.
//! - A device is used or refused, never replaced by the CPU.

mod bench;
#[cfg(feature = "candle-onnx")]
mod candle;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod convert;
mod deadline;
mod device;
mod error;
mod guard;
#[cfg(feature = "ort")]
pub mod install;
mod model;
#[cfg(feature = "ort")]
mod ort;
#[cfg(feature = "ort")]
mod ort_library;
pub mod parity;
mod ports;
mod session;
mod steps;
mod tract;

use std::path::PathBuf;

use zoo_sdk::{Port, Tensors};

pub use bench::{BenchFigures, BenchOptions, bench, example_inputs};
pub use deadline::{Stopper, given_up, load_within, patience};
pub use device::{Device, UnknownDevice};
pub use error::{Error, Result};
pub use steps::load;
pub use zoo_graph::{Content, RuntimeId};

/// A library that runs ONNX files.
pub trait Runtime: Send + Sync {
    /// Which one it is.
    fn id(&self) -> RuntimeId;

    /// The version of what computes, for reports: `1.32.0`.
    fn version(&self) -> String;

    /// Where it was loaded from, where it is not part of this program.
    fn path(&self) -> Option<PathBuf> {
        None
    }

    /// Prepares an ONNX file, given as its bytes.
    ///
    /// # Errors
    /// For bytes that are no sound ONNX file, for what the runtime does not support, and for a device that cannot be had.
    fn load(&self, model: &[u8], options: &LoadOptions) -> Result<Box<dyn Loaded>>;
}

/// A file that is ready to run.
pub trait Loaded: Send {
    /// What it reads, in the file's order. Ranges and distributions are not part of an ONNX file and stay empty.
    fn inputs(&self) -> &[Port];

    /// What it gives, in the file's order.
    fn outputs(&self) -> &[Port];

    /// Computes all outputs from all inputs, both by port name.
    ///
    /// # Errors
    /// For a port that is unknown, missing, of another type or shape than the file says, or empty; for sizes that
    /// disagree about N; for whatever the runtime refuses; for outputs of another type or shape than the file says.
    fn run(&mut self, inputs: &Tensors) -> Result<Tensors>;

    /// What asks a run to end, from another thread, where the runtime can be asked. Nothing is to be run after that.
    fn stopper(&self) -> Option<Stopper> {
        None
    }
}

/// How to prepare a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where to compute.
    pub device: Device,
    /// Threads within an operation; 0 leaves the choice to the runtime. tract always uses one.
    pub threads: usize,
}

/// Where to look for runtimes that are not part of this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The ONNX Runtime library that the user named: the file, or a folder that holds it.
    pub ort: Option<PathBuf>,
    /// The folder under which `install` puts libraries; [`zoo_files::default_data_dir`] where it is left out.
    pub data_dir: Option<PathBuf>,
}

/// The runtimes compiled in.
pub const RUNTIMES: &[RuntimeId] = &[
    RuntimeId::Tract,
    #[cfg(feature = "ort")]
    RuntimeId::Ort,
    #[cfg(feature = "candle-onnx")]
    RuntimeId::CandleOnnx,
];

/// The runtimes that a feature of their name would have compiled in.
pub fn not_built() -> impl Iterator<Item = RuntimeId> {
    let optional = [RuntimeId::Ort, RuntimeId::CandleOnnx];
    optional.into_iter().filter(|id| !RUNTIMES.contains(id))
}

/// A runtime, ready to load files.
///
/// # Errors
/// For one that is not compiled in (the error lists those that are), and for `ort` without a usable library.
pub fn find(id: &RuntimeId, search: &Search) -> Result<Box<dyn Runtime>> {
    match id {
        RuntimeId::Tract => Ok(Box::new(tract::Tract)),
        #[cfg(feature = "ort")]
        RuntimeId::Ort => Ok(Box::new(ort::Ort::find(search)?)),
        #[cfg(feature = "candle-onnx")]
        RuntimeId::CandleOnnx => Ok(Box::new(candle::CandleOnnx)),
        other => {
            let _ = search;
            Err(Error::UnknownRuntime {
                name: other.to_string(),
                available: RuntimeId::list(RUNTIMES),
            })
        }
    }
}

/// Every runtime compiled in; those that cannot be had carry the reason.
pub fn found(search: &Search) -> Vec<(RuntimeId, Result<Box<dyn Runtime>>)> {
    RUNTIMES
        .iter()
        .map(|id| (id.clone(), find(id, search)))
        .collect()
}
