//! The author's guide in zoo/sdk/README.md, followed as it stands.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Instant};

use serde_json::Value as Json;

use super::{Place, cargo, ok, root, workspace};

/// The lines after `$ ` in the author's guide.
fn guide() -> Vec<String> {
    let readme = fs::read_to_string(root().join("zoo/sdk/README.md")).unwrap();
    let (_, guide) = readme.split_once("\n## The author's guide\n").unwrap();
    let (guide, _) = guide.split_once("\n## ").unwrap();
    let steps = (1..).take_while(|i| guide.contains(&format!("\n{i}. ")));
    assert_eq!(steps.count(), 8, "the guide has eight steps");
    let lines = guide
        .lines()
        .filter_map(|line| line.trim().strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_authors_guide_knows_the_commands() {
    let lines = guide();
    assert!(lines.len() > 8, "{lines:?}");
    for line in lines.iter().filter(|line| line.starts_with("zoo ")) {
        // Whatever comes before --help must be understood.
        let words: Vec<&str> = line.split_whitespace().skip(1).chain(["--help"]).collect();
        assert!(Place::new().ok(&words).contains("Usage: zoo"), "{line}");
    }
}

/// An author waits some minutes for the first build. Here it would be another build of candle and tract for no other reason
/// than that the author's crate alone asks for fewer of their features than the workspace does. So the crate gets one
/// dependency that does nothing but ask for the same: an empty crate with the union of the workspace's dependencies. What
/// the workspace has built is then found in its target folder, and only zoo's own crates are compiled again.
fn ask_for_the_same_features(beside: &Path) {
    let mut metadata = cargo();
    metadata.args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]);
    let metadata: Json = serde_json::from_str(&ok(metadata.current_dir(root()))).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours = |name: &Json| packages.iter().any(|package| package["name"] == *name);
    let mut tables: BTreeMap<String, (Vec<Json>, bool)> = BTreeMap::new();
    for dependency in packages
        .iter()
        .flat_map(|package| package["dependencies"].as_array().unwrap())
        .filter(|dependency| !ours(&dependency["name"]))
    {
        let kind = match dependency["kind"].as_str() {
            Some("build") => "build-dependencies",
            _ => "dependencies",
        };
        let target = match dependency["target"].as_str() {
            Some(target) => format!("target.{target:?}."),
            None => String::new(),
        };
        let name = dependency["name"].as_str().unwrap();
        let table = format!("[{target}{kind}.{name}]\nversion = {}", dependency["req"]);
        let (features, defaults) = tables.entry(table).or_default();
        features.extend(dependency["features"].as_array().unwrap().iter().cloned());
        *defaults |= dependency["uses_default_features"] == true;
    }
    let mut manifest = String::from("[package]\nname = \"same-features\"\nedition = \"2024\"\n");
    for (table, (features, defaults)) in tables {
        let features = Json::from(features);
        manifest += &format!("{table}\ndefault-features = {defaults}\nfeatures = {features}\n");
    }
    let folder = beside.parent().unwrap().join("same-features");
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    let path = beside.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).unwrap();
    let (before, after) = manifest.split_once("[dependencies]\n").unwrap();
    let added = "same-features = { path = \"../same-features\" }";
    fs::write(&path, format!("{before}[dependencies]\n{added}\n{after}")).unwrap();
    // The same versions, too.
    fs::copy(root().join("Cargo.lock"), beside.join("Cargo.lock")).unwrap();
    let target = workspace().parent().unwrap();
    std::os::unix::fs::symlink(target, beside.join("target")).unwrap();
}

/// Runs a line of a guide as its reader does, in `folder`, with the program that was built here; gives what it said.
fn follow(place: &Place, folder: &Path, line: &str) -> String {
    let mut path = vec![workspace().to_path_buf()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let start = Instant::now();
    let mut command = Command::new("sh");
    command
        .current_dir(folder)
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("ZOO_DATA_DIR", place.0.path().join("data"))
        .env("CARGO_NET_OFFLINE", "true")
        .env_remove("CARGO_TARGET_DIR");
    let said = if line == "cargo test" {
        // Standard error too: it tells which runtimes were left out.
        let said = ok(command.args(["-e", "-c", "cargo test 2>&1"]));
        assert!(said.contains("test conforms ... ok"), "{said}");
        assert!(said.contains("not compared on candle-onnx: "), "{said}");
        said
    } else {
        ok(command.args(["-e", "-c", line]))
    };
    // Shown with `--nocapture`.
    print(&format!("{:6.1} s  {line}", start.elapsed().as_secs_f64()));
    said
}

#[test]
fn the_authors_guide_is_true() {
    let place = Place::new();
    let mut folder = place.0.path().to_path_buf();
    for line in guide() {
        if let Some(below) = line.strip_prefix("cd ") {
            folder.push(below);
            ask_for_the_same_features(&folder);
            continue;
        }
        follow(&place, &folder, &line);
    }
    assert!(folder.join("grid.png").is_file() && folder.join("bundles/first/README.md").is_file());
}

/// A model that is drawn by more than noise: how many steps its sampler takes is told.
#[test]
fn an_example_outside_the_workspace_draws_in_as_many_steps_as_told() {
    let place = Place::new();
    let folder = place.0.path().join("rectified-flow");
    let from = root().join("tests/third-party/rectified-flow");
    for file in [
        "Cargo.toml",
        "default.toml",
        "src/lib.rs",
        "tests/conformance.rs",
    ] {
        let text = fs::read_to_string(from.join(file)).unwrap();
        let to = folder.join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let root = root().display().to_string();
        fs::write(to, text.replace("\"../../../", &format!("\"{root}/"))).unwrap();
    }
    ask_for_the_same_features(&folder);
    let library = format!(
        "target/debug/{}rectified_flow{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let zoo = |line: &str| follow(&place, &folder, &format!("zoo --plugin {library} {line}"));
    follow(&place, &folder, "cargo test");
    follow(&place, &folder, "cargo build");
    follow(
        &place,
        &folder,
        &format!("zoo plugin check {library} --set channels=4 --set waves=3"),
    );
    let small = "--data fashion-small --set data.limit=64 --set channels=4 --steps 2";
    zoo(&format!("train rectified-flow {small} --out run"));
    zoo("export run --out bundle --test-images 1");
    zoo("verify bundle --batch 1,2");
    let picture = |from: &str, more: &str| {
        zoo(&format!("sample {from} -n 2 {more} --out grid.png"));
        zoo_pictures::read_image(&folder.join("grid.png")).unwrap()
    };
    let eight = picture("run", "--input steps=8");
    assert_ne!(eight, picture("run", "--input steps=2"));
    assert_eq!(picture("run", ""), picture("run", "--input steps=64"));
    for runtime in zoo_tests::runtimes() {
        let on = format!("--input steps=8 --runtime {}", runtime.id());
        for from in ["run", "bundle"] {
            let other = picture(from, &on);
            let pairs = eight.to_f64().into_iter().zip(other.to_f64());
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            // A level of 256.
            assert!(largest <= 1.01 / 255.0, "{from} {on}: {largest}");
        }
    }
}

#[allow(clippy::print_stdout)]
fn print(text: &str) {
    println!("{text}");
}
