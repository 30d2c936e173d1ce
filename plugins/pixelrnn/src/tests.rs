//! Tests of the maths, on images so small that everything can be tried.

use zoo_nn::testing::{Predictor, random, with_pixels};

use super::*;

/// A likelihood and the number of its levels.
type Kind = (Likelihood, usize);

const BINARY: Kind = (Likelihood::Bernoulli, 256);

fn levels(levels: usize) -> Kind {
    (Likelihood::Softmax, levels)
}

fn model<L: Layer>(image: [usize; 3], kind: Kind, require: &dyn Fn(&str, Predictor<'_>)) {
    // Maps that do not fall into equal groups for three colours.
    let config = Config {
        channels: 10,
        layers: 2,
        first_kernel: 3,
        head: 22,
        likelihood: kind.0,
        levels: kind.1,
    };
    let (model, net): (PixelRnn<L>, _) = random(&config, image, 0, 2.0).unwrap();
    with_pixels(&model, &net, 0, |model| require(L::INFO.name, model));
}

/// Holds both models to a requirement.
fn each(image: [usize; 3], kind: Kind, require: impl Fn(&str, Predictor<'_>)) {
    model::<Row>(image, kind, &require);
    model::<Diagonals>(image, kind, &require);
}

#[test]
fn nothing_sees_what_comes_later() {
    for (image, kind) in [([1, 4, 5], BINARY), ([3, 3, 3], levels(4))] {
        each(image, kind, |name, model| {
            model.is_causal().unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn the_diagonals_see_everything_but_the_end_of_the_row_above() {
    let width = 9;
    each([1, 3, width], BINARY, |name, model| {
        let blind = model.blind_spots().unwrap();
        let end = |&(i, j): &(usize, usize)| j % width == width - 1 && j / width + 1 == i / width;
        // Wide enough for the Row LSTM to miss more than that.
        assert_eq!(
            blind.iter().all(end),
            name == "diagonal-bilstm",
            "{blind:?}"
        );
        assert!(!blind.is_empty(), "{name}: the end of a row is not seen");
    });
}

#[test]
fn probabilities_of_all_images_sum_to_one() {
    for (image, kind) in [
        ([1, 3, 3], BINARY),
        ([1, 1, 3], levels(4)),
        ([3, 1, 2], levels(3)),
    ] {
        each(image, kind, |name, model| {
            model
                .sums_to_one()
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn samples_have_the_probability_of_the_likelihood() {
    for (image, kind) in [([1, 2, 2], BINARY), ([3, 1, 1], levels(3))] {
        each(image, kind, |name, model| {
            let result = model.draws_what_is_likely();
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn kept_states_draw_the_same_as_the_whole_network() {
    for (image, kind) in [([1, 6, 5], BINARY), ([3, 4, 3], levels(5))] {
        each(image, kind, |name, model| {
            let result = model.draws_as_naively();
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
        });
    }
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    for channels in [0, 7] {
        let config = Config {
            channels,
            ..Config::default()
        };
        assert!(random::<RowLstm>(&config, [1, 3, 3], 0, 1.0).is_err());
    }
}
