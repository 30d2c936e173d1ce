//! The host's side of a training: what a plugin reports becomes files.

use std::path::PathBuf;

use zoo_sdk::{Array, Checkpoint, Context, Control, Event, GraphKind, Metrics};

use super::observer::Observer;
use crate::directory::metrics::{MetricsFile, Record, finite};
use crate::directory::tensorboard::EventFile;
use crate::directory::{RunDir, pictures};
use crate::{Error, Result};

/// The [`Context`] of one call of a plugin's `train`.
pub(super) struct Recorder<'a> {
    pub(super) run: &'a mut RunDir,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) cancel: &'a (dyn Fn() -> bool + Sync),
    /// The metric that decides what is best, and whether larger is better.
    pub(super) best_metric: Option<(String, bool)>,
    metrics: MetricsFile,
    /// Made at the first event, so that a call that does nothing leaves nothing.
    events: Option<EventFile>,
    /// The step of the checkpoint that this call continues from.
    start: Option<u64>,
    measured: Option<(u64, Metrics)>,
    /// Steps done by this call.
    pub(super) steps: u64,
    /// The newest checkpoint of this call.
    pub(super) saved: Option<PathBuf>,
    /// The first failure of ours, which a plugin only sees as a text.
    pub(super) failure: Option<Error>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        run: &'a mut RunDir,
        observer: &'a mut dyn Observer,
        cancel: &'a (dyn Fn() -> bool + Sync),
        best_metric: Option<(String, bool)>,
        start: Option<u64>,
    ) -> Result<Self> {
        let done = start.unwrap_or(0);
        let metrics = MetricsFile::open(&run.disk, &run.layout().metrics(), done)?;
        Ok(Self {
            run,
            observer,
            cancel,
            best_metric,
            metrics,
            events: None,
            start,
            measured: None,
            steps: 0,
            saved: None,
            failure: None,
        })
    }

    fn record(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Note { message } => tracing::info!("{message}"),
            Event::Started { step, .. } => tracing::debug!(step, "training starts"),
            Event::Step { .. } => self.steps += 1,
            Event::Metrics { step, metrics } => self.measured = Some((*step, metrics.clone())),
            _ => {}
        }
        if let Some(record) = Record::of(event) {
            self.metrics.write(&record)?;
        }
        match event {
            Event::Step {
                step,
                epoch,
                losses,
                learning_rate,
                gradient_norm,
                images_per_s,
            } => {
                let other = [
                    ("train/epoch", *epoch),
                    ("train/learning_rate", *learning_rate),
                    ("train/gradient_norm", *gradient_norm),
                    ("train/images_per_s", *images_per_s),
                ];
                let tags: Vec<_> = losses.iter().map(|t| format!("loss/{}", t.name)).collect();
                let losses = tags
                    .iter()
                    .zip(losses)
                    .map(|(tag, t)| (tag.as_str(), t.value));
                self.events()?.scalars(*step, losses.chain(other))
            }
            Event::Metrics { step, metrics } => {
                let tags: Vec<_> = metrics.keys().map(|name| format!("valid/{name}")).collect();
                let values = tags.iter().zip(metrics.values());
                self.events()?
                    .scalars(*step, values.map(|(tag, value)| (tag.as_str(), *value)))
            }
            _ => Ok(()),
        }
    }

    fn events(&mut self) -> Result<&mut EventFile> {
        let file = match self.events.take() {
            Some(file) => file,
            None => EventFile::create(self.run.layout().root(), self.start.unwrap_or(0))?,
        };
        Ok(self.events.insert(file))
    }

    fn save(&mut self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        self.metrics.sync()?;
        let mut checkpoint = checkpoint.clone();
        if let Some((step, metrics)) = &self.measured
            && checkpoint.state.metrics.is_empty()
            && *step == checkpoint.step
        {
            checkpoint.state.metrics = metrics.clone();
        }
        // JSON has no NaN.
        checkpoint.state.metrics = finite(&checkpoint.state.metrics);
        let metric = self.best_metric.clone();
        let better = |new: &Metrics, old: Option<&Metrics>| {
            let Some((name, larger)) = &metric else {
                return false;
            };
            match (new.get(name), old.and_then(|m| m.get(name))) {
                (Some(new), Some(old)) => (new > old) == *larger && new != old,
                (new, _) => new.is_some(),
            }
        };
        self.run.save(&checkpoint, &better)
    }

    fn draw(&mut self, step: u64, name: &str, images: &Array) -> Result<PathBuf> {
        let samples = self.run.layout().samples();
        std::fs::create_dir_all(&samples).map_err(Error::io("create", &samples))?;
        let path = samples.join(file_name(step, name));
        let (png, size) = pictures::grid_png(images)?;
        self.run.disk.replace(&path, &png)?;
        self.events()?.image(step, name, size, &png)?;
        Ok(path)
    }

    /// Keeps the first failure for the caller of `train`, gives the plugin its text.
    fn keep<T>(&mut self, result: Result<T>) -> zoo_sdk::Result<T> {
        result.map_err(|error| {
            let text = error.to_string();
            self.failure.get_or_insert(error);
            zoo_sdk::Error::Host(text)
        })
    }
}

impl Context for Recorder<'_> {
    fn progress(&mut self, event: &Event) -> Control {
        self.observer.event(event);
        let recorded = self.record(event);
        // A measurement is finished first: a resumed run would not repeat it.
        let may_stop = !matches!(event, Event::Evaluating { .. });
        if self.keep(recorded).is_err() || self.failure.is_some() || may_stop && (self.cancel)() {
            Control::Cancelled
        } else {
            Control::Continue
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> zoo_sdk::Result<()> {
        if self.start == Some(checkpoint.step) && self.steps == 0 {
            return Ok(()); // what was just read
        }
        let warned = self.run.warnings.len();
        let saved = self.save(checkpoint);
        for warning in &self.run.warnings[warned..] {
            self.observer.warning(warning);
        }
        let path = self.keep(saved)?;
        self.observer.saved(checkpoint.step, &path);
        self.saved = Some(path);
        Ok(())
    }

    fn images(&mut self, step: u64, name: &str, images: &Array) -> zoo_sdk::Result<()> {
        let drawn = self.draw(step, name, images);
        let path = self.keep(drawn)?;
        self.observer.picture(step, &path);
        Ok(())
    }
}

/// `<step>.png` for samples; other pictures carry their name.
fn file_name(step: u64, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let sampled = GraphKind::from(name) == GraphKind::Sample || name == "samples";
    match sampled || plain.is_empty() {
        true => format!("{step}.png"),
        false => format!("{step}-{plain}.png"),
    }
}
