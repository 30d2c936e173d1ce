//! For tests: a disk that fails, and a plugin with one weight that moves by a fixed rule, so that everything about it can be foretold.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use zoo_files::Disk;
use zoo_sdk::{
    Array, Checkpoint, Context, Control, Dataset, Description, Error, EvaluateRequest, Event,
    Graph, GraphInfo, LossTerm, Metrics, OpenRequest, Plugin, Result, Session, Split, StateRecord,
    StopReason, TrainReport, TrainRequest,
};

pub(crate) const VERSION: &str = "1";

/// Which operations of a disk fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The one, as on a disk that is full for a moment; removing still works.
    Once,
    /// It and all after it, as if the process had died.
    FromThen,
}

/// Counts operations of a disk, and fails at the chosen one.
#[derive(Clone)]
pub(crate) struct Faults {
    kind: Kind,
    at: usize,
    count: Arc<AtomicUsize>,
}

impl Faults {
    pub(crate) fn new(kind: Kind, at: usize) -> Self {
        Self {
            kind,
            at,
            count: Arc::default(),
        }
    }

    /// The disk that has them.
    pub(crate) fn disk(&self) -> Disk {
        let faults = self.clone();
        Disk::failing(move || {
            let now = faults.count.fetch_add(1, Ordering::Relaxed);
            let fails = match faults.kind {
                Kind::Once => now == faults.at,
                Kind::FromThen => now >= faults.at,
            };
            match fails {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        })
    }

    /// Operations so far.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A plugin whose numbers are known.
pub(crate) struct FakePlugin {
    name: String,
}

impl FakePlugin {
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }
}

/// The checkpoint that the fake training has at `step`.
pub(crate) fn checkpoint_at(step: u64, seed: u64, ema: bool) -> Checkpoint {
    let weight = |x: f32| {
        let array = Array::f32([2, 2], [x, seed as f32, -x, 0.5]).unwrap();
        [("net.weight".to_owned(), array)].into()
    };
    Checkpoint {
        step,
        model: weight(step as f32),
        ema: ema.then(|| weight(step as f32 / 2.0)),
        optimizer: weight(step as f32 * 3.0),
        state: StateRecord {
            step,
            images: step * 10,
            seed,
            model: ("fake".to_owned(), VERSION.to_owned()),
            config: json!({ "rate": 0.1 }),
            updates: [("main".to_owned(), step)].into(),
            metrics: Metrics::new(),
        },
    }
}

impl Plugin for FakePlugin {
    fn describe(&self) -> Description {
        Description {
            name: self.name.clone(),
            summary: "one weight".into(),
            family: "none".into(),
            density: "none".into(),
            version: VERSION.into(),
            best_metric: Some(("nll_nats".into(), false)),
            model_schema: json!({
                "type": "object", "additionalProperties": false,
                "$defs": {
                    "Arch": { "oneOf": [{ "type": "string", "const": "mlp", "description": "dense" }, { "type": "string", "const": "conv" }] },
                    "Net": { "type": "object", "properties": { "width": { "type": "integer", "minimum": 1, "default": 32 }, "bias": { "type": "boolean", "default": true } } },
                },
                "properties": {
                    "arch": { "$ref": "#/$defs/Arch", "default": "mlp" },
                    "latent": { "type": "integer", "format": "uint", "minimum": 1, "default": 20 },
                    "beta": { "type": "number", "format": "float", "minimum": 0.0, "default": 1.0 },
                    "hidden": { "type": "array", "items": { "type": "integer", "minimum": 1 }, "default": [400, 200] },
                    "net": { "$ref": "#/$defs/Net", "default": { "width": 32, "bias": true } },
                    "dropout": { "type": ["number", "null"], "maximum": 1, "default": null },
                    "note": { "type": ["string", "null"], "default": null },
                    "refuse": { "type": "boolean", "default": false },
                },
            }),
            train_schema: json!({
                "type": "object", "additionalProperties": false,
                "properties": {
                    "epochs": { "type": ["integer", "null"], "minimum": 0, "default": null },
                    "steps": { "type": ["integer", "null"], "minimum": 0, "default": null },
                    "max_seconds": { "type": ["number", "null"], "minimum": 0.0, "default": null },
                    "checkpoint_every": { "type": "integer", "minimum": 1, "default": 2 },
                    "batch": { "type": "integer", "minimum": 1, "default": 64 },
                    "lr": { "type": "number", "format": "float", "exclusiveMinimum": 0.0, "default": f64::from(1e-3f32) },
                    "ema": { "type": "boolean", "default": false },
                    "diverge_at": { "type": ["integer", "null"], "default": null },
                },
            }),
            defaults: json!({ "model": {}, "data": { "binarization": "dynamic" }, "train": { "epochs": 3, "lr": 0.01 } }),
            ..Description::default()
        }
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        if request.model["refuse"] == json!(true) {
            return Err(Error::input("model.refuse is true"));
        }
        let number = |key: &str| request.train[key].as_u64();
        let per_epoch = 5;
        let total = number("steps")
            .or(number("epochs").map(|n| n * per_epoch))
            .unwrap_or(1);
        let every = number("checkpoint_every").unwrap_or(1);
        let mut step = match (&request.resume, &request.init_from) {
            (Some(checkpoint), _) => {
                let seed = request.seed;
                let ema = checkpoint.ema.is_some();
                let mut expected = checkpoint_at(checkpoint.step, seed, ema);
                expected.state.metrics = checkpoint.state.metrics.clone();
                expected.state.model.0 = self.name.clone();
                assert_eq!(*checkpoint, expected, "the state of this very step");
                checkpoint.step
            }
            _ => 0,
        };
        cx.progress(&Event::Started {
            step,
            steps: Some(total),
            steps_per_epoch: per_epoch,
            parameters: 4,
        });
        let mut reason = StopReason::Finished;
        while step < total {
            step += 1;
            if number("diverge_at") == Some(step) {
                return Err(Error::Diverged(format!("step {step}: loss is NaN")));
            }
            let stop = cx.progress(&Event::Step {
                step,
                epoch: step as f64 / per_epoch as f64,
                losses: vec![
                    LossTerm {
                        name: "loss".into(),
                        value: 1.0 / step as f64,
                    },
                    LossTerm {
                        name: "kl".into(),
                        value: data.train.len() as f64,
                    },
                ],
                learning_rate: 1e-3,
                gradient_norm: 1.0,
                images_per_s: 10.0,
            }) == Control::Cancelled;
            let save = step % every == 0 || step == total || stop;
            if step % every == 0 {
                // Best at step 4, worse later.
                let nll = (step as f64 - 4.0).abs() + 0.25;
                let metrics = [("nll_nats".to_owned(), nll), ("odd".to_owned(), f64::NAN)].into();
                cx.progress(&Event::Metrics { step, metrics });
                let [c, h, w] = data.spec.image;
                let images = Array::f32([4, c, h, w], vec![0.5; 4 * c * h * w])?;
                cx.images(step, "samples", &images)?;
            }
            if save {
                let mut checkpoint =
                    checkpoint_at(step, request.seed, request.train["ema"] == json!(true));
                checkpoint.state.model.0 = self.name.clone();
                cx.checkpoint(&checkpoint)?;
            }
            if stop {
                reason = StopReason::Cancelled;
                break;
            }
        }
        if reason == StopReason::Finished && request.resume.as_ref().is_some_and(|c| c.step == step)
        {
            // As a trainer does that always saves at its end, without measuring again.
            let mut checkpoint = checkpoint_at(step, request.seed, false);
            checkpoint.state.model.0 = self.name.clone();
            cx.checkpoint(&checkpoint)?;
        }
        Ok(TrainReport {
            reason,
            step,
            seconds: 0.0,
        })
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        let weight = request
            .weights
            .get("net.weight")
            .ok_or_else(|| Error::input("net.weight is missing"))?;
        Ok(Box::new(FakeSession {
            weight: weight.as_f32()?[0],
        }))
    }
}

struct FakeSession {
    weight: f32,
}

impl Session for FakeSession {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        Ok(Vec::new())
    }

    fn run(&self, graph: &str, _: &zoo_sdk::Tensors) -> Result<zoo_sdk::Tensors> {
        Err(Error::input(format!("no graph {graph}")))
    }

    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        _: &mut dyn Context,
    ) -> Result<Metrics> {
        Ok([
            ("weight".to_owned(), f64::from(self.weight)),
            ("images".to_owned(), data.len() as f64),
            ("seed".to_owned(), request.seed as f64),
        ]
        .into())
    }

    fn export(&self, graph: &str) -> Result<Graph> {
        Err(Error::input(format!("no graph {graph}")))
    }
}
