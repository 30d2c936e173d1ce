//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::{
    dist::{Likelihood, PixelDistribution},
    testing::{Autoregressive, random},
};

use super::*;

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    let model: Nade = random(&Config { hidden: 9 }, [1, 2, 3], 0, 3.0).unwrap();
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
