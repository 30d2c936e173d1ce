//! Trainings of several stages: each with settings of its own, on what those before left, resumable in any of them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::json;
use zoo_conformance::Synthetic;
use zoo_nn::{
    Batch, DataSpec, GraphFn, Info, Init, Losses, Metrics, Model, ModelPlugin, Net, Phase, Plugin,
    Result, Stage, StepCx, Value, loss,
};
use zoo_sdk::{Array, Checkpoint, Context, Control, Event, StopReason, TrainReport, TrainRequest};

/// Codes of an autoencoder, and a normal density of them once it is trained.
struct TwoStage {
    pixels: usize,
}

#[derive(Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {}

impl TwoStage {
    /// x (N,C,H,W) -> z (N,4)
    fn encode(&self, net: &Net, x: &Value) -> Value {
        let net = net.at("autoencoder");
        let z = net.linear("encode", &x.flatten(1), 4); // (N,4)
        // As ActNorm does: of unit variance over the first batch.
        let scale = net.param_from_data("scale", &[4], Init::Constant(1.0), || {
            1.0 / z.sqr().mean(&[0], false).sqrt()
        });
        z * scale
    }
}

impl Model for TwoStage {
    type Config = Config;

    const INFO: Info = Info {
        name: "two-stage",
        summary: "A density of codes",
        family: "latent variable",
        density: "none",
        title: "",
        authors: "",
        year: 2026,
        url: "",
        version: "1",
        graphs: &[("encode", "codes")],
        best_metric: None,
        defaults: "",
    };

    fn new(_: &Config, data: &DataSpec) -> Result<Self> {
        Ok(Self {
            pixels: data.pixels(),
        })
    }

    fn stages(&self) -> Vec<Stage> {
        let part = |name, trains| Stage::new(name, vec![Phase::new(name, trains)]);
        vec![
            part("autoencoder", &["autoencoder"]),
            part("prior", &["prior"]),
        ]
    }

    fn loss(&self, phase: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (net, x) = (cx.net(), batch.image().flatten(1)); // (N,P)
        let z = self.encode(&net, &x); // (N,4)
        if phase.name != "autoencoder" {
            let mean = net.at("prior").param("mean", &[4], Init::Constant(0.0)); // (4)
            let nll = loss::per_image(&(z - mean).sqr()).mean(&[0], false);
            return Ok(Losses::one("nll", nll));
        }
        let decoded = net.at("autoencoder").linear("decode", &z, self.pixels); // (N,P)
        let error = loss::per_image(&(decoded - &x).sqr()).mean(&[0], false);
        // A mean teacher, whose codes the student's are drawn to.
        let taught = self.encode(&cx.averaged()?, &x); // (N,4)
        let apart = (z - taught).sqr().mean(&[0, 1], false) * cx.scalar("consistency", 0.5);
        Ok(Losses {
            total: &error + &apart,
            terms: vec![("error", error), ("apart", apart)],
        })
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        Ok(Metrics::new())
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}

/// Remembers a training, and ends it after a step.
#[derive(Default)]
struct Recorder {
    cancel_at: Option<u64>,
    steps: Vec<(BTreeMap<String, f64>, f64)>,
    checkpoints: Vec<Checkpoint>,
}

impl Context for Recorder {
    fn progress(&mut self, event: &Event) -> Control {
        if let Event::Step {
            step,
            losses,
            learning_rate,
            ..
        } = event
        {
            let terms = losses.iter().map(|term| (term.name.clone(), term.value));
            self.steps.push((terms.collect(), *learning_rate));
            if self.cancel_at == Some(*step) {
                return Control::Cancelled;
            }
        }
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> zoo_sdk::Result<()> {
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> zoo_sdk::Result<()> {
        Ok(())
    }
}

fn request() -> TrainRequest {
    TrainRequest {
        model: json!({}),
        train: json!({
            "batch": 16, "epochs": null, "ema": 0.9, "checkpoint_every": 1,
            "autoencoder": {"steps": 5},
            "prior": {"steps": 4, "learning_rate": 0.5},
            "anneal": {"consistency": {"from": 1.0, "to": 0.0, "steps": 4}},
        }),
        seed: 3,
        threads: 1,
        device: "cpu".into(),
        ..TrainRequest::default()
    }
}

fn train(request: &TrainRequest, cancel_at: Option<u64>) -> (TrainReport, Recorder) {
    let mut recorder = Recorder {
        cancel_at,
        ..Recorder::default()
    };
    let data = Synthetic::new(8);
    let plugin = ModelPlugin::<TwoStage>::default();
    let report = plugin.train(request, &data.view(), &mut recorder).unwrap();
    (report, recorder)
}

#[test]
fn a_stage_has_its_own_length_and_settings_and_leaves_the_rest_alone() {
    let (report, recorder) = train(&request(), None);
    assert_eq!((report.reason, report.step), (StopReason::Finished, 9));
    let (first, second) = recorder.steps.split_at(5);
    for (step, (terms, rate)) in first.iter().enumerate() {
        assert_eq!(terms["consistency"], 1.0 - 0.25 * step.min(4) as f64);
        assert!(
            terms.keys().any(|name| name.ends_with("error")),
            "{terms:?}"
        );
        assert_eq!(*rate, 1e-3);
    }
    for (terms, rate) in second {
        assert!(terms.keys().any(|name| name.ends_with("nll")), "{terms:?}");
        assert_eq!(*rate, 0.5);
    }
    let weights = |step: usize| &recorder.checkpoints[step - 1].model;
    let moved = |from, to| -> Vec<&str> {
        let names = weights(from)
            .keys()
            .filter(|name| weights(from)[*name] != weights(to)[*name]);
        names.map(String::as_str).collect()
    };
    assert_eq!(moved(5, 9), ["prior.mean"]);
    assert!(
        !moved(1, 5).is_empty()
            && moved(1, 5)
                .iter()
                .all(|name| name.starts_with("autoencoder"))
    );
    // The first batch set it: codes of these images are well below one.
    let scale = weights(1)["autoencoder.scale"].as_f32().unwrap();
    assert!(scale.iter().all(|s| (s - 1.0).abs() > 0.01), "{scale:?}");
}

#[test]
fn settings_of_a_stage_have_the_ranges_of_the_whole() {
    let data = Synthetic::new(8);
    let refused = |train: serde_json::Value| {
        let request = TrainRequest { train, ..request() };
        let plugin = ModelPlugin::<TwoStage>::default();
        let report = plugin.train(&request, &data.view(), &mut Recorder::default());
        report.unwrap_err().to_string()
    };
    let rate = json!({"steps": 1, "prior": {"learning_rate": 0.0}});
    assert_eq!(
        refused(rate),
        "`train.prior.learning_rate` = 0.0: expected a number (above 0.0) or none"
    );
    let repeats = json!({"steps": 1, "autoencoder": {"repeats": 0}});
    assert_eq!(
        refused(repeats),
        "`train.autoencoder.repeats` = 0: expected an integer (at least 1) or none"
    );
    let endless = json!({"epochs": null, "autoencoder": {"epochs": 1}});
    assert!(refused(endless).starts_with("train.prior.epochs: one of"));
}

#[test]
fn each_stage_resumes_bit_for_bit() {
    let (_, whole) = train(&request(), None);
    let last = whole.checkpoints.last();
    for step in [3, 5, 7] {
        let (report, part) = train(&request(), Some(step));
        assert_eq!((report.reason, report.step), (StopReason::Cancelled, step));
        let resumed = TrainRequest {
            resume: part.checkpoints.last().cloned(),
            ..request()
        };
        assert_eq!(
            train(&resumed, None).1.checkpoints.last(),
            last,
            "from step {step}"
        );
    }
}

#[test]
fn a_part_of_the_weights_starts_from_another_training() {
    let (_, whole) = train(&request(), None);
    let mut weights = whole.checkpoints.last().unwrap().model.clone();
    weights.retain(|name, _| name.starts_with("autoencoder."));
    let mut from = TrainRequest {
        init_from: Some(weights.clone()),
        init_part: Some("autoencoder".into()),
        ..request()
    };
    from.train["learning_rate"] = json!(1e-30);
    let (_, recorder) = train(&from, Some(1));
    let started = &recorder.checkpoints[0].model;
    for (name, weight) in &weights {
        assert_eq!(started[name], *weight, "{name}");
    }
    assert_eq!(started["prior.mean"].as_f32().unwrap(), [0.0; 4]);
}

#[test]
fn scalars_and_averages_that_are_not_there_are_told() {
    let data = Synthetic::new(8);
    let error = |key: &str, value| {
        let mut request = request();
        request.train[key] = value;
        let plugin = ModelPlugin::<TwoStage>::default();
        let outcome = plugin.train(&request, &data.view(), &mut Recorder::default());
        outcome.unwrap_err().to_string()
    };
    let unknown = error("anneal", json!({"beta": {"from": 0, "to": 1, "steps": 2}}));
    assert!(
        unknown.contains("train.anneal.beta") && unknown.contains("consistency"),
        "{unknown}"
    );
    let without = error("ema", json!(null));
    assert!(without.contains("set train.ema"), "{without}");
}
