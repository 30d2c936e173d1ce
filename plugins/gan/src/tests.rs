//! Tests of the maths.

use std::collections::BTreeMap;

use zoo_nn::{
    Binarization, Device, Mode, Params, Role, Stream, Tensor, fresh,
    sdk::Array,
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

/// PyTorch's value of a penalty; by parameter, the norm of its gradient and products with four random vectors.
#[derive(serde::Deserialize)]
struct Expected {
    value: f64,
    gradients: BTreeMap<String, Vec<f64>>,
}

#[test]
fn gradient_penalties_are_those_of_pytorch() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../fixtures/torch/penalty.json")).unwrap();
    let stream = Stream::new(3).named("penalty");
    let config = Config {
        channels: 8,
        loss: Loss::WganGp,
        ..Config::default()
    };
    let data = DataSpec {
        name: "noise".into(),
        image: [1, 12, 12],
        classes: vec![],
        binarization: Binarization::None,
        sha256: String::new(),
        ..DataSpec::default()
    };
    let model = Gan::new(&config, &data).unwrap();
    let mut weights = fresh::<Gan>(&config, &data, 0).unwrap();
    weights.retain(|path, _| path.starts_with("discriminator."));
    for (path, array) in &mut weights {
        let name = path.strip_prefix("discriminator.").unwrap();
        let values = stream.named(name).normal(array.len());
        let values: Vec<f32> = values.iter().map(|v| v * 0.3).collect();
        *array = Array::f32(array.shape(), values).unwrap();
    }
    let x = stream.named("x").uniform(5 * 144);
    let x = Tensor::from_vec(x, (5, 1, 12, 12), &Device::Cpu).unwrap();
    let x = (Value::from(x) * 2.0 - 1.0).variable();
    for kind in ["wgan-gp", "r1"] {
        let expected: Expected = serde_json::from_value(golden[kind].clone()).unwrap();
        let net = Net::new(&Params::given(weights.clone(), &Device::Cpu));
        let penalty = match kind {
            "r1" => mean(&slope(&model.discriminator(&net, &x), &x)),
            _ => model.penalty(&net, &x),
        };
        let value = penalty.scalar().unwrap();
        assert!(
            (value / expected.value - 1.0).abs() < 1e-4,
            "{kind}: {value}"
        );
        let gradients = penalty.backward().unwrap();
        assert_eq!(expected.gradients.len(), weights.len());
        for (name, theirs) in &expected.gradients {
            let (layer, which) = name.split_once('.').unwrap();
            let path = format!("discriminator.{name}");
            let place = net.at("discriminator").at(layer);
            let shape = weights[&path].shape().to_vec();
            let parameter = place.param(which, &shape, Init::Constant(0.0));
            let ours = match gradients.get(&parameter) {
                Some(gradient) => Value::from(gradient).to_vec().unwrap(),
                None => vec![0.0; weights[&path].len()],
            };
            let norm = ours.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
            let products = (0..4).map(|i| {
                let random = stream.named("brief").named(&format!("{name} {i}"));
                let pairs = ours.iter().zip(random.normal(ours.len()));
                pairs.map(|(g, r)| f64::from(g * r)).sum::<f64>()
            });
            for (ours, expected) in std::iter::once(norm).chain(products).zip(theirs) {
                let off = (ours - expected).abs() / theirs[0].max(1e-6);
                assert!(off < 1e-4, "{kind} {name}: {ours} against {expected}");
            }
        }
    }
}
