//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::testing::{Predictor, random, with_list};

use super::*;

fn with<T>(config: &Config, image: [usize; 3], require: impl FnOnce(Predictor<'_>) -> T) -> T {
    let (model, net): (Fvbn, _) = random(config, image, 0, 2.0).unwrap();
    with_list(&model, &net, require)
}

#[test]
fn it_is_causal_normalised_and_draws_what_it_says() {
    for image in [[1, 2, 3], [3, 1, 2]] {
        with(&Config::default(), image, |model| model.is_sound()).unwrap();
    }
}

#[test]
fn a_context_limits_what_is_seen() {
    let config = Config { context: Some(2) };
    with(&config, [1, 2, 3], |model| {
        let far = |i: usize| (0..i.saturating_sub(2)).map(move |j| (i, j));
        let expected: Vec<_> = (0..6).flat_map(far).collect();
        assert_eq!(model.blind_spots().unwrap(), expected);
        model.draws_as_naively().unwrap();
    });
    assert!(random::<Fvbn>(&Config { context: Some(0) }, [1, 2, 3], 0, 1.0).is_err());
}
