//! The C ABI without a file: guest and host of this very crate, joined by the table of functions alone. Runs under Miri too.
#![allow(unsafe_code)]

use std::sync::Arc;

use serde_json::json;

use super::{
    Channel,
    library::Library,
    remote::{RemotePlugin, describe},
    sample::{IMAGES, Sample, spec},
};
use crate::{
    Array, Checkpoint, Context, Control, Dataset, Elements, Error, EvaluateRequest, Event,
    OpenRequest, Plugin, Result, Session, Silent, Split, Tensors, TrainRequest, View,
    abi::{Caller, Limits, Peer, TensorRef, op},
    guest,
};

fn library() -> Arc<Library> {
    static GUEST: guest::Library = guest::Library::new();
    wrap(GUEST.peer(|| vec![Box::new(Sample)]), Limits::default())
}

fn wrap(peer: *const Peer, limits: Limits) -> Arc<Library> {
    // SAFETY: a guest's table keeps the contract.
    Arc::new(unsafe { Library::new(peer, "test".into(), limits) }.unwrap())
}

fn foreign(library: Arc<Library>) -> RemotePlugin {
    let description = describe(&*library).unwrap().remove(0);
    let connect = Box::new(move || Ok(library.clone() as Arc<dyn Channel>));
    RemotePlugin::new(connect, 0, description)
}

/// Writes everything down, and stops where it is told to.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    checkpoints: Vec<Checkpoint>,
    cancel_at: u64,
    full: bool,
}

impl Context for Notes {
    fn progress(&mut self, event: &Event) -> Control {
        self.lines.push(format!("{event:?}"));
        match event {
            Event::Step { step, .. } if *step == self.cancel_at => Control::Cancelled,
            _ => Control::Continue,
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if self.full {
            return Err(Error::Host("the disk is full".into()));
        }
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn images(&mut self, step: u64, name: &str, images: &Array) -> Result<()> {
        self.lines
            .push(format!("{step} {name} {images:?} {:?}", images.as_f32()));
        Ok(())
    }
}

fn request(model: serde_json::Value) -> TrainRequest {
    TrainRequest {
        model,
        train: json!({"steps": 3}),
        seed: 5,
        threads: 1,
        device: "cpu".into(),
        ..TrainRequest::default()
    }
}

fn train(plugin: &dyn Plugin, request: &TrainRequest, cx: &mut dyn Context) -> Result<String> {
    let spec = spec();
    let images = View {
        count: 2,
        elements: Elements::U8(&IMAGES),
    };
    let train = Split {
        images,
        labels: Some(&[3, 4]),
        targets: None,
    };
    let floats: Vec<f32> = IMAGES.iter().map(|&x| f32::from(x)).collect();
    let images = View {
        count: 2,
        elements: Elements::F32(&floats),
    };
    let valid = Some(Split {
        images,
        labels: None,
        targets: None,
    });
    let data = Dataset {
        spec: &spec,
        train,
        valid,
    };
    plugin
        .train(request, &data, cx)
        .map(|report| format!("{report:?}"))
}

fn open(plugin: &dyn Plugin, model: serde_json::Value) -> Result<Box<dyn Session>> {
    plugin.open(&OpenRequest {
        model,
        data: spec(),
        weights: weights(),
        threads: 1,
        device: "cpu".into(),
    })
}

fn weights() -> Tensors {
    let mean = Array::f32([1, 2, 2], [1.0, 2.0, 3.0, 4.0]).unwrap();
    Tensors::from([("net/mean".into(), mean)])
}

fn inputs() -> Tensors {
    let x = Array::f32([2, 1, 2, 2], [0.5; 8]).unwrap();
    Tensors::from([("x".into(), x)])
}

fn evaluate(session: &dyn Session) -> Result<crate::Metrics> {
    let request = EvaluateRequest {
        seed: 1,
        batch: 1,
        importance_samples: 0,
        ..EvaluateRequest::default()
    };
    let images = View {
        count: 2,
        elements: Elements::U8(&IMAGES),
    };
    let split = Split {
        images,
        labels: None,
        targets: None,
    };
    session.evaluate(&request, &split, &mut Silent)
}

#[test]
fn a_foreign_plugin_is_like_a_built_in_one() {
    let foreign = foreign(library());
    assert_eq!(foreign.describe(), Sample.describe());
    let mut resume: Option<Checkpoint> = None;
    for cancel_at in [2, 0] {
        let (mut both, mut last) = (Vec::new(), None);
        for plugin in [&Sample as &dyn Plugin, &foreign] {
            let mut cx = Notes {
                cancel_at,
                ..Notes::default()
            };
            let request = TrainRequest {
                resume: resume.clone(),
                init_from: Some(weights()),
                ..request(json!({}))
            };
            let report = train(plugin, &request, &mut cx).unwrap();
            // NaN is not equal to itself, but prints as it does.
            both.push(format!("{report} {:?} {:?}", cx.lines, cx.checkpoints));
            last = cx.checkpoints.pop();
        }
        resume = last;
        assert_eq!(both[0], both[1]);
        assert!(
            both[0].contains("NaN") && both[0].contains("inf"),
            "{}",
            both[0]
        );
    }

    let (built_in, foreign) = (
        open(&Sample, json!({})).unwrap(),
        open(&foreign, json!({})).unwrap(),
    );
    assert_eq!(built_in.graphs(), foreign.graphs());
    assert_eq!(
        built_in.run("shift", &inputs()),
        foreign.run("shift", &inputs())
    );
    assert_eq!(
        built_in.run("none", &inputs()),
        foreign.run("none", &inputs())
    );
    assert_eq!(evaluate(&*built_in), evaluate(&*foreign));
    assert_eq!(built_in.export("shift"), foreign.export("shift"));
}

#[test]
fn what_the_host_says_reaches_the_plugin() {
    let mut cx = Notes {
        full: true,
        ..Notes::default()
    };
    let error = train(&foreign(library()), &request(json!({})), &mut cx).unwrap_err();
    assert_eq!(error, Error::Host("the disk is full".into()));
}

#[test]
fn panics_are_errors() {
    let plugin = foreign(library());
    for place in ["train", "checkpoint", "worker"] {
        let model = json!({"panic": place});
        let error = train(&plugin, &request(model), &mut Notes::default()).unwrap_err();
        assert!(
            matches!(&error, Error::Internal(m) if m.contains(&format!("asked to panic in {place}"))),
            "{error}"
        );
    }
    for place in ["open", "graphs"] {
        let error = open(&plugin, json!({"panic": place})).err().unwrap();
        assert!(error.to_string().contains(place), "{error}");
    }
    for place in ["run", "evaluate", "export"] {
        let session = open(&plugin, json!({"panic": place})).unwrap();
        let attempt = || match place {
            "run" => session.run("shift", &inputs()).err(),
            "evaluate" => evaluate(&*session).err(),
            _ => session.export("shift").err(),
        };
        let first = attempt().unwrap().to_string();
        assert!(
            first.contains(&format!("asked to panic in {place}")),
            "{first}"
        );
        let second = attempt().unwrap().to_string();
        assert!(second.contains("panicked in an earlier call"), "{second}");
    }
    drop(open(&plugin, json!({"panic": "drop"})).unwrap());
    assert!(
        open(&plugin, json!({}))
            .unwrap()
            .run("shift", &inputs())
            .is_ok()
    );
}

#[test]
fn sessions_that_are_not_there_are_errors() {
    let library = library();
    let mut back = |_: &Caller<'_>| Err(Error::Host("unexpected".into()));
    for session in [0, 12345, u64::MAX] {
        for op in [op::GRAPHS, op::CLOSE, op::EXPORT, op::RUN, 77] {
            let request = Caller {
                op,
                session,
                json: "{\"graph\":\"shift\"}",
                tensors: Vec::new(),
                host: None,
            };
            let error = library.call(&request, &mut back).unwrap_err().to_string();
            let cause = match op {
                77 => "does not know operation 77".to_owned(),
                _ => format!("there is no session {session}"),
            };
            assert!(error.contains(&cause), "{error}");
        }
    }
}

#[test]
fn requests_that_make_no_sense_are_errors() {
    let library = library();
    let mut back = |_: &Caller<'_>| Err(Error::Host("unexpected".into()));
    let tensor = Array::u8([2], [1, 2]).unwrap();
    for (op, json, name, cause) in [
        (op::TRAIN, "[", "x", "JSON"),
        (op::OPEN, "{}", "x", "missing field"),
        (op::OPEN, OPEN, "x", "\"x\" belongs nowhere"),
        (op::OPEN, OPEN, "weights/x", "net/mean is missing"),
        (
            op::EVALUATE,
            EVALUATE,
            "split.images",
            "not images of [1, 2, 2]",
        ),
        (op::EVALUATE, EVALUATE, "x", "belongs nowhere"),
    ] {
        let request = Caller {
            op,
            session: 0,
            json,
            tensors: vec![TensorRef::of(name, &tensor)],
            host: None,
        };
        let error = library.call(&request, &mut back).unwrap_err().to_string();
        assert!(error.contains(cause), "{cause}: {error}");
    }
}

const OPEN: &str = r#"{"plugin":0,"model":{},"threads":1,"device":"cpu","data":
    {"name":"d","image":[1,2,2],"classes":[],"binarization":"none","sha256":""}}"#;
const EVALUATE: &str = r#"{"request":{"seed":1,"batch":1,"importance_samples":0},"image":[1,2,2]}"#;

#[test]
fn wrong_answers_are_refused() {
    let plugin = foreign(library());
    for (output, cause) in [
        ("shape", "output \"y\" is f32[8]"),
        ("dtype", "output \"y\" is u8[2, 1, 2, 2]"),
        ("name", "no output \"y\""),
    ] {
        let session = open(&plugin, json!({"output": output})).unwrap();
        let error = session.run("shift", &inputs()).unwrap_err().to_string();
        assert!(
            error.starts_with("test: ") && error.contains(cause),
            "{error}"
        );
    }
    let session = open(&plugin, json!({"output": "nan"})).unwrap();
    let error = evaluate(&*session).unwrap_err().to_string();
    assert!(error.contains("metric \"mean\" is NaN"), "{error}");
}

#[test]
fn answers_are_no_larger_than_allowed() {
    let library = library();
    let small = |limits| {
        let peer = library.peer();
        foreign_session(wrap(peer, limits))
    };
    let bytes = Limits {
        bytes: 31,
        ..Limits::default()
    };
    let error = small(bytes)
        .run("shift", &inputs())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("larger than the 31 bytes allowed"),
        "{error}"
    );
    let tensors = Limits {
        tensors: 0,
        ..Limits::default()
    };
    let error = small(tensors)
        .run("shift", &inputs())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 tensors are more than the 0 allowed"),
        "{error}"
    );
}

fn foreign_session(library: Arc<Library>) -> Box<dyn Session> {
    open(&foreign(library), json!({})).unwrap()
}

#[test]
fn a_view_shorter_than_its_count_is_refused() {
    let spec = spec();
    let images = View {
        count: 3,
        elements: Elements::U8(&IMAGES),
    };
    let train = Split {
        images,
        labels: None,
        targets: None,
    };
    let data = Dataset {
        spec: &spec,
        train,
        valid: None,
    };
    let error = foreign(library())
        .train(&request(json!({})), &data, &mut Silent)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Input(m) if m.contains("train.images")),
        "{error}"
    );
}

#[test]
fn plugins_that_cannot_start_say_why() {
    static GUEST: guest::Library = guest::Library::new();
    let library = wrap(GUEST.peer(|| panic!("no such luck")), Limits::default());
    let error = describe(&*library).unwrap_err().to_string();
    assert!(
        error.contains("could not start") && error.contains("no such luck"),
        "{error}"
    );
}
