//! Tests of the maths.

use zoo_nn::{
    Device, Mode, Params, Role, Stream, Tensor,
    testing::{random, step},
};

use super::*;

/// D(x), log D(x) and log(1 - D(x)) of a logit, in f64.
fn sigmoid(logit: f64) -> (f64, f64, f64) {
    let d = 1.0 / (1.0 + (-logit).exp());
    (d, -(-logit).exp().ln_1p(), -logit.exp().ln_1p())
}

#[test]
fn losses_and_their_gradients_are_those_of_the_paper() {
    let n = 4;
    let net = Net::new(&Params::fresh(1, &Device::Cpu));
    let logits = net.param("logits", &[n], Init::Normal(2.0)); // (N)
    let values = logits.to_vec().unwrap();
    type Term = fn(f64) -> f64;
    let cases: [(bool, Term, Term); 2] = [
        // -log D, and its slope D - 1: steep where the discriminator is sure of a fake.
        (true, |l| -sigmoid(l).1, |l| sigmoid(l).0 - 1.0),
        // -log(1 - D), and its slope D: flat there.
        (false, |l| -sigmoid(l).2, |l| sigmoid(l).0),
    ];
    for (real, value, slope) in cases {
        let loss = cross_entropy(&logits, real);
        let expected: f64 = values.iter().map(|&l| value(l.into())).sum();
        let got = loss.scalar().unwrap();
        assert!((got - expected / n as f64).abs() < 1e-5, "{got}");
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().to_vec1::<f32>().unwrap();
        for (&l, g) in values.iter().zip(gradient) {
            let expected = slope(l.into()) / n as f64;
            assert!((f64::from(g) - expected).abs() < 1e-5, "{l}: {g}");
        }
    }
}

#[test]
fn a_sure_discriminator_gives_finite_losses() {
    let logits = Tensor::from_vec(vec![-200f32, 200.0], 2, &Device::Cpu).unwrap();
    let loss = cross_entropy(&logits.into(), true);
    assert!((loss.scalar().unwrap() - 100.0).abs() < 1e-3);
}

#[test]
fn both_phases_see_the_same_fakes() {
    let config = Config {
        latent: 3,
        channels: 4,
        loss: Loss::Minimax,
        ..Config::default()
    };
    let (model, net) = random::<Gan>(&config, [1, 8, 8], 0, 1.0).unwrap();
    let n = 6;
    let x = Stream::new(4).uniform(n * 64);
    let x = Tensor::from_vec(x, (n, 1, 8, 8), &Device::Cpu).unwrap();
    let batch = Batch::new(n).with(Role::Image, x);
    let mut cx = step(Mode::Train, &net, n, 7);
    let phases = model.phases();
    let first = model.loss(&phases[0], &batch, &mut cx).unwrap();
    let second = model.loss(&phases[1], &batch, &mut cx).unwrap();
    let (name, fake) = &first.terms[1];
    assert_eq!(*name, "fake");
    // The game has one value: what the discriminator loses on fakes, the generator wins.
    let (fake, generator) = (fake.scalar().unwrap(), second.total.scalar().unwrap());
    assert!((fake + generator).abs() < 1e-5, "{fake} {generator}");
}
