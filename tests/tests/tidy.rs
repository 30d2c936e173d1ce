//! Rules of the workspace that a compiler does not know. See ARCHITECTURE.md.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "tidy/architecture.rs"]
mod architecture;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/vocabulary.rs"]
mod vocabulary;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The crates of the workspace, as cargo sees them.
fn packages() -> Vec<serde_json::Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The folder of each crate.
fn package_folders() -> Vec<PathBuf> {
    let manifest = |package: &serde_json::Value| {
        let path = Path::new(package["manifest_path"].as_str().unwrap());
        path.parent().unwrap().to_path_buf()
    };
    packages().iter().map(manifest).collect()
}

/// Direct dependencies of each workspace crate on other workspace crates, without dev-dependencies.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let packages = packages();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    let dependencies = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|d| d["kind"].is_null())
            .map(|d| d["name"].as_str().unwrap().to_string())
            .filter(|d| names.contains(d.as_str()))
            .collect()
    };
    packages
        .iter()
        .map(|p| (p["name"].as_str().unwrap().to_string(), dependencies(p)))
        .collect()
}

/// What each crate may depend on. Plugins are all alike.
fn allowed(name: &str, plugins: &BTreeSet<String>) -> BTreeSet<String> {
    let set = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<BTreeSet<_>>();
    match name {
        "zoo-files" | "zoo-graph" | "zoo-kernels" => set(&[]),
        "zoo-sdk" => set(&["zoo-files", "zoo-graph"]),
        "zoo-onnx" => set(&["zoo-files", "zoo-graph"]),
        "zoo-nn" => set(&["zoo-graph", "zoo-sdk", "zoo-kernels"]),
        "zoo-runtimes" => set(&["zoo-files", "zoo-graph", "zoo-sdk"]),
        "zoo-conformance" => set(&["zoo-graph", "zoo-sdk", "zoo-onnx", "zoo-runtimes"]),
        "zoo-data" => set(&["zoo-files", "zoo-sdk"]),
        "zoo-pictures" => set(&["zoo-data", "zoo-files", "zoo-sdk"]),
        "zoo-runs" => set(&[
            "zoo-data",
            "zoo-files",
            "zoo-onnx",
            "zoo-pictures",
            "zoo-sdk",
        ]),
        "zoo-deploy" => {
            &allowed("zoo-runs", plugins) | &set(&["zoo-graph", "zoo-runs", "zoo-runtimes"])
        }
        "zoo-bench" => set(&["zoo-graph", "zoo-sdk", "zoo-kernels", "zoo-nn"]),
        "zoo" => {
            let own = [
                "zoo-bench",
                "zoo-conformance", // for `zoo plugin check`
                "zoo-deploy",
                "zoo-nn", // only to switch on its devices
            ];
            &(&allowed("zoo-deploy", plugins) | &set(&own)) | plugins
        }
        "zoo-tests" => arrows().into_keys().collect(),
        plugin if plugins.contains(plugin) => set(&["zoo-nn"]),
        other => panic!("{other} is a new crate: give it a place in ARCHITECTURE.md and here"),
    }
}

#[test]
fn crates_depend_downwards_only() {
    let folders = fs::read_dir(root().join("plugins"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let plugins: BTreeSet<String> = folders.map(|folder| format!("zoo-{folder}")).collect();
    for (name, dependencies) in arrows() {
        let allowed = allowed(&name, &plugins);
        let wrong: Vec<_> = dependencies.difference(&allowed).collect();
        assert!(
            wrong.is_empty(),
            "{name} must not depend on {wrong:?}: see ARCHITECTURE.md"
        );
    }
}

/// All Rust files outside target folders.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["zoo", "plugins", "exporters", "tests"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the walk finds the sources");
    found
}

#[test]
fn unsafe_code_stays_in_its_crates() {
    // In zoo-sdk for the C ABI, in zoo-kernels for SIMD. `unsafe_code` is denied elsewhere; this catches an `allow`.
    for (path, text) in sources() {
        let exempt = path.starts_with("zoo/sdk")
            || path.starts_with("zoo/kernels")
            || path.ends_with("tests/tidy.rs");
        assert!(
            exempt || !text.contains("allow(unsafe_code)"),
            "{} allows unsafe code",
            path.display()
        );
    }
}

#[test]
fn nothing_is_unfinished() {
    let marks = ["TODO", "FIXME", "todo!(", "unimplemented!(", "XXX"];
    for (path, text) in sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("tests/tidy.rs"))
    {
        for mark in marks {
            assert!(!text.contains(mark), "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn files_are_one_subject_long() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(
            lines <= 650,
            "{} has {lines} lines: is it one subject?",
            path.display()
        );
    }
}

#[test]
fn models_contain_no_export_code() {
    // Promise 1: a network is written once. A plugin records graphs only through the operations of zoo-nn.
    for (path, text) in sources().into_iter().filter(|(path, _)| {
        path.starts_with("plugins") && !path.to_string_lossy().contains("/tests/")
    }) {
        for word in ["zoo_onnx", "zoo_graph", "zoo_runtimes", "NodeProto"] {
            assert!(!text.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn every_plugin_is_documented_and_built_in() {
    let builtins = fs::read_to_string(root().join("zoo/cli/src/builtins.rs")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for entry in fs::read_dir(root().join("plugins")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        for file in [
            "README.md",
            "default.toml",
            "src/lib.rs",
            "tests/conformance.rs",
        ] {
            assert!(folder.join(file).is_file(), "plugins/{name} has no {file}");
        }
        assert!(
            builtins.contains(&format!("zoo_{}", name.replace('-', "_"))),
            "zoo/cli/src/builtins.rs does not list plugins/{name}"
        );
        assert!(
            readme.contains(&format!("plugins/{name}")),
            "README.md does not link to plugins/{name}"
        );
    }
}
