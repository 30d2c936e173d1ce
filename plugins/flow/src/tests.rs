//! Tests of the maths.

use zoo_nn::{Device, GradOptions, Model, Stream, Tensor, grad, testing::random};

use super::*;

fn small() -> (nice::Config, realnvp::Config) {
    (
        nice::Config {
            couplings: 3,
            hidden: vec![12],
        },
        realnvp::Config {
            scales: 2,
            couplings: 2,
            channels: 6,
            blocks: 1,
        },
    )
}

/// Holds both models, with random weights of this size, to a requirement.
fn each(image: [usize; 3], size: f32, nice: impl Fn(Nice, Net), realnvp: impl Fn(RealNvp, Net)) {
    let (small_nice, small_realnvp) = small();
    let (model, net) = random::<Nice>(&small_nice, image, 0, size).unwrap();
    nice(model, net);
    let (model, net) = random::<RealNvp>(&small_realnvp, image, 0, size).unwrap();
    realnvp(model, net);
}

fn images(n: usize, image: [usize; 3]) -> Value {
    let [c, h, w] = image;
    let levels = Stream::new(4).integers(n * c * h * w, 256);
    let x = levels.into_iter().map(|level| level as f32 / 255.0);
    Tensor::from_vec(x.collect(), (n, c, h, w), &Device::Cpu)
        .unwrap()
        .into()
}

fn largest(difference: &Value) -> f64 {
    difference.abs().flatten(0).max(0, false).scalar().unwrap()
}

fn is_inverted<M: Flow>(model: &M, net: &Net) {
    let x = images(3, model.image());
    let z = model.encode(net, &x);
    assert!(largest(&(model.decode(net, &z) - &x)) < 1e-4);
}

/// From noise that stands for no level exactly.
fn is_inverted_from_noise<M: Flow>(model: &M, net: &Net) {
    let values: usize = model.image().iter().product();
    let z = Stream::new(6).normal(3 * values);
    let z: Value = Tensor::from_vec(z, (3, values), &Device::Cpu)
        .unwrap()
        .into();
    let (back, _) = model.forward(net, &model.inverse(net, &z));
    let apart = largest(&(back - &z));
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn each_direction_inverts_the_other() {
    for image in [[1, 4, 6], [3, 4, 4]] {
        each(
            image,
            0.7,
            |m, net| is_inverted(&m, &net),
            |m, net| is_inverted(&m, &net),
        );
        // Small weights: where an image's values come close to 0 or 1, their logits lose the digits.
        each(
            image,
            0.2,
            |m, net| is_inverted_from_noise(&m, &net),
            |m, net| is_inverted_from_noise(&m, &net),
        );
    }
}

/// log |det| of a matrix by elimination.
fn log_det(mut rows: Vec<Vec<f64>>) -> f64 {
    let n = rows.len();
    let mut total = 0.0;
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs()));
        rows.swap(i, pivot.unwrap());
        total += rows[i][i].abs().ln();
        let (above, below) = rows.split_at_mut(i + 1);
        let pivot = &above[i][i..];
        for row in below {
            let factor = row[i] / pivot[0];
            let values = row[i..].iter_mut().zip(pivot);
            values.for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    total
}

fn tells_its_volume<M: Flow>(model: &M, net: &Net) {
    let x = ((images(1, model.image()) * 255.0 + 0.5) / 256.0).variable();
    let (z, told) = model.forward(net, &x);
    let values = z.dim(1).unwrap();
    let row = |i: usize| {
        let own = z.slice(1, i, i + 1).flatten(0).sum(&[0], false);
        let [slope] = grad(&own, [&x], GradOptions::default());
        slope.to_vec().unwrap().into_iter().map(f64::from).collect()
    };
    let expected = log_det((0..values).map(row).collect());
    let told = told.flatten(0).scalar().unwrap();
    assert!(
        (told - expected).abs() < 1e-3 * expected.abs().max(1.0),
        "{told} {expected}"
    );
}

#[test]
fn the_determinant_is_that_of_the_jacobian() {
    each(
        [1, 4, 4],
        0.7,
        |m, net| tells_its_volume(&m, &net),
        |m, net| tells_its_volume(&m, &net),
    );
}

fn integrates_to_one<M: Flow>(model: &M, net: &Net) {
    // Of images of two pixels: the density over a grid, without the levels' part.
    let side = 160;
    let at = |i: usize| (i as f32 + 0.5) / side as f32;
    let grid: Vec<f32> = (0..side * side)
        .flat_map(|i| [at(i / side), at(i % side)])
        .collect();
    let x = Tensor::from_vec(grid, (side * side, 1, 1, 2), &Device::Cpu).unwrap();
    let (z, log_det) = model.forward(net, &x.into());
    let density = (model.prior(&z) + log_det).exp().to_vec().unwrap();
    let total: f64 = density.iter().map(|&d| f64::from(d)).sum::<f64>() / (side * side) as f64;
    assert!(total < 1.02, "{total}");
    assert!(total > 0.6, "most of it lies among the images: {total}");
}

#[test]
fn the_density_over_images_does_not_exceed_one() {
    let (nice, realnvp) = small();
    let (model, net) = random::<Nice>(&nice, [1, 1, 2], 0, 0.2).unwrap();
    // NICE maps a cube; its logistic prior also covers what lies outside.
    let x = images(2, [1, 1, 2]);
    assert!(
        model
            .nll(&net, &x, &(&x * 0.0 + 0.5))
            .to_vec()
            .unwrap()
            .iter()
            .all(|v| v.is_finite())
    );
    let one_scale = realnvp::Config {
        scales: 1,
        ..realnvp
    };
    let (model, net) = random::<RealNvp>(&one_scale, [1, 1, 2], 0, 0.3).unwrap();
    integrates_to_one(&model, &net);
}

#[test]
fn squeezing_keeps_every_pixel() {
    let (_, config) = small();
    let (model, net) = random::<RealNvp>(&config, [2, 4, 6], 0, 0.0).unwrap();
    // Of weights that are 0 nothing moves but the logit: z holds the pixels, each once.
    let x = images(1, [2, 4, 6]);
    let (z, _) = model.forward(&net, &(&x * 0.9 + 0.05));
    let mut z = z.to_vec().unwrap();
    let mut logits: Vec<f32> = x
        .to_vec()
        .unwrap()
        .iter()
        .map(|x| (x * 0.9 + 0.05) * 0.9 + 0.05)
        .map(|y| (y / (1.0 - y)).ln())
        .collect();
    z.sort_by(f32::total_cmp);
    logits.sort_by(f32::total_cmp);
    for (z, logit) in z.iter().zip(logits) {
        assert!((z - logit).abs() < 1e-4);
    }
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let (nice, realnvp) = small();
    assert!(random::<Nice>(&nice, [1, 3, 3], 0, 1.0).is_err());
    let error = random::<RealNvp>(&realnvp, [1, 3, 4], 0, 1.0)
        .err()
        .unwrap();
    assert!(error.to_string().contains("fewer model.scales"), "{error}");
    assert_eq!(Nice::INFO.family, RealNvp::INFO.family);
}
