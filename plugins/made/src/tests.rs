//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::{
    dist::{Likelihood, PixelDistribution},
    testing::{Autoregressive, random},
};

use super::*;

fn config(hidden: &[usize], masks: usize, direct: bool) -> Config {
    Config {
        hidden: hidden.to_vec(),
        masks,
        direct,
    }
}

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    for (hidden, masks, direct) in [
        (&[40][..], 1, false),
        (&[40], 1, true),
        (&[60, 50], 1, false),
        (&[60, 50, 50], 3, false),
        (&[60, 50, 50], 3, true),
    ] {
        let model: Made = random(&config(hidden, masks, direct), [1, 2, 3], 0, 3.0).unwrap();
        let tested = Autoregressive {
            image: model.image,
            pixel: PixelDistribution::new(Likelihood::Bernoulli, 2).unwrap(),
            parameters: &|x| model.forward(x)?.reshape(&[-1, 1, 2, 3]),
            nll: &|x| model.nll(x),
            draw: &|inputs| model.draw(inputs),
        };
        let checks: [(&str, Result<()>); 5] = [
            ("causal", tested.is_causal()),
            ("sees all", tested.sees_all_before()),
            ("sums to one", tested.sums_to_one()),
            ("draws what is likely", tested.draws_what_is_likely()),
            ("draws as naively", tested.draws_as_naively()),
        ];
        for (what, result) in checks {
            result.unwrap_or_else(|e| {
                panic!("{hidden:?}, {masks} masks, direct {direct}: {what}: {e}")
            });
        }
    }
}

#[test]
fn each_mask_is_causal_and_another() {
    let model: Made = random(&config(&[30, 20], 4, false), [1, 2, 3], 0, 3.0).unwrap();
    let x = Stream::new(2).uniform(6);
    let x: Value = Tensor::from_vec(x, (1, 6), &Device::Cpu).unwrap().into();
    let mut seen = Vec::new();
    for mask in 0..4 {
        let tested = Autoregressive {
            image: model.image,
            pixel: PixelDistribution::new(Likelihood::Bernoulli, 2).unwrap(),
            parameters: &|x| {
                model
                    .under(&x.flatten(1)?, mask, None)?
                    .reshape(&[-1, 1, 2, 3])
            },
            nll: &|x| model.nll(x),
            draw: &|inputs| model.draw(inputs),
        };
        tested.is_causal().unwrap();
        let logits = model.under(&x, mask, None).unwrap();
        seen.push(logits.tensor().to_vec2::<f32>().unwrap());
    }
    assert!((1..4).all(|i| seen[i] != seen[0]));
}

#[test]
fn certain_logits_stay_finite() {
    let logits: Vec<Value> = [[-1e4f32, 0.0, 1e4], [-1e4, 0.0, 1e4]]
        .map(|row| {
            Tensor::from_vec(row.to_vec(), (1, 3), &Device::Cpu)
                .unwrap()
                .into()
        })
        .to_vec();
    let mean = logit_of_mean(&logits).unwrap();
    let mean = mean.tensor().to_vec2::<f32>().unwrap();
    assert_eq!(mean[0], [-1e4, 0.0, 1e4]);
    // Half sure of one, half of the other.
    let apart = [logits[0].clone(), logits[0].neg().unwrap()];
    let mean = logit_of_mean(&apart).unwrap();
    assert_eq!(mean.tensor().to_vec2::<f32>().unwrap()[0], [0.0; 3]);
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    for wrong in [
        config(&[], 1, true),
        config(&[4, 0], 1, true),
        config(&[4], 0, true),
    ] {
        assert!(random::<Made>(&wrong, [1, 2, 3], 0, 1.0).is_err());
    }
}
