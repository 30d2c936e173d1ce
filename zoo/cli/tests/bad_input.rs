//! Bad usage and bad input: exit code 2 and a message that names what is wrong and the way out; nothing is lost.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.

mod common;

use std::{fs, path::Path, process::Stdio};

use common::{Place, checkpoints, train_args};
use zoo_data::npy::write_npy;
use zoo_sdk::{Array, PortRole};

/// Runs each line of arguments and gives what was said, as a transcript. Each must end with exit code 2, and say nothing on
/// standard output.
#[track_caller]
fn transcript<S: AsRef<str>>(place: &Place, lines: &[S]) -> String {
    let mut text = String::new();
    for line in lines {
        let line = line.as_ref();
        let args: Vec<&str> = line.split(' ').collect();
        let ended = place.run(&args);
        let said = place.redacted(&ended.stderr);
        assert_eq!(ended.code, 2, "zoo {line}\n{}{said}", ended.stdout);
        assert_eq!(ended.stdout, "", "zoo {line}");
        assert!(said.contains("error: "), "zoo {line}\n{said}");
        text.push_str(&format!("$ zoo {line}\n{}\n", said.trim_end()));
        text.push('\n');
    }
    text
}

#[test]
fn usage() {
    let place = Place::new();
    place.ok(&[
        "sample",
        "pretrained:vae-fashion",
        "-n",
        "1",
        "--out",
        "grid.png",
    ]);
    let lines = [
        "trian vae",
        "train vae",
        "train vae --out run",
        "train vea --data fashion-small --out run",
        "train vae --data fashion-small --out run --steps many",
        "train vae --data fashion-small --out run --steps 2 --epochs 2",
        "train vae --data fashion-small --out run --max-time soon",
        "train vae --data fashion-small --out run --set latent",
        "train vae --data fashion-small --out run --threads 0",
        "train vae --data fashion-small --out run --device gpu",
        "train vae --data fashion-small --out run --device cuda:0",
        "train vae --data fashion-small --out run --resume --init-from elsewhere",
        "describe pixelcn",
        "sample run -n 0 --out grid.png",
        "sample run --out nowhere/grid.png",
        "sample pretrained:pixelcnn-mnits --out grid.png",
        "sample pretrained:vae-fashion -n 1 --out vae.gif",
        "sample pretrained:vae-fashion --out grid.jpg",
        "sample pretrained:vae-fashion --given grid.png --mask grid.png --out completed.png",
        "sample pretrained:pixelcnn-fashion --given grid.png --out completed.png",
        "sample pretrained:pixelcnn-fashion --given nowhere.png --mask grid.png --out completed.png",
        "sample pretrained:pixelcnn-fashion --given grid.png --mask grid.png --out completed.png",
        "bench-sample vae --pixels 8",
        "bench-sample nade --torch python3",
        "bench-sample pixelcnn --set data.size=9x9 --pixels 4",
        "bench-sample pixelcnn --set model.likelihood=softmax --pixels 4 --torch python3",
        "inspect nowhere.onnx",
        "completions tcsh",
        "runtime install torch",
    ];
    insta::assert_snapshot!(transcript(&place, &lines));
    assert!(!place.path("run").exists());
}

#[test]
fn settings() {
    let place = Place::new();
    let file = |name: &str, text: &str| fs::write(place.path(name), text).unwrap();
    file("broken.toml", "[model]\nlatent = = 2\n");
    file("unknown.toml", "[model]\nlatent = 2\nhiden = [16]\n");
    file("mistyped.toml", "[train]\nbatch = \"many\"\n");
    file("table.toml", "[trian]\nbatch = 64\n");
    file("other.toml", "plugin = \"gan\"\n");
    let set =
        |text: &str| format!("train vae --data fashion-small --out run --steps 1 --set {text}");
    let lines = [
        set("hiden=[16]"),
        set("train.lerning_rate=0.1"),
        set("data.binarisation=none"),
        set("data.binarization=sometimes"),
        set("latent=two"),
        set("latent=-2"),
        set("latent=0"),
        set("hidden=16"),
        set("arch=cnn"),
        set("train.batch=0"),
        set("train.learning_rate=nan"),
        set("train.ema=2"),
        set("data.valid=5000"),
        set("trian.batch=3"),
        set("data.size=0x3"),
        // 28 -> 14 -> 7 -> no integer.
        set("arch=conv --set channels=[4,8,16]"),
        "train gan --data fashion-small --out run --steps 1 --set doublings=3".into(),
        "train pixelcnn --data fashion-small --out run --steps 1 --set first_kernel=4".into(),
        "train pixelcnn --data fashion-small --out run --steps 1 --set likelihood=softmax".into(),
        "train vae --data fashion-small --out run --config missing.toml".into(),
        "train vae --data fashion-small --out run --config broken.toml".into(),
        "train vae --data fashion-small --out run --config unknown.toml".into(),
        "train vae --data fashion-small --out run --config mistyped.toml".into(),
        "train vae --data fashion-small --out run --config table.toml".into(),
        "train vae --data fashion-small --out run --config other.toml".into(),
    ];
    insta::assert_snapshot!(transcript(&place, &lines));
    assert!(!place.path("run/checkpoints").exists());
}

/// An IDX file of bytes with these dimensions in its head.
fn idx(dims: &[u32], bytes: usize) -> Vec<u8> {
    let mut file = vec![0, 0, 8, dims.len() as u8];
    file.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    file.extend(vec![7; bytes]);
    file
}

#[test]
fn data() {
    let place = Place::new();
    let folder = |name: &str, files: &[(&str, Vec<u8>)]| {
        fs::create_dir_all(place.path(name)).unwrap();
        for (file, bytes) in files {
            fs::write(place.path(name).join(file), bytes).unwrap();
        }
    };
    let labels = ("train-labels-idx1-ubyte", idx(&[2], 2));
    let images = |bytes| ("train-images-idx3-ubyte", bytes);
    folder("empty", &[]);
    folder("short", &[images(idx(&[2, 4, 4], 20)), labels.clone()]);
    folder("lying", &[images(idx(&[3, 4, 4], 48)), labels.clone()]);
    folder(
        "huge",
        &[
            images(idx(&[u32::MAX, u32::MAX, u32::MAX], 9)),
            labels.clone(),
        ],
    );
    folder(
        "photos",
        &[("cat.png", b"\x89PNG\r\n\x1a\n, and then nothing".to_vec())],
    );
    fs::write(place.path("broken.npz"), b"PK\x03\x04, and then nothing").unwrap();
    fs::write(place.path("notes.txt"), "no images").unwrap();
    let names = [
        "nowhere",
        "fashion-smal",
        "empty",
        "short",
        "lying",
        "huge",
        "photos",
        "broken.npz",
        "notes.txt",
    ];
    let mut lines: Vec<String> = names.map(|name| format!("data info {name}")).into();
    lines.extend([
        "data info fashion-small --split valid".into(),
        "data info fashion-small --set data.limit=many".into(),
        "data info fashion-small --set latent=2".into(),
        "data import fashion-small --out notes.txt".into(),
        "train vae --data short --out run".into(),
    ]);
    insta::assert_snapshot!(transcript(&place, &lines));
    assert_eq!(
        fs::read_to_string(place.path("notes.txt")).unwrap(),
        "no images"
    );
    assert!(!place.path("run").exists());
}

#[test]
fn runs() {
    let place = Place::new();
    place.train("run", &["--steps", "4"]);
    fs::create_dir(place.path("thesis")).unwrap();
    fs::write(place.path("thesis/chapter.tex"), "mine").unwrap();
    fs::write(place.path("file"), "mine").unwrap();
    let lines = [
        "train vae --data fashion-small --out run --steps 9",
        "train vae --data fashion-small --out thesis --steps 1",
        "train vae --data fashion-small --out file --steps 1",
        "train vae --out run --resume --steps 9 --set latent=3",
        "train gan --out run --resume --steps 9",
        "train vae --data fashion-small --out new --init-from nowhere",
        "train vae --data fashion-small --out new --init-from run",
        "eval nowhere",
        "eval thesis",
        "eval file",
        "eval run --split holdout",
        "eval run --weights best",
        "eval run --weights ema",
        "eval run --weights newest",
        "sample run --label 3 --out grid.png",
        "sample run --runtime torch --out grid.png",
        "sample run --out nowhere/grid.png",
        "export run --out thesis",
        "export run --out new --target tensorflow",
        "verify run",
    ];
    insta::assert_snapshot!(transcript(&place, &lines));
    assert_eq!(checkpoints(&place.path("run")), [2, 4]);
    assert_eq!(fs::read_dir(place.path("thesis")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "mine");
}

/// Changes a byte in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

#[test]
fn damaged_checkpoints() {
    let place = Place::new();
    place.train("run", &["--steps", "6"]);
    place.train("whole", &["--steps", "8"]);
    let file = |step: u64, name: &str| place.path(&format!("run/checkpoints/{step}/{name}"));
    let weights =
        |run: &str| fs::read(place.path(run).join("checkpoints/8/model.safetensors")).unwrap();

    // The newest is damaged: the one before it is used, and that is said.
    damage(&file(6, "model.safetensors"));
    let measured = place.run(&["eval", "run", "--json"]);
    assert_eq!(measured.code, 0, "{}", measured.stderr);
    let resumed = place.run(&train_args("run", &["--steps", "8", "--resume"]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    let said = place.redacted(&format!("{}\n{}", measured.stderr, resumed.stderr));
    let warned: Vec<&str> = said.lines().filter(|l| l.starts_with("warning:")).collect();
    insta::assert_snapshot!("damaged-newest", warned.join("\n"));
    assert!(said.contains("going on from step 4"), "{said}");
    assert!(weights("run") == weights("whole"), "the weights differ");

    // All are damaged: nothing is guessed, nothing is deleted.
    for step in checkpoints(&place.path("run")) {
        damage(&file(step, "state.json"));
    }
    let before = checkpoints(&place.path("run"));
    let lines = [
        "eval run",
        "sample run --out grid.png",
        "export run --out bundle",
        "train vae --out run --resume --steps 9",
    ];
    insta::assert_snapshot!("damaged-all", transcript(&place, &lines));
    assert_eq!(checkpoints(&place.path("run")), before);
}

#[test]
fn a_run_in_use() {
    let place = Place::new();
    let mut child = place
        .command(&train_args(
            "run",
            &["--steps", "1000000", "--set", "train.checkpoint_every=1000"],
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !place.path("run/metrics.jsonl").exists() && std::time::Instant::now() < limit {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        transcript(&place, &["train vae --out run --resume"])
    }));
    child.kill().unwrap();
    child.wait().unwrap();
    insta::assert_snapshot!(said.unwrap());
    // Whoever is gone holds nothing.
    assert_eq!(
        place
            .run(&train_args("run", &["--steps", "2", "--resume"]))
            .code,
        0
    );
}

/// Replaces a file of a bundle, with its hash in the manifest: a bundle that is whole, and wrong.
fn replace(bundle: &Path, name: &str, bytes: &[u8]) {
    let path = bundle.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let old = manifest["files"][name].as_str().unwrap();
    fs::write(&path, text.replace(old, &zoo_files::sha256(bytes))).unwrap();
    fs::write(bundle.join(name), bytes).unwrap();
}

#[test]
fn bundles() {
    let place = Place::new();
    place.train("run", &["--steps", "2"]);
    let make = |name: &str, change: &dyn Fn(&Path)| {
        place.ok(&["export", "run", "--out", name]);
        change(&place.path(name));
    };
    make("good", &|_| {});
    make("damaged", &|b| damage(&b.join("onnx/decode.onnx")));
    make("lacking", &|b| {
        fs::remove_file(b.join("onnx/encode.onnx")).unwrap()
    });
    make("newer", &|b| {
        let file = b.join("manifest.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(
            file,
            text.replace("\"schema_version\": 1", "\"schema_version\": 9"),
        )
        .unwrap();
    });
    make("broken", &|b| {
        fs::write(b.join("manifest.json"), "{\"schema").unwrap()
    });
    make("outside", &|b| {
        let file = b.join("manifest.json");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("onnx/decode.onnx", "../../decode.onnx")).unwrap();
    });
    let lines = [
        "verify nowhere",
        "verify damaged",
        "sample damaged --out grid.png",
        "bench damaged",
        "eval damaged",
        "verify lacking",
        "verify newer",
        "verify broken",
        "verify outside",
        "verify good --runtime torch",
        "verify good --runtime tract --device cuda:0",
        "verify good --runtime tract --device gpu",
        "verify good --runtime ort --ort /nonexistent/libonnxruntime.so",
        "verify good --batch 0",
        "bench good --runtime torch",
        "train vae --out good --data fashion-small",
    ];
    insta::assert_snapshot!(transcript(&place, &lines));
}

#[test]
fn graphs_with_other_ports_than_the_manifest_says() {
    let place = Place::new();
    place.train("run", &["--steps", "2"]);
    place.ok(&["export", "run", "--out", "bundle"]);
    let bundle = place.path("bundle");
    let file = "onnx/decode.onnx";
    let original = fs::read(bundle.join(file)).unwrap();
    let graph = zoo_onnx::decode(&original).unwrap().graph;
    let mut text = String::new();
    let mut say = |what: &str| {
        let ended = place.run(&["verify", "bundle", "--runtime", "tract"]);
        assert_eq!(ended.code, 2, "{what}");
        let all = place.redacted(&format!("{}{}", ended.stdout, ended.stderr));
        let lines = all
            .lines()
            .filter(|l| l.contains("FAILED") || l.contains("error"));
        text.push_str(&format!("{what}: exit code {}\n", ended.code));
        lines.for_each(|line| text.push_str(&format!("{line}\n")));
    };

    let mut other = graph.clone();
    for port in other
        .inputs
        .iter_mut()
        .filter(|p| p.role() == PortRole::Latent)
    {
        port.name = "latent".into();
    }
    for node in &mut other.nodes {
        for input in node
            .inputs
            .iter_mut()
            .filter(|i| *i == PortRole::Latent.name())
        {
            *input = "latent".into();
        }
    }
    let ty = other.types.remove("z").unwrap();
    other.types.insert("latent".into(), ty);
    replace(&bundle, file, &zoo_onnx::encode(&other, &[]));
    say("another name");

    let mut other = graph.clone();
    other.inputs[0].shape[1] = 3.into();
    other.types.get_mut("z").unwrap().shape[1] = 3.into();
    replace(&bundle, file, &zoo_onnx::encode(&other, &[]));
    say("another shape");

    let mut other = graph.clone();
    other.inputs[0].dtype = zoo_sdk::DType::I64;
    other.types.get_mut("z").unwrap().dtype = zoo_sdk::DType::I64;
    replace(&bundle, file, &zoo_onnx::encode(&other, &[]));
    say("another element type");

    insta::assert_snapshot!(text);
}

#[test]
fn onnx_files() {
    let place = Place::new();
    place.train("run", &["--steps", "2"]);
    place.ok(&["export", "run", "--out", "bundle"]);
    let bytes = fs::read(place.path("bundle/onnx/decode.onnx")).unwrap();
    fs::write(place.path("decode.onnx"), &bytes).unwrap();
    fs::write(place.path("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(place.path("text.onnx"), "no model at all").unwrap();
    fs::write(place.path("none.onnx"), "").unwrap();
    let npy = |name: &str, array: &Array| write_npy(&place.path(name), array).unwrap();
    npy("z.npy", &Array::f32([2, 2], [0.0; 4]).unwrap());
    npy("whole.npy", &Array::i64([2, 2], [0; 4]).unwrap());
    npy("wide.npy", &Array::f32([2, 3], [0.0; 6]).unwrap());
    npy("flat.npy", &Array::f32([2], [0.0; 2]).unwrap());
    let z = fs::read(place.path("z.npy")).unwrap();
    fs::write(place.path("cut.npy"), &z[..z.len() - 3]).unwrap();
    fs::write(place.path("text.npy"), "0 0 0 0").unwrap();
    let mut lines: Vec<String> = [
        "nowhere.onnx",
        "text.onnx",
        "none.onnx",
        "cut.onnx",
        "bundle",
    ]
    .map(|file| format!("inspect {file}"))
    .into();
    let inputs = [
        "y=z.npy",
        "z=nowhere.npy",
        "z=whole.npy",
        "z=wide.npy",
        "z=flat.npy",
        "z=cut.npy",
        "z=text.npy",
        "z",
    ];
    lines.extend(inputs.map(|input| format!("run decode.onnx --input {input} --out out")));
    lines.extend([
        "run decode.onnx --out out".into(),
        "run decode.onnx --input z=z.npy --input z=z.npy --out out".into(),
        "run decode.onnx --input z=z.npy --out out --runtime torch".into(),
        "run decode.onnx --input z=z.npy --out z.npy".into(),
        "run cut.onnx --input z=z.npy --out out".into(),
    ]);
    insta::assert_snapshot!(transcript(&place, &lines));
}
