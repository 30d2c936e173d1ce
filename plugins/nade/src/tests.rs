//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::testing::{random, with_list};

use super::*;

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    for image in [[1, 2, 3], [3, 1, 2]] {
        let (model, net): (Nade, _) = random(&Config { hidden: 9 }, image, 0, 3.0).unwrap();
        with_list(&model, &net, |model| model.is_sound()).unwrap();
    }
}
