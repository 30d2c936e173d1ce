use std::{
    fs,
    path::{Path, PathBuf},
};

use zoo_graph::{Array, Graph, Port, RuntimeId, Sizes};

use super::*;
use crate::{Card, Error, Options, export, testing::Net};

fn graph() -> Graph {
    let mut net = Net::new("decode");
    net.input(Port::normal("z", &[2]));
    net.node("x", "Sigmoid", &["z"], &[]);
    let mut graph = net.outputs(&["x"]);
    graph.outputs[0].range = Some([0.0, 1.0]);
    graph
}

fn manifest() -> Manifest {
    Manifest {
        model: "vae".into(),
        version: "1".into(),
        summary: "A variational autoencoder.".into(),
        seed: 7,
        step: 100,
        data: DataEntry {
            name: "fashion-small".into(),
            sha256: "00".into(),
            binarization: "none".into(),
            image: [1, 28, 28],
            target: None,
            degrade: String::new(),
            classes: vec![],
            licence: Some("MIT".into()),
        },
        metrics: [("nll_nats".to_string(), 231.5)].into(),
        config: serde_json::json!({"latent": 2}),
        proven: vec![Proof {
            graph: "decode".into(),
            variant: "onnx/decode.onnx".into(),
            runtime: RuntimeId::Tract,
            batch: 3,
            sizes: Sizes::default(),
            output: "x".into(),
            max_abs: Some(1.2e-7),
            max_rel: Some(3e-7),
            ok: true,
            error: None,
        }],
        ..Manifest::default()
    }
}

fn card() -> Card {
    Card {
        title: "VAE on fashion-small".into(),
        licence: "mit".into(),
        tags: vec!["vae".into(), "autoencoder".into()],
        paper: "Kingma & Welling, 2013".into(),
        picture: Some("samples.png".into()),
    }
}

fn named(name: &str, values: &[f32]) -> Vec<(String, Array)> {
    vec![(name.into(), Array::f32([1, 2], values).unwrap())]
}

fn write(dir: &Path) -> Result<PathBuf, Error> {
    let graph = graph();
    let variants = export(&graph, &Options::default())?;
    let mut writer = BundleWriter::create(dir)?;
    writer.graph(
        "decode",
        "Latent to image.",
        &graph.inputs,
        &graph.outputs,
        &variants,
    )?;
    writer.vectors(
        0,
        "decode",
        &named("z", &[0.0, 1.0]),
        &named("x", &[0.5, 0.731]),
    )?;
    writer.vectors(
        1,
        "decode",
        &named("z", &[2.0, 1.0]),
        &named("x", &[0.88, 0.731]),
    )?;
    writer.file("model.safetensors", b"weights")?;
    writer.file("samples.png", b"png")?;
    writer.finish(manifest(), &card())
}

#[test]
fn a_bundle_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("out/vae");
    write(&dir).unwrap();
    let bundle = Bundle::open(&dir).unwrap();
    let got = bundle.manifest();
    assert_eq!(
        (got.schema_version, got.opset, got.ir_version),
        (SCHEMA_VERSION, 17, 8)
    );
    assert_eq!(
        (got.seed, &got.proven, &got.metrics),
        (7, &manifest().proven, &manifest().metrics)
    );
    assert_eq!(got.graphs["decode"].inputs, graph().inputs);
    let variant = bundle
        .variant_for("decode", &RuntimeId::CandleOnnx)
        .unwrap();
    assert_eq!(variant.file, "onnx/decode.onnx");
    crate::check(&bundle.read(&variant.file).unwrap()).unwrap();
    let vectors = bundle.vectors("decode").unwrap();
    assert_eq!(vectors.len(), 2);
    assert_eq!(
        (&vectors[1].inputs, &vectors[1].outputs),
        (&named("z", &[2.0, 1.0]), &named("x", &[0.88, 0.731]))
    );
    assert_eq!(bundle.vectors("encode").unwrap(), []);
    let config: serde_json::Value =
        serde_json::from_slice(&bundle.read("config.json").unwrap()).unwrap();
    assert_eq!(config, manifest().config);
    let message = bundle
        .variant_for("encode", &RuntimeId::Tract)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("no graph \"encode\"; its graphs are decode"),
        "{message}"
    );
    let message = bundle
        .variant_for("decode", &"rten".into())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("not exported for rten, only for ort, tract, web, candle-onnx"),
        "{message}"
    );
    // Nothing but the bundle is left.
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 1);
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"]
        .map(|name| fs::read(write(&folder.path().join(name)).unwrap().join(MANIFEST)).unwrap());
    assert_eq!(a, b);
}

#[test]
fn an_older_bundle_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("vae");
    fs::create_dir(&dir).unwrap();
    write(&dir).unwrap();
    fs::write(dir.join("note.txt"), "old").unwrap();
    write(&dir).unwrap();
    assert!(!dir.join("note.txt").exists());

    let other = folder.path().join("photos");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("manifest.json"), "{\"name\": \"a web app\"}").unwrap();
    let message = write(&other).unwrap_err().to_string();
    assert!(
        message.contains("something else than a bundle"),
        "{message}"
    );
    assert!(other.join("manifest.json").exists());
}

#[test]
fn an_unfinished_bundle_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("vae");
    let mut writer = BundleWriter::create(&dir).unwrap();
    writer.file("model.safetensors", b"weights").unwrap();
    for bad in [
        "../up",
        "/etc/passwd",
        "a//b",
        "./a",
        "a\\b",
        "manifest.json",
        "",
        "model.safetensors",
        "c:x",
    ] {
        assert!(writer.file(bad, b"").is_err(), "{bad:?}");
    }
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let panics = || {
        let mut writer = BundleWriter::create(&dir).unwrap();
        writer.file("model.safetensors", b"weights").unwrap();
        panic!("a plugin that panics");
    };
    std::panic::catch_unwind(panics).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_killed_processes_left_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("vae");
    write(&dir).unwrap();
    // One was killed while it wrote, another between taking the old bundle away and putting its own in place.
    for (process, part) in [(1, "new"), (2, "old")] {
        let left = folder.path().join(format!(".vae.{process}.part"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("lock"), "").unwrap();
        match part {
            "old" => fs::rename(&dir, left.join(part)).unwrap(),
            _ => fs::create_dir(left.join(part)).unwrap(),
        }
    }
    // A third is still at work, and a folder of the user only looks alike.
    let live = folder.path().join(".vae.3.part");
    fs::create_dir(&live).unwrap();
    let lock = fs::File::create(live.join("lock")).unwrap();
    lock.lock().unwrap();
    fs::create_dir(folder.path().join(".vae.final.part")).unwrap();
    drop(BundleWriter::create(&dir).unwrap());
    Bundle::open(&dir).unwrap();
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".vae.3.part", ".vae.final.part", "vae"]);
    drop(lock);
    write(&dir).unwrap();
    assert!(!live.exists());
}

#[test]
fn what_was_changed_is_refused_by_name() {
    type Damage = fn(&Path);
    fn edit(dir: &Path, from: &str, to: &str) {
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
    let cases: [(&str, Damage); 9] = [
        ("model.safetensors: its SHA-256 is", |dir| {
            fs::write(dir.join("model.safetensors"), "other").unwrap()
        }),
        ("decode.onnx: its SHA-256 is", |dir| {
            let path = dir.join("onnx/decode.onnx");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("samples.png", |dir| {
            fs::remove_file(dir.join("samples.png")).unwrap()
        }),
        ("manifest.json: its schema version is 2", |dir| {
            edit(dir, "\"schema_version\": 1", "\"schema_version\": 2")
        }),
        ("manifest.json: it has no schema_version", |dir| {
            edit(dir, "schema_version", "version_of_schema")
        }),
        ("manifest.json: it is no JSON", |dir| {
            fs::write(dir.join(MANIFEST), "{").unwrap()
        }),
        ("missing field `seed`", |dir| {
            edit(dir, "\"seed\"", "\"sead\"")
        }),
        ("leads out of the bundle", |dir| {
            fs::write(dir.parent().unwrap().join("secret"), "png").unwrap();
            edit(dir, "\"samples.png\"", "\"../secret\"");
        }),
        ("is not that among the files", |dir| {
            edit(
                dir,
                "\"file\": \"onnx/decode.onnx\"",
                "\"file\": \"samples.png\"",
            )
        }),
    ];
    for (expected, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let dir = write(&folder.path().join("vae")).unwrap();
        Bundle::open(&dir).unwrap();
        damage(&dir);
        let message = Bundle::open(&dir).unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "expected {expected:?}, got {message:?}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(&folder.path().join("vae")).unwrap();
    fs::write(folder.path().join("secret"), "png").unwrap();
    fs::remove_file(dir.join("samples.png")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), dir.join("samples.png")).unwrap();
    let message = Bundle::open(&dir).unwrap_err().to_string();
    assert!(message.contains("no file inside the bundle"), "{message}");
}

#[test]
fn card_and_manifest_read_well() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write(&folder.path().join("vae")).unwrap();
    insta::assert_snapshot!("card", fs::read_to_string(dir.join("README.md")).unwrap());
    insta::assert_snapshot!("manifest", fs::read_to_string(dir.join(MANIFEST)).unwrap());
}
