//! A plugin with one fault fails the requirement that the fault breaks: otherwise the suite could not fail.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_sdk::{
    Array, Checkpoint, Context, Control, Dataset, Description, EvaluateRequest, Event, Graph,
    GraphInfo, Metrics, OpenRequest, Plugin, Result, RuntimeId, Session, Split, Tensors,
    TrainReport, TrainRequest,
};
use zoo_vae::Vae;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    DescribesAnew,
    TakesAnySetting,
    LearnsNothing,
    DrawsItsOwnSeed,
    GoesOnWhenCancelled,
    ForgetsMoments,
    TakesAnyWeights,
    ExportsAnother,
}

struct Faulty {
    plugin: ModelPlugin<Vae>,
    fault: Fault,
    calls: AtomicU64,
}

impl Plugin for Faulty {
    fn describe(&self) -> Description {
        let mut description = self.plugin.describe();
        if self.fault == Fault::DescribesAnew {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            description.summary.push_str(&format!(" ({call})"));
        }
        description
    }

    fn train(
        &self,
        request: &TrainRequest,
        data: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        let mut request = request.clone();
        match self.fault {
            Fault::TakesAnySetting => {
                for table in [&mut request.model, &mut request.train] {
                    table.as_object_mut().unwrap().remove("no_such_setting");
                }
            }
            Fault::LearnsNothing => request.train["learning_rate"] = json!(1e-30),
            Fault::DrawsItsOwnSeed => request.seed = self.calls.fetch_add(1, Ordering::Relaxed),
            Fault::ForgetsMoments => {
                let moments = request
                    .resume
                    .iter_mut()
                    .flat_map(|c| c.optimizer.values_mut());
                for moment in moments {
                    let zeros = vec![0.0; moment.len()];
                    *moment = Array::f32(moment.shape().to_vec(), zeros).unwrap();
                }
            }
            Fault::GoesOnWhenCancelled => {
                return self.plugin.train(&request, data, &mut Deaf(cx));
            }
            _ => {}
        }
        self.plugin.train(&request, data, cx)
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        let mut request = request.clone();
        if self.fault == Fault::TakesAnyWeights {
            // What the model does not know is dropped without a word.
            let known = ["encoder.", "decoder."];
            request
                .weights
                .retain(|name, _| known.iter().any(|k| name.starts_with(k)));
        }
        Ok(Box::new(FaultySession {
            session: self.plugin.open(&request)?,
            fault: self.fault,
        }))
    }
}

/// Hears no cancellation.
struct Deaf<'a>(&'a mut dyn Context);

impl Context for Deaf<'_> {
    fn progress(&mut self, event: &Event) -> Control {
        self.0.progress(event);
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.0.checkpoint(checkpoint)
    }

    fn images(&mut self, step: u64, name: &str, images: &Array) -> Result<()> {
        self.0.images(step, name, images)
    }
}

struct FaultySession {
    session: Box<dyn Session>,
    fault: Fault,
}

impl Session for FaultySession {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        self.session.graphs()
    }

    fn run(&self, graph: &str, inputs: &Tensors) -> Result<Tensors> {
        self.session.run(graph, inputs)
    }

    fn evaluate(
        &self,
        request: &EvaluateRequest,
        data: &Split<'_>,
        cx: &mut dyn Context,
    ) -> Result<Metrics> {
        self.session.evaluate(request, data, cx)
    }

    fn export(&self, graph: &str) -> Result<Graph> {
        let mut exported = self.session.export(graph)?;
        if self.fault == Fault::ExportsAnother {
            for weight in &mut exported.initializers {
                if let Ok(values) = weight.value.as_f32() {
                    let moved: Vec<f32> = values.iter().map(|v| v + 0.01).collect();
                    weight.value = Array::f32(weight.value.shape().to_vec(), moved).unwrap();
                }
            }
        }
        Ok(exported)
    }
}

/// The requirements that a plugin with this fault fails.
fn failed(fault: Fault) -> Vec<String> {
    let plugin = Faulty {
        plugin: ModelPlugin::default(),
        fault,
        calls: AtomicU64::new(0),
    };
    let options = Options {
        model: json!({"hidden": [16], "latent": 2, "importance_samples": 2}),
        ..Options::default()
    };
    let checks = check(&plugin, &options).checks.into_iter();
    checks
        .filter(|c| c.failure.is_some())
        .map(|c| c.name)
        .collect()
}

#[test]
fn every_fault_is_found() {
    assert_eq!(failed(Fault::None), Vec::<String>::new());
    let cases = [
        (Fault::DescribesAnew, "describes itself the same way twice"),
        (Fault::TakesAnySetting, "refuses unknown settings by name"),
        (Fault::LearnsNothing, "lowers its loss"),
        (
            Fault::DrawsItsOwnSeed,
            "gives the same bytes for the same seed, on any number of threads",
        ),
        (
            Fault::GoesOnWhenCancelled,
            "stops within one step of a cancellation, with a checkpoint",
        ),
        (Fault::ForgetsMoments, "resumes bit for bit"),
        (
            Fault::TakesAnyWeights,
            "refuses weights that do not fit, by name",
        ),
        (
            Fault::ExportsAnother,
            "reconstruct: computes the same on tract",
        ),
    ];
    for (fault, requirement) in cases {
        let found = failed(fault);
        assert!(
            found.iter().any(|name| name == requirement),
            "{fault:?} fails only {found:?}"
        );
    }
}

/// Without ONNX Runtime.
fn on_tract() -> Options {
    Options {
        model: json!({"hidden": [8], "latent": 2, "importance_samples": 1}),
        search: zoo_runtimes::Search {
            ort: Some("/no/such/libonnxruntime.so".into()),
            ..zoo_runtimes::Search::default()
        },
        ..Options::default()
    }
}

#[test]
fn a_runtime_that_takes_too_long_fails_and_is_named() {
    let options = Options {
        timeout: Some(std::time::Duration::from_nanos(1)),
        ..on_tract()
    };
    let report = check(&ModelPlugin::<Vae>::default(), &options);
    let failed = report.checks.iter().find(|c| c.failure.is_some()).unwrap();
    assert_eq!(failed.name, "encode: computes the same on tract");
    let failure = failed.failure.as_deref().unwrap();
    assert!(
        failure.starts_with("encode.onnx: tract did not ") && failure.contains(" within 1ns"),
        "{failure}"
    );
}

#[test]
fn a_runtime_that_is_not_here_is_left_out_and_told() {
    let options = on_tract();
    let report = check(&ModelPlugin::<Vae>::default(), &options);
    report.assert_ok();
    let on = |runtime: RuntimeId| {
        let name = format!("computes the same on {runtime}");
        report
            .checks
            .iter()
            .any(|check| check.name.ends_with(&name))
    };
    assert!(on(RuntimeId::Tract) && !on(RuntimeId::Ort), "{report}");
    let ort = report
        .left_out
        .iter()
        .find(|l| l.runtime == RuntimeId::Ort)
        .unwrap();
    // A build without the feature says that instead.
    let reason = match cfg!(feature = "ort") {
        true => "/no/such/libonnxruntime.so",
        false => "not compiled in",
    };
    assert!(ort.reason.contains(reason), "{report}");
    assert!(
        report.to_string().contains("not compared on ort: "),
        "{report}"
    );
}
