//! The library call behind `zoo verify`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zoo_runtimes::Search;

use crate::Result;
use crate::registry::Registry;

/// What to hold against what.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// Runtimes that must be there; where empty, every one that is found.
    pub runtimes: Vec<String>,
    /// `cpu`, `cuda:0`, `tensorrt:0`, `coreml`, `directml`, `webgpu`.
    pub device: String,
    /// Batch sizes, where candle is the reference.
    pub batches: Vec<usize>,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl VerifyOptions {
    /// Verifies `bundle` on every runtime found, at batch 1, 3 and 7.
    pub fn new(bundle: impl Into<PathBuf>) -> Self {
        Self {
            bundle: bundle.into(),
            runtimes: Vec::new(),
            device: "cpu".to_owned(),
            batches: vec![1, 3, 7],
            threads: 0,
            search: Search::default(),
        }
    }
}

/// The result; its JSON form is stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether something was compared, and all of it is within the tolerance.
    pub ok: bool,
    /// `candle`, or `test vectors` where the model's plugin is not there.
    pub reference: String,
    /// One row for each graph, variant, runtime, batch and output.
    pub results: Vec<Compared>,
    /// Runtimes that were left out, and why; not part of the JSON form.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
}

/// An output of a runtime beside the reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The graph.
    pub graph: String,
    /// The file.
    pub variant: String,
    /// The runtime.
    pub runtime: String,
    /// Images at a time.
    pub batch: usize,
    /// The output.
    pub output: String,
    /// Largest difference; none where a value is not finite, or nothing was computed.
    pub max_abs: Option<f64>,
    /// Largest difference relative to the reference's value; none as above.
    pub max_rel: Option<f64>,
    /// Index of the largest difference, or of the first value that is not finite.
    pub at: Option<Vec<usize>>,
    /// Whether every value is within the tolerance.
    pub ok: bool,
    /// Why nothing was compared.
    pub error: Option<String>,
}

/// A runtime that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub runtime: String,
    /// Why, and the way out.
    pub reason: String,
}

/// Runs every graph of a bundle on every runtime and compares with candle, or with the shipped test vectors where the
/// model's plugin is not there. `progress` hears of each row as it is made.
///
/// # Errors
/// For a bundle that is damaged, and for runtimes or devices that were asked for and cannot be had. Differences are no
/// error: [`Verification::ok`] tells.
pub fn verify(
    registry: &Registry,
    options: &VerifyOptions,
    progress: &mut dyn FnMut(&Compared),
) -> Result<Verification> {
    let _ = (registry, options, progress);
    todo!()
}

impl std::fmt::Display for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ok)
    }
}
