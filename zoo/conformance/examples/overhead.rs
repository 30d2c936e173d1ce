//! What a plugin's form costs: the same model built in, as a shared library, and in a process of its own, in one run.
//!
//! ```console
//! $ cargo build --release --workspace --examples
//! $ target/release/examples/overhead target/release/examples/libzoo_vae_plugin.so
//! ```
//!
//! The forms take turns, so that whatever else the machine does falls on all alike.
#![allow(clippy::print_stdout)] // It is what this program is for.

use std::{env, error::Error, path::Path, time::Duration, time::Instant};

use serde_json::json;
use zoo_conformance::Synthetic;
use zoo_sdk::{
    Array, Checkpoint, Context, Control, Event, OpenRequest, Plugin, Session, Tensors,
    TrainRequest,
    host::{Isolation, inspect, isolate, load, serve},
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const LATENT: usize = 2;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // This program is its own process for plugins.
        ["serve", path, settings] => Ok(serve(Path::new(path), settings)?),
        [path] => measure(Path::new(path)),
        _ => Err("usage: overhead LIBRARY, a shared library of zoo-vae".into()),
    }
}

fn measure(path: &Path) -> Result {
    let isolation = Isolation {
        program: env::current_exe()?,
        arguments: vec!["serve".into()],
        memory: None,
        silence: Duration::from_secs(60),
    };
    let megabytes = inspect(path, None)?.bytes as f64 / 1e6;
    println!("library: {megabytes:.1} MB");
    let mut starts = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..7 {
        starts[0].push(timed(|| inspect(path, None))?);
        // What is mapped already is mapped again in no time: the first is the one that counts.
        starts[1].push(timed(|| load(path, None))?);
        starts[2].push(timed(|| isolate(path, None, &isolation))?);
    }
    println!("inspect, with SHA-256: {:.2} ms", 1e3 * median(&starts[0]));
    println!("load: {:.2} ms the first time", 1e3 * starts[1][0]);
    println!(
        "start a process, load and describe: {:.2} ms",
        1e3 * median(&starts[2])
    );

    let shared = load(path, None)?.plugins;
    let isolated = isolate(path, None, &isolation)?.plugins;
    let plugins = [zoo_vae::plugins(), shared, isolated];
    let sessions: Vec<_> = plugins
        .iter()
        .map(|p| open(&*p[0]))
        .collect::<Result<_>>()?;
    println!("\n| call | built in | shared | isolated |\n|---|---|---|---|");
    for (images, calls) in [(1, 4000), (64, 2000), (10_000, 60)] {
        let z = Array::f32([images, LATENT], vec![0.1; images * LATENT])?;
        let z = Tensors::from([("z".to_owned(), z)]);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..calls {
            for (session, times) in sessions.iter().zip(&mut times) {
                times.push(timed(|| session.run("decode", &z))?);
            }
        }
        let [built_in, shared, isolated] = times.map(|times| 1e6 * median(&times));
        println!(
            "| decode {images} images, {} | {built_in:.1} us | {shared:.1} us, {:.2}x | {isolated:.1} us, {:.2}x |",
            size(images * 256),
            shared / built_in,
            isolated / built_in
        );
    }
    Ok(())
}

fn size(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

fn timed<T, E: Error + 'static>(work: impl FnOnce() -> Result<T, E>) -> Result<f64> {
    let start = Instant::now();
    let made = work()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(made);
    Ok(seconds)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A session over one step's weights of a network so small that a call is mostly the way there and back.
fn open(plugin: &dyn Plugin) -> Result<Box<dyn Session>> {
    let (data, mut kept) = (Synthetic::new(8), Kept::default());
    let model = json!({"hidden": [8], "latent": LATENT, "importance_samples": 1});
    let request = TrainRequest {
        model: model.clone(),
        train: json!({"steps": 1, "checkpoint_every": 1}),
        threads: 1,
        device: "cpu".into(),
        ..TrainRequest::default()
    };
    plugin.train(&request, &data.view(), &mut kept)?;
    Ok(plugin.open(&OpenRequest {
        model,
        data: data.spec().clone(),
        weights: kept.0,
        threads: 1,
        device: "cpu".into(),
    })?)
}

/// Keeps the last weights.
#[derive(Default)]
struct Kept(Tensors);

impl Context for Kept {
    fn progress(&mut self, _: &Event) -> Control {
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> zoo_sdk::Result<()> {
        self.0 = checkpoint.model.clone();
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> zoo_sdk::Result<()> {
        Ok(())
    }
}
