//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_pixelcnnpp::PixelCnnPp;

#[test]
fn pixelcnn_pp_conforms() {
    let variants = [
        json!({"channels": 4, "blocks": 1, "resolutions": 2, "components": 2}),
        json!({"channels": 4, "blocks": 1, "resolutions": 1, "dropout": 0.2, "likelihood": "bernoulli"}),
    ];
    for model in variants {
        let options = Options {
            model,
            ..Options::default()
        };
        check(&ModelPlugin::<PixelCnnPp>::default(), &options).assert_ok();
    }
}
