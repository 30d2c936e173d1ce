//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_gan::Gan;
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    for loss in ["non-saturating", "minimax", "wgan-gp"] {
        let model = json!({"latent": 8, "channels": 8, "loss": loss});
        check(
            &ModelPlugin::<Gan>::default(),
            &Options {
                model,
                ..Options::default()
            },
        )
        .assert_ok();
    }
}
