//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_pixelrnn::{DiagonalBiLstm, RowLstm};

fn options(likelihood: &str) -> Options {
    Options {
        model: json!({
            "channels": 8, "layers": 1, "first_kernel": 3, "head": 8,
            "likelihood": likelihood, "levels": 8,
        }),
        ..Options::default()
    }
}

#[test]
fn row_lstm_conforms() {
    for likelihood in ["bernoulli", "softmax"] {
        check(&ModelPlugin::<RowLstm>::default(), &options(likelihood)).assert_ok();
    }
}

#[test]
fn diagonal_bilstm_conforms() {
    for likelihood in ["bernoulli", "softmax"] {
        let plugin = ModelPlugin::<DiagonalBiLstm>::default();
        check(&plugin, &options(likelihood)).assert_ok();
    }
}
