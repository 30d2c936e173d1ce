//! Bundles of small models, fresh from training: what the manifest says, what every runtime computes, and what tools that
//! share no code with this workspace find.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value as Json, json};
use zoo_deploy::{VerifyOptions, verify};
use zoo_sdk::{Array, RuntimeId};
use zoo_tests::{SMALL, registry, root, runtimes};

/// A bundle of each small model, made once for all tests here.
fn bundles() -> impl Iterator<Item = (&'static str, PathBuf)> {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for small in &SMALL {
            let place = folder.path().join(small.name);
            fs::create_dir(&place).unwrap();
            let exported = small.bundle(&place);
            assert!(exported.warnings.is_empty(), "{:?}", exported.warnings);
        }
        folder
    });
    SMALL
        .iter()
        .map(|small| (small.name, folder.path().join(small.name).join("bundle")))
}

fn manifest(bundle: &Path) -> Json {
    let text = fs::read_to_string(bundle.join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Replaces what depends on the machine's arithmetic: hashes of files, measured numbers.
fn redact(value: &mut Json) {
    match value {
        Json::String(text) if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) => {
            *value = json!("[sha256]");
        }
        Json::Array(items) => items.iter_mut().for_each(redact),
        Json::Object(fields) => {
            for (key, value) in fields {
                match value.as_object_mut().filter(|_| key == "metrics") {
                    Some(metrics) => metrics.values_mut().for_each(|v| {
                        assert!(v.is_f64(), "{v}");
                        *v = json!("[number]");
                    }),
                    None if key == "max_abs" || key == "max_rel" => *value = json!("[number]"),
                    None => redact(value),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn manifests_read_as_before() {
    for (name, bundle) in bundles() {
        let mut manifest = manifest(&bundle);
        redact(&mut manifest);
        let text = serde_json::to_string_pretty(&manifest).unwrap();
        insta::assert_snapshot!(format!("{name}-manifest"), text);
    }
}

#[test]
fn every_runtime_computes_what_candle_computes() {
    let present: BTreeSet<RuntimeId> = runtimes().iter().map(|r| r.id()).collect();
    for (name, bundle) in bundles() {
        let verified = verify(&registry(), &VerifyOptions::new(&bundle), &mut |_| {}).unwrap();
        assert!(verified.ok, "{name}:\n{verified}");
        assert_eq!(verified.reference, RuntimeId::Candle.name());
        let compared = verified.results.iter().map(|row| {
            let place = (row.graph.clone(), row.output.clone());
            (place, row.runtime.clone(), row.batch)
        });
        let compared: BTreeSet<_> = compared.collect();
        let graphs = manifest(&bundle)["graphs"].clone();
        for (graph, entry) in graphs.as_object().unwrap() {
            for output in entry["outputs"].as_array().unwrap() {
                let place = (graph.clone(), output["name"].as_str().unwrap().to_owned());
                for runtime in &present {
                    for batch in [1, 3, 7] {
                        let row = (place.clone(), runtime.clone(), batch);
                        assert!(compared.contains(&row), "{name}: {row:?} was left out");
                    }
                }
            }
        }
    }
}

/// Python with onnx and onnxruntime, as `tests/run` provides it.
fn python() -> Option<OsString> {
    let python = std::env::var_os("ZOO_TEST_PYTHON").filter(|python| !python.is_empty());
    if python.is_none() {
        println!("skipped: ZOO_TEST_PYTHON is not set; tests/run sets it up");
    }
    python
}

/// Exit status and report of the independent check.
fn check(python: &OsString, bundle: &Path) -> (bool, String) {
    let output = Command::new(python)
        .arg(root().join("tests/python/check_bundle.py"))
        .arg(bundle)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.success(), text)
}

#[test]
fn independent_tools_accept_every_file() {
    let Some(python) = python() else { return };
    for (name, bundle) in bundles() {
        let (ok, report) = check(&python, &bundle);
        assert!(ok, "{name}:\n{report}");
        for entry in fs::read_dir(bundle.join("onnx")).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            if file.ends_with(".onnx") {
                let line = format!("onnx/{file}: ok");
                assert!(
                    report.lines().any(|l| l == line),
                    "{name}: {line}\n{report}"
                );
            }
        }
    }
}

/// The check would be worth nothing if it passed everything.
#[test]
fn independent_tools_find_planted_damage() {
    let Some(python) = python() else { return };
    let (_, bundle) = bundles().next().unwrap();
    let planted = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("bundle");
        copy_folder(&bundle, &copy);
        change(&copy);
        let (ok, report) = check(&python, &copy);
        assert!(!ok, "{report}");
        report
    };

    let report = planted(&|copy| {
        let file = copy.join("onnx/test_data_set_1/decode/output_0.pb");
        let (name, array) = zoo_onnx::tensor_from_pb(&fs::read(&file).unwrap()).unwrap();
        let mut values = array.as_f32().unwrap().to_vec();
        values[5] += 0.01;
        let changed = Array::f32(array.shape(), values).unwrap();
        fs::write(&file, zoo_onnx::tensor_to_pb(&name, &changed)).unwrap();
    });
    for judge in ["onnxruntime", "onnx.reference"] {
        let finding = format!("test_data_set_1: {judge}: x differs by 0.0");
        assert!(report.contains(&finding), "{report}");
    }

    let report = planted(&|copy| {
        let file = copy.join("onnx/encode.onnx");
        let mut graph = zoo_onnx::decode(&fs::read(&file).unwrap()).unwrap().graph;
        graph.nodes.pop();
        fs::write(&file, zoo_onnx::encode(&graph, &[])).unwrap();
    });
    assert!(report.contains("onnx/encode.onnx: checker:"), "{report}");
    assert!(report.contains("onnx/decode.onnx: ok"), "{report}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
