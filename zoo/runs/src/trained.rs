//! Trained weights, from a run or a bundle.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value as Json;
use zoo_onnx::Bundle;
use zoo_sdk::{Binarization, DataSpec, Metrics, OpenRequest, Session, Tensors};

use crate::directory::{Layout, checkpoint, from_safetensors};
use crate::registry::Registry;
use crate::settings::{self, Given, Resolved};
use crate::{Error, Result};

/// Weights in a bundle.
const WEIGHTS: &str = "model.safetensors";

/// Which weights of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Averages of the newest checkpoint where there are some, else its raw weights.
    #[default]
    Auto,
    /// Raw weights of the newest checkpoint.
    Raw,
    /// Averages of the newest checkpoint.
    Ema,
    /// The best checkpoint by the model's metric: its averages where there are some.
    Best,
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "raw" => Ok(Self::Raw),
            "ema" => Ok(Self::Ema),
            "best" => Ok(Self::Best),
            other => Err(format!("{other:?}: expected one of raw, ema, best")),
        }
    }
}

/// A trained model: everything that a session, an evaluation or an export needs.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Where it was read from.
    pub path: PathBuf,
    /// The model's name.
    pub model: String,
    /// The version of the model that trained it.
    pub version: String,
    /// The model's settings.
    pub config: Json,
    /// What it was trained on.
    pub data: DataSpec,
    /// The run's settings; none for a bundle.
    pub settings: Option<Resolved>,
    /// Weights and buffers by parameter path.
    pub weights: Tensors,
    /// `raw`, `ema`, or `exported` for a bundle.
    pub kind: &'static str,
    /// Steps done.
    pub step: u64,
    /// The run's seed.
    pub seed: u64,
    /// Metrics on held-out data at that step, where they were measured.
    pub metrics: Metrics,
    /// Damaged checkpoints that were passed over.
    pub warnings: Vec<String>,
}

impl Trained {
    /// A session over these weights. `threads` 0 means all.
    ///
    /// # Errors
    /// The plugin's, where the weights do not fit.
    pub fn session(
        &self,
        registry: &Registry,
        threads: usize,
        device: &str,
    ) -> Result<Box<dyn Session>> {
        let request = OpenRequest {
            model: self.config.clone(),
            data: self.data.clone(),
            weights: self.weights.clone(),
            threads: self::threads(threads),
            device: device.to_owned(),
        };
        registry
            .get(&self.model)?
            .open(&request)
            .map_err(Error::plugin(&self.model))
    }
}

/// Reads the weights of a run or a bundle. Takes no lock: a training may go on beside.
///
/// # Errors
/// Where the folder is neither, or holds no weights of that kind that verify.
pub fn open(registry: &Registry, path: &Path, which: Which) -> Result<Trained> {
    let layout = Layout::new(path);
    if layout.config().is_file() {
        return open_run(registry, &layout, which);
    }
    if path.join("manifest.json").is_file() {
        return open_bundle(path, which);
    }
    Err(Error::NotARun {
        path: path.to_owned(),
        what: if path.is_dir() {
            "is neither a run (no config.toml) nor a bundle (no manifest.json); give the folder that zoo train or zoo export wrote"
        } else if path.exists() {
            "is a file; give the folder that zoo train or zoo export wrote"
        } else {
            "there is no such folder; check the path"
        }
        .to_owned(),
    })
}

fn open_run(registry: &Registry, layout: &Layout, which: Which) -> Result<Trained> {
    let config = layout.config();
    let model = settings::model_of(&config)?.ok_or_else(|| Error::Corrupt {
        path: config.clone(),
        what: "`plugin` is missing, so the model is unknown; add plugin = \"NAME\"".to_owned(),
    })?;
    let description = registry.describe(&model)?;
    let (resolved, _) = settings::resolve_run(description, &config, &Given::default())?;
    let data = layout.read_spec()?;
    let none = |what: String| Error::NoCheckpoint {
        path: layout.root().to_owned(),
        what,
    };
    let mut warnings = Vec::new();
    let (found, folder) = if which == Which::Best {
        let best = layout.best();
        if !best.exists() {
            return Err(none(
                "has no best checkpoint: no metric was measured while training (data.valid holds out images for it); use --weights raw or ema".to_owned(),
            ));
        }
        (checkpoint::read(&best)?, best)
    } else {
        let newest = checkpoint::newest(&layout.checkpoints())?;
        let damaged = newest.damaged.iter();
        warnings
            .extend(damaged.map(|(_, error)| format!("damaged checkpoint passed over: {error}")));
        newest.checkpoint.ok_or_else(|| match warnings.first() {
            None => none("has no checkpoint yet; train on with --resume".to_owned()),
            Some(first) => none(format!(
                "has no checkpoint that can be read ({first}); --weights best may help"
            )),
        })?
    };
    let (trained_by, version) = found.state.model.clone();
    if trained_by != model {
        return Err(Error::Corrupt {
            path: folder,
            what: format!(
                "holds weights of the model {trained_by:?}, but config.toml says {model:?}"
            ),
        });
    }
    if version != description.version {
        warnings.push(format!(
            "trained by version {version} of {model}, opened by {}",
            description.version
        ));
    }
    warnings.iter().for_each(|w| tracing::warn!("{w}"));
    let (weights, kind) = match (found.ema, which) {
        (Some(ema), Which::Auto | Which::Ema | Which::Best) => (ema, "ema"),
        (None, Which::Ema) => {
            return Err(none(format!(
                "step {} has no averaged weights (averaging was off); use --weights raw",
                found.step
            )));
        }
        _ => (found.model, "raw"),
    };
    Ok(Trained {
        path: layout.root().to_owned(),
        model,
        version,
        config: resolved.model.clone(),
        data,
        seed: resolved.seed,
        settings: Some(resolved),
        weights,
        kind,
        step: found.step,
        metrics: found.state.metrics,
        warnings,
    })
}

fn open_bundle(path: &Path, which: Which) -> Result<Trained> {
    if which != Which::Auto {
        return Err(Error::NoCheckpoint {
            path: path.to_owned(),
            what: "is a bundle, which holds one set of weights; leave out --weights".to_owned(),
        });
    }
    // Checks every file against its hash.
    let bundle = Bundle::open(path)?;
    let weights = bundle.read(WEIGHTS)?;
    let weights = from_safetensors(&weights).map_err(|what| Error::Corrupt {
        path: path.join(WEIGHTS),
        what,
    })?;
    let manifest = bundle.manifest().clone();
    let binarization = manifest.data.binarization.as_str();
    let known = Binarization::ALL
        .iter()
        .find(|(name, _)| *name == binarization);
    let (_, binarization) = known.ok_or_else(|| Error::Corrupt {
        path: path.join("manifest.json"),
        what: format!("data.binarization {binarization:?} is unknown; export the run again"),
    })?;
    let degrade = manifest.data.degrade.parse().map_err(|e| Error::Corrupt {
        path: path.join("manifest.json"),
        what: format!("data.degrade: {e}"),
    })?;
    Ok(Trained {
        path: path.to_owned(),
        model: manifest.model,
        version: manifest.version,
        config: manifest.config,
        data: DataSpec {
            name: manifest.data.name,
            image: manifest.data.image,
            target: manifest.data.target,
            degrade,
            classes: manifest.data.classes,
            binarization: *binarization,
            sha256: manifest.data.sha256,
            licence: manifest.data.licence,
        },
        settings: None,
        weights,
        kind: "exported",
        step: manifest.step,
        seed: manifest.seed,
        metrics: manifest.metrics,
        warnings: Vec::new(),
    })
}

/// `requested`, or all that the machine has.
pub(crate) fn threads(requested: usize) -> usize {
    match requested {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    }
}
