//! Plugins as they come: built in, as shared libraries, in processes of their own, from outside the workspace.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value as Json, json};
use zoo_conformance::{Options, check};
use zoo_sdk::host::{Isolation, isolate, load};

#[path = "plugins/guide.rs"]
mod guide;
#[path = "plugins/hostile.rs"]
mod hostile;

// The crate that `zoo plugin new` makes, compiled as it is.
#[path = "../../zoo/cli/template/src/lib.rs"]
#[allow(dead_code)]
mod template;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `target/debug`, wherever that is.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().to_path_buf()
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this test's own build is none of another build's business.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG") || name_text.starts_with("CARGO_MANIFEST") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{command:?}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// The program and the built-ins as shared libraries. `cargo test` has built both already, unless it was told to build less.
fn workspace() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = built();
        let target = target.parent().unwrap();
        let mut build = cargo();
        build
            .args(["build", "--workspace", "--bins", "--examples", "--offline"])
            .current_dir(root())
            .env("CARGO_TARGET_DIR", target);
        ok(&mut build);
        built()
    })
}

fn zoo() -> PathBuf {
    workspace().join(format!("zoo{}", std::env::consts::EXE_SUFFIX))
}

fn library(name: &str) -> PathBuf {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let path = workspace().join(format!("examples/{prefix}{name}{suffix}"));
    assert!(path.is_file(), "{}", path.display());
    path
}

fn isolation() -> Isolation {
    Isolation {
        program: zoo(),
        arguments: vec!["serve-plugin".into()],
        memory: None,
        silence: Duration::from_secs(120),
    }
}

/// Settings that make a model small; the others are as fast as they are.
fn small(model: &str) -> Json {
    match model {
        "vae" => json!({"hidden": [24], "latent": 4, "importance_samples": 3}),
        "gan" => json!({"latent": 8, "channels": 8}),
        "nice" => json!({"couplings": 2, "hidden": [16]}),
        "realnvp" => json!({"couplings": 2, "channels": 4, "blocks": 1}),
        "autoencoder" => json!({"hidden": [16], "latent": 3}),
        "super-resolution" => json!({"channels": 4, "blocks": 1}),
        "pixelcnn" => json!({"channels": 4, "blocks": 1, "first_kernel": 3, "head": 4}),
        "pixelcnn-pp" => json!({"channels": 4, "blocks": 1, "resolutions": 1, "components": 2}),
        "nade" => json!({"hidden": 20}),
        "made" => json!({"hidden": [60]}),
        "gated-pixelcnn" | "row-lstm" | "diagonal-bilstm" => {
            json!({"channels": 4, "layers": 1, "first_kernel": 3, "head": 4})
        }
        _ => json!({}),
    }
}

#[test]
fn built_ins_conform_in_all_three_forms() {
    let mut built_ins = zoo_builtins::plugins();
    for folder in std::fs::read_dir(root().join("plugins")).unwrap() {
        let folder = folder.unwrap().file_name().into_string().unwrap();
        let name = &format!("zoo_{}_plugin", folder.replace('-', "_"));
        let path = library(name);
        let shared = load(&path, None).unwrap().plugins;
        let isolated = isolate(&path, None, &isolation()).unwrap().plugins;
        let mut own = |name: String| {
            let at = built_ins.iter().position(|b| b.describe().name == name);
            built_ins.swap_remove(at.unwrap_or_else(|| panic!("{name} is not built in")))
        };
        let built_in: Vec<_> = shared.iter().map(|p| own(p.describe().name)).collect();
        let forms = [
            ("built in", built_in),
            ("shared", shared),
            ("isolated", isolated),
        ];
        let mut reports = Vec::new();
        for (form, plugins) in &forms {
            for plugin in plugins {
                let options = Options {
                    model: small(&plugin.describe().name),
                    ..Options::default()
                };
                let report = check(plugin.as_ref(), &options);
                assert!(report.ok(), "{name}, {form}:\n{report}");
                reports.push((plugin.describe(), report.to_string()));
            }
        }
        // The same models, held to the same requirements.
        let third = reports.len() / 3;
        assert_eq!(third, forms[0].1.len(), "{name}");
        for i in third..reports.len() {
            assert_eq!(reports[i], reports[i % third], "{name}");
        }
    }
    assert!(built_ins.is_empty(), "no folder of plugins/ has them");
}

#[test]
fn the_template_conforms() {
    let model = json!({"latent": 3, "hidden": 16});
    let options = Options {
        model,
        ..Options::default()
    };
    check(
        &zoo_nn::ModelPlugin::<template::MyModel>::default(),
        &options,
    )
    .assert_ok();
}

/// The program in a folder of its own, with an empty home.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(zoo());
        command
            .args(args)
            .current_dir(self.0.path())
            .env("ZOO_DATA_DIR", self.0.path().join("data"))
            .env_remove("ZOO_LOG");
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        ok(&mut self.command(args))
    }

    /// What it says where it must fail with exit code 2.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        stderr
    }
}

/// The library of a crate in `tests/third-party`, which has a lock file of its own.
fn third_party(name: &str) -> PathBuf {
    let target = workspace().parent().unwrap().join("third-party");
    let manifest = root().join(format!("tests/third-party/{name}/Cargo.toml"));
    let mut build = cargo();
    build
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", &target);
    ok(&mut build);
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    target.join(format!("debug/{prefix}{name}{suffix}"))
}

/// Somebody else's plugin, on another candle.
fn bernoulli() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| third_party("bernoulli"))
}

#[test]
fn somebody_elses_plugin_is_checked_added_used_and_removed() {
    let place = Place::new();
    let file = bernoulli().to_str().unwrap();
    let lock =
        std::fs::read_to_string(root().join("tests/third-party/bernoulli/Cargo.lock")).unwrap();
    let ours = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let candle = |lock: &str| {
        let (_, after) = lock
            .split_once("name = \"candle-core\"\nversion = \"")
            .unwrap();
        after.split('"').next().unwrap().to_owned()
    };
    assert_ne!(
        candle(&lock),
        candle(&ours),
        "another candle than the host's"
    );

    let report: Json =
        serde_json::from_str(&place.ok(&["plugin", "check", file, "--json"])).unwrap();
    let rows = report.as_array().unwrap();
    assert!(
        rows.len() > 15
            && rows
                .iter()
                .all(|row| row["ok"] == true && row["model"] == "bernoulli")
    );

    // Named for one command, and known to no other.
    assert!(
        place
            .ok(&["models", "--plugin", file])
            .contains("bernoulli")
    );
    assert!(!place.ok(&["models"]).contains("bernoulli"));

    let error = place.refused(&["plugin", "add", file]);
    assert!(
        error.contains("--yes") && error.contains("bernoulli 0.3.1"),
        "{error}"
    );
    assert!(place.ok(&["plugin", "list"]).contains("no plugins"));
    place.ok(&["plugin", "add", file, "--yes"]);
    let list: Json = serde_json::from_str(&place.ok(&["plugin", "list", "--json"])).unwrap();
    assert_eq!(list[0]["models"], json!(["bernoulli"]));

    let train = [
        "train",
        "bernoulli",
        "--data",
        "fashion-small",
        "--set",
        "data.limit=256",
        "--steps",
        "6",
    ];
    let mut results = Vec::new();
    for (run, isolate) in [("here", None), ("apart", Some("--isolate"))] {
        let with = |args: &[&'static str]| -> Vec<&'static str> {
            args.iter().copied().chain(isolate).collect()
        };
        place.ok(&[with(&train), vec!["--out", run]].concat());
        place.ok(&[with(&["eval"]), vec![run, "--json"]].concat());
        let bundle = format!("{run}-bundle");
        place.ok(&[with(&["export"]), vec![run, "--out", &bundle]].concat());
        let verified = place.ok(&[with(&["verify"]), vec![&bundle, "--json"]].concat());
        let verified: Json = serde_json::from_str(&verified).unwrap();
        assert_eq!(
            (&verified["ok"], &verified["reference"]),
            (&json!(true), &json!("candle"))
        );
        let weights = place
            .0
            .path()
            .join(run)
            .join("checkpoints/6/model.safetensors");
        results.push(std::fs::read(weights).unwrap());
    }
    assert_eq!(results[0], results[1]);

    // A run names a model, never a library: without the plugin nothing is loaded.
    place.ok(&["plugin", "remove", "bernoulli"]);
    let error = place.refused(&["eval", "here"]);
    assert!(error.contains("no model \"bernoulli\""), "{error}");
    place.ok(&["eval", "here", "--plugin", file]);
}

#[test]
fn a_training_whose_process_dies_keeps_its_checkpoints() {
    let place = Place::new();
    let file = bernoulli().to_str().unwrap();
    let train = [
        &[
            "--isolate",
            "--plugin",
            file,
            "train",
            "bernoulli",
            "--data",
            "fashion-small",
        ],
        &[
            "--out",
            "run",
            "--set",
            "data.limit=256",
            "--set",
            "train.checkpoint_every=5",
        ][..],
    ]
    .concat();
    let log = place.0.path().join("log");
    let mut zoo = place
        .command(&[&train[..], &["--steps", "100000000"]].concat())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !place.0.path().join("run/checkpoints/10").exists() {
        assert!(
            std::time::Instant::now() < until,
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let parent = zoo.id().to_string();
    let children = ok(Command::new("ps").args(["-o", "pid=", "--ppid", &parent]));
    ok(Command::new("kill").args(["-KILL", children.trim()]));
    assert_eq!(zoo.wait().unwrap().code(), Some(1));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("in `train`, the plugin's process was ended by signal 9"),
        "{said}"
    );

    let step = |entry: std::io::Result<std::fs::DirEntry>| -> u64 {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let kept = std::fs::read_dir(place.0.path().join("run/checkpoints")).unwrap();
    let newest = kept.map(step).max().unwrap();
    let more = (newest + 1).to_string();
    place.ok(&[&train[..], &["--resume", "--steps", &more]].concat());
    assert!(
        place
            .0
            .path()
            .join(format!("run/checkpoints/{more}"))
            .exists()
    );
}

#[test]
fn an_added_library_that_changes_is_not_loaded() {
    let place = Place::new();
    place.ok(&["plugin", "add", bernoulli().to_str().unwrap(), "--yes"]);
    let folder = place.0.path().join("data/plugins");
    let stored = std::fs::read_dir(&folder)
        .unwrap()
        .map(|f| f.unwrap().path());
    let stored = stored
        .into_iter()
        .find(|f| f.to_string_lossy().contains("bernoulli-"))
        .unwrap();
    let mut bytes = std::fs::read(&stored).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&stored, bytes).unwrap();

    // Others are as they were; whoever asks for it hears why.
    let output = place.command(&["models"]).output().unwrap();
    let (models, warning) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success() && models.contains("vae") && !models.contains("bernoulli"));
    assert!(warning.contains("the file has changed"), "{warning}");
    let error = place.refused(&[
        "train",
        "bernoulli",
        "--data",
        "fashion-small",
        "--out",
        "run",
    ]);
    assert!(
        error.contains("SHA-256") && error.contains("zoo plugin add"),
        "{error}"
    );
    std::fs::remove_file(&stored).unwrap();
    let error = place.refused(&["describe", "bernoulli"]);
    assert!(error.contains("cannot read it"), "{error}");
}

#[test]
fn built_in_names_are_taken() {
    let place = Place::new();
    let file = library("zoo_gan_plugin");
    let file = file.to_str().unwrap();
    let error = place.refused(&["plugin", "add", file, "--yes"]);
    assert!(
        error.contains("\"gan\"") && error.contains("another name"),
        "{error}"
    );
    let error = place.refused(&["models", "--plugin", file]);
    assert!(
        error.contains("two plugins offer a model named \"gan\""),
        "{error}"
    );
}

#[test]
fn plugins_of_abi_1_0_keep_working() {
    // Built against the headers that lie beside it, which never change.
    let place = Place::new();
    let source = root().join("tests/third-party/abi-1.0");
    let file = place.0.path().join("libmean.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&file)
        .arg("-I")
        .arg(&source)
        .arg(source.join("mean.c"));
    ok(&mut cc);
    let file = file.to_str().unwrap();
    for (run, isolate) in [("here", &[][..]), ("apart", &["--isolate"])] {
        let zoo = |args: &[&str]| place.ok(&[&["--plugin", file], isolate, args].concat());
        zoo(&[
            "train",
            "mean-image",
            "--data",
            "fashion-small",
            "--out",
            run,
        ]);
        let eval: Json = serde_json::from_str(&zoo(&["eval", run, "--json"])).unwrap();
        assert_eq!(eval["metrics"]["squared_error"], 0.5);
        let (picture, bundle) = (format!("{run}.png"), format!("{run}-bundle"));
        zoo(&["sample", run, "-n", "4", "--out", &picture]);
        zoo(&["export", run, "--out", &bundle]);
        let verified: Json = serde_json::from_str(&zoo(&["verify", &bundle, "--json"])).unwrap();
        assert_eq!(verified["ok"], true);
    }
}

#[test]
fn bad_names_and_folders_for_new_plugins() {
    let place = Place::new();
    for name in ["My-Model", "2fast", "a_b", "fn"] {
        let error = place.refused(&["plugin", "new", name]);
        assert!(error.contains("cannot be a crate's name"), "{error}");
    }
    std::fs::create_dir(place.0.path().join("taken")).unwrap();
    let error = place.refused(&["plugin", "new", "taken"]);
    assert!(error.contains("cannot write taken"), "{error}");
    let error = place.refused(&["plugin", "new", "fresh", "--sdk", "/no/such/folder"]);
    assert!(error.contains("zoo/nn/Cargo.toml"), "{error}");
    assert!(!place.0.path().join("fresh").exists());
}
