//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::{
    dist::{Likelihood, PixelDistribution},
    testing::{Autoregressive, random},
};

use super::*;

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    let model: Fvbn = random(&Config::default(), [1, 2, 3], 0, 2.0).unwrap();
    let tested = Autoregressive {
        image: model.image,
        pixel: PixelDistribution::new(Likelihood::Bernoulli, 2).unwrap(),
        parameters: &|x| model.forward(x)?.reshape(&[-1, 1, 2, 3]),
        nll: &|x| model.nll(x),
        draw: &|inputs| model.draw(inputs),
    };
    tested.is_causal().unwrap();
    tested.sees_all_before().unwrap();
    tested.sums_to_one().unwrap();
    tested.draws_what_is_likely().unwrap();
    tested.draws_as_naively().unwrap();
}

#[test]
fn a_context_limits_what_is_seen() {
    let config = Config { context: Some(2) };
    let model: Fvbn = random(&config, [1, 2, 3], 0, 2.0).unwrap();
    let tested = Autoregressive {
        image: model.image,
        pixel: PixelDistribution::new(Likelihood::Bernoulli, 2).unwrap(),
        parameters: &|x| model.forward(x)?.reshape(&[-1, 1, 2, 3]),
        nll: &|x| model.nll(x),
        draw: &|inputs| model.draw(inputs),
    };
    let far = |i: usize| (0..i.saturating_sub(2)).map(move |j| (i, j));
    let expected: Vec<_> = (0..6).flat_map(far).collect();
    assert_eq!(tested.blind_spots().unwrap(), expected);
    tested.draws_as_naively().unwrap();
    assert!(random::<Fvbn>(&Config { context: Some(0) }, [1, 2, 3], 0, 1.0).is_err());
}
