//! The shared requirements.

use serde_json::json;
use zoo_autoencoder::Autoencoder;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    for model in [
        json!({"hidden": [16], "latent": 3, "corruption": "gaussian"}),
        json!({"arch": "conv", "channels": [4, 8], "dense": 16, "latent": 3}),
    ] {
        check(
            &ModelPlugin::<Autoencoder>::default(),
            &Options {
                model,
                ..Options::default()
            },
        )
        .assert_ok();
    }
}
