//! The library call behind `zoo bench`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zoo_runtimes::Search;

use crate::Result;
use crate::registry::Registry;
use crate::verify::Skipped;

/// What to time.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// `candle`, `tract`, `ort`, `candle-onnx`; where empty, every one that is found.
    pub runtimes: Vec<String>,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Batch sizes.
    pub batches: Vec<usize>,
    /// CPU threads.
    pub threads: usize,
    /// How long to measure each case.
    pub time: Duration,
    /// Where to look for runtimes.
    pub search: Search,
}

impl BenchOptions {
    /// Times all graphs of `bundle` at batch 1 and 64 on one thread.
    pub fn new(bundle: impl Into<PathBuf>) -> Self {
        Self {
            bundle: bundle.into(),
            runtimes: Vec::new(),
            device: "cpu".to_owned(),
            batches: vec![1, 64],
            threads: 1,
            time: Duration::from_secs(1),
            search: Search::default(),
        }
    }
}

/// The result; its JSON form is stable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// One row for each graph, runtime and batch.
    pub results: Vec<BenchRow>,
    /// Runtimes that were left out, and why; not part of the JSON form.
    #[serde(skip)]
    pub skipped: Vec<Skipped>,
}

/// Wall-clock times of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// The graph.
    pub graph: String,
    /// The runtime, `candle` among them.
    pub runtime: String,
    /// The device.
    pub device: String,
    /// Images at a time.
    pub batch: usize,
    /// CPU threads.
    pub threads: usize,
    /// Median, in milliseconds.
    pub ms_median: f64,
    /// Least, in milliseconds.
    pub ms_min: f64,
    /// At the median.
    pub images_per_s: f64,
}

/// Times every graph of a bundle on every runtime. `progress` hears of each row as it is made.
///
/// # Errors
/// As for [`crate::verify()`].
pub fn bench(
    registry: &Registry,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&BenchRow),
) -> Result<Bench> {
    let _ = (registry, options, progress);
    todo!()
}

impl std::fmt::Display for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.results.len())
    }
}
