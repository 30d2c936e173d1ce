//! The library call behind `zoo export`.

use std::path::PathBuf;

use zoo_onnx::Manifest;

use crate::Result;
use crate::registry::Registry;
use crate::run::Which;

/// What to export, and for whom.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The run.
    pub run: PathBuf,
    /// The bundle's folder: new, empty, or an older bundle, which is replaced.
    pub out: PathBuf,
    /// Runtimes to serve: `ort`, `tract`, `web`, `candle-onnx`; all where empty.
    pub targets: Vec<String>,
    /// Which weights of the run.
    pub weights: Which,
    /// Stores weights at half precision.
    pub half: bool,
    /// CPU threads; 0 for all.
    pub threads: usize,
}

impl ExportOptions {
    /// Exports the newest weights of `run` to `out` for all runtimes.
    pub fn new(run: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            out: out.into(),
            targets: Vec::new(),
            weights: Which::Auto,
            half: false,
            threads: 0,
        }
    }
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its folder.
    pub dir: PathBuf,
    /// What it says of itself; `proven` has what was run before it was written.
    pub manifest: Manifest,
    /// Things a person should know.
    pub warnings: Vec<String>,
}

/// Exports a run as a bundle. `progress` is told of each step.
///
/// Every graph is recorded, checked, and run on tract against candle before anything is put in place: where that fails,
/// `out` is as it was.
///
/// # Errors
/// Where the run cannot be opened, a graph cannot be exported, or a file does not compute what candle computes.
pub fn export(
    registry: &Registry,
    options: &ExportOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Exported> {
    let _ = (registry, options, progress);
    todo!()
}
