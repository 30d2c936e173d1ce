//! Requests, replies and events. All but the tensors serialise to JSON.
//!
//! Which of them may grow, and how to write them so that they can, stands in README.md under "Versions".

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::{DataSpec, GraphKind, Metrics, Port, Tensors};

/// The places of the field's taxonomy that `density` may name.
pub const DENSITY_FAMILIES: [&str; 4] = ["tractable", "approximate", "implicit", "none"];

/// Where a model was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paper {
    /// Title.
    pub title: String,
    /// Family names.
    pub authors: String,
    /// Year of publication.
    pub year: u32,
    /// Where to read it.
    pub url: String,
}

/// Channels, height and width of the images for which a [`Description`] shows signatures.
pub const SHOWN_IMAGE: [usize; 3] = [1, 28, 28];

/// What a model is for: it says what a batch must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Task {
    /// Images from noise.
    #[default]
    Generate,
    /// Images from noise and a class: the data need labels.
    GenerateFromLabel,
    /// From one image to another: the data need targets.
    ImageToImage,
    /// From an image to a code and back.
    Represent,
}

impl Task {
    /// The name that descriptions use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::GenerateFromLabel => "generate-from-label",
            Self::ImageToImage => "image-to-image",
            Self::Represent => "represent",
        }
    }
}

/// What a plugin says of a model before anything is trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The name that commands use: `vae`.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// `latent variable`, `autoregressive`, `adversarial`, ...
    pub family: String,
    /// Whether p(x) is `tractable`, `approximate` or `implicit`, or the model has `none`.
    pub density: String,
    /// What it is for; `generate` where a plugin does not say.
    #[serde(default)]
    pub task: Task,
    /// Where it was published.
    pub paper: Paper,
    /// The model's version; weights of another one may not fit.
    pub version: String,
    /// Graphs it exports: the name, and what it computes in one line.
    pub graphs: BTreeMap<String, String>,
    /// Their signatures in the default settings, for images of [`SHOWN_IMAGE`]; empty where the model takes no such images.
    #[serde(default)]
    pub signatures: Vec<GraphInfo>,
    /// The metric that decides which checkpoint is best, and whether a larger one is better.
    pub best_metric: Option<(String, bool)>,
    /// JSON schema of the model's settings.
    pub model_schema: Json,
    /// JSON schema of the trainer's settings (`train.`).
    pub train_schema: Json,
    /// Recommended settings: tables `model`, `data` and `train`.
    pub defaults: Json,
}

/// A graph's signature.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphInfo {
    /// Its name in the vocabulary: `encode`, `decode`, `sample`, ...
    pub name: String,
    /// What it computes, in one line.
    pub doc: String,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
}

impl Description {
    /// Whether it exports a graph that computes this.
    pub fn has(&self, kind: &GraphKind) -> bool {
        self.graphs.contains_key(kind.name())
    }
}

impl GraphInfo {
    /// What it computes, as its name says.
    pub fn kind(&self) -> GraphKind {
        self.name.as_str().into()
    }
}

/// Asks for a training.
#[derive(Clone, Debug, Default)]
pub struct TrainRequest {
    /// The model's settings, complete.
    pub model: Json,
    /// The trainer's settings, complete.
    pub train: Json,
    /// The one seed from which every random number follows.
    pub seed: u64,
    /// CPU threads; results do not depend on it.
    pub threads: usize,
    /// `cpu`, `cuda:0`, `metal`.
    pub device: String,
    /// Continue from here.
    pub resume: Option<Checkpoint>,
    /// Start from these weights instead of random ones; ignored where `resume` is given.
    pub init_from: Option<Tensors>,
    /// The path of the part of the model that `init_from` holds, such as `decoder`; the rest starts from random weights. All of it where left out.
    pub init_part: Option<String>,
}

/// Whether the weight called `path` belongs to the part of a model at the path `part`; the empty path is all of it.
pub fn is_below(path: &str, part: &str) -> bool {
    part.is_empty()
        || path
            .strip_prefix(part)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Everything needed to continue a training bit for bit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Raw weights and buffers, by parameter path.
    pub model: Tensors,
    /// Exponential moving averages, where the trainer keeps them.
    pub ema: Option<Tensors>,
    /// Moments of the optimisers, by `<phase>.<m|v>.<parameter path>`.
    pub optimizer: Tensors,
    /// Counters and the settings that they belong to.
    pub state: StateRecord,
}

/// The part of a checkpoint that is not tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StateRecord {
    /// Steps done.
    pub step: u64,
    /// Images seen.
    pub images: u64,
    /// The run's seed.
    pub seed: u64,
    /// The model's name and version.
    pub model: (String, String),
    /// The model's settings: weights fit no other.
    pub config: Json,
    /// Updates done by each phase's optimiser.
    pub updates: BTreeMap<String, u64>,
    /// Metrics on held-out data, where they were measured at this step.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "crate::number::metrics"
    )]
    pub metrics: Metrics,
}

/// One named term of a phase's objective.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossTerm {
    /// `phase/term`, or the term alone where there is one phase.
    pub name: String,
    /// Its mean over the batch.
    #[serde(with = "crate::number::float")]
    pub value: f64,
}

/// What a training reports while it runs. A host passes over events that it does not know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Before the first step.
    Started {
        /// The step it continues from; 0 for a fresh run.
        step: u64,
        /// The step it will stop at, where that is known.
        steps: Option<u64>,
        /// Steps in one pass over the data.
        steps_per_epoch: u64,
        /// Trainable values.
        parameters: u64,
    },
    /// After every step.
    Step {
        /// Steps done.
        step: u64,
        /// Passes over the data done, with the fraction.
        #[serde(with = "crate::number::float")]
        epoch: f64,
        /// Terms in the objective's order.
        losses: Vec<LossTerm>,
        /// Learning rate of the step.
        #[serde(with = "crate::number::float")]
        learning_rate: f64,
        /// L2 norm of the gradients before clipping, largest over the phases.
        #[serde(with = "crate::number::float")]
        gradient_norm: f64,
        /// Images a second over the last steps.
        #[serde(with = "crate::number::float")]
        images_per_s: f64,
    },
    /// Metrics on the held-out split.
    Metrics {
        /// Steps done.
        step: u64,
        /// Values by name.
        #[serde(with = "crate::number::metrics")]
        metrics: Metrics,
    },
    /// While metrics are being measured.
    Evaluating {
        /// Images done.
        done: u64,
        /// Images in all.
        total: u64,
    },
    /// Something a person should know.
    Note {
        /// The text.
        message: String,
    },
}

/// The host's answer to an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Control {
    /// Go on.
    Continue,
    /// Save a checkpoint and stop after this step.
    Cancelled,
}

/// Why a training ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// All steps are done.
    #[default]
    Finished,
    /// The host cancelled.
    Cancelled,
    /// The time set by `train.max_seconds` is over.
    TimeLimit,
}

/// How a training ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Why.
    pub reason: StopReason,
    /// Steps done in all.
    pub step: u64,
    /// Seconds of this call.
    #[serde(with = "crate::number::float")]
    pub seconds: f64,
}

/// Asks for a session over trained weights.
#[derive(Clone, Debug, Default)]
pub struct OpenRequest {
    /// The model's settings.
    pub model: Json,
    /// What it was trained on.
    pub data: DataSpec,
    /// Weights and buffers by parameter path.
    pub weights: Tensors,
    /// CPU threads.
    pub threads: usize,
    /// `cpu`, `cuda:0`, `metal`.
    pub device: String,
}

/// Asks for metrics over a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluateRequest {
    /// Seeds every draw: binarisation by image index, latent samples.
    pub seed: u64,
    /// Images at a time.
    pub batch: usize,
    /// Importance samples per image, for models that estimate log p(x) with them; 0 leaves that metric out.
    pub importance_samples: usize,
    /// Steps that the weights were trained for: what changes over a training is as it was then.
    #[serde(default)]
    pub step: u64,
}
