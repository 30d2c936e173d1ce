//! What the demo does, and what it leaves.

use std::path::PathBuf;

use zoo_deploy::{Exported, Verification};
use zoo_runs::TrainOutcome;

/// What the demo left.
#[derive(Clone, Debug)]
pub struct Done {
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

impl Done {
    /// Whether it was carried out and every runtime agreed.
    pub fn ok(&self) -> bool {
        !self.cancelled && self.verified.iter().all(|(_, v)| v.ok)
    }
}

/// The embedded data set.
pub const DATA: &str = "fashion-small";

/// A model and how long it learns. The time is a safety for slow machines: on two ordinary cores the epochs end before it.
pub struct Plan {
    pub model: &'static str,
    pub title: &'static str,
    pub set: &'static [&'static str],
    pub epochs: u64,
    pub max_seconds: f64,
}

pub const QUICK: [Plan; 2] = [
    Plan {
        model: "vae",
        title: "VAE",
        set: &[
            "model.hidden=[512, 256]",
            "model.latent=8",
            "train.learning_rate=2e-3",
            "train.schedule=cosine",
        ],
        epochs: 18,
        max_seconds: 18.0,
    },
    Plan {
        model: "gan",
        title: "GAN",
        set: &[
            "model.channels=64",
            "model.latent=32",
            "train.batch=32",
            "train.learning_rate=1e-3",
            "train.schedule=cosine",
            "train.ema=0.98",
        ],
        epochs: 15,
        max_seconds: 48.0,
    },
];

pub const FULL: [Plan; 2] = [
    Plan {
        model: "vae",
        title: "VAE",
        set: &[
            "model.arch=conv",
            "model.latent=12",
            "train.learning_rate=1.5e-3",
            "train.schedule=cosine",
        ],
        epochs: 20,
        max_seconds: 150.0,
    },
    Plan {
        model: "gan",
        title: "GAN",
        set: &[
            "model.channels=64",
            "model.latent=64",
            "train.batch=32",
            "train.learning_rate=5e-4",
            "train.schedule=cosine",
            "train.ema=0.99",
        ],
        epochs: 28,
        max_seconds: 360.0,
    },
];

/// What became of a plan.
pub struct Part {
    pub plan: &'static Plan,
    pub trained: TrainOutcome,
    pub exported: Exported,
    pub verified: Verification,
}

impl Part {
    /// The model's name.
    pub fn model(&self) -> &'static str {
        self.plan.model
    }
}

/// `90 s`, `2.5 min`
pub fn minutes(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s => format!("{} min", (s / 6.0).round() / 10.0),
    }
}
