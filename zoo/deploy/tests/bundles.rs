//! From a real training to a bundle and back: sample, export, verify.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value as Json;
use zoo_deploy::{
    Error, ExportOptions, Exported, SampleOptions, Verification, VerifyOptions, export, sample,
    verify,
};
use zoo_runs::{Quiet, Registry, TrainOptions, from_safetensors, to_safetensors, train};
use zoo_runtimes::{Search, parity::Tolerance};
use zoo_sdk::{Array, GraphKind, RuntimeId};

fn registry() -> Registry {
    Registry::new(
        [zoo_vae::plugins(), zoo_gan::plugins()]
            .into_iter()
            .flatten()
            .collect(),
    )
    .unwrap()
}

/// A search that finds no ONNX Runtime.
fn nowhere() -> Search {
    Search {
        ort: Some("/nonexistent/libonnxruntime.so".into()),
        ..Search::default()
    }
}

/// A small VAE after a few steps, trained once for all tests.
fn run() -> &'static Path {
    static RUN: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, run) = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let mut options = TrainOptions::new("vae", &run);
        options.given.data = Some("fashion-small".to_owned());
        options.given.steps = Some(6);
        let set = [
            "model.hidden=[16]",
            "model.latent=2",
            "model.importance_samples=3",
            "data.limit=256",
            "data.valid=32",
            "train.ema=0.9",
            "train.evaluate_every=6",
        ];
        options.given.set = set.map(str::to_owned).to_vec();
        train(&registry(), &options, &|| false, &mut Quiet).unwrap();
        (folder, run)
    });
    run
}

fn exported(folder: &Path, change: impl FnOnce(&mut ExportOptions)) -> Exported {
    let mut options = ExportOptions::new(run(), folder.join("bundle"));
    change(&mut options);
    export(&registry(), &options, &mut |_| {}).unwrap()
}

fn on_tract(bundle: &Path) -> VerifyOptions {
    let mut options = VerifyOptions::new(bundle);
    options.runtimes = vec![RuntimeId::Tract];
    options
}

fn verified(options: &VerifyOptions) -> Verification {
    verify(&registry(), options, &mut |_| {}).unwrap()
}

/// Replaces a file of a bundle and its hashes in the manifest.
fn replace(bundle: &Path, name: &str, bytes: &[u8]) {
    let path = bundle.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let manifest: Json = serde_json::from_str(&text).unwrap();
    let old = manifest["files"][name].as_str().unwrap();
    fs::write(&path, text.replace(old, &zoo_files::sha256(bytes))).unwrap();
    fs::write(bundle.join(name), bytes).unwrap();
}

#[test]
fn an_export_is_whole_and_every_runtime_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let done = exported(folder.path(), |_| {});
    assert_eq!(done.warnings, Vec::<String>::new());
    for file in [
        "README.md",
        "manifest.json",
        "config.json",
        "model.safetensors",
        "samples.png",
        "onnx/log_prob.onnx",
        "onnx/test_data_set_0/encode/input_0.pb",
        "onnx/test_data_set_1/encode/output_1.pb",
    ] {
        assert!(done.dir.join(file).is_file(), "{file}");
    }
    let manifest = &done.manifest;
    let graphs: Vec<_> = manifest.graphs.keys().map(String::as_str).collect();
    assert_eq!(
        graphs,
        ["decode", "encode", "log_prob", "reconstruct", "sample"]
    );
    assert_eq!(manifest.metrics["test/images"], 1000.0);
    assert!(
        manifest.metrics["test/elbo_nats"] < 0.0
            && manifest.metrics.contains_key("valid/elbo_nats")
    );
    // Five graphs with six outputs, at batch 1 and 3, on the embedded runtime.
    assert_eq!(manifest.proven.len(), 12);
    assert!(
        manifest
            .proven
            .iter()
            .all(|proof| proof.ok && proof.runtime == RuntimeId::Tract)
    );
    let file = fs::read(done.dir.join("onnx/decode.onnx")).unwrap();
    let metadata = zoo_onnx::check(&file).unwrap().metadata;
    let value = |key: &str| metadata.iter().find(|(k, _)| k == key).unwrap().1.as_str();
    assert_eq!(
        (
            value("model"),
            value("steps"),
            value("weights"),
            value("layout")
        ),
        ("vae", "6", "ema", "NCHW")
    );
    assert_eq!(value("data_sha256").len(), 64);

    let verified = verified(&VerifyOptions::new(&done.dir));
    assert!(verified.ok, "{verified}");
    assert_eq!(verified.reference, "candle");
    let tract = verified
        .results
        .iter()
        .filter(|row| row.runtime == RuntimeId::Tract);
    assert_eq!(tract.count(), 6 * 3);
    let json = serde_json::to_value(&verified).unwrap();
    let keys = |json: &Json| -> Vec<String> { json.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&json), ["ok", "reference", "results"]);
    assert_eq!(
        keys(&json["results"][0]),
        [
            "graph", "variant", "runtime", "batch", "output", "max_abs", "max_rel", "at", "ok",
            "error"
        ]
    );
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let first = exported(folder.path(), |_| {});
    let manifest = fs::read(first.dir.join("manifest.json")).unwrap();
    // The second export replaces the first.
    let second = exported(folder.path(), |o| o.threads = 1);
    assert_eq!(
        fs::read(second.dir.join("manifest.json")).unwrap(),
        manifest
    );
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path(), |_| {}).dir;
    let path = bundle.join("onnx/decode.onnx");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = verify(&registry(), &on_tract(&bundle), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("decode.onnx"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert!(sample(&registry(), &SampleOptions::new(&bundle)).is_err());
}

#[test]
fn other_weights_than_those_of_the_graphs_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path(), |_| {}).dir;
    let weights = fs::read(bundle.join("model.safetensors")).unwrap();
    let mut weights = from_safetensors(&weights).unwrap();
    let (name, old) = weights
        .iter()
        .find(|(name, _)| name.starts_with("decoder"))
        .unwrap();
    let (name, mut values) = (name.clone(), old.as_f32().unwrap().to_vec());
    values[0] += 0.5;
    weights.insert(name.clone(), Array::f32(old.shape(), values).unwrap());
    replace(
        &bundle,
        "model.safetensors",
        &to_safetensors(&weights).unwrap(),
    );
    let verified = verified(&on_tract(&bundle));
    assert!(!verified.ok);
    let wrong: Vec<_> = verified
        .results
        .iter()
        .filter(|r| !r.ok)
        .map(|r| GraphKind::from(r.graph.as_str()))
        .collect();
    assert!(
        wrong.contains(&GraphKind::Decode) && !wrong.contains(&GraphKind::Encode),
        "{name}: {verified}"
    );
    let row = verified.results.iter().find(|row| !row.ok).unwrap();
    assert!(row.max_abs.unwrap() > 1e-4 && row.at.is_some() && row.error.is_none());
}

#[test]
fn without_the_plugin_the_shipped_vectors_decide() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path(), |_| {}).dir;
    let bare = Registry::new(Vec::new()).unwrap();
    let verified = verify(&bare, &on_tract(&bundle), &mut |_| {}).unwrap();
    assert!(verified.ok, "{verified}");
    assert_eq!(verified.reference, "test vectors");
    let mut batches: Vec<_> = verified.results.iter().map(|row| row.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    assert_eq!(batches, [1, 3]);

    let path = "onnx/test_data_set_0/decode/output_0.pb";
    let vector = fs::read(bundle.join(path)).unwrap();
    let (name, array) = zoo_onnx::tensor_from_pb(&vector).unwrap();
    let mut values = array.as_f32().unwrap().to_vec();
    values[29] = f32::NAN;
    let changed = Array::f32(array.shape(), values).unwrap();
    replace(&bundle, path, &zoo_onnx::tensor_to_pb(&name, &changed));
    let verified = verify(&bare, &on_tract(&bundle), &mut |_| {}).unwrap();
    let wrong: Vec<_> = verified.results.iter().filter(|row| !row.ok).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(
        (
            wrong[0].graph.as_str(),
            wrong[0].max_abs,
            wrong[0].at.clone()
        ),
        ("decode", None, Some(vec![0, 0, 1, 1]))
    );
}

#[test]
fn every_runtime_draws_the_same_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path(), |_| {}).dir;
    let draw = |path: &Path, runtime: Option<RuntimeId>, count: usize| {
        let mut options = SampleOptions::new(path);
        (options.count, options.seed) = (count, 5);
        options.runtime = runtime;
        sample(&registry(), &options).unwrap()
    };
    let candle = draw(run(), None, 70);
    assert_eq!(
        (&candle.runtime, candle.images.shape()),
        (&RuntimeId::Candle, &[70, 1, 28, 28][..])
    );
    let own = draw(&bundle, None, 70);
    assert_eq!(own.runtime, RuntimeId::Tract);
    for other in [
        draw(&bundle, Some(RuntimeId::Candle), 70),
        draw(run(), Some(RuntimeId::Tract), 70),
        own,
    ] {
        let differ = |(a, b): (&f32, &f32)| !Tolerance::F32.within((*a).into(), (*b).into());
        let (a, b) = (
            candle.images.as_f32().unwrap(),
            other.images.as_f32().unwrap(),
        );
        assert_eq!(a.len(), b.len());
        assert!(!a.iter().zip(b).any(differ), "{}", other.runtime);
    }
    // A smaller grid is the beginning of a larger one.
    let few = draw(&bundle, None, 3).images;
    let pairs = few
        .as_f32()
        .unwrap()
        .iter()
        .zip(candle.images.as_f32().unwrap());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-4));
    let picture = folder.path().join("grid.png");
    candle.save(&picture).unwrap();
    assert!(fs::metadata(picture).unwrap().len() > 1000);

    let refused = |change: fn(&mut SampleOptions)| {
        let mut options = SampleOptions::new(&bundle);
        change(&mut options);
        sample(&registry(), &options).unwrap_err().to_string()
    };
    assert!(refused(|o| o.count = 0).contains("-n"));
    assert!(refused(|o| o.label = Some(1)).contains("--label"));
    assert!(refused(|o| o.runtime = Some("torch".into())).contains("candle, tract"));
    assert!(refused(|o| o.device = "gpu".into()).contains("cuda:0"));
    assert!(refused(|o| o.path = "/nonexistent".into()).contains("no such folder"));
}

#[test]
fn a_batch_norm_draws_the_same_from_a_run_and_its_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("gan");
    let mut options = TrainOptions::new("gan", &run);
    options.given.data = Some("fashion-small".to_owned());
    options.given.steps = Some(5);
    let set = [
        "model.channels=8",
        "model.latent=4",
        "data.limit=128",
        "train.ema=0.8",
    ];
    options.given.set = set.map(str::to_owned).to_vec();
    train(&registry(), &options, &|| false, &mut Quiet).unwrap();
    let bundle = folder.path().join("bundle");
    export(&registry(), &ExportOptions::new(&run, &bundle), &mut |_| {}).unwrap();
    let draw = |path: &Path, runtime: RuntimeId, count: usize| {
        let mut options = SampleOptions::new(path);
        (options.count, options.runtime) = (count, Some(runtime));
        sample(&registry(), &options).unwrap().images.rows(0, 10)
    };
    let candle = draw(&run, RuntimeId::Candle, 80);
    for other in [
        draw(&bundle, RuntimeId::Candle, 10),
        draw(&bundle, RuntimeId::Tract, 10),
    ] {
        let (a, b) = (candle.as_f32().unwrap(), other.as_f32().unwrap());
        let largest = a
            .iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(largest < 1e-4, "{largest}");
    }
}

#[test]
fn a_runtime_that_is_missing_is_an_error_only_where_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path(), |o| {
        o.targets = vec![RuntimeId::Tract, RuntimeId::Ort]
    })
    .dir;
    let mut options = VerifyOptions::new(&bundle);
    options.search = nowhere();
    let left = verified(&options);
    assert!(left.ok, "{left}");
    let reason = &left
        .skipped
        .iter()
        .find(|s| s.runtime == RuntimeId::Ort)
        .unwrap()
        .reason;
    assert!(reason.contains("/nonexistent"), "{reason}");

    options.runtimes = vec![RuntimeId::Tract, RuntimeId::Ort];
    let error = verify(&registry(), &options, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Runtime(_)));
    assert_eq!(error.exit_code(), 2);

    // What was not exported for a runtime cannot be verified on it.
    let narrow = exported(folder.path(), |o| o.targets = vec![RuntimeId::Ort]).dir;
    let error = verify(&registry(), &on_tract(&narrow), &mut |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("not exported for tract"),
        "{error}"
    );
    options.runtimes.clear();
    options.bundle = narrow;
    assert!(!verified(&options).ok, "nothing was compared");

    let error = export(
        &registry(),
        &ExportOptions {
            targets: vec!["tensorflow".into()],
            ..ExportOptions::new(run(), folder.path().join("never"))
        },
        &mut |_| {},
    );
    assert!(error.unwrap_err().to_string().contains("tensorflow"));
    assert!(!folder.path().join("never").exists());
}

#[test]
fn half_precision_has_a_tolerance_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let full = exported(folder.path(), |_| {});
    let size = |e: &Exported| fs::metadata(e.dir.join("onnx/decode.onnx")).unwrap().len();
    let before = size(&full);
    let half = exported(folder.path(), |o| (o.half, o.test_images) = (true, 50));
    assert_eq!(half.manifest.metrics["test/images"], 50.0);
    assert!(size(&half) * 3 < before * 2, "{} of {before}", size(&half));
    let verified = verified(&on_tract(&half.dir));
    assert!(verified.ok, "{verified}");
    let largest = verified
        .results
        .iter()
        .filter_map(|r| r.max_abs)
        .fold(0.0, f64::max);
    assert!(largest > 1e-5, "the weights were rounded: {largest}");
}

#[test]
fn an_export_leaves_other_folders_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "mine").unwrap();
    let options = ExportOptions::new(run(), folder.path());
    assert!(export(&registry(), &options, &mut |_| {}).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A run is no bundle.
    let error = verify(&registry(), &on_tract(run()), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("zoo export"), "{error}");
}
