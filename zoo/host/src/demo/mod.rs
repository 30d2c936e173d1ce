//! The library call behind `zoo demo`: the whole job once, on the embedded data.

use std::path::PathBuf;

use zoo_runtimes::Search;

use crate::Result;
use crate::registry::Registry;
use crate::run::{Observer, Quiet};
use crate::verify::Verification;

/// How to show it.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything goes: a new or empty folder, or that of an earlier demo, which is replaced.
    pub out: PathBuf,
    /// Within 90 seconds on two cores, instead of 10 minutes.
    pub quick: bool,
    /// The seed.
    pub seed: u64,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl DemoOptions {
    /// The full demo into `out`.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            out: out.into(),
            quick: false,
            seed: 0,
            threads: 0,
            search: Search::default(),
        }
    }
}

/// Hears of everything while it happens.
pub trait DemoObserver: Observer {
    /// A part begins: `training the VAE`, ...
    fn stage(&mut self, _title: &str) {}
}

impl DemoObserver for Quiet {}

/// What the demo left.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The folder.
    pub dir: PathBuf,
    /// What was done, with figures.
    pub report: PathBuf,
    /// The pictures.
    pub pictures: Vec<PathBuf>,
    /// The verification of each bundle, by model.
    pub verified: Vec<(String, Verification)>,
    /// It was cancelled; what was trained so far is saved in the folder.
    pub cancelled: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Demo {
    /// Whether it was carried out and every runtime agreed.
    pub fn ok(&self) -> bool {
        !self.cancelled && self.verified.iter().all(|(_, v)| v.ok)
    }
}

/// Trains the VAE and the GAN on the embedded data, exports both, verifies them on every runtime found, and leaves
/// pictures and a report.
///
/// # Errors
/// Those of training, export and verification.
pub fn demo(
    registry: &Registry,
    options: &DemoOptions,
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn DemoObserver,
) -> Result<Demo> {
    let _ = (registry, options, cancel, observer);
    todo!()
}
