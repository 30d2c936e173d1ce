//! What the tests over the whole workspace share: small models, their training and export, and the runtimes to run them on.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.

use std::path::{Path, PathBuf};

use zoo_deploy::{ExportOptions, Exported, export};
use zoo_runs::{Quiet, Registry, TrainOptions, train};
use zoo_runtimes::{Runtime, RuntimeId, Search, found};

/// A model so small that training and running it takes no time.
#[derive(Debug)]
pub struct Small {
    /// Names its fixtures and snapshots.
    pub name: &'static str,
    /// The model's name.
    pub model: &'static str,
    /// What makes it small.
    pub set: &'static [&'static str],
}

/// One of each kind of network.
pub const SMALL: [Small; 5] = [
    Small {
        name: "vae-mlp",
        model: "vae",
        set: &[
            "model.hidden=[16]",
            "model.latent=2",
            "model.importance_samples=3",
            "train.learning_rate=0.005",
        ],
    },
    Small {
        name: "vae-conv",
        model: "vae",
        set: &[
            "model.arch=conv",
            "model.channels=[4, 8]",
            "model.dense=16",
            "model.latent=3",
            "model.importance_samples=2",
            "model.likelihood=gaussian",
            "train.learning_rate=0.005",
        ],
    },
    Small {
        name: "gan-dcgan",
        model: "gan",
        set: &[
            "model.latent=6",
            "model.channels=8",
            "train.learning_rate=0.002",
        ],
    },
    Small {
        name: "pixelcnn",
        model: "pixelcnn",
        set: &[
            "data.binarization=threshold",
            "model.channels=8",
            "model.blocks=2",
            "model.head=8",
            "train.learning_rate=0.005",
        ],
    },
    Small {
        name: "gated-pixelcnn",
        model: "gated-pixelcnn",
        set: &[
            "data.binarization=threshold",
            "model.channels=6",
            "model.layers=2",
            "model.head=8",
            "train.learning_rate=0.005",
        ],
    },
];

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The models that the `zoo` command has.
pub fn registry() -> Registry {
    zoo_builtins::registry().unwrap()
}

/// Every runtime that can be had. ONNX Runtime may only be missing where nobody promised it, as `tests/run` does.
pub fn runtimes() -> Vec<Box<dyn Runtime>> {
    let found = found(&Search::default()).into_iter();
    let usable = found.filter_map(|(name, runtime)| match runtime {
        Ok(runtime) => Some(runtime),
        Err(error) => {
            let promised = name != RuntimeId::Ort || std::env::var_os("ORT_DYLIB_PATH").is_some();
            assert!(!promised, "{name}: {error}");
            println!("skipped {name}: {error}");
            None
        }
    });
    usable.collect()
}

impl Small {
    /// Trains it for `steps` steps into the folder `run`.
    pub fn train(&self, run: &Path, steps: u64) {
        let mut options = TrainOptions::new(self.model, run);
        options.given.data = Some("fashion-small".to_owned());
        options.given.steps = Some(steps);
        options.given.seed = Some(1);
        options.given.set = self.set.iter().map(|s| s.to_string()).collect();
        train(&registry(), &options, &|| false, &mut Quiet).unwrap();
    }

    /// Trains it a little and exports it, both under `folder`.
    pub fn bundle(&self, folder: &Path) -> Exported {
        let run: PathBuf = folder.join("run");
        self.train(&run, 4);
        let options = ExportOptions::new(run, folder.join("bundle"));
        export(&registry(), &options, &mut |_| {}).unwrap()
    }
}
