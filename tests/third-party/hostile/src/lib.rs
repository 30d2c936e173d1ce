//! A model that knows one weight, and misbehaves where its setting `fault` says so: `tests/tests/plugins/hostile.rs` tells the
//! faults. Two places come before any setting: the environment variable `ZOO_HOSTILE` makes `start` and `describe` panic, and
//! where `ZOO_HOSTILE_MARK` names a file, it is written as soon as code of this library runs.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use zoo_sdk::{
    Array, Checkpoint, Context, Dataset, Description, Error, EvaluateRequest, Event, Graph,
    GraphInfo, Metrics, OpenRequest, Paper, Plugin, Port, Result, Session, Split, StateRecord,
    Tensors, TrainReport, TrainRequest,
};

zoo_sdk::export_plugin!(plugins());

fn plugins() -> Vec<Box<dyn Plugin>> {
    if let Some(mark) = std::env::var_os("ZOO_HOSTILE_MARK") {
        let _ = std::fs::write(mark, "code ran");
    }
    panic_where(&told(), "start");
    vec![Box::new(Hostile)]
}

/// What is to go wrong before there are settings.
fn told() -> Json {
    json!({ "fault": std::env::var("ZOO_HOSTILE").ok() })
}

fn panic_where(settings: &Json, place: &str) {
    if settings["fault"] == place {
        panic!("asked to panic in {place}");
    }
}

/// Panics in its drop.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("asked to panic in a drop");
    }
}

thread_local! {
    static HELD: RefCell<Option<Bomb>> = const { RefCell::new(None) };
}

#[allow(unconditional_recursion)]
fn deep(above: &[u8]) -> u64 {
    let here = [above[0].wrapping_add(1); 4096];
    deep(std::hint::black_box(&here)) + u64::from(here[7])
}

/// What Rust gives a library no way to catch, so that only a process of its own survives it.
fn end_the_process(settings: &Json) {
    match settings["fault"].as_str() {
        Some("abort") => std::process::abort(),
        Some("exit") => std::process::exit(0),
        Some("loop") => loop {
            thread::sleep(Duration::from_secs(1));
        },
        Some("overflow") => drop(deep(&[0])),
        Some("memory") => {
            // Addresses are what is limited: none of it needs to be touched.
            let mut taken = Vec::new();
            loop {
                taken.push(std::hint::black_box(Vec::<u8>::with_capacity(64 << 20)));
            }
        }
        Some("panic while panicking") => {
            let _bomb = Bomb;
            panic!("asked to panic twice");
        }
        Some("panic in a thread-local") => {
            let thread = thread::spawn(|| HELD.set(Some(Bomb)));
            let _ = thread.join();
        }
        _ => {}
    }
}

struct Hostile;

impl Plugin for Hostile {
    fn describe(&self) -> Description {
        panic_where(&told(), "describe");
        Description {
            name: "hostile".into(),
            summary: "Misbehaves where its setting says so".into(),
            family: "test".into(),
            density: "none".into(),
            paper: Paper {
                title: "None".into(),
                url: "https://example.org".into(),
                ..Paper::default()
            },
            version: "1".into(),
            graphs: BTreeMap::from([("shift".into(), "x plus the weight".into())]),
            model_schema: json!({"type": "object", "properties": {
                "fault": {"type": "string", "description": "what to do wrong"},
            }}),
            train_schema: json!({"type": "object", "properties": {
                "steps": {"type": ["integer", "null"], "description": "ignored"},
            }}),
            defaults: json!({"model": {"fault": "none"}, "data": {}, "train": {"steps": null}}),
            ..Description::default()
        }
    }

    fn train(
        &self,
        request: &TrainRequest,
        _: &Dataset<'_>,
        cx: &mut dyn Context,
    ) -> Result<TrainReport> {
        cx.progress(&Event::Note {
            message: "about to misbehave".into(),
        });
        let state = StateRecord {
            step: 1,
            model: ("hostile".into(), "1".into()),
            config: request.model.clone(),
            ..StateRecord::default()
        };
        cx.checkpoint(&Checkpoint {
            step: 1,
            model: Tensors::from([("weight".into(), Array::f32([2], [1.0, 2.0])?)]),
            state,
            ..Checkpoint::default()
        })?;
        panic_where(&request.model, "train");
        if request.model["fault"] == "worker" {
            let worker = thread::spawn(|| panic!("asked to panic in a worker"));
            let Err(payload) = worker.join();
            std::panic::resume_unwind(payload);
        }
        end_the_process(&request.model);
        Ok(TrainReport {
            step: 1,
            ..TrainReport::default()
        })
    }

    fn open(&self, request: &OpenRequest) -> Result<Box<dyn Session>> {
        panic_where(&request.model, "open");
        Ok(Box::new(Opened(request.model.clone())))
    }
}

struct Opened(Json);

impl Drop for Opened {
    fn drop(&mut self) {
        panic_where(&self.0, "drop");
    }
}

impl Session for Opened {
    fn graphs(&self) -> Result<Vec<GraphInfo>> {
        panic_where(&self.0, "graphs");
        Ok(vec![GraphInfo {
            name: "shift".into(),
            doc: "x plus the weight".into(),
            inputs: vec![Port::batched("x", &[2])],
            outputs: vec![Port::batched("y", &[2])],
        }])
    }

    fn run(&self, _: &str, inputs: &Tensors) -> Result<Tensors> {
        panic_where(&self.0, "run");
        match self.0["fault"].as_str() {
            // The payload itself panics when whoever catches it lets it go.
            Some("payload") => std::panic::panic_any(Bomb),
            Some("detached") => detached()?,
            _ => {}
        }
        let x = inputs.get("x").ok_or_else(|| Error::input("no x"))?;
        let y = x.as_f32()?.iter().map(|x| x + 1.0);
        Ok(Tensors::from([(
            "y".into(),
            Array::f32(x.shape(), y.collect::<Vec<_>>())?,
        )]))
    }

    fn evaluate(&self, _: &EvaluateRequest, _: &Split<'_>, _: &mut dyn Context) -> Result<Metrics> {
        panic_where(&self.0, "evaluate");
        Ok(Metrics::from([("nll".into(), 1.0)]))
    }

    fn export(&self, _: &str) -> Result<Graph> {
        panic_where(&self.0, "export");
        Err(Error::input("there is nothing to export"))
    }
}

/// The first call leaves a thread behind that panics when nobody waits for it; the next ones wait until it has.
fn detached() -> Result<()> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    static PANICKED: AtomicBool = AtomicBool::new(false);

    struct Sign;
    impl Drop for Sign {
        fn drop(&mut self) {
            PANICKED.store(thread::panicking(), Ordering::SeqCst);
        }
    }

    if !STARTED.swap(true, Ordering::SeqCst) {
        thread::spawn(|| {
            let _sign = Sign;
            panic!("asked to panic in a detached thread");
        });
        return Ok(());
    }
    let start = Instant::now();
    while !PANICKED.load(Ordering::SeqCst) {
        if start.elapsed() > Duration::from_secs(20) {
            return Err(Error::Internal("the detached thread did not panic".into()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
