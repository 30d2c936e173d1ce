//! Exports that do not come to their end leave the folder as it was.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.
#![cfg(unix)]

mod common;

use std::{
    fs,
    process::Child,
    time::{Duration, Instant},
};

use common::Place;

/// A run and a bundle of it, which further exports are to replace.
fn exported() -> Place {
    let place = Place::new();
    // Many importance samples: the proof of log_prob takes a while.
    place.train("run", &["--steps", "2", "--set", "importance_samples=2000"]);
    place.ok(&["export", "run", "--out", "out/bundle", "--test-images", "1"]);
    place
}

const AGAIN: [&str; 6] = ["export", "run", "--out", "out/bundle", "--test-images", "1"];

/// The names in the bundle's parent folder, and its manifest.
fn left(place: &Place) -> (Vec<String>, String) {
    let entries = fs::read_dir(place.path("out")).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let manifest = fs::read_to_string(place.path("out/bundle/manifest.json")).unwrap();
    (names, manifest)
}

/// Starts an export and waits until it has written something.
fn begun(place: &Place) -> Child {
    let mut child = place.command(&AGAIN).spawn().unwrap();
    let part = place.path(&format!("out/.bundle.{}.part/new/onnx", child.id()));
    let limit = Instant::now() + Duration::from_secs(60);
    while !part.exists() {
        assert!(Instant::now() < limit, "nothing was written");
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn an_export_that_is_ended_leaves_nothing() {
    let place = exported();
    let before = left(&place);
    assert_eq!(before.0, ["bundle"]);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = begun(&place);
        common::signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{name}");
        assert_eq!(left(&place), before, "{name}");
    }
    let mut child = begun(&place);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(left(&place).0.len(), 2, "it could clear nothing away");
    place.ok(&AGAIN);
    assert_eq!(left(&place), before);
}

#[test]
fn a_runtime_that_takes_too_long_is_an_error() {
    let place = exported();
    let before = left(&place);
    let late = place.run(&[&AGAIN[..], &["--timeout", "0.001ms"]].concat());
    assert_eq!((late.code, left(&place)), (1, before));
    let text = late.stderr;
    let graph = "graph \"encode\" as exported to onnx/encode.onnx is not proven";
    assert!(text.contains(graph), "{text}");
    let late = "within 1\u{b5}s and was given up";
    assert!(text.contains(late), "{text}");
    assert!(text.contains("nothing was written"), "{text}");

    let verified = place.run(&["verify", "out/bundle", "--timeout", "0.001ms"]);
    assert_eq!(verified.code, 1);
    assert!(verified.stdout.contains(late), "{}", verified.stdout);
    // The model is at hand: where it draws in loops, their place in the source is told.
    let verify = ["verify", "pretrained:pixelcnn-fashion", "--batch", "1"];
    let looped = place.run(&[&verify[..], &["--timeout", "0.001ms"]].concat());
    let at = "it may be in a loop: Scan \"scan.4\" at zoo/nn/src/autoregressive.rs:";
    let mut lines = looped.stdout.lines();
    let sampler = lines.find(|l| l.starts_with("sample.tract.onnx"));
    assert!(sampler.is_some_and(|l| l.contains(at)), "{looped:?}");
}
