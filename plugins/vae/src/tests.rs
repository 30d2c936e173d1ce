//! Tests of the maths, on images so small that every one of them can be tried.

use zoo_nn::{
    Device, Mode, Stream, Tensor,
    testing::{random, step},
};

use super::*;

/// A fresh model of `[1,1,2]` images.
fn model(config: Config) -> (Vae, Net) {
    let config = Config {
        hidden: vec![8],
        latent: 2,
        ..config
    };
    random(&config, [1, 1, 2], 0, 1.0).unwrap()
}

/// `copies` of an image: (copies,1,1,2)
fn images(pixels: [f32; 2], copies: usize) -> Value {
    Tensor::from_vec(pixels.repeat(copies), (copies, 1, 1, 2), &Device::Cpu)
        .unwrap()
        .into()
}

fn noise(dims: &[usize]) -> Value {
    let values = Stream::new(9).normal(dims.iter().product());
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().into()
}

fn gaussian() -> Config {
    Config {
        likelihood: Likelihood::Gaussian,
        std: 0.5,
        ..Config::default()
    }
}

#[test]
fn probabilities_of_all_binary_images_sum_to_one() {
    let (model, net) = model(Config::default());
    let total: f64 = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        .into_iter()
        .map(|pixels| {
            let log_prob = model
                .importance_weighted(&net, &images(pixels, 1), &noise(&[1, 20_000, 2]))
                .unwrap(); // (1)
            log_prob.scalar().unwrap().exp()
        })
        .sum();
    assert!((total - 1.0).abs() < 0.01, "{total}");
}

#[test]
fn density_of_grey_images_integrates_to_one() {
    let (model, net) = model(gaussian());
    // A grid over [-3, 4]^2: the mean lies in [0, 1] and the standard deviation is 0.5.
    let (side, step) = (29, 0.25f32);
    let at = |i: usize| -3.0 + i as f32 * step;
    let grid: Vec<f32> = (0..side * side)
        .flat_map(|i| [at(i / side), at(i % side)])
        .collect();
    let x = Tensor::from_vec(grid, (side * side, 1, 1, 2), &Device::Cpu).unwrap();
    let log_prob = model
        .importance_weighted(&net, &x.into(), &noise(&[side * side, 256, 2]))
        .unwrap(); // (29*29)
    let log_prob = log_prob.to_vec().unwrap();
    let density: f32 = log_prob.iter().map(|l| l.exp()).sum();
    let integral = density * step * step;
    assert!((integral - 1.0).abs() < 0.02, "{integral}");
}

#[test]
fn the_bound_is_the_mean_importance_weight_and_rises_with_k() {
    for config in [Config::default(), gaussian()] {
        let (model, net) = model(config);
        let copies = 20_000;
        let x = images([1.0, 0.0], copies);
        let cx = step(Mode::Eval, &net, copies, 3);
        let (nll, kl) = model.bound(&x, &cx); // (N)
        let elbo = -mean(&(nll + kl)).scalar().unwrap();
        let bound = |k: usize| {
            let each = model
                .importance_weighted(&net, &x, &noise(&[copies, k, 2]))
                .unwrap(); // (N)
            mean(&each).scalar().unwrap()
        };
        // KL in closed form (appendix B) against one sample of log p(x|z) + log p(z) - log q(z|x).
        let one = bound(1);
        assert!((one - elbo).abs() < 0.02, "{one} {elbo}");
        // Burda et al., 2016, theorem 1.
        let (ten, hundred) = (bound(10), bound(100));
        assert!(elbo < ten && ten < hundred, "{elbo} {ten} {hundred}");
    }
}
