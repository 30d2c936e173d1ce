//! The trained bundles under `fixtures/pretrained`: each is whole, computes on every runtime what candle computes, and is as good as it says.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::PathBuf;

use zoo_deploy::pretrained::{self, Pretrained};
use zoo_deploy::{Known, SampleOptions, VerifyOptions, sample, verify};
use zoo_onnx::Bundle;
use zoo_runs::{EvaluateOptions, evaluate};
use zoo_sdk::{Data, GraphKind, RuntimeId, Silent};
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
            let name = runtime.id();
            let served = verified.results.iter().any(|row| row.runtime == name);
            assert!(served, "{}: {name} ran nothing", bundle.name);
        }
    }
}

#[test]
fn the_same_noise_draws_the_same_images() {
    for bundle in bundles() {
        if !registry()
            .describe(&bundle.model)
            .unwrap()
            .has(&GraphKind::Sample)
        {
            println!("{}: the model draws nothing", bundle.name);
            continue;
        }
        // One of 256 levels: noise may lie so close to an edge that rounding decides, and what follows differs. Most images have no such pixel.
        let (count, differing) = match bundle.model.as_str() {
            "pixelcnn-pp" => (32, 3),
            _ => (2, 0),
        };
        let opened = Bundle::open(&bundle.dir).unwrap();
        let draw = |runtime: RuntimeId| {
            let options = SampleOptions {
                count,
                runtime: Some(runtime),
                threads: 1,
                ..SampleOptions::new(&bundle.dir)
            };
            let images = sample(&registry(), &options).unwrap().images;
            let Data::F32(values) = images.data() else {
                panic!("{}: no f32 images", bundle.name);
            };
            values.clone()
        };
        let expected = draw(RuntimeId::Candle);
        for runtime in runtimes().iter().map(|runtime| runtime.id()) {
            if opened
                .variant_for(GraphKind::Sample.name(), &runtime)
                .is_err()
            {
                println!("{}: nothing was exported for {runtime}", bundle.name);
                continue;
            }
            let drawn = draw(runtime.clone());
            assert_eq!(drawn.len(), expected.len());
            let size = expected.len() / count;
            let images = drawn.chunks(size).zip(expected.chunks(size));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
            let others = images.filter(|(a, b)| !a.iter().zip(*b).all(close));
            let others = others.count();
            assert!(
                others <= differing,
                "{} on {runtime}: {others} of {count} images differ",
                bundle.name
            );
        }
    }
}

#[test]
fn what_is_given_is_kept_and_the_rest_is_drawn() {
    const SIDE: u32 = 28;
    let folder = tempfile::tempdir().unwrap();
    let picture = |name: &str, grey: &dyn Fn(u32, u32) -> u8| {
        let path = folder.path().join(name);
        let pixels = image::GrayImage::from_fn(SIDE, SIDE, |x, y| image::Luma([grey(x, y)]));
        pixels.save(&path).unwrap();
        path
    };
    // A stripe of light grey, which a model of binary images takes as white; of its upper half is given.
    let stripe = |x: u32| (8..20).contains(&x);
    let above = |y: u32| y < SIDE / 2;
    let known = Known {
        given: picture("given.png", &|x, _| if stripe(x) { 200 } else { 40 }),
        mask: picture("mask.png", &|_, y| if above(y) { 255 } else { 0 }),
    };
    let bundles = bundles();
    let bundle = bundles.iter().find(|b| b.name == "pixelcnn-fashion");
    let draw = |runtime: RuntimeId| -> Vec<f32> {
        let options = SampleOptions {
            count: 3,
            known: Some(known.clone()),
            runtime: Some(runtime),
            ..SampleOptions::new(&bundle.unwrap().dir)
        };
        let images = sample(&registry(), &options).unwrap().images;
        images.as_f32().unwrap().to_vec()
    };
    let expected = draw(RuntimeId::Candle);
    let size = (SIDE * SIDE) as usize;
    assert_eq!(expected.len(), 3 * size);
    let images: Vec<&[f32]> = expected.chunks(size).collect();
    for image in &images {
        for (at, &value) in (0..).zip(*image) {
            let (x, y) = (at % SIDE, at / SIDE);
            assert!(value == 0.0 || value == 1.0, "({x},{y}) is {value}");
            assert!(
                !above(y) || (value == 1.0) == stripe(x),
                "({x},{y}) is not as given"
            );
        }
    }
    assert_ne!(images[0], images[1], "nothing was drawn");
    for runtime in runtimes() {
        assert_eq!(draw(runtime.id()), expected, "{}", runtime.id());
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
        // An export measures the first 1,000 test images unless it is asked for more.
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
