//! The main job by its commands: train, measure, draw, export, verify, time, look inside.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.

mod common;

use std::fs;

use common::Place;
use serde_json::Value as Json;
use zoo_data::npy::{read_npy, write_npy};
use zoo_sdk::{Array, GraphKind, RuntimeId};

fn keys(value: &Json) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value}"));
    object.keys().map(String::as_str).collect()
}

fn strings(value: &Json) -> Vec<&str> {
    let items = value.as_array().unwrap_or_else(|| panic!("{value}"));
    items.iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn a_vae_from_training_to_proof() {
    let place = Place::new();
    let said = place.train("run", &["--steps", "6", "--set", "data.valid=32"]);
    assert!(said.starts_with("trained vae to step 6"), "{said}");
    for file in [
        "config.toml",
        "metrics.jsonl",
        "loss.png",
        "best/model.safetensors",
    ] {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }
    assert_eq!(common::checkpoints(&place.path("run")), [2, 4, 6]);

    let measured = place.json(&["eval", "run", "--importance-samples", "4", "--json"]);
    assert_eq!(
        keys(&measured),
        [
            "model",
            "data",
            "split",
            "images",
            "binarization",
            "metrics",
            "seconds"
        ]
    );
    let metric = |name: &str| measured["metrics"][name].as_f64().unwrap();
    assert!(metric("elbo_nats") < 0.0);
    assert_eq!(measured["images"], 1000);
    let again = place.json(&[
        "eval",
        "run",
        "--importance-samples",
        "4",
        "--json",
        "--threads",
        "1",
    ]);
    assert_eq!(again["metrics"], measured["metrics"]);

    place.ok(&["sample", "run", "-n", "9", "--out", "grid.png"]);
    let png = fs::read(place.path("grid.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 500);

    let exported = place.ok(&["export", "run", "--out", "bundle"]);
    assert!(exported.contains("onnx/decode.onnx"), "{exported}");
    place.ok(&[
        "sample",
        "bundle",
        "-n",
        "9",
        "--runtime",
        "tract",
        "--out",
        "same.png",
    ]);
    assert!(place.path("same.png").is_file());
    let of_bundle = place.json(&["eval", "bundle", "--importance-samples", "4", "--json"]);
    assert_eq!(of_bundle["metrics"], measured["metrics"]);
    let said = place.ok(&["eval", "bundle"]);
    assert!(said.contains("(test, not binarised)"), "{said}");

    let verified = place.json(&["verify", "bundle", "--json"]);
    assert_eq!(keys(&verified), ["ok", "reference", "results"]);
    assert_eq!(verified["ok"], true);
    assert_eq!(verified["reference"], "candle");
    let rows = verified["results"].as_array().unwrap();
    for batch in [1, 3, 7] {
        let of = |r: &&Json| r["runtime"] == RuntimeId::Tract.name() && r["batch"] == batch;
        assert_eq!(
            rows.iter().filter(of).count(),
            6,
            "six outputs of five graphs"
        );
    }
    for key in [
        "graph", "variant", "runtime", "batch", "output", "max_abs", "max_rel", "ok", "error",
    ] {
        assert!(rows.iter().all(|row| row.get(key).is_some()), "{key}");
    }
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        assert!(
            rows.iter()
                .any(|row| row["runtime"] == RuntimeId::Ort.name())
        );
    }

    let timed = place.json(&[
        "bench",
        "bundle",
        "--runtime",
        "tract",
        "--time",
        "1ms",
        "--json",
    ]);
    let rows = timed["results"].as_array().unwrap();
    assert_eq!(rows.len(), 5 * 2);
    for row in rows {
        let figure = |key: &str| row[key].as_f64().unwrap();
        assert!(figure("ms_min") > 0.0 && figure("ms_min") <= figure("ms_median"));
        let expected = figure("batch") / figure("ms_median") * 1e3;
        assert!((figure("images_per_s") - expected).abs() < 1e-6 * expected);
    }
    assert_eq!(
        keys(&rows[0]),
        [
            "graph",
            "runtime",
            "device",
            "batch",
            "threads",
            "ms_median",
            "ms_min",
            "images_per_s"
        ]
    );
}

#[test]
fn a_gan_from_training_to_proof() {
    let place = Place::new();
    place.ok(&[
        "train",
        "gan",
        "--data",
        "fashion-small",
        "--out",
        "run",
        "--steps",
        "3",
        "--set",
        "latent=6",
        "--set",
        "channels=8",
        "--set",
        "data.limit=192",
    ]);
    place.ok(&["sample", "run", "-n", "4", "--out", "grid.png"]);
    place.ok(&["export", "run", "--out", "bundle"]);
    assert_eq!(place.json(&["verify", "bundle", "--json"])["ok"], true);
    let measured = place.json(&["eval", "run", "--json"]);
    assert_eq!(measured["model"], "gan");
}

#[test]
fn a_map_between_images_from_training_to_proof() {
    let place = Place::new();
    let train = |model: &'static str, out: &'static str, degrade: &'static str| {
        let data = [
            "train",
            model,
            "--data",
            "fashion-small",
            "--out",
            out,
            "--steps",
            "4",
        ];
        let small = ["--set", "data.limit=64", "--set", degrade];
        [&data[..], &small].concat()
    };
    let mut small = train("super-resolution", "run", "data.degrade=shrink 3");
    small.extend(["--set", "channels=4", "--set", "blocks=1"]);
    place.ok(&small);
    let measured = place.json(&["eval", "run", "--json"]);
    let expected = ["psnr", "psnr_bicubic", "ssim", "ssim_bicubic"];
    assert_eq!(keys(&measured["metrics"]), expected);
    place.ok(&["export", "run", "--out", "bundle"]);
    assert!(place.path("bundle/samples.png").is_file());
    let of_bundle = place.json(&["eval", "bundle", "--json"]);
    assert_eq!(of_bundle["metrics"], measured["metrics"]);

    // One file serves every size, on every runtime.
    let verified = place.json(&["verify", "bundle", "--json"]);
    assert_eq!(verified["ok"], true);
    let rows = verified["results"].as_array().unwrap();
    let sizes: Vec<&Json> = rows.iter().map(|row| &row["sizes"]).collect();
    assert!(sizes.iter().all(|s| s["H"] != s["W"]) && sizes.iter().any(|s| *s != sizes[0]));
    let timed = place.json(&[
        "bench",
        "bundle",
        "--runtime",
        "tract",
        "--time",
        "1ms",
        "--batch",
        "1",
        "--size",
        "H=9",
        "--json",
    ]);
    assert_eq!(
        timed["results"][0]["sizes"],
        serde_json::json!({"H": 9, "W": 64})
    );
    let photo = image::RgbImage::from_fn(17, 11, |x, y| image::Rgb([(x * y) as u8; 3]));
    photo.save(place.path("photo.png")).unwrap();
    place.ok(&["translate", "run", "photo.png", "--out", "candle.png"]);
    place.ok(&["translate", "bundle", "photo.png", "--out", "tract.png"]);
    let large = |name: &str| image::open(place.path(name)).unwrap().to_luma8();
    let (candle, tract) = (large("candle.png"), large("tract.png"));
    assert_eq!(candle.dimensions(), (51, 33));
    let apart = candle
        .iter()
        .zip(tract.iter())
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    assert!(apart <= Some(1), "{apart:?}");

    // Who asks for pairs, and who has no use for them.
    let refused = |args: &[&str]| {
        let ended = place.run(args);
        assert_eq!(ended.code, 2, "{args:?}");
        ended.stderr
    };
    let error = refused(&train("super-resolution", "none", "data.degrade="));
    assert!(error.contains("holds no pairs"), "{error}");
    let error = refused(&train("vae", "vae", "data.degrade=shrink 2"));
    assert!(error.contains("data.degrade makes pairs"), "{error}");
    let error = refused(&[
        "translate",
        "pretrained:vae-fashion",
        "photo.png",
        "--out",
        "x.png",
    ]);
    assert!(error.contains("does not map images to images"), "{error}");
    let error = refused(&["sample", "bundle", "--out", "x.png"]);
    assert!(error.contains("zoo translate"), "{error}");
    assert!(!place.path("none").exists() && !place.path("vae").exists());
}

#[test]
fn one_onnx_file() {
    let place = Place::new();
    place.train("run", &["--steps", "2"]);
    place.ok(&["export", "run", "--out", "bundle"]);
    let seen = place.json(&["inspect", "bundle/onnx/decode.onnx", "--json"]);
    assert_eq!(seen["opset"], 17);
    assert_eq!(seen["inputs"][0]["name"], "z");
    assert_eq!(seen["problem"], Json::Null);
    let text = place.ok(&["inspect", "bundle/onnx/decode.onnx"]);
    assert!(
        text.contains("standard normal noise") && text.contains("Gemm(%z"),
        "{text}"
    );

    let z = Array::f32([3, 2], [0.0, 0.0, 1.0, -1.0, 0.5, 2.0]).unwrap();
    write_npy(&place.path("z.npy"), &z).unwrap();
    let file = "bundle/onnx/decode.onnx";
    let report = place.json(&[
        "run", file, "--input", "z=z.npy", "--out", "tract", "--json",
    ]);
    assert_eq!(report["outputs"][0]["name"], "x");
    let x = read_npy(&place.path("tract/x.npy")).unwrap();
    assert_eq!(x.shape(), [3, 1, 28, 28]);
    assert!(x.as_f32().unwrap().iter().all(|v| (0.0..=1.0).contains(v)));
    assert!(place.path("tract/x.png").is_file());
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        place.ok(&[
            "run",
            file,
            "--input",
            "z=z.npy",
            "--out",
            "ort",
            "--runtime",
            "ort",
        ]);
        let other = read_npy(&place.path("ort/x.npy")).unwrap();
        let pairs = x.to_f64().into_iter().zip(other.to_f64());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn drawing_is_timed_and_shown() {
    let place = Place::new();
    let timed = place.json(&[
        "bench-sample",
        "pixelcnn",
        "--set=model.channels=4",
        "--set=model.blocks=1",
        "--pixels=6,8",
        "--batch=2",
        "--runtime=candle,tract",
        "--time=1ms",
        "--json",
    ]);
    let rows = timed["results"].as_array().unwrap();
    let seen: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row["pixels"], row["runtime"], row["form"]))
        .collect();
    let forms = [
        r#""candle" "eager""#,
        r#""tract" "steps""#,
        r#""tract" "graph""#,
    ];
    let expected = ["6", "8"].map(|pixels| forms.map(|form| format!("{pixels} {form}")));
    assert_eq!(seen, expected.concat());
    for row in rows {
        assert_eq!(row["same_images"], 2, "{row}");
        assert!(row["cached_ms"].as_f64() > Some(0.0), "{row}");
        assert!(row["naive_ms"].as_f64() > Some(0.0), "{row}");
    }

    let bundle = "pretrained:pixelcnn-fashion";
    let said = place.ok(&["eval", bundle]);
    assert!(said.contains("(test, binarised: threshold)"), "{said}");
    place.ok(&["sample", bundle, "-n", "4", "--out", "drawing.gif"]);
    let gif = fs::read(place.path("drawing.gif")).unwrap();
    assert!(gif.starts_with(b"GIF89a"));
    let models = place.json(&["models", "--json"]);
    let mut models = models.as_array().unwrap().iter();
    let pixelcnn = models.find(|model| model["name"] == "pixelcnn").unwrap();
    let bundles = strings(&pixelcnn["pretrained"]);
    assert_eq!(bundles, ["pixelcnn-fashion", "pixelcnn-mnist"]);
}

#[test]
fn lists_for_programs() {
    let place = Place::new();
    let models = place.json(&["models", "--json"]);
    for model in models.as_array().unwrap() {
        assert_eq!(
            keys(model),
            [
                "name",
                "family",
                "density",
                "task",
                "paper",
                "graphs",
                "pretrained"
            ]
        );
    }
    let mut models = models.as_array().unwrap().iter();
    let vae = models.find(|model| model["name"] == "vae").unwrap();
    assert!(strings(&vae["graphs"]).contains(&GraphKind::LogProb.name()));
    let described = place.json(&["describe", "gan", "--json"]);
    assert_eq!(described["name"], "gan");
    assert!(described["model_schema"]["properties"]["latent"].is_object());

    let info = place.json(&[
        "data",
        "info",
        "fashion-small",
        "--json",
        "--out",
        "all.png",
    ]);
    assert_eq!(info["splits"][0]["images"], 5000);
    assert!(place.path("all.png").is_file());
    place.ok(&[
        "data",
        "import",
        "fashion-small",
        "--set",
        "data.limit=20",
        "--out",
        "few.npz",
    ]);
    assert_eq!(
        place.json(&["data", "info", "few.npz", "--json"])["splits"][0]["images"],
        20
    );

    let doctor = place.json(&["doctor", "--json"]);
    let names: Vec<_> = doctor["runtimes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    for runtime in [RuntimeId::Tract, RuntimeId::Ort] {
        assert!(names.iter().any(|n| *n == runtime.name()), "{runtime}");
    }
}

#[test]
fn quiet_means_quiet() {
    let place = Place::new();
    let ended = place.run(&common::train_args("run", &["--steps", "2", "-q"]));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let finished = place.ok(&["train", "vae", "--out", "run", "--resume"]);
    assert!(
        finished.contains("finished already at step 2"),
        "{finished}"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let place = Place::new();
    let train = |run: &str, more: &[&str]| {
        place.train(run, &[&["--steps", "7"], more].concat());
        fs::read(place.path(run).join("checkpoints/7/model.safetensors")).unwrap()
    };
    let one = train("one", &["--threads", "1", "--seed", "5"]);
    assert!(
        one == train("two", &["--threads", "2", "--seed", "5"]),
        "two threads"
    );
    assert!(one == train("again", &["--seed", "5"]), "the same again");
    assert!(one != train("other", &["--seed", "6"]), "another seed");
}
