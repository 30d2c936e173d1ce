//! The library call behind `zoo sample`.

use std::path::{Path, PathBuf};

use zoo_runtimes::Search;
use zoo_sdk::Array;

use crate::registry::Registry;
use crate::run::Which;
use crate::{Result, picture};

/// What to draw, and with what.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// A run or a bundle.
    pub path: PathBuf,
    /// How many images.
    pub count: usize,
    /// Seeds the noise; the same in every runtime.
    pub seed: u64,
    /// The class to draw, for models that take one; all in turn where left out.
    pub label: Option<i64>,
    /// `candle`, `tract`, `ort` or `candle-onnx`; left out: candle for a run, tract for a bundle.
    pub runtime: Option<String>,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Which weights of a run.
    pub weights: Which,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Where to look for runtimes.
    pub search: Search,
}

impl SampleOptions {
    /// Draws 64 images from `path` with seed 0 on the CPU.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            count: 64,
            seed: 0,
            label: None,
            runtime: None,
            device: "cpu".to_owned(),
            weights: Which::Auto,
            threads: 0,
            search: Search::default(),
        }
    }
}

/// Images that a model drew.
#[derive(Clone, Debug)]
pub struct Samples {
    /// `[N,C,H,W]` in [0, 1].
    pub images: Array,
    /// The model's name.
    pub model: String,
    /// What computed them.
    pub runtime: String,
    /// Seconds that the drawing took, without loading.
    pub seconds: f64,
}

impl Samples {
    /// Writes them as a PNG of rows and columns.
    ///
    /// # Errors
    /// For images of other than 1 or 3 channels, and where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let columns = (self.images.shape().first().copied().unwrap_or(1) as f64)
            .sqrt()
            .ceil();
        let grid = picture::grid(&self.images, columns as usize, None)?;
        Ok(picture::save_png(&grid, path)?)
    }
}

/// Draws images with the graph `sample` of a run or a bundle.
///
/// The noise follows from the seed and the image's index alone, so that every runtime draws the same pictures. A run on
/// another runtime than candle is exported in memory first.
///
/// # Errors
/// Where there is nothing to open, the model cannot be sampled, or the runtime or device cannot be had.
pub fn sample(registry: &Registry, options: &SampleOptions) -> Result<Samples> {
    let _ = (registry, options);
    todo!()
}
