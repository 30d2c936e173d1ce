//! The trainer's settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AdamConfig, Error, Result, Schedule};

/// Which optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma & Ba, 2015.
    #[default]
    Adam,
    /// Loshchilov & Hutter, 2019.
    AdamW,
    /// Adam in the eigenbasis of each weight matrix's gradients (Vyas et al., 2024, arXiv 2409.11321): fewer steps to the same loss, each a little dearer. The paper's
    /// `beta1` and `beta2` are 0.95. Sides over 512 keep their own basis; vectors are updated by AdamW.
    Soap,
}

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
        }
    }
}

impl TrainConfig {
    /// Reads the table and checks its ranges.
    pub fn parse(table: &serde_json::Value) -> Result<Self> {
        let config: Self = serde_json::from_value(table.clone())
            .map_err(|e| Error::input(format!("settings under train: {e}")))?;
        let problems = [
            (config.batch == 0, "train.batch must be at least 1"),
            (
                !(config.learning_rate > 0.0 && config.learning_rate.is_finite()),
                "train.learning_rate must be above 0",
            ),
            (
                !(0.0..1.0).contains(&config.beta1),
                "train.beta1 must be in [0, 1)",
            ),
            (
                !(0.0..1.0).contains(&config.beta2),
                "train.beta2 must be in [0, 1)",
            ),
            (
                config.epsilon <= 0.0 || !config.epsilon.is_finite(),
                "train.epsilon must be above 0",
            ),
            (
                config.weight_decay < 0.0 || !config.weight_decay.is_finite(),
                "train.weight_decay must not be negative",
            ),
            (
                config.clip_norm.is_some_and(|n| n.is_nan() || n <= 0.0),
                "train.clip_norm must be above 0",
            ),
            (
                config.ema.is_some_and(|d| !(0.0..1.0).contains(&d)),
                "train.ema must be in [0, 1)",
            ),
            (
                config
                    .max_seconds
                    .is_some_and(|s| !(0.0..1e12).contains(&s)),
                "train.max_seconds must be between 0 and 1e12",
            ),
            (
                config.epochs.is_none() && config.steps.is_none() && config.max_seconds.is_none(),
                "one of train.epochs, train.steps and train.max_seconds must say when to stop",
            ),
        ];
        match problems.iter().find(|(wrong, _)| *wrong) {
            Some((_, message)) => Err(Error::input(*message)),
            None => Ok(config),
        }
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
