//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::{
    Autoregressive, Device, Mode, Model, Role, Stream, Tensor, Value,
    testing::{Predictor, random, step, with_pixels},
};

use super::*;

fn config(resolutions: usize, likelihood: Likelihood) -> Config {
    Config {
        channels: 5,
        blocks: 1,
        resolutions,
        components: 2,
        dropout: 0.0,
        likelihood,
    }
}

/// Holds a model of random weights to a requirement.
fn hold(
    image: [usize; 3],
    resolutions: usize,
    likelihood: Likelihood,
    require: impl Fn(Predictor<'_>) -> zoo_nn::Result<()>,
) {
    let (model, net): (PixelCnnPp, _) =
        random(&config(resolutions, likelihood), image, 0, 2.0).unwrap();
    let held = with_pixels(&model, &net, 0, require);
    held.unwrap_or_else(|e| panic!("{image:?}, {resolutions} resolutions, {likelihood:?}: {e}"));
}

use Likelihood::{Bernoulli, Logistics};

#[test]
fn nothing_sees_what_comes_later() {
    for (image, resolutions, likelihood) in [
        ([1, 4, 5], 1, Bernoulli),
        ([1, 4, 6], 2, Bernoulli),
        ([1, 8, 4], 3, Logistics),
        ([3, 4, 4], 2, Logistics),
    ] {
        hold(image, resolutions, likelihood, |model| model.is_causal());
    }
}

#[test]
fn all_pixels_before_are_seen() {
    for (image, resolutions) in [([1, 4, 5], 1), ([1, 4, 6], 2), ([1, 8, 4], 3)] {
        hold(image, resolutions, Bernoulli, |model| {
            model.sees_all_before()
        });
    }
    // Colours of a pixel depend on each other by the mixture, not by the network.
    hold([3, 2, 4], 2, Logistics, |model| {
        let unseen = model.blind_spots()?;
        let apart = unseen.iter().find(|(i, j)| i / 3 != j / 3);
        assert!(apart.is_none(), "{apart:?}");
        Ok(())
    });
}

#[test]
fn probabilities_of_all_images_sum_to_one() {
    for (image, resolutions, likelihood) in [
        ([1, 3, 3], 1, Bernoulli),
        ([1, 2, 4], 2, Bernoulli),
        ([1, 4, 4], 3, Bernoulli),
        ([1, 1, 1], 1, Logistics),
        ([1, 2, 1], 1, Logistics),
    ] {
        hold(image, resolutions, likelihood, |model| model.sums_to_one());
    }
}

#[test]
fn samples_have_the_probability_of_the_likelihood() {
    for (image, resolutions, likelihood) in [
        ([1, 2, 2], 1, Bernoulli),
        ([1, 2, 4], 2, Bernoulli),
        ([1, 1, 1], 1, Logistics),
    ] {
        hold(image, resolutions, likelihood, |model| {
            model.draws_what_is_likely()
        });
    }
}

#[test]
fn kept_activations_draw_the_same_as_the_whole_network() {
    for (image, resolutions, likelihood) in [
        ([1, 6, 5], 1, Bernoulli),
        ([1, 6, 8], 2, Bernoulli),
        ([1, 8, 12], 3, Bernoulli),
        ([1, 4, 8], 3, Logistics),
        ([3, 4, 3], 1, Logistics),
        ([3, 8, 4], 3, Logistics),
    ] {
        hold(image, resolutions, likelihood, |model| {
            model.draws_as_naively()
        });
    }
}

#[test]
fn dropout_acts_in_training_alone() {
    let image = [1, 4, 4];
    let config = Config {
        dropout: 0.5,
        ..config(2, Logistics)
    };
    let (model, net): (PixelCnnPp, _) = random(&config, image, 0, 2.0).unwrap();
    let x = Tensor::from_vec(Stream::new(3).uniform(32), (2, 1, 4, 4), &Device::Cpu).unwrap();
    let batch = Batch::new(2).with(Role::Image, x);
    let loss = |mode, seed| {
        let mut cx = step(mode, &net, 2, seed);
        let losses = model.loss(&model.phases()[0], &batch, &mut cx).unwrap();
        losses.total.scalar().unwrap()
    };
    assert_eq!(loss(Mode::Eval, 1), loss(Mode::Eval, 2));
    assert_eq!(loss(Mode::Train, 1), loss(Mode::Train, 1));
    assert_ne!(loss(Mode::Train, 1), loss(Mode::Train, 2));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |config: &Config, image| {
        let model = random::<PixelCnnPp>(config, image, 0, 1.0);
        model.err().expect("refused").to_string()
    };
    let three = config(3, Logistics);
    let message = refused(&three, [1, 28, 30]);
    assert!(message.contains("multiples of 4"), "{message}");
    let message = refused(&three, [2, 4, 4]);
    assert!(message.contains("2 colours"), "{message}");
    let message = refused(&config(1, Bernoulli), [3, 4, 4]);
    assert!(message.contains("bernoulli"), "{message}");
    for wrong in [
        Config {
            resolutions: 4,
            ..three.clone()
        },
        Config {
            dropout: 1.0,
            ..three.clone()
        },
        Config {
            components: 0,
            ..three
        },
    ] {
        let message = refused(&wrong, [1, 8, 8]);
        assert!(message.contains("model."), "{message}");
    }
}

#[test]
fn the_papers_sizes_fit_images_of_28_pixels() {
    let (model, net): (PixelCnnPp, _) = random(&config(3, Logistics), [1, 28, 28], 0, 1.0).unwrap();
    let x: Value = Tensor::zeros((1, 1, 28, 28), zoo_nn::DType::F32, &Device::Cpu)
        .unwrap()
        .into();
    assert_eq!(model.forward(&net, &x, None).dims(), [1, 6, 28, 28]);
    let mut cx = step(Mode::Eval, &net, 1, 0);
    let batch = Batch::new(1).with(Role::Image, x);
    let metrics = model.evaluate(&batch, &mut cx).unwrap();
    assert!(metrics["bits_per_dim"] > 0.0, "{metrics:?}");
}
