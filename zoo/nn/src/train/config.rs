//! The trainer's settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use crate::{
    Error, Result,
    model::{Anneal, Stage},
    optim::{AdamConfig, Optimizer, Schedule},
    settings,
};

/// How to train: the table `train` of a run's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training images.
    pub epochs: Option<u64>,
    /// Steps in all; instead of epochs.
    pub steps: Option<u64>,
    /// Stop after this many seconds.
    #[schemars(range(min = 0.0))]
    pub max_seconds: Option<f64>,
    /// Images a step.
    #[schemars(range(min = 1))]
    pub batch: usize,
    /// Adam, AdamW or SOAP.
    pub optimizer: Optimizer,
    /// Step size.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub learning_rate: f64,
    /// Decay of the first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: f64,
    /// L2 penalty (adam) or decay (adamw, soap) of the weights.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Steps in which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// How it moves after that.
    pub schedule: Schedule,
    /// Largest L2 norm of a phase's gradients; longer ones are scaled down.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub clip_norm: Option<f64>,
    /// Decay of the exponential moving average of the weights, such as 0.999.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub ema: Option<f64>,
    /// Steps between checkpoints; every epoch where left out.
    #[schemars(range(min = 1))]
    pub checkpoint_every: Option<u64>,
    /// Steps between sample pictures; every epoch where left out.
    #[schemars(range(min = 1))]
    pub sample_every: Option<u64>,
    /// Steps between measurements on the held-out images; every epoch where left out.
    #[schemars(range(min = 1))]
    pub evaluate_every: Option<u64>,
    /// Scalars of the model that change over the training, by name: `beta = { from = 0, to = 1, steps = 5000 }`.
    pub anneal: BTreeMap<String, Anneal>,
}

/// What a phase or stage may have of its own: the table `train.<name>`. What it leaves out is as in `train`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PartConfig {
    /// Stages: passes over the training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Stages: steps in all; instead of epochs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Phases: updates in a step, each on a batch of its own.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// Adam, AdamW or SOAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<Optimizer>,
    /// Step size.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Decay of the first moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Decay of the second moment.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// Added to the root of the second moment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// L2 penalty (adam) or decay (adamw, soap) of the weights.
    #[schemars(range(min = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Steps in which the learning rate rises from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// How it moves after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Largest L2 norm of the gradients.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: Some(10),
            steps: None,
            max_seconds: None,
            batch: 64,
            optimizer: Optimizer::Adam,
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            clip_norm: None,
            ema: None,
            checkpoint_every: None,
            sample_every: None,
            evaluate_every: None,
            anneal: BTreeMap::new(),
        }
    }
}

impl TrainConfig {
    /// That something says when the stage `name` ends.
    fn check_length(&self, name: &str) -> Result<()> {
        if self.epochs.is_none() && self.steps.is_none() && self.max_seconds.is_none() {
            let table = match name {
                "" => "train".to_owned(),
                name => format!("train.{name}"),
            };
            return Err(Error::input(format!(
                "{table}.epochs: one of epochs, steps and max_seconds must say when to stop"
            )));
        }
        Ok(())
    }

    /// The step to stop at; the fewer where both epochs and steps are given.
    pub(crate) fn total_steps(&self, steps_per_epoch: u64) -> Option<u64> {
        let by_epochs = self
            .epochs
            .map(|epochs| epochs.saturating_mul(steps_per_epoch));
        match (self.steps, by_epochs) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn adam(&self) -> AdamConfig {
        AdamConfig {
            optimizer: self.optimizer,
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
        }
    }
}

/// The settings of a whole training.
pub(crate) struct Settings {
    /// What holds for all of it.
    pub all: TrainConfig,
    /// What holds for each stage, and for each of its phases with its updates in a step.
    pub stages: Vec<(TrainConfig, Vec<(TrainConfig, u64)>)>,
}

impl Settings {
    /// Reads the table `train` for a model of these stages.
    pub fn parse(table: &Json, stages: &[Stage]) -> Result<Self> {
        let mut all: Json = settings::read("train", table, &schema(stages))?;
        let mut parts = BTreeMap::new();
        for name in self::parts(stages) {
            if let Some(own) = all.as_object_mut().and_then(|all| all.remove(name)) {
                parts.insert(name, typed::<PartConfig>(own)?);
            }
        }
        let of = |base: &Json, name: &str| {
            let (mut merged, mut repeats) = (base.clone(), None);
            if let Some(own) = parts.get(name) {
                repeats = own.repeats;
                let own = serde_json::to_value(own).unwrap_or_default();
                for (key, value) in own.as_object().into_iter().flatten() {
                    // A length of the part's own stands in place of the training's.
                    match key.as_str() {
                        "repeats" => continue,
                        "epochs" => merged["steps"] = Json::Null,
                        "steps" => merged["epochs"] = Json::Null,
                        _ => {}
                    }
                    merged[key] = value.clone();
                }
            }
            (merged, repeats)
        };
        let mut settings = Self {
            all: typed(all.clone())?,
            stages: Vec::new(),
        };
        for stage in stages {
            let (base, _) = of(&all, stage.name);
            let mut phases = Vec::new();
            for phase in &stage.phases {
                let (merged, repeats) = of(&base, phase.name);
                phases.push((typed(merged)?, repeats.unwrap_or(phase.repeats)));
            }
            let config: TrainConfig = typed(base)?;
            config.check_length(stage.name)?;
            settings.stages.push((config, phases));
        }
        Ok(settings)
    }
}

/// Settings that fit their schema, in their type.
fn typed<T: DeserializeOwned>(table: Json) -> Result<T> {
    serde_json::from_value(table).map_err(|e| Error::input(format!("settings under train: {e}")))
}

/// Names of stages and phases, which are those of their tables under `train`.
pub(crate) fn parts(stages: &[Stage]) -> Vec<&'static str> {
    let names = stages
        .iter()
        .flat_map(|s| s.phases.iter().map(|p| p.name).chain([s.name]));
    names.filter(|name| !name.is_empty()).collect()
}

/// The schema of the table `train` for a model of these stages.
pub(crate) fn schema(stages: &[Stage]) -> Json {
    let mut schema = schemars::schema_for!(TrainConfig).to_value();
    let parts = schemars::schema_for!(PartConfig).to_value();
    for name in self::parts(stages) {
        let mut part = parts.clone();
        if let Some(part) = part.as_object_mut() {
            part.remove("$schema");
            part.remove("title");
            // Shared definitions stand at the top.
            if let Some(Json::Object(definitions)) = part.remove("$defs") {
                for (key, definition) in definitions {
                    schema["$defs"][key] = definition;
                }
            }
            let about = format!("Settings of {name} that differ from those of the whole training.");
            part.insert("description".into(), about.into());
        }
        schema["properties"][name] = part;
    }
    schema
}
