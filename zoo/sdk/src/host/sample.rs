//! A small plugin for tests: it learns the mean image, and misbehaves where its settings say so.

use std::collections::BTreeMap;

use serde_json::json;
use zoo_graph::{Initializer, Node, ValueType};

use crate::{
    Array, Checkpoint, Context, Control, DType, DataSpec, Dataset, Description, Dim, Elements,
    Error, EvaluateRequest, Event, Graph, GraphInfo, LossTerm, Metrics, OpenRequest, Paper, Plugin,
    Port, Result, Session, Split, StateRecord, StopReason, Task, Tensors, TrainReport,
    TrainRequest,
};

/// The plugin.
pub(crate) struct Sample;

/// Images of the data set.
pub(crate) const IMAGES: [u8; 8] = [0, 10, 20, 30, 40, 50, 60, 255];

/// Two images of 1x2x2, labelled.
pub(crate) fn spec() -> DataSpec {
    DataSpec {
        name: "two".into(),
        image: [1, 2, 2],
        classes: vec!["a".into(), "b".into()],
        binarization: crate::Binarization::None,
        sha256: "0".repeat(64),
        ..DataSpec::default()
    }
}

fn misbehave(settings: &serde_json::Value, place: &str) {
    if settings["panic"] == place {
        panic!("asked to panic in {place}");
    }
}

impl Plugin for Sample {
    fn describe(&self) -> Description {
        Description {
            name: "sample-mean".into(),
            summary: "The mean image".into(),
            family: "test".into(),
            task: Task::Generate,
            density: "none".into(),
            paper: Paper::default(),
            version: "1".into(),
            graphs: BTreeMap::from([("shift".into(), "x plus the mean".into())]),
            signatures: vec![],
            best_metric: Some(("mean".into(), false)),
            model_schema: json!({"type": "object"}),
            train_schema: json!({"type": "object"}),
            defaults: json!({"model": {"panic": ""}, "train": {"steps": 3}}),
        }
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        misbehave(&request.model, "train");
        let settings = request.model.clone();
        // As rayon does it: a worker's panic goes on where it is waited for.
        let worker = std::thread::spawn(move || misbehave(&settings, "worker"));
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
        if data.train.is_empty() {
            return Err(Error::input("no images"));
        }
        let mut sum = 0.0;
        match data.train.images.elements {
            Elements::U8(values) => sum += values.iter().map(|&x| f64::from(x)).sum::<f64>(),
            Elements::F32(values) => sum += values.iter().map(|&x| f64::from(x)).sum::<f64>(),
        }
        let labels: i64 = data.train.labels.unwrap_or_default().iter().sum();
        let (mut step, mut mean) = (0, request.seed as f32);
        if let Some(resume) = &request.resume {
            (step, mean) = (resume.step, resume.model["net/mean"].as_f32()?[0]);
        }
        if let Some(weights) = &request.init_from {
            mean = weights["net/mean"].as_f32()?[0];
        }
        let steps = request.train["steps"].as_u64().unwrap_or(1);
        let mut reason = StopReason::Finished;
        while step < steps {
            step += 1;
            mean += sum as f32;
            let losses = vec![LossTerm {
                name: "loss".into(),
                value: if step == 2 { f64::NAN } else { labels as f64 },
            }];
            let event = Event::Step {
                step,
                epoch: 0.1,
                losses,
                learning_rate: 0.0,
                gradient_norm: f64::INFINITY,
                images_per_s: 1.0,
            };
            if cx.progress(&event) == Control::Cancelled {
                reason = StopReason::Cancelled;
                break;
            }
        }
        misbehave(&request.model, "checkpoint");
        cx.images(step, "mean", &Array::f32([1, 1, 2, 2], [mean; 4])?)?;
        let weights = || Ok::<_, Error>(Array::f32([1, 2, 2], [mean; 4])?);
        cx.checkpoint(&Checkpoint {
            step,
            model: Tensors::from([("net/mean".into(), weights()?)]),
            ema: (step > 1).then(Tensors::new),
            optimizer: Tensors::from([("count".into(), Array::i64([], [7])?)]),
            state: StateRecord {
                step,
                seed: request.seed,
                metrics: Metrics::from([("nll".into(), f64::NAN)]),
                ..StateRecord::default()
            },
        })?;
        Ok(TrainReport {
            reason,
            step,
            seconds: 0.5,
        })
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        misbehave(&request.model, "open");
        let mean = request.weights.get("net/mean").cloned();
        Ok(Box::new(Mean {
            mean: mean.ok_or_else(|| Error::input("net/mean is missing"))?,
            settings: request.model.clone(),
        }))
    }
}

struct Mean {
    mean: Array,
    settings: serde_json::Value,
}

impl Drop for Mean {
    fn drop(&mut self) {
        misbehave(&self.settings, "drop");
    }
}

impl Session for Mean {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        misbehave(&self.settings, "graphs");
        Ok(vec![GraphInfo {
            name: "shift".into(),
            doc: "x plus the mean".into(),
            inputs: vec![Port::image("x", [1, 2, 2])],
            outputs: vec![Port::batched("y", &[1, 2, 2])],
        }])
    }

    fn run(&self, graph: &str, inputs: &Tensors) -> Result<Tensors> {
        misbehave(&self.settings, "run");
        let x = inputs.get("x").filter(|_| graph == "shift");
        let x = x.ok_or_else(|| Error::input("no x, or no such graph"))?;
        let mean = self.mean.as_f32()?.iter().cycle();
        let sum: Vec<f32> = x.as_f32()?.iter().zip(mean).map(|(x, m)| x + m).collect();
        let output = match self.settings["output"].as_str() {
            Some("shape") => Array::f32([sum.len()], sum)?,
            Some("dtype") => Array::u8(x.shape(), vec![0; sum.len()])?,
            _ => Array::f32(x.shape(), sum)?,
        };
        let name = match self.settings["output"].as_str() {
            Some("name") => "z",
            _ => "y",
        };
        Ok(Tensors::from([(name.to_owned(), output)]))
    }

    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        cx: &mut dyn Context,
    ) -> Result<Metrics> {
        misbehave(&self.settings, "evaluate");
        let total = data.len() as u64;
        let event = Event::Evaluating { done: 1, total };
        if cx.progress(&event) == Control::Cancelled {
            return Err(Error::Host("cancelled".into()));
        }
        let value = if self.settings["output"] == "nan" {
            f64::NAN
        } else {
            f64::from(self.mean.as_f32()?[0]) + request.seed as f64
        };
        Ok(Metrics::from([
            ("mean".into(), value),
            ("images".into(), total as f64),
        ]))
    }

    fn export(&self, graph: &str) -> Result<Graph> {
        misbehave(&self.settings, "export");
        let image: [Dim; 3] = [1, 2, 2].map(Dim::from);
        let (x, y) = (Port::image("x", [1, 2, 2]), Port::batched("y", &[1, 2, 2]));
        let weight = ValueType {
            dtype: DType::F32,
            shape: image.into(),
        };
        let types = [
            ("x", x.value_type()),
            ("net/mean", weight),
            ("y", y.value_type()),
        ];
        Ok(Graph {
            name: graph.into(),
            inputs: vec![x],
            outputs: vec![y],
            initializers: vec![Initializer {
                name: "net/mean".into(),
                value: self.mean.clone(),
            }],
            nodes: vec![Node {
                name: "add".into(),
                op: "Add".into(),
                inputs: vec!["x".into(), "net/mean".into()],
                outputs: vec!["y".into()],
                ..Node::default()
            }],
            types: types.map(|(n, t)| (n.to_owned(), t)).into(),
        })
    }
}
