//! The networks against PyTorch: gradients of the first step and the first five losses, from the same weights and data. PyTorch's numbers stand in
//! `fixtures/torch/suite.json`, which `zoo/bench/python/golden.py` writes.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use zoo_bench::{Network, Size, inputs::Inputs, measure, training};
use zoo_sdk::{Array, Checkpoint, Context, Control, Event, Stream, Tensors};

const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    batch: usize,
    pixels: usize,
    networks: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    model: String,
    losses: Vec<f64>,
    /// By parameter: the norm of its gradient, and products with four random vectors.
    gradients: BTreeMap<String, Vec<f64>>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/torch/suite.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Keeps the optimiser's moments of the first step: they are a tenth of the gradients.
#[derive(Default)]
struct Moments(Tensors);

impl Context for Moments {
    fn progress(&mut self, _: &Event) -> Control {
        Control::Continue
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> zoo_sdk::Result<()> {
        self.0 = checkpoint.optimizer.clone();
        Ok(())
    }

    fn images(&mut self, _: u64, _: &str, _: &Array) -> zoo_sdk::Result<()> {
        Ok(())
    }
}

fn first_gradients(network: Network, inputs: Inputs) -> BTreeMap<String, Vec<f64>> {
    let mut moments = Moments::default();
    training(network, inputs, 2, 1, &mut moments).unwrap();
    let first = moments.0.into_iter().filter_map(|(name, array)| {
        // `m.<path>`, or `<phase>.m.<path>`.
        let phases = ["m.", "discriminator.m.", "generator.m."];
        let path = phases.iter().find_map(|p| name.strip_prefix(p))?;
        let values = array.to_f64().iter().map(|m| m / 0.1).collect();
        Some((path.to_string(), values))
    });
    first.collect()
}

/// The norm, and products with random vectors: what the script's `brief` gives.
fn brief(name: &str, gradient: &[f64]) -> Vec<f64> {
    let stream = Stream::new(0).named("golden").named(name);
    let product = |i: usize| {
        let random = stream.named(&i.to_string()).normal(gradient.len());
        let pairs = gradient.iter().zip(random);
        pairs.map(|(g, r)| g * f64::from(r)).sum::<f64>()
    };
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    std::iter::once(norm).chain((0..4).map(product)).collect()
}

#[test]
fn gradients_and_losses_are_those_of_pytorch() {
    let golden = golden();
    let size = Size {
        batch: golden.batch,
        pixels: golden.pixels,
    };
    assert_eq!(golden.networks.len(), Network::ALL.len());
    for expected in golden.networks {
        let network: Network = expected.model.parse().unwrap();
        let inputs = Inputs::drawn(network, size, 0).unwrap();
        let gradients = first_gradients(network, inputs.clone());
        let names = |m: &BTreeMap<String, Vec<f64>>| m.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&gradients), names(&expected.gradients), "{network}");
        for (name, theirs) in &expected.gradients {
            let ours = brief(name, &gradients[name]);
            // A product with a N(0, 1) vector is as large as the norm, and as wrong as the norm of the error.
            for (ours, theirs_i) in ours.iter().zip(theirs) {
                let off = (ours - theirs_i).abs() / theirs[0];
                assert!(
                    off < TOLERANCE,
                    "{network} {name}: {ours} against {theirs_i}, off by {off}"
                );
            }
        }
        let losses = measure(network, inputs, 1, 1).unwrap().first_losses;
        for (i, (ours, theirs)) in losses.iter().zip(&expected.losses).enumerate() {
            let off = ((ours - theirs) / theirs).abs();
            assert!(
                off < TOLERANCE,
                "{network} loss {i}: {ours} against {theirs}"
            );
        }
        assert_eq!(losses.len(), 5);
    }
}
