//! The library call behind `zoo train`.

use std::path::{Path, PathBuf};

use zoo_data::{DataSettings, OwnedDataset, Source};
use zoo_sdk::{DataSpec, Dataset, Description, StopReason, Task, Tensors, TrainRequest, is_below};

use crate::directory::{Content, Layout, RunDir, checkpoint, pictures};
use crate::registry::Registry;
use crate::settings::{self, Given, Resolved};
use crate::trained::{Which, open, threads};
use crate::{Error, Result};

mod observer;
mod record;
#[cfg(test)]
mod tests;

pub use observer::{Observer, Quiet};
use record::Recorder;

/// Settings that may change when a run is resumed: they decide when to stop and how often to save, not what is computed.
const CHANGEABLE: [&str; 4] = [
    "train.epochs",
    "train.steps",
    "train.max_seconds",
    "train.checkpoint_every",
];

/// What to train, on what, and where to.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The model's name.
    pub model: String,
    /// The run directory.
    pub out: PathBuf,
    /// Settings.
    pub given: Given,
    /// Go on where the run in `out` stopped.
    pub resume: bool,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// `cpu`, `cuda:0`, `metal`.
    pub device: String,
}

impl TrainOptions {
    /// Trains `model` into `out` on the CPU, with the plugin's defaults.
    pub fn new(model: impl Into<String>, out: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            out: out.into(),
            given: Given::default(),
            resume: false,
            threads: 0,
            device: "cpu".to_owned(),
        }
    }
}

/// How a training ended.
#[derive(Debug)]
pub struct TrainOutcome {
    /// Why.
    pub reason: StopReason,
    /// Steps done in all.
    pub step: u64,
    /// The step of the checkpoint that this call continued from.
    pub resumed_from: Option<u64>,
    /// The run was finished already, and nothing was done.
    pub was_finished: bool,
    /// Seconds that this call trained.
    pub seconds: f64,
    /// The run directory.
    pub run: Layout,
    /// The plot of losses, where one was drawn.
    pub loss_plot: Option<PathBuf>,
    /// Damaged checkpoints, notes on the data.
    pub warnings: Vec<String>,
}

/// The weights of a run or bundle, or of a part of them: `RUN:decoder`.
fn start(registry: &Registry, from: &str) -> Result<(Option<Tensors>, Option<String>)> {
    let (path, part) = settings::part_of(from);
    let mut weights = open(registry, Path::new(path), Which::Auto)?.weights;
    let Some(part) = part else {
        return Ok((Some(weights), None));
    };
    if !weights.keys().any(|name| is_below(name, part)) {
        let mut parts: Vec<_> = weights
            .keys()
            .filter_map(|name| name.split('.').next())
            .collect();
        parts.dedup();
        return Err(Error::Usage(format!(
            "--init-from {from}: {path} has no part {part:?}; it has {}",
            parts.join(", ")
        )));
    }
    weights.retain(|name, _| is_below(name, part));
    Ok((Some(weights), Some(part.to_owned())))
}

/// Trains a model into a run directory, or goes on with a run.
///
/// `cancel` is asked after each step; once it says true, the training saves a checkpoint and ends with
/// [`StopReason::Cancelled`].
///
/// # Errors
/// Before anything is written: for settings, data and directories that do not fit. Later: [`Error::Save`] and
/// [`Error::Io`] for a full disk, [`Error::Diverged`]; earlier checkpoints stay as they are.
pub fn train(
    registry: &Registry,
    options: &TrainOptions,
    cancel: &(dyn Fn() -> bool + Sync),
    observer: &mut dyn Observer,
) -> Result<TrainOutcome> {
    let plugin = registry.get(&options.model)?;
    let description = registry.describe(&options.model)?;
    let layout = Layout::new(&options.out);
    let existed = options.out.exists();
    let content = layout.content()?;
    if content == Content::Run && !options.resume {
        return Err(Error::RunExists {
            path: options.out.clone(),
        });
    }

    // An existing run is locked before it is read; a new folder is not made before everything else is known to be fine.
    let initial = |resolved: &Resolved, resume: bool| match &resolved.init_from {
        Some(from) if !resume => start(registry, from),
        _ => Ok((None, None)),
    };
    let (mut run, resolved, resume, data, (init_from, init_part)) = match content {
        Content::Run => {
            let mut run = RunDir::lock(&options.out)?;
            if let Some(model) =
                settings::model_of(&layout.config())?.filter(|m| *m != options.model)
            {
                return Err(Error::Usage(format!(
                    "{} is a run of {model}, not of {}; continue it with zoo train {model}, or give another --out",
                    options.out.display(),
                    options.model
                )));
            }
            let (stored, resolved) =
                settings::resolve_run(description, &layout.config(), &options.given)?;
            let resume = run.resume_from()?;
            if resume.is_some() {
                check_changes(&options.out, &stored, &resolved)?;
            }
            let data = load_data(&resolved)?;
            if resume.is_some() {
                check_data(&layout, &data.spec)?;
            }
            let init_from = initial(&resolved, resume.is_some())?;
            (run, resolved, resume, data, init_from)
        }
        Content::Empty => {
            let resolved = settings::resolve(description, &options.given)?;
            let data = load_data(&resolved)?;
            check_task(description, &data.spec)?;
            let init_from = initial(&resolved, false)?;
            let run = RunDir::lock(&options.out)?;
            if layout.content()? != Content::Empty {
                let path = options.out.clone();
                return Err(Error::RunExists { path });
            }
            (run, resolved, None, data, init_from)
        }
    };
    for note in &data.notes {
        run.warn(note.clone());
    }
    run.warnings.iter().for_each(|w| observer.warning(w));
    let config = resolved.to_toml();
    if resume.is_none()
        || std::fs::read_to_string(layout.config()).ok().as_deref() != Some(config.as_str())
    {
        run.write_settings(&config, &data.spec)?;
    }
    observer.prepared(&resolved, &data.spec);

    let resumed_from = resume.as_ref().map(|c| c.step);
    let request = TrainRequest {
        model: resolved.model,
        train: resolved.train,
        seed: resolved.seed,
        threads: threads(options.threads),
        device: options.device.clone(),
        resume,
        init_from,
        init_part,
    };
    let best_metric = description.best_metric.clone();
    let mut recorder = Recorder::new(&mut run, observer, cancel, best_metric, resumed_from)?;
    let trained = plugin.train(
        &request,
        &for_task(data.view(), description.task),
        &mut recorder,
    );
    let (steps, saved, failure) = (
        recorder.steps,
        recorder.saved.take(),
        recorder.failure.take(),
    );
    drop(recorder);

    let report = match (failure, trained) {
        (Some(error), _) => return Err(error),
        (None, Ok(report)) => report,
        (None, Err(zoo_sdk::Error::Diverged(message))) => {
            draw_losses(&mut run);
            let kept = checkpoint::newest(&layout.checkpoints())?.checkpoint;
            return Err(Error::Diverged {
                message,
                kept: kept.map(|(_, folder)| folder),
            });
        }
        (None, Err(error)) => {
            if matches!(error, zoo_sdk::Error::Input(_))
                && content == Content::Empty
                && steps == 0
                && saved.is_none()
            {
                undo(&layout, run, existed);
            }
            return Err(Error::plugin(&options.model)(error));
        }
    };
    let was_finished =
        resumed_from == Some(report.step) && steps == 0 && report.reason == StopReason::Finished;
    let loss_plot = (!was_finished).then(|| draw_losses(&mut run)).flatten();
    Ok(TrainOutcome {
        reason: report.reason,
        step: report.step,
        resumed_from,
        was_finished,
        seconds: report.seconds,
        run: layout,
        loss_plot,
        warnings: std::mem::take(&mut run.warnings),
    })
}

/// Data as the settings say.
///
/// # Errors
/// Those of [`zoo_data::load`], and settings that make no sense.
pub fn load_data(resolved: &Resolved) -> Result<OwnedDataset> {
    let settings: DataSettings =
        serde_json::from_value(resolved.data.clone()).map_err(|e| Error::BadData(e.to_string()))?;
    Ok(zoo_data::load(
        &Source::parse(&resolved.source)?,
        &settings,
    )?)
}

/// Targets go to the models that ask for them; others, and plugins of before there were targets, see images and labels.
fn for_task(mut data: Dataset<'_>, task: Task) -> Dataset<'_> {
    if task != Task::ImageToImage {
        data.train.targets = None;
        if let Some(valid) = &mut data.valid {
            valid.targets = None;
        }
    }
    data
}

/// What a model is for decides what the data must hold.
fn check_task(description: &Description, spec: &DataSpec) -> Result<()> {
    let model = &description.name;
    match (description.task, spec.pair()) {
        (Task::ImageToImage, None) => Err(Error::Usage(format!(
            "{model} maps images to images, and {} holds no pairs: make them with --set data.degrade=\"shrink 2\" (or grey, noise 0.1), or give a folder with \
             pictures in input/ and target/, or an .npz with x_train and target_train",
            spec.name
        ))),
        (Task::GenerateFromLabel, _) if spec.classes.is_empty() => Err(Error::Usage(format!(
            "{model} draws images of a class, and {} has no labels: give a folder with a sub-folder for each class, or an .npz with y_train",
            spec.name
        ))),
        (Task::ImageToImage, _) | (_, None) => Ok(()),
        (_, Some(_)) if !spec.degrade.is_empty() => Err(Error::Usage(format!(
            "data.degrade makes pairs for models that map images to images, and {model} is none: leave it out"
        ))),
        (_, Some(_)) => Ok(()),
    }
}

fn check_changes(path: &Path, stored: &Resolved, wanted: &Resolved) -> Result<()> {
    let changed = stored
        .differences(wanted)
        .into_iter()
        .find(|(key, _, _)| !CHANGEABLE.contains(&key.as_str()));
    match changed {
        None => Ok(()),
        Some((key, old, new)) => Err(Error::FixedOnResume {
            path: path.to_owned(),
            key,
            old,
            new,
        }),
    }
}

/// Other data under the same name would continue something else.
fn check_data(layout: &Layout, spec: &DataSpec) -> Result<()> {
    let stored = layout.read_spec()?;
    if stored.sha256 == spec.sha256 {
        return Ok(());
    }
    Err(Error::Corrupt {
        path: layout.data(),
        what: format!(
            "the run was trained on data with SHA-256 {}, but {:?} now has {}; bring back the data, or start a new run with --init-from",
            stored.sha256, spec.name, spec.sha256
        ),
    })
}

/// Removes a run that its plugin refused before the first step, so that the next try finds the folder as it was.
fn undo(layout: &Layout, run: RunDir, existed: bool) {
    let removed = [layout.config(), layout.data(), layout.metrics()]
        .iter()
        .try_for_each(|path| match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        });
    if let Err(error) = removed {
        tracing::warn!("cannot clear {}: {error}", layout.root().display());
        return;
    }
    let _ = std::fs::remove_file(layout.root().join(".lock"));
    drop(run);
    if !existed {
        // Only where it is empty.
        let _ = std::fs::remove_dir(layout.root());
    }
}

/// A plot that cannot be drawn is a pity, not a failed training.
fn draw_losses(run: &mut RunDir) -> Option<PathBuf> {
    match pictures::loss_plot(&run.disk, run.layout()) {
        Ok(path) => path,
        Err(error) => {
            run.warn(format!("no loss plot: {error}"));
            None
        }
    }
}
