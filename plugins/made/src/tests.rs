//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::testing::{random, with_list, with_logits};

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
    for (image, hidden, masks, direct) in [
        ([1, 2, 3], &[40][..], 1, false),
        ([3, 1, 2], &[40], 1, true),
        ([1, 2, 3], &[60, 50], 1, false),
        ([3, 1, 2], &[60, 50, 50], 3, false),
        ([1, 2, 3], &[60, 50, 50], 3, true),
    ] {
        let (model, net): (Made, _) =
            random(&config(hidden, masks, direct), image, 0, 3.0).unwrap();
        with_list(&model, &net, |model| model.is_sound()).unwrap_or_else(|e| {
            panic!("{image:?}, {hidden:?}, {masks} masks, direct {direct}: {e}")
        });
    }
}

#[test]
fn each_mask_is_causal_and_another() {
    let image = [1, 2, 3];
    let (model, net): (Made, _) = random(&config(&[30, 20], 4, false), image, 0, 3.0).unwrap();
    let x = Stream::new(2).uniform(6);
    let x: Value = Tensor::from_vec(x, (1, 6), &Device::Cpu).unwrap().into();
    let mut seen = Vec::new();
    for mask in 0..4 {
        let forward = |x: &Value| model.under(&net, mask, &List::from(x), None).value();
        with_logits(&model, &net, forward, |model| model.is_causal()).unwrap();
        seen.push(forward(&x).to_vec().unwrap());
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
    let mean = logit_of_mean(&logits);
    assert_eq!(mean.to_vec().unwrap(), [-1e4, 0.0, 1e4]);
    // Half sure of one, half of the other.
    let apart = [logits[0].clone(), -&logits[0]];
    let mean = logit_of_mean(&apart);
    assert_eq!(mean.to_vec().unwrap(), [0.0; 3]);
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
