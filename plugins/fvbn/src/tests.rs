//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::testing::{Autoregressive, random};

use super::*;

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    // Random weights, which training starts without.
    let [c, h, w] = [1, 2, 3];
    let mut model: Fvbn = random(&Config {}, [c, h, w], 0, 1.0).unwrap();
    let random = Params::fresh(3, &Device::Cpu);
    model.weight = random.get("weight", &[6, 6], Init::Normal(2.0)).unwrap();
    model.bias = random.get("bias", &[6], Init::Normal(1.0)).unwrap();
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
