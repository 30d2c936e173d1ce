//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;
use zoo_super_resolution::SuperResolution;

#[test]
fn conforms() {
    check(
        &ModelPlugin::<SuperResolution>::default(),
        &Options {
            model: json!({"channels": 6, "blocks": 1}),
            size: 16,
            ..Options::default()
        },
    )
    .assert_ok();
}
