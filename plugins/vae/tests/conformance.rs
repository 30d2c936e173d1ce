//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_vae::Vae;

#[test]
fn conforms() {
    let variants = [
        json!({"hidden": [24], "latent": 4, "importance_samples": 3}),
        json!({"arch": "conv", "channels": [4, 8], "dense": 16, "latent": 4, "importance_samples": 2, "likelihood": "gaussian"}),
    ];
    for model in variants {
        check(
            &ModelPlugin::<Vae>::default(),
            &Options {
                model,
                ..Options::default()
            },
        )
        .assert_ok();
    }
}
