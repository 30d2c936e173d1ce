//! Trainings: seeded, interruptible, resumable, and better at the end than at the start.

use serde_json::{Value as Json, json};
use zoo_sdk::{
    Array, Checkpoint, Context, Control, EvaluateRequest, Event, GraphKind, Metrics, OpenRequest,
    Plugin, Result, Session, Silent, StopReason, TrainReport, TrainRequest,
};

use crate::{Options, Outcome, Report, Synthetic, ensure, refused};

/// A plugin with the settings and data that it is checked with.
pub(crate) struct Subject<'a> {
    pub plugin: &'a dyn Plugin,
    pub data: Synthetic,
    model: Json,
    train: Json,
}

/// Remembers what a training says, and cancels it after a step.
#[derive(Default)]
struct Recorder {
    cancel_at: Option<u64>,
    losses: Vec<f64>,
    checkpoints: Vec<Checkpoint>,
    pictures: Vec<Array>,
    measured: Vec<Metrics>,
}

impl Context for Recorder {
    fn progress(&mut self, event: &Event) -> Control {
        match event {
            Event::Step { step, losses, .. } => {
                // The first phase's terms: in an adversarial model the phases pull in opposite directions.
                let phase = |name: &str| name.split_once('/').map(|(phase, _)| phase.to_string());
                let first = losses.first().and_then(|term| phase(&term.name));
                self.losses.push(
                    losses
                        .iter()
                        .filter(|term| phase(&term.name) == first)
                        .map(|term| term.value)
                        .sum(),
                );
                if self.cancel_at == Some(*step) {
                    return Control::Cancelled;
                }
            }
            Event::Metrics { metrics, .. } => self.measured.push(metrics.clone()),
            _ => {}
        }
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, images: &Array) -> Result<()> {
        self.pictures.push(images.clone());
        Ok(())
    }
}

impl<'a> Subject<'a> {
    pub fn new(plugin: &'a dyn Plugin, options: &Options) -> Self {
        let description = plugin.describe();
        let defaults = &description.defaults;
        let mut model = defaults["model"].clone();
        for (key, value) in options.model.as_object().into_iter().flatten() {
            model[key] = value.clone();
        }
        let mut train = defaults["train"].clone();
        let small = json!({"epochs": null, "max_seconds": null, "batch": 16, "checkpoint_every": 1000, "sample_every": 1000, "evaluate_every": 1000});
        for (key, value) in small.as_object().into_iter().flatten() {
            train[key] = value.clone();
        }
        Self {
            plugin,
            data: Synthetic::for_model(options.size, &description),
            model,
            train,
        }
    }

    fn request(&self, steps: u64, seed: u64) -> TrainRequest {
        let mut train = self.train.clone();
        train["steps"] = json!(steps);
        TrainRequest {
            model: self.model.clone(),
            train,
            seed,
            threads: 1,
            device: "cpu".into(),
            ..TrainRequest::default()
        }
    }

    fn train(&self, request: &TrainRequest) -> Outcome<(TrainReport, Recorder)> {
        self.train_until(request, None)
    }

    fn train_until(
        &self,
        request: &TrainRequest,
        cancel_at: Option<u64>,
    ) -> Outcome<(TrainReport, Recorder)> {
        let mut recorder = Recorder {
            cancel_at,
            ..Recorder::default()
        };
        let report = self
            .plugin
            .train(request, &self.data.view(), &mut recorder)
            .map_err(|e| e.to_string())?;
        Ok((report, recorder))
    }

    /// The checkpoint at the end of a training of so many steps.
    fn trained(&self, request: &TrainRequest) -> Outcome<Checkpoint> {
        let (_, recorder) = self.train(request)?;
        recorder
            .checkpoints
            .last()
            .cloned()
            .ok_or_else(|| "the last step left no checkpoint".into())
    }

    fn open_request(&self, checkpoint: &Checkpoint) -> OpenRequest {
        OpenRequest {
            model: self.model.clone(),
            data: self.data.spec().clone(),
            weights: checkpoint.model.clone(),
            threads: 1,
            device: "cpu".into(),
        }
    }

    /// A session over a few steps' weights.
    pub fn session(&self) -> Outcome<Box<dyn Session>> {
        let checkpoint = self.trained(&self.request(4, 1))?;
        self.plugin
            .open(&self.open_request(&checkpoint))
            .map_err(|e| e.to_string())
    }
}

pub(crate) fn check(subject: &Subject<'_>, report: &mut Report) {
    report.add(
        "refuses unknown settings by name",
        unknown_settings(subject),
    );
    report.add(
        "refuses settings out of their range by name",
        out_of_range(subject),
    );
    report.add("refuses data without training images", no_images(subject));
    report.add("lowers its loss", loss_falls(subject));
    report.add(
        "gives the same bytes for the same seed, on any number of threads",
        same_seed(subject),
    );
    report.add(
        "stops within one step of a cancellation, with a checkpoint",
        cancel(subject),
    );
    report.add("resumes bit for bit", resume(subject));
    report.add(
        "measures, draws and saves when the settings say so",
        rhythm(subject),
    );
    report.add("refuses weights that do not fit, by name", weights(subject));
    report.add(
        "evaluates to finite metrics, the same twice",
        evaluate(subject),
    );
}

/// That a training is refused, by the setting's name, in which a setting has this value.
fn refuses(subject: &Subject<'_>, table: &str, key: &str, value: Json) -> Outcome {
    let mut request = subject.request(1, 1);
    let settings = match table {
        "model" => &mut request.model,
        _ => &mut request.train,
    };
    let what = format!("{table}.{key} = {value}");
    settings[key] = value;
    let result = subject
        .plugin
        .train(&request, &subject.data.view(), &mut Silent);
    refused(result, &what, &[key])
}

fn unknown_settings(subject: &Subject<'_>) -> Outcome {
    ["model", "train"]
        .into_iter()
        .try_for_each(|table| refuses(subject, table, "no_such_setting", json!(1)))
}

/// The schema of every setting says its range: no number beyond one may start a training.
fn out_of_range(subject: &Subject<'_>) -> Outcome {
    let description = subject.plugin.describe();
    let schemas = [
        ("model", &description.model_schema),
        ("train", &description.train_schema),
    ];
    for (table, schema) in schemas {
        for (key, setting) in schema["properties"].as_object().into_iter().flatten() {
            let whole = setting["type"].to_string().contains("integer");
            let beyond = [
                ("minimum", -1.0),
                ("exclusiveMinimum", 0.0),
                ("maximum", 1.0),
                ("exclusiveMaximum", 0.0),
            ];
            for (bound, step) in beyond {
                let Some(bound) = setting[bound].as_f64() else {
                    continue;
                };
                let value = match whole {
                    true => json!((bound + step) as i64),
                    false => json!(bound + step),
                };
                refuses(subject, table, key, value)?;
            }
        }
    }
    Ok(())
}

fn no_images(subject: &Subject<'_>) -> Outcome {
    let mut data = subject.data.view();
    data.train.images.count = 0;
    data.train.images.elements = zoo_sdk::Elements::U8(&[]);
    data.train.labels = Some(&[]);
    refused(
        subject
            .plugin
            .train(&subject.request(1, 1), &data, &mut Silent),
        "an empty data set",
        &[],
    )
}

fn loss_falls(subject: &Subject<'_>) -> Outcome {
    let (_, recorder) = subject.train(&subject.request(60, 1))?;
    ensure(recorder.losses.len() == 60, || {
        format!("60 steps reported {} losses", recorder.losses.len())
    })?;
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (&recorder.losses[..10], &recorder.losses[50..]);
    let (start, end) = (mean(first), mean(last));
    let variance = last.iter().map(|l| (l - end).powi(2)).sum::<f64>() / 9.0;
    // Three standard errors: a loss that only fluctuates does not fall by chance.
    let noise = 3.0 * (variance * 2.0 / 10.0).sqrt();
    ensure(start - end > noise, || {
        format!(
            "the mean loss of ten steps went from {start:.4} to {end:.4} in 60 steps, where {noise:.4} may be chance"
        )
    })
}

fn same_seed(subject: &Subject<'_>) -> Outcome {
    let first = subject.trained(&subject.request(5, 1))?;
    ensure(subject.trained(&subject.request(5, 1))? == first, || {
        "two trainings with one seed differ".into()
    })?;
    for threads in [2, 3] {
        let request = TrainRequest {
            threads,
            ..subject.request(5, 1)
        };
        ensure(subject.trained(&request)? == first, || {
            format!("{threads} threads give other weights than 1")
        })?;
    }
    ensure(
        subject.trained(&subject.request(5, 2))?.model != first.model,
        || "another seed gives the same weights".into(),
    )
}

fn cancel(subject: &Subject<'_>) -> Outcome {
    let (report, recorder) = subject.train_until(&subject.request(50, 1), Some(3))?;
    let saved = recorder.checkpoints.last().map(|c| c.step);
    ensure(
        report.reason == StopReason::Cancelled && report.step == 3 && saved == Some(3),
        || format!("cancelled in step 3, it {report:?} and saved {saved:?}"),
    )
}

fn resume(subject: &Subject<'_>) -> Outcome {
    let whole = subject.trained(&subject.request(9, 1))?;
    let (_, part) = subject.train_until(&subject.request(9, 1), Some(5))?;
    let resume = part.checkpoints.last().cloned();
    let resumed = subject.trained(&TrainRequest {
        resume,
        ..subject.request(9, 1)
    })?;
    ensure(resumed.model == whole.model, || {
        "the weights differ from an uninterrupted training's".into()
    })?;
    ensure(resumed.optimizer == whole.optimizer, || {
        "the optimiser's state differs".into()
    })?;
    ensure(resumed == whole, || {
        format!(
            "the state differs: {:?} and {:?}",
            resumed.state, whole.state
        )
    })
}

fn rhythm(subject: &Subject<'_>) -> Outcome {
    let mut request = subject.request(4, 1);
    for key in ["checkpoint_every", "sample_every", "evaluate_every"] {
        request.train[key] = json!(2);
    }
    let (report, recorder) = subject.train(&request)?;
    let steps: Vec<u64> = recorder.checkpoints.iter().map(|c| c.step).collect();
    ensure(
        report.reason == StopReason::Finished && steps == [2, 4],
        || format!("checkpoints at {steps:?}, not at 2 and 4"),
    )?;
    ensure(recorder.measured.len() == 2, || {
        format!("{} measurements, not 2", recorder.measured.len())
    })?;
    let draws = subject.plugin.describe().has(&GraphKind::Sample);
    ensure(!draws || recorder.pictures.len() == 2, || {
        format!("{} pictures, not 2", recorder.pictures.len())
    })?;
    let bounded = |image: &Array| {
        image
            .as_f32()
            .is_ok_and(|v| v.iter().all(|x| (0.0..=1.0).contains(x)))
    };
    ensure(recorder.pictures.iter().all(bounded), || {
        "a picture leaves [0, 1]".into()
    })
}

fn weights(subject: &Subject<'_>) -> Outcome {
    let checkpoint = subject.trained(&subject.request(1, 1))?;
    let name = checkpoint
        .model
        .keys()
        .next()
        .cloned()
        .ok_or("the model has no weights")?;
    let open = |change: &dyn Fn(&mut OpenRequest)| {
        let mut request = subject.open_request(&checkpoint);
        change(&mut request);
        subject.plugin.open(&request).map(|_| ())
    };
    open(&|_| ()).map_err(|e| format!("its own weights are refused: {e}"))?;
    refused(
        open(&|r| drop(r.weights.remove(&name))),
        "a missing weight",
        &[&name],
    )?;
    refused(
        open(&|r| {
            drop(
                r.weights
                    .insert("no.such.weight".into(), checkpoint.model[&name].clone()),
            )
        }),
        "a weight left over",
        &["no.such.weight"],
    )?;
    let longer = Array::f32([7, 7, 7], vec![0.0; 343]).map_err(|e| e.to_string())?;
    refused(
        open(&|r| drop(r.weights.insert(name.clone(), longer.clone()))),
        "a weight of another shape",
        &[&name],
    )
}

fn evaluate(subject: &Subject<'_>) -> Outcome {
    let session = subject.session()?;
    let request = EvaluateRequest {
        seed: 1,
        batch: 10,
        importance_samples: 3,
        step: 0,
    };
    let measure = || {
        session
            .evaluate(&request, &subject.data.valid(), &mut Silent)
            .map_err(|e| e.to_string())
    };
    let metrics = measure()?;
    ensure(!metrics.is_empty(), || "there are no metrics".into())?;
    if let Some((name, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
        return Err(format!("{name} is {value}"));
    }
    ensure(measure()? == metrics, || {
        "two evaluations with one seed differ".into()
    })?;
    let one = EvaluateRequest {
        batch: 32,
        ..request
    };
    let whole = session
        .evaluate(&one, &subject.data.valid(), &mut Silent)
        .map_err(|e| e.to_string())?;
    let close = metrics
        .iter()
        .all(|(name, value)| (whole[name] - value).abs() <= 1e-4 * (1.0 + value.abs()));
    ensure(close, || {
        format!("the batch size changes the metrics: {metrics:?} and {whole:?}")
    })
}
