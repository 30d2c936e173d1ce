//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::{
    Autoregressive, Device, Model, Tensor, Value,
    dist::Likelihood,
    testing::{Predictor, random, with_pixels},
};

use super::*;
use crate::{gated, plain};

/// A likelihood and the number of its levels.
type Pixel = (Likelihood, usize);

const BINARY: Pixel = (Likelihood::Bernoulli, 256);

fn levels(levels: usize) -> Pixel {
    (Likelihood::Softmax, levels)
}

/// Holds both models, the second also with labels, to a requirement.
fn each(image: [usize; 3], pixel: Pixel, require: impl Fn(&str, Predictor<'_>)) {
    // Maps that do not fall into equal groups for three colours.
    let config = plain::Config {
        channels: 10,
        blocks: 2,
        first_kernel: 5,
        head: 22,
        likelihood: pixel.0,
        levels: pixel.1,
        ..Default::default()
    };
    let (model, net): (PixelCnn, _) = random(&config, image, 0, 2.0).unwrap();
    with_pixels(&model, &net, 1, |model| require("pixelcnn", model));
    for (name, conditional) in [("gated", false), ("conditional", true)] {
        let config = gated::Config {
            channels: 10,
            layers: 3,
            first_kernel: 5,
            kernel: 3,
            head: 22,
            conditional,
            likelihood: pixel.0,
            levels: pixel.1,
        };
        let (model, net): (GatedPixelCnn, _) = random(&config, image, 3, 2.0).unwrap();
        with_pixels(&model, &net, 1, |model| require(name, model));
    }
}

#[test]
fn nothing_sees_what_comes_later() {
    for (image, pixel) in [([1, 4, 5], BINARY), ([3, 3, 3], levels(4))] {
        each(image, pixel, |name, model| {
            model.is_causal().unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn the_gated_stacks_have_no_blind_spot() {
    // Wide enough for the first network to miss the right of the rows above.
    each([1, 3, 5], BINARY, |name, model| {
        let blind = model.blind_spots().unwrap();
        assert_eq!(blind.is_empty(), name != "pixelcnn", "{name}: {blind:?}");
    });
}

#[test]
fn probabilities_of_all_images_sum_to_one() {
    for (image, pixel) in [
        ([1, 3, 3], BINARY),
        ([1, 1, 3], levels(4)),
        ([3, 1, 2], levels(3)),
    ] {
        each(image, pixel, |name, model| {
            model
                .sums_to_one()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn samples_have_the_probability_of_the_likelihood() {
    for (image, pixel) in [
        ([1, 2, 2], BINARY),
        ([1, 2, 1], levels(3)),
        ([3, 1, 1], levels(3)),
    ] {
        each(image, pixel, |name, model| {
            let result = model.draws_what_is_likely();
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn kept_activations_draw_the_same_as_the_whole_network() {
    for (image, pixel) in [([1, 6, 5], BINARY), ([3, 4, 3], levels(5))] {
        each(image, pixel, |name, model| {
            let result = model.draws_as_naively();
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn classes_differ() {
    let config = gated::Config {
        channels: 4,
        layers: 2,
        head: 4,
        conditional: true,
        likelihood: Likelihood::Bernoulli,
        ..Default::default()
    };
    let (model, net): (GatedPixelCnn, _) = random(&config, [1, 3, 3], 3, 1.0).unwrap();
    let x: Value = Tensor::from_vec(vec![1.0f32; 18], (2, 1, 3, 3), &Device::Cpu)
        .unwrap()
        .into();
    let labels: Value = Tensor::from_vec(vec![0i64, 2], 2, &Device::Cpu)
        .unwrap()
        .into();
    let nll = model.nll(&net, &x, Some(&labels));
    let nll = nll.to_vec().unwrap();
    assert!((nll[0] - nll[1]).abs() > 1e-3, "{nll:?}");
    assert!(random::<GatedPixelCnn>(&config, [1, 3, 3], 0, 1.0).is_err());
    assert_eq!(
        model
            .graphs()
            .iter()
            .map(|graph| (graph.name, graph.inputs.last().unwrap().name.as_str()))
            .collect::<Vec<_>>(),
        [
            ("log_prob", "label"),
            ("sample", "label"),
            ("complete", "label")
        ]
    );
}
