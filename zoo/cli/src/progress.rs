//! What a person sees while a command works: a bar on a terminal, lines elsewhere.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::Value as Json;
use zoo_runs::Observer;
use zoo_runs::settings::Resolved;
use zoo_sdk::{Array, Checkpoint, Context, Control, DataSpec, Event, LossTerm, Metrics};

use crate::logging;
use crate::output::number;
use crate::parse::time;
use crate::signals::Signals;

/// Between two changes of a bar's text.
const REFRESH: Duration = Duration::from_millis(250);
/// Between two log lines within an epoch.
const LINE: Duration = Duration::from_secs(5);

/// Shows a training.
pub struct Training {
    bar: Option<ProgressBar>,
    measuring: Option<ProgressBar>,
    /// When the command began.
    made: Instant,
    started: Instant,
    shown: Instant,
    /// The epoch of the last line.
    epoch: u64,
    steps: Option<u64>,
    /// The step that this call started from.
    first: u64,
    /// A time limit, after which the training ends even if steps are left.
    limit: Option<Duration>,
    losses: Means,
    /// The last step reported, as a line, until it has been shown.
    pending: Option<String>,
}

impl Training {
    /// Before anything is known of the training.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            bar: None,
            measuring: None,
            made: now,
            started: now,
            shown: now,
            epoch: 0,
            steps: None,
            first: 0,
            limit: None,
            losses: Means::default(),
            pending: None,
        }
    }

    /// Ends the display; the last step is shown even if no line was due.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(bar) = self.measuring.take() {
            bar.finish_and_clear();
        }
        if let Some(line) = self.pending.take() {
            tracing::info!("{line}");
        }
    }

    fn start(&mut self, step: u64, steps: Option<u64>, parameters: u64) {
        tracing::info!("{parameters} parameters");
        if step > 0 {
            tracing::info!("going on from step {step}");
        }
        (self.steps, self.first) = (steps, step);
        (self.started, self.shown) = (Instant::now(), Instant::now());
        if logging::is_watched() {
            let template = match steps {
                Some(_) => "[{bar:20}] {pos}/{len}  {wide_msg}",
                None => "{spinner} step {pos}  {wide_msg}",
            };
            let bar = logging::bar(steps, template);
            bar.set_position(step);
            self.bar = Some(bar);
        }
    }

    fn left(&self, step: u64) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let done = step.saturating_sub(self.first);
        let by_steps = self.steps.filter(|_| done > 0).map(|steps| {
            let each = elapsed.as_secs_f64() / done as f64;
            Duration::from_secs_f64(each * steps.saturating_sub(step) as f64)
        });
        let by_limit = self.limit.map(|limit| limit.saturating_sub(elapsed));
        match (by_steps, by_limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn step(&mut self, step: u64, epoch: f64, losses: &[LossTerm], images_per_s: f64) {
        if step == self.first + 1 {
            let since = self.made.elapsed().as_millis();
            tracing::debug!("first step done {since} ms after the command began");
        }
        self.losses.add(losses);
        let left = self
            .left(step)
            .map_or(String::new(), |left| format!("{} left  ", time(left)));
        let line = |losses: String| {
            format!("epoch {epoch:.2}  {left}{images_per_s:.0} images/s  {losses}")
        };
        let of = self.steps.map_or(String::new(), |n| format!("/{n}"));
        let since = self.shown.elapsed();
        let due = match &self.bar {
            Some(_) => since >= REFRESH || step == self.first + 1,
            None => epoch.floor() as u64 > self.epoch || since >= LINE || self.steps == Some(step),
        };
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
        if !due {
            self.pending = Some(format!("step {step}{of}  {}", line(self.losses.text())));
            return;
        }
        (self.shown, self.epoch) = (Instant::now(), epoch.floor() as u64);
        let line = line(self.losses.take());
        let whole = format!("step {step}{of}  {line}");
        match &self.bar {
            Some(bar) => {
                bar.set_message(line);
                // The bar goes at the end, its last words stay.
                self.pending = Some(whole);
            }
            None => {
                self.pending = None;
                tracing::info!("{whole}");
            }
        }
    }
}

impl Observer for Training {
    fn prepared(&mut self, settings: &Resolved, data: &DataSpec) {
        let limit = settings.train.get("max_seconds").and_then(Json::as_f64);
        self.limit = limit.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let [c, h, w] = data.image;
        let (model, name, seed) = (&settings.model_name, &data.name, settings.seed);
        tracing::info!("training {model} on {name} ({c}x{h}x{w}), seed {seed}");
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Started {
                step,
                steps,
                parameters,
                ..
            } => self.start(*step, *steps, *parameters),
            Event::Step {
                step,
                epoch,
                losses,
                images_per_s,
                ..
            } => {
                self.measuring = None;
                self.step(*step, *epoch, losses, *images_per_s);
            }
            Event::Evaluating { done, total } => measure(&mut self.measuring, *done, *total),
            Event::Metrics { step, metrics } => {
                self.measuring = None;
                tracing::info!("held-out images at step {step}: {}", metrics_text(metrics));
            }
            Event::Note { message } => tracing::info!("{message}"),
            // What a later version adds is not shown.
            _ => {}
        }
    }

    fn saved(&mut self, step: u64, folder: &Path) {
        tracing::debug!("checkpoint of step {step}: {}", folder.display());
    }

    fn picture(&mut self, step: u64, file: &Path) {
        tracing::debug!("samples at step {step}: {}", file.display());
    }
}

/// Shows an evaluation, and stops it when a signal came.
pub struct Measuring<'a> {
    bar: Option<ProgressBar>,
    signals: &'a Signals,
}

impl<'a> Measuring<'a> {
    /// Stops when `signals` says so.
    pub fn new(signals: &'a Signals) -> Self {
        Self { bar: None, signals }
    }
}

impl Context for Measuring<'_> {
    fn progress(&mut self, event: &Event) -> Control {
        match event {
            Event::Evaluating { done, total } => measure(&mut self.bar, *done, *total),
            Event::Note { message } => tracing::info!("{message}"),
            _ => {}
        }
        match self.signals.received() {
            Some(_) => Control::Cancelled,
            None => Control::Continue,
        }
    }

    fn checkpoint(&mut self, _: &Checkpoint) -> zoo_sdk::Result<()> {
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> zoo_sdk::Result<()> {
        Ok(())
    }
}

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn measure(bar: &mut Option<ProgressBar>, done: u64, total: u64) {
    let bar = bar
        .get_or_insert_with(|| logging::bar(Some(total), "[{bar:24}] {pos}/{len} images measured"));
    bar.set_position(done);
    if done >= total {
        bar.finish_and_clear();
    }
}

/// `elbo_nats -234.56, kl 12.3456`
pub fn metrics_text(metrics: &Metrics) -> String {
    let each = metrics.iter().map(|(k, v)| format!("{k} {}", number(*v)));
    each.collect::<Vec<_>>().join(", ")
}

/// Means of losses since they were last shown: a single step is noise.
#[derive(Default)]
struct Means {
    /// Name, sum, steps, in the objective's order.
    terms: Vec<(String, f64, u32)>,
}

impl Means {
    fn add(&mut self, losses: &[LossTerm]) {
        for loss in losses {
            match self.terms.iter_mut().find(|(name, ..)| *name == loss.name) {
                Some((_, sum, count)) => {
                    *sum += loss.value;
                    *count += 1;
                }
                None => self.terms.push((loss.name.clone(), loss.value, 1)),
            }
        }
    }

    fn text(&self) -> String {
        let each = self
            .terms
            .iter()
            .map(|(name, sum, count)| format!("{name} {}", number(sum / f64::from(*count))));
        each.collect::<Vec<_>>().join("  ")
    }

    fn take(&mut self) -> String {
        let text = self.text();
        self.terms.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_means_since_they_were_shown() {
        let term = |name: &str, value| LossTerm {
            name: name.to_owned(),
            value,
        };
        let mut means = Means::default();
        means.add(&[term("rec", 100.0), term("kl", 1.0)]);
        means.add(&[term("rec", 200.0), term("kl", 2.0)]);
        assert_eq!(means.take(), "rec 150.00  kl 1.5000");
        means.add(&[term("rec", 7.0)]);
        assert_eq!(means.take(), "rec 7.0000");
        assert_eq!(means.take(), "");
    }

    #[test]
    fn time_left_is_the_shorter_of_steps_and_limit() {
        let mut training = Training::new();
        assert_eq!(training.left(0), None);
        training.limit = Some(Duration::from_secs(3600));
        assert!(training.left(0).unwrap() <= Duration::from_secs(3600));
        (training.steps, training.first) = (Some(20), 10);
        training.started = Instant::now() - Duration::from_secs(10);
        // Five steps in ten seconds, five left.
        let left = training.left(15).unwrap().as_secs_f64();
        assert!((9.9..11.0).contains(&left), "{left}");
        training.limit = Some(Duration::from_secs(11));
        assert!(training.left(15).unwrap() <= Duration::from_secs(1));
    }
}
