//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_pixelcnn::{GatedPixelCnn, PixelCnn};

#[test]
fn pixelcnn_conforms() {
    let variants = [
        json!({"channels": 8, "blocks": 2, "first_kernel": 5, "head": 8}),
        json!({"channels": 8, "blocks": 1, "first_kernel": 3, "head": 8, "likelihood": "softmax", "levels": 16}),
    ];
    for model in variants {
        let options = Options {
            model,
            ..Options::default()
        };
        check(&ModelPlugin::<PixelCnn>::default(), &options).assert_ok();
    }
}

#[test]
fn gated_pixelcnn_conforms() {
    let variants = [
        json!({"channels": 8, "layers": 2, "first_kernel": 5, "head": 8}),
        json!({"channels": 4, "layers": 1, "first_kernel": 3, "head": 4, "conditional": true, "likelihood": "softmax", "levels": 16}),
    ];
    for model in variants {
        let options = Options {
            model,
            ..Options::default()
        };
        check(&ModelPlugin::<GatedPixelCnn>::default(), &options).assert_ok();
    }
}
