//! `tests/third-party/hostile`: a library in safe Rust that panics, crashes or hangs where it is told to. In this process a
//! panic is an error that names file and place; in one of its own, so is everything else.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::OnceLock, time::Duration};

use serde_json::{Value as Json, json};
use zoo_sdk::{
    Array, Checkpoint, Context, Control, EvaluateRequest, Event, OpenRequest, Plugin, Result,
    Session, Silent, Tensors, TrainReport, TrainRequest,
    host::{Isolation, isolate, load},
};

use super::{Place, isolation, third_party};

fn library() -> &'static Path {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| third_party("hostile"))
}

fn settings(fault: &str) -> Json {
    json!({ "fault": fault })
}

/// Counts checkpoints.
#[derive(Default)]
struct Kept(usize);

impl Context for Kept {
    fn progress(&mut self, _: &Event) -> Control {
        Control::Continue
    }

    fn checkpoint(&mut self, _: &Checkpoint) -> Result<()> {
        self.0 += 1;
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> Result<()> {
        Ok(())
    }
}

fn train(plugin: &dyn Plugin, fault: &str, cx: &mut dyn Context) -> Result<TrainReport> {
    let data = zoo_conformance::Synthetic::new(4);
    let request = TrainRequest {
        model: settings(fault),
        train: json!({"steps": 1}),
        device: "cpu".into(),
        ..TrainRequest::default()
    };
    plugin.train(&request, &data.view(), cx)
}

fn open(plugin: &dyn Plugin, fault: &str) -> Result<Box<dyn Session>> {
    plugin.open(&OpenRequest {
        model: settings(fault),
        data: zoo_conformance::Synthetic::new(4).spec().clone(),
        device: "cpu".into(),
        ..OpenRequest::default()
    })
}

fn run(session: &dyn Session) -> Result<Tensors> {
    let x = Array::f32([1, 2], [0.5, 1.5]).unwrap();
    session.run("shift", &Tensors::from([("x".into(), x)]))
}

fn attempt(plugin: &dyn Plugin, fault: &str) -> Result<()> {
    let session = match fault {
        "train" | "worker" => return train(plugin, fault, &mut Silent).map(|_| ()),
        _ => open(plugin, fault)?,
    };
    let call = || match fault {
        "evaluate" => {
            let data = zoo_conformance::Synthetic::new(4);
            let request = EvaluateRequest::default();
            let metrics = session.evaluate(&request, &data.valid(), &mut Silent);
            metrics.map(|_| ())
        }
        "export" => session.export("shift").map(|_| ()),
        _ => run(&*session).map(|_| ()),
    };
    let first = call();
    // A session that panicked may be half changed: it is closed to further calls.
    if first.is_err() {
        let second = call().unwrap_err().to_string();
        assert!(second.contains("panicked in an earlier call"), "{second}");
    }
    first
}

#[test]
fn a_panic_in_any_call_is_an_error_that_names_file_and_place() {
    let here = load(library(), None).unwrap().plugins;
    let apart = isolate(library(), None, &isolation()).unwrap().plugins;
    for plugin in [&here[0], &apart[0]] {
        for (fault, said) in [
            ("train", "asked to panic in train"),
            ("open", "asked to panic in open"),
            ("graphs", "asked to panic in graphs"),
            ("run", "asked to panic in run"),
            ("evaluate", "asked to panic in evaluate"),
            ("export", "asked to panic in export"),
            ("worker", "asked to panic in a worker"),
            ("payload", "without a message"),
        ] {
            let error = attempt(&**plugin, fault).unwrap_err().to_string();
            let file = library().canonicalize().unwrap();
            assert!(error.starts_with(file.to_str().unwrap()), "{error}");
            assert!(
                error.contains("it panicked at src/lib.rs:") && error.contains(said),
                "{fault}: {error}"
            );
        }
        // The library goes on working, and so does this process.
        assert!(train(&**plugin, "none", &mut Silent).is_ok());
        assert!(run(&*open(&**plugin, "none").unwrap()).is_ok());
    }
}

#[test]
fn panics_that_nobody_waits_for_change_nothing() {
    let here = load(library(), None).unwrap().plugins;
    let apart = isolate(library(), None, &isolation()).unwrap().plugins;
    for plugin in [&here[0], &apart[0]] {
        // In the drop of a session, which has nobody to tell.
        drop(open(&**plugin, "drop").unwrap());
        // In a thread that its call left behind: the second call comes after it.
        let session = open(&**plugin, "detached").unwrap();
        for _ in 0..2 {
            assert!(run(&*session).is_ok());
        }
        assert!(run(&*open(&**plugin, "none").unwrap()).is_ok());
    }
}

#[test]
fn what_rust_cannot_catch_ends_only_the_process() {
    let limited = |seconds| Isolation {
        memory: Some(1 << 30),
        silence: Duration::from_secs(seconds),
        ..isolation()
    };
    for (fault, cause) in [
        ("abort", "signal 6 (SIGABRT"),
        ("panic while panicking", "signal 6 (SIGABRT"),
        ("panic in a thread-local", "signal 6 (SIGABRT"),
        ("overflow", "stack overflowed"),
        ("memory", "1024 MiB of memory"),
        ("exit", "exited with code 0"),
        ("loop", "no sign of life for 3 seconds"),
    ] {
        // Impatient only with what hangs: a busy machine may take long over the rest.
        let limited = limited(if fault == "loop" { 3 } else { 60 });
        let plugins = isolate(library(), None, &limited).unwrap().plugins;
        let mut kept = Kept::default();
        let error = train(&*plugins[0], fault, &mut kept).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(cause) && error.contains("libhostile"),
            "{fault}: {error}"
        );
        assert_eq!(kept.0, 1, "{fault}");
    }
}

#[test]
fn a_library_that_panics_at_once_is_named() {
    let place = Place::new();
    let file = library().to_str().unwrap();
    for fault in ["start", "describe"] {
        for isolate in [&[][..], &["--isolate"]] {
            let args = [&["--plugin", file], isolate, &["models"]].concat();
            let output = place.command(&args).env("ZOO_HOSTILE", fault).output();
            let output = output.unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{error}");
            assert!(
                error.contains("libhostile")
                    && error.contains(&format!("asked to panic in {fault}")),
                "{error}"
            );
        }
    }
    // Nothing of the sort is added.
    let mut add = place.command(&["plugin", "add", file, "--yes"]);
    let output = add.env("ZOO_HOSTILE", "describe").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(place.ok(&["plugin", "list"]).contains("no plugins"));
}

#[test]
fn a_check_has_limits_and_always_a_process_of_its_own() {
    let place = Place::new();
    let file = library().to_str().unwrap();
    for (fault, option, cause) in [
        ("loop", ["--timeout", "1s"], "no sign of life for 1 seconds"),
        ("memory", ["--memory", "900"], "900 MiB of memory"),
        ("abort", ["--size", "4"], "signal 6 (SIGABRT"),
    ] {
        let fault = format!("fault={fault}");
        let args = [&["plugin", "check", file, "--set", &fault], &option[..]].concat();
        let output = place.command(&args).output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(
            report.contains("ok      describes itself completely")
                && report.contains("FAILED  lowers its loss")
                && report.contains(cause),
            "{report}"
        );
    }
}

/// Code of the library that runs leaves a mark.
#[test]
fn only_a_persons_word_loads_a_library() {
    let place = Place::new();
    let folder = place.0.path();
    let mark = folder.join("mark");
    let name = library().file_name().unwrap().to_str().unwrap();
    let zoo = |args: &[&str], code: i32| {
        let output = place
            .command(args)
            .env("ZOO_HOSTILE_MARK", &mark)
            .env("LD_LIBRARY_PATH", folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    // Where the program works, where libraries are searched for, and among the added ones, but not listed.
    let data = folder.join("data/plugins");
    fs::create_dir_all(&data).unwrap();
    for folder in [folder, &data] {
        fs::copy(library(), folder.join(name)).unwrap();
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    zoo(&["models"], 0);
    zoo(&["describe", "hostile"], 2);
    let train = "train vae --data fashion-small --set data.limit=64 --set model.hidden=[8] --set model.latent=2 --steps 1";
    let mut train: Vec<&str> = train.split(' ').collect();
    train.extend(["--out", "run"]);
    zoo(&train, 0);
    zoo(
        &["export", "run", "--out", "bundle", "--target", "tract"],
        0,
    );

    // What a run, its settings or a bundle say is never a path to load.
    let config = folder.join("run/config.toml");
    let trained = fs::read_to_string(&config).unwrap();
    assert!(trained.contains("\"vae\""), "{trained}");
    let absolute = folder.join(name);
    for wanted in [
        name,
        &format!("./{name}"),
        absolute.to_str().unwrap(),
        "hostile",
    ] {
        fs::write(&config, trained.replace("\"vae\"", &format!("{wanted:?}"))).unwrap();
        let error = zoo(&["eval", "run"], 2);
        assert!(error.contains("no model"), "{error}");
    }
    fs::write(&config, format!("plugin = {name:?}\n{trained}")).unwrap();
    zoo(&["eval", "run"], 2);
    let manifest = folder.join("bundle/manifest.json");
    let bundled = fs::read_to_string(&manifest).unwrap();
    assert!(bundled.contains("\"vae\""));
    fs::write(&manifest, bundled.replace("\"vae\"", "\"hostile\"")).unwrap();
    // Without the plugin there is still what the bundle itself has to compare with.
    zoo(&["verify", "bundle", "--runtime", "tract"], 0);
    zoo(&["train", "vae", "--data", name, "--out", "other"], 2);
    zoo(&["plugin", "list"], 0);
    assert!(!mark.exists(), "code of the library ran");

    // And so that the mark means something:
    zoo(&["--plugin", name, "models"], 0);
    assert!(mark.exists());
}
