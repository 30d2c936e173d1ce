//! A training that is killed or asked to stop, and goes on as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests are tests too.
#![cfg(unix)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{Place, checkpoints, train_args};

const STEPS: &str = "160";

/// What a finished training leaves: weights, moments and counters of its last checkpoint.
fn result(run: &Path) -> Vec<Vec<u8>> {
    let last = run.join("checkpoints").join(STEPS);
    [
        "model.safetensors",
        "ema.safetensors",
        "optimizer.safetensors",
    ]
    .map(|file| fs::read(last.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")))
    .to_vec()
}

fn start(place: &Place, run: &str, more: &[&str]) -> Child {
    let more = [&["--steps", STEPS, "--set", "train.ema=0.9"], more].concat();
    place
        .command(&train_args(run, &more))
        .stdout(Stdio::null())
        .stderr(fs::File::create(place.path("stderr")).unwrap())
        .spawn()
        .unwrap()
}

/// What the program said on standard error.
fn said(place: &Place) -> String {
    fs::read_to_string(place.path("stderr")).unwrap()
}

fn uninterrupted(place: &Place) -> Vec<Vec<u8>> {
    place.train("whole", &["--steps", STEPS, "--set", "train.ema=0.9"]);
    result(&place.path("whole"))
}

/// Waits until the newest checkpoint is at least of `step`.
fn wait_for_checkpoint(child: &mut Child, run: &Path, step: u64) {
    let limit = Instant::now() + Duration::from_secs(60);
    while checkpoints(run).last().is_none_or(|last| *last < step) {
        assert!(Instant::now() < limit, "no checkpoint of step {step}");
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn killed_at_random_moments() {
    let place = Place::new();
    let expected = uninterrupted(&place);
    let run = place.path("killed");
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut random = seed.subsec_nanos() as u64 | 1;
    println!("moments from {random}"); // A failure can be repeated with it.
    let (mut kills, mut newest) = (0, 0);
    loop {
        let mut child = start(&place, "killed", &["--resume"]);
        // xorshift: anything from before the run directory is made to several checkpoints later.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if kills >= 12 {
            let status = child.wait().unwrap();
            assert!(status.success(), "{status}: {}", said(&place));
            break;
        }
        if kills >= 4 {
            // The first few may die at once; these get somewhere.
            let next = newest + 2;
            let limit = Instant::now() + Duration::from_secs(60);
            while checkpoints(&run).last().is_none_or(|s| *s < next)
                && child.try_wait().unwrap().is_none()
                && Instant::now() < limit
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::thread::sleep(Duration::from_micros(random % 60_000));
        let finished = child.try_wait().unwrap();
        if let Some(status) = finished {
            assert!(status.success(), "{status}: {}", said(&place));
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        newest = checkpoints(&run).last().copied().unwrap_or(0);
        println!("killed with the newest checkpoint at step {newest}");
    }
    assert!(kills >= 3, "only {kills} kills before the end");
    assert!(
        result(&run) == expected,
        "the weights differ after {kills} kills"
    );
    // The losses on record are those of the training as a whole: each step once, in order.
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|record| record["event"] == "step" || record.get("losses").is_some())
        .map(|record| record["step"].as_u64().unwrap())
        .collect();
    let all: Vec<u64> = (1..=STEPS.parse().unwrap()).collect();
    assert_eq!(steps, all);
}

#[test]
fn asked_to_stop() {
    let place = Place::new();
    let expected = uninterrupted(&place);
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = start(&place, name, &["--threads", "1"]);
        wait_for_checkpoint(&mut child, &place.path(name), 4);
        common::signal(&child, name);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{name}: {status}");
        let stopped = *checkpoints(&place.path(name)).last().unwrap();
        assert!(
            stopped.to_string() != STEPS,
            "{name} came too late to show anything"
        );
        let again = place.train(
            name,
            &["--steps", STEPS, "--set", "train.ema=0.9", "--resume"],
        );
        assert!(again.contains("trained vae to step 160"), "{again}");
        assert!(
            result(&place.path(name)) == expected,
            "{name}: the weights differ"
        );
    }
}

/// The description of the data is written before the settings, without which a folder is no run.
#[test]
fn killed_between_its_first_two_files() {
    let place = Place::new();
    place.train("run", &["--steps", "2"]);
    let text = fs::read(place.path("run/data.json")).unwrap();
    fs::create_dir(place.path("begun")).unwrap();
    fs::write(place.path("begun/data.json"), text).unwrap();
    place.train("begun", &["--steps", "2", "--resume"]);
    assert_eq!(checkpoints(&place.path("begun")), [2]);
}
