//! The trained bundles under `fixtures/pretrained`: each is whole, computes on every runtime what candle computes, and is as good as it says.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::PathBuf;

use zoo_host::pretrained::{self, Pretrained};
use zoo_host::run::{EvaluateOptions, evaluate};
use zoo_host::{SampleOptions, VerifyOptions, sample, verify};
use zoo_onnx::Bundle;
use zoo_sdk::{Data, Silent};
use zoo_tests::{registry, root, runtimes};

/// Only these: a developer's own data folder must change no test.
fn bundles() -> Vec<Pretrained> {
    let here = root().join("fixtures/pretrained").canonicalize().unwrap();
    let mut found = pretrained::pretrained();
    found.retain(|bundle| bundle.dir.starts_with(&here));
    let folders = fs::read_dir(&here).unwrap().flatten();
    let folders = folders.filter(|entry| entry.path().is_dir()).count();
    assert_eq!(
        found.len(),
        folders,
        "a folder that is no bundle, or is hidden by another of its name"
    );
    found
}

#[test]
fn every_model_has_one_of_the_embedded_data() {
    let known: Vec<String> = bundles().into_iter().map(|bundle| bundle.name).collect();
    for description in registry().descriptions() {
        let name = format!("{}-fashion", description.name);
        assert!(
            known.contains(&name),
            "{name} is missing: see fixtures/pretrained/make"
        );
    }
}

#[test]
fn bundles_compute_the_same_on_every_runtime() {
    for bundle in bundles() {
        let options = VerifyOptions {
            batches: vec![2],
            threads: 2,
            ..VerifyOptions::new(&bundle.dir)
        };
        let verified = verify(&registry(), &options, &mut |_| {}).unwrap();
        for row in &verified.results {
            assert!(row.ok, "{}: {row:?}", bundle.name);
        }
        for runtime in runtimes() {
            let name = runtime.name();
            let served = verified.results.iter().any(|row| row.runtime == name);
            assert!(served, "{}: {name} ran nothing", bundle.name);
        }
    }
}

#[test]
fn the_same_noise_draws_the_same_images() {
    for bundle in bundles() {
        if bundle.model == "pixelcnn-pp" {
            // One of 256 levels: noise may lie on an edge. The test above compares it on noise that does not.
            continue;
        }
        let opened = Bundle::open(&bundle.dir).unwrap();
        let draw = |runtime: &str| {
            let options = SampleOptions {
                count: 2,
                runtime: Some(runtime.to_owned()),
                threads: 1,
                ..SampleOptions::new(&bundle.dir)
            };
            let images = sample(&registry(), &options).unwrap().images;
            let Data::F32(values) = images.data() else {
                panic!("{}: no f32 images", bundle.name);
            };
            values.clone()
        };
        let expected = draw("candle");
        for runtime in runtimes().iter().map(|runtime| runtime.name()) {
            if opened.variant_for("sample", runtime).is_err() {
                println!("{}: nothing was exported for {runtime}", bundle.name);
                continue;
            }
            let pairs = draw(runtime).into_iter().zip(&expected);
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{} on {runtime}: {worst}", bundle.name);
        }
    }
}

/// Measured anew on the embedded test images, or on MNIST where `ZOO_TEST_MNIST` names its folder.
#[test]
fn bundles_are_as_good_as_they_say() {
    let mnist = std::env::var_os("ZOO_TEST_MNIST").map(PathBuf::from);
    for bundle in bundles() {
        let manifest = Bundle::open(&bundle.dir).unwrap().manifest().clone();
        let data = match (manifest.data.name.as_str(), &mnist) {
            ("fashion-small", _) => "fashion-small".to_owned(),
            ("mnist", Some(folder)) => folder.display().to_string(),
            (other, _) => {
                println!(
                    "{}: not measured, ZOO_TEST_MNIST names no folder of {other}",
                    bundle.name
                );
                continue;
            }
        };
        let options = EvaluateOptions {
            data: Some(data),
            threads: 2,
            ..EvaluateOptions::new(&bundle.dir)
        };
        let measured = evaluate(&registry(), &options, &mut Silent).unwrap();
        assert!(!measured.metrics.is_empty(), "{}", bundle.name);
        // The manifest's figures are of 1,000 images at most.
        let same = measured.images as f64 == manifest.metrics["test/images"];
        let tolerance = if same { 1e-3 } else { 5e-2 };
        for (name, value) in &measured.metrics {
            let said = manifest.metrics[&format!("test/{name}")];
            let close = (value - said).abs() <= tolerance * said.abs().max(1.0);
            assert!(
                close,
                "{}: {name} is {value}, the manifest says {said}",
                bundle.name
            );
        }
    }
}
