//! The calls behind `zoo train` and `zoo eval`, with a plugin whose numbers are known.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value as Json, json};
use zoo_data::{DataSettings, Source};
use zoo_sdk::{Event, Plugin, Silent, StopReason, TrainRequest};

use super::record::Recorder;
use super::{Observer, Quiet, TrainOptions, TrainOutcome, train};
use crate::directory::{RunDir, checkpoint};
use crate::testing::{FakePlugin, Faults, Kind};
use crate::{Error, EvaluateOptions, Registry, Result, Which, evaluate, open};

fn registry() -> Registry {
    Registry::new(vec![
        Box::new(FakePlugin::named("fake")),
        Box::new(FakePlugin::named("other")),
    ])
    .unwrap()
}

fn options(out: &Path, set: &[&str]) -> TrainOptions {
    let mut options = TrainOptions::new("fake", out);
    options.given.data = Some("fashion-small".to_owned());
    options.given.set = set.iter().map(|s| (*s).to_owned()).collect();
    options
}

fn go(options: &TrainOptions) -> Result<TrainOutcome> {
    train(&registry(), options, &|| false, &mut Quiet)
}

fn resume(mut options: TrainOptions) -> TrainOptions {
    options.resume = true;
    options
}

/// `metrics.jsonl` without what depends on the clock.
fn timeless(run: &Path) -> Vec<Json> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut json: Json = serde_json::from_str(line).unwrap();
        let map = json.as_object_mut().unwrap();
        assert!(map.shift_remove("time").is_some());
        map.shift_remove("images_per_s");
        json
    };
    text.lines().map(line).collect()
}

/// All files below a folder, with their content.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

#[test]
fn a_training_leaves_what_the_design_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("deep/run");
    #[derive(Default)]
    struct Heard {
        steps: u64,
        saved: Vec<u64>,
        pictures: usize,
        prepared: bool,
    }
    impl Observer for Heard {
        fn prepared(&mut self, settings: &crate::settings::Resolved, data: &zoo_sdk::DataSpec) {
            self.prepared = settings.model_name == "fake" && data.name == "fashion-small";
        }
        fn event(&mut self, event: &Event) {
            self.steps += u64::from(matches!(event, Event::Step { .. }));
        }
        fn saved(&mut self, step: u64, folder: &Path) {
            assert!(folder.join("state.json").exists());
            self.saved.push(step);
        }
        fn picture(&mut self, _: u64, file: &Path) {
            assert!(file.exists());
            self.pictures += 1;
        }
    }
    let mut heard = Heard::default();
    let outcome = train(
        &registry(),
        &options(&run, &["train.steps=9", "seed=5"]),
        &|| false,
        &mut heard,
    )
    .unwrap();
    assert_eq!(
        (outcome.reason, outcome.step, outcome.resumed_from),
        (StopReason::Finished, 9, None)
    );
    assert!(heard.prepared && !outcome.was_finished);
    assert_eq!(
        (heard.steps, heard.saved, heard.pictures),
        (9, vec![2, 4, 6, 8, 9], 4)
    );
    let names: Vec<_> = files(&run)
        .into_keys()
        .map(|p| p.strip_prefix(&run).unwrap().display().to_string())
        .map(|n| {
            if n.starts_with("events.out.tfevents.") {
                "events.out.tfevents.*".to_owned()
            } else {
                n
            }
        })
        .collect();
    insta::assert_snapshot!("files", names.join("\n"));
    assert_eq!(checkpoint::read(&run.join("best")).unwrap().step, 4);
    let records = timeless(&run);
    assert_eq!(records.len(), 9 + 4);
    assert_eq!(
        records[0],
        json!({"event": "step", "step": 1, "epoch": 0.2, "losses": {"kl": 5000.0, "loss": 1.0}, "learning_rate": 1e-3, "gradient_norm": 1.0})
    );
    assert_eq!(
        records[2],
        json!({"event": "metrics", "step": 2, "metrics": {"nll_nats": 2.25, "odd": null}})
    );
}

/// Stopped anywhere and resumed: the same files as without the stop.
#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    go(&options(&whole, &["train.steps=11"])).unwrap();
    for stop in [1, 2, 5, 10] {
        let run = folder.path().join(format!("stopped-{stop}"));
        let asked = AtomicU64::new(0);
        // Asked at the start as well; measurements ask once more every second step.
        let cancel = || {
            let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
            asked.fetch_add(1, Ordering::Relaxed);
            text.contains(&format!("\"step\":{stop},"))
        };
        let outcome = train(
            &registry(),
            &options(&run, &["train.steps=11"]),
            &cancel,
            &mut Quiet,
        )
        .unwrap();
        assert_eq!(
            (outcome.reason, outcome.step),
            (StopReason::Cancelled, stop)
        );
        // As if the process had gone on and been killed: records that no checkpoint covers.
        let mut text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let ahead = text
            .lines()
            .next()
            .unwrap()
            .replace("\"step\":1,", &format!("\"step\":{},", stop + 1));
        text.push_str(&ahead);
        text.push_str("\n{\"event\":\"st");
        fs::write(run.join("metrics.jsonl"), text).unwrap();

        let outcome = go(&resume(options(&run, &["train.steps=11"]))).unwrap();
        assert_eq!((outcome.step, outcome.resumed_from), (11, Some(stop)));
        assert_eq!(timeless(&run), timeless(&whole), "stopped at {stop}");
        for part in [
            "checkpoints/8",
            "checkpoints/10",
            "checkpoints/11",
            "best",
            "samples",
        ] {
            let content = |root: &Path| files(&root.join(part)).into_values().collect::<Vec<_>>();
            assert_eq!(content(&run), content(&whole), "{part}, stopped at {stop}");
        }
        assert_eq!(
            fs::read(run.join("config.toml")).unwrap(),
            fs::read(whole.join("config.toml")).unwrap()
        );
    }
}

#[test]
fn a_finished_run_is_left_alone_and_goes_on_when_asked_for_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    go(&options(&run, &["train.steps=4"])).unwrap();
    let before = files(&run);
    let outcome = go(&resume(TrainOptions::new("fake", &run))).unwrap();
    assert!(outcome.was_finished && outcome.reason == StopReason::Finished && outcome.step == 4);
    assert_eq!(files(&run), before);

    let mut more = resume(TrainOptions::new("fake", &run));
    more.given.steps = Some(6);
    let outcome = go(&more).unwrap();
    assert!(!outcome.was_finished && outcome.step == 6);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("steps = 6"), "{config}");
}

#[test]
fn misuse_is_refused_before_anything_changes() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    go(&options(&run, &["train.steps=4"])).unwrap();
    let before = files(&run);
    let refused = |options: &TrainOptions| {
        let error = go(options).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error
            .to_string()
            .replace(&folder.path().display().to_string(), "DIR")
    };
    let mut texts = vec![
        refused(&options(&run, &[])),
        refused(&resume(options(&run, &["latent=21"]))),
        refused(&resume(options(&run, &["train.lr=0.5"]))),
        refused(&resume(options(&run, &["seed=8"]))),
        refused(&resume(options(&run, &["data.valid=8"]))),
        refused(&resume(TrainOptions {
            model: "other".into(),
            ..options(&run, &[])
        })),
        refused(&TrainOptions {
            model: "fakir".into(),
            ..options(&run, &[])
        }),
    ];
    assert_eq!(files(&run), before);
    let fresh = folder.path().join("fresh");
    texts.push(refused(&options(&fresh, &["latnt=3"])));
    texts.push(refused(&TrainOptions::new("fake", &fresh)));
    texts.push(refused(&options(&fresh, &["model.refuse=true"])));
    let mut from = options(&fresh, &[]);
    from.given.init_from = Some(folder.path().join("nowhere"));
    texts.push(refused(&from));
    assert!(!fresh.exists(), "a refused run leaves no folder");
    insta::assert_snapshot!("refused", texts.join("\n"));
    go(&options(&fresh, &[])).unwrap();
}

#[test]
fn resume_without_checkpoint_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let outcome = go(&resume(options(&run, &["train.steps=3"]))).unwrap();
    assert_eq!((outcome.step, outcome.resumed_from), (3, None));
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let outcome = go(&resume(options(&run, &["latent=7"]))).unwrap();
    assert_eq!((outcome.step, outcome.resumed_from), (3, None));
    assert_eq!(timeless(&run).len(), 3 + 1);
    assert!(
        fs::read_to_string(run.join("config.toml"))
            .unwrap()
            .contains("latent = 7")
    );
}

#[test]
fn divergence_names_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let error = go(&options(&run, &["train.steps=9", "train.diverge_at=6"])).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(
        text.contains("step 6: loss is NaN") && text.contains("checkpoints/4"),
        "{text}"
    );
    assert_eq!(
        checkpoint::newest(&run.join("checkpoints"))
            .unwrap()
            .checkpoint
            .unwrap()
            .0
            .step,
        4
    );
    let error = go(&options(
        &folder.path().join("early"),
        &["train.diverge_at=1"],
    ))
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no checkpoint had been saved yet"),
        "{error}"
    );
}

#[test]
fn weights_are_opened_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    go(&options(&run, &["train.steps=9", "train.ema=true"])).unwrap();
    let weight = |which| {
        let trained = open(&registry(), &run, which).unwrap();
        (
            trained.kind,
            trained.step,
            trained.weights["net.weight"].as_f32().unwrap()[0],
        )
    };
    assert_eq!(weight(Which::Auto), ("ema", 9, 4.5));
    assert_eq!(weight(Which::Ema), ("ema", 9, 4.5));
    assert_eq!(weight(Which::Raw), ("raw", 9, 9.0));
    assert_eq!(weight(Which::Best), ("ema", 4, 2.0));

    // The newest that verifies, with a warning, and nothing moved: a reader changes nothing.
    fs::write(run.join("checkpoints/9/model.safetensors"), "x").unwrap();
    let trained = open(&registry(), &run, Which::Auto).unwrap();
    assert_eq!(trained.step, 8);
    assert!(
        trained.warnings[0].contains("passed over"),
        "{:?}",
        trained.warnings
    );
    assert!(run.join("checkpoints/9").exists());

    let plain = folder.path().join("plain");
    go(&options(&plain, &["train.steps=1"])).unwrap();
    assert_eq!(open(&registry(), &plain, Which::Auto).unwrap().kind, "raw");
    let text = |which| open(&registry(), &plain, which).unwrap_err().to_string();
    assert!(text(Which::Ema).contains("use --weights raw"));
    assert!(text(Which::Best).contains("no best checkpoint"));
}

#[test]
fn training_starts_from_the_weights_of_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    go(&options(&first, &["train.steps=2"])).unwrap();
    let mut options = options(&second, &["train.steps=2"]);
    options.given.init_from = Some(first.clone());
    go(&options).unwrap();
    let config = fs::read_to_string(second.join("config.toml")).unwrap();
    let first = fs::canonicalize(first).unwrap();
    assert!(
        config.contains(&format!("init_from = \"{}\"", first.display())),
        "{config}"
    );

    let from = |part: &str| {
        let mut start = options.clone();
        start.out = folder.path().join("third");
        start.given.init_from = Some(format!("{}:{part}", first.display()).into());
        go(&start)
    };
    let error = from("decoder").unwrap_err().to_string();
    assert!(
        error.contains("has no part \"decoder\"; it has net"),
        "{error}"
    );
    from("net").unwrap();
    let config = fs::read_to_string(folder.path().join("third/config.toml")).unwrap();
    assert!(
        config.contains(&format!("init_from = \"{}:net\"", first.display())),
        "{config}"
    );
}

#[test]
fn evaluation_reads_the_run_s_own_data() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    go(&options(&run, &["train.steps=2", "data.valid=100"])).unwrap();
    let result = evaluate(&registry(), &EvaluateOptions::new(&run), &mut Silent).unwrap();
    let mut json = serde_json::to_value(&result).unwrap();
    json["seconds"] = json!(0);
    assert_eq!(
        json.to_string(),
        r#"{"model":"fake","data":"fashion-small","split":"test","images":1000,"binarization":"dynamic","metrics":{"images":1000.0,"seed":0.0,"weight":2.0},"seconds":0}"#
    );
    let with = |split: &str, data: Option<&str>| {
        let mut options = EvaluateOptions::new(&run);
        options.split = split.to_owned();
        options.data = data.map(str::to_owned);
        evaluate(&registry(), &options, &mut Silent)
    };
    assert_eq!(with("valid", None).unwrap().images, 100);
    let text = with("validation", None).unwrap_err().to_string();
    assert!(text.contains("train, valid, test"), "{text}");
    assert!(matches!(
        with("test", Some("nowhere.npz")),
        Err(Error::Data(_))
    ));
    let error = evaluate(
        &registry(),
        &EvaluateOptions::new(folder.path()),
        &mut Silent,
    )
    .unwrap_err();
    assert!(error.to_string().contains("neither a run"), "{error}");
}

#[test]
fn a_bundle_opens_like_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    go(&options(&run, &["train.steps=2", "train.ema=true"])).unwrap();
    let trained = open(&registry(), &run, Which::Auto).unwrap();
    let bundle = folder.path().join("bundle");
    let mut writer = zoo_onnx::BundleWriter::create(&bundle).unwrap();
    let weights = crate::to_safetensors(&trained.weights).unwrap();
    writer.file("model.safetensors", &weights).unwrap();
    let manifest = zoo_onnx::Manifest {
        model: trained.model.clone(),
        version: trained.version.clone(),
        step: trained.step,
        config: trained.config.clone(),
        data: serde_json::from_value(serde_json::to_value(&trained.data).unwrap()).unwrap(),
        ..Default::default()
    };
    writer.finish(manifest, &zoo_onnx::Card::default()).unwrap();

    let opened = open(&registry(), &bundle, Which::Auto).unwrap();
    assert_eq!(
        (opened.weights, opened.config, opened.data, opened.step),
        (trained.weights, trained.config, trained.data, 2)
    );
    assert!(open(&registry(), &bundle, Which::Raw).is_err());
    let result = evaluate(&registry(), &EvaluateOptions::new(&bundle), &mut Silent).unwrap();
    assert_eq!(result.metrics["weight"], 1.0);
    fs::write(
        bundle.join("model.safetensors"),
        &weights[..weights.len() - 1],
    )
    .unwrap();
    assert!(matches!(
        open(&registry(), &bundle, Which::Auto),
        Err(Error::Onnx(_))
    ));
}

/// A disk that fills up in the middle of a training: the error is ours, with the file's name, and the last checkpoint good.
#[test]
fn a_full_disk_ends_the_training_with_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = RunDir::lock(folder.path()).unwrap();
    let data = zoo_data::load(
        &Source::parse("fashion-small").unwrap(),
        &DataSettings::default(),
    )
    .unwrap();
    let request = TrainRequest {
        model: json!({}),
        train: json!({"steps": 9, "checkpoint_every": 2}),
        ..TrainRequest::default()
    };
    struct FillAfter(u64);
    impl Observer for FillAfter {
        fn saved(&mut self, step: u64, _: &Path) {
            self.0 = step;
        }
    }
    let mut observer = FillAfter(0);
    let never = || false;
    let mut recorder = Recorder::new(&mut run, &mut observer, &never, None, None).unwrap();
    // Pictures and two checkpoints fit; the third does not.
    recorder.run.disk = Faults::new(Kind::FromThen, 45).disk();
    let answer = FakePlugin::named("fake").train(&request, &data.view(), &mut recorder);
    let failure = recorder.failure.take().unwrap().to_string();
    assert_eq!(answer, Err(zoo_sdk::Error::Host(failure.clone())));
    assert!(
        failure.contains("free some space")
            && failure.contains(&folder.path().display().to_string()),
        "{failure}"
    );
    drop(recorder);
    assert!(observer.0 > 0);
    let found = checkpoint::newest(&folder.path().join("checkpoints")).unwrap();
    assert!(found.damaged.is_empty());
    assert!(found.checkpoint.unwrap().0.step >= observer.0);
}
