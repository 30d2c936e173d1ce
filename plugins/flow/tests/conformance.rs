//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_flow::{Nice, RealNvp};
use zoo_nn::ModelPlugin;

#[test]
fn nice_conforms() {
    check(
        &ModelPlugin::<Nice>::default(),
        &Options {
            model: json!({"couplings": 2, "hidden": [16]}),
            ..Options::default()
        },
    )
    .assert_ok();
}

#[test]
fn realnvp_conforms() {
    check(
        &ModelPlugin::<RealNvp>::default(),
        &Options {
            model: json!({"couplings": 2, "channels": 4, "blocks": 1}),
            ..Options::default()
        },
    )
    .assert_ok();
}
