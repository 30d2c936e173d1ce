//! The library call behind `zoo eval`.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use zoo_data::{DataSettings, Size, Source};
use zoo_sdk::{Context, EvaluateRequest, Metrics, Split};

use crate::registry::Registry;
use crate::trained::{Trained, Which, open};
use crate::{Error, Result};

/// What to measure.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// A run or a bundle.
    pub path: PathBuf,
    /// Other data than those of the training: a name or a path.
    pub data: Option<String>,
    /// `train`, `valid` or `test`.
    pub split: String,
    /// Which weights.
    pub weights: Which,
    /// Seeds every draw.
    pub seed: u64,
    /// Images at a time.
    pub batch: usize,
    /// Importance samples per image; 0 leaves that metric out.
    pub importance_samples: usize,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// `cpu`, `cuda:0`, `metal`; where a runtime measures, one of its devices.
    pub device: String,
}

impl EvaluateOptions {
    /// Measures the newest weights of `path` on the test split of its own data.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            data: None,
            split: "test".to_owned(),
            weights: Which::Auto,
            seed: 0,
            batch: 100,
            importance_samples: 0,
            threads: 0,
            device: "cpu".to_owned(),
        }
    }
}

/// The result; its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The model's name.
    pub model: String,
    /// The data set's name.
    pub data: String,
    /// The split.
    pub split: String,
    /// How many images.
    pub images: usize,
    /// How they became binary.
    pub binarization: String,
    /// Means per image: `nll_nats`, `bits_per_dim`, `elbo_nats`, ...
    pub metrics: Metrics,
    /// How long it took.
    pub seconds: f64,
}

/// Measures a trained model on a split. Events of the session go to `cx`, whose answer may cancel it.
///
/// # Errors
/// For weights, data and splits that are not there or do not fit.
pub fn evaluate(
    registry: &Registry,
    options: &EvaluateOptions,
    cx: &mut dyn Context,
) -> Result<Evaluation> {
    evaluate_by(registry, options, |trained, split| {
        let session = trained.session(registry, options.threads, &options.device)?;
        let request = EvaluateRequest {
            seed: options.seed,
            batch: options.batch.max(1),
            importance_samples: options.importance_samples,
            step: trained.step,
        };
        session
            .evaluate(&request, split, cx)
            .map_err(Error::plugin(&trained.model))
    })
}

/// As [`evaluate`], where `measure` computes the metrics of the trained model on the split.
///
/// # Errors
/// As for [`evaluate`], and those of `measure`.
pub fn evaluate_by<E: From<Error>>(
    registry: &Registry,
    options: &EvaluateOptions,
    measure: impl FnOnce(&Trained, &Split<'_>) -> Result<Metrics, E>,
) -> Result<Evaluation, E> {
    let trained = open(registry, &options.path, options.weights)?;
    let mut settings = match &trained.settings {
        Some(run) => serde_json::from_value::<DataSettings>(run.data.clone())
            .map_err(|e| Error::BadData(e.to_string()))?,
        // A bundle knows no settings, but what came of them: images of this size.
        None => DataSettings {
            // Pairs keep their two sizes.
            size: trained.data.target.is_none().then_some(Size {
                height: trained.data.image[1],
                width: trained.data.image[2],
            }),
            ..DataSettings::default()
        },
    };
    settings.binarization = trained.data.binarization;
    settings.degrade = trained.data.degrade.clone();
    let source = options
        .data
        .clone()
        .or_else(|| trained.settings.as_ref().map(|run| run.source.clone()))
        // A bundle knows the name; that of an embedded set is enough.
        .unwrap_or_else(|| trained.data.name.clone());
    let data = Source::parse(&source).and_then(|source| zoo_data::load(&source, &settings));
    let data = data.map_err(Error::Data)?;
    if data.spec.image != trained.data.image {
        return Err(Error::OtherShape {
            data: data.spec.name.clone(),
            got: data.spec.image,
            expected: trained.data.image,
        }
        .into());
    }
    let split = data.split(&options.split).map_err(Error::Data)?;
    let start = Instant::now();
    let metrics = measure(&trained, &split)?;
    Ok(Evaluation {
        model: trained.model,
        data: data.spec.name.clone(),
        split: options.split.clone(),
        images: split.len(),
        binarization: data.spec.binarization.name().to_owned(),
        metrics,
        seconds: start.elapsed().as_secs_f64(),
    })
}
