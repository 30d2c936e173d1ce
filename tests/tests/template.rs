//! The other crate that `zoo plugin new` makes, compiled as it is. Each defines a plugin's entry, so that a program holds one of them.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use serde_json::json;
use zoo_conformance::{Options, check};

#[path = "../../zoo/cli/template/autoregressive/src/lib.rs"]
#[allow(dead_code)]
mod template;

#[test]
fn the_autoregressive_template_conforms() {
    check(
        &zoo_nn::ModelPlugin::<template::MyModel>::default(),
        &Options {
            model: json!({"channels": 6, "layers": 1}),
            ..Options::default()
        },
    )
    .assert_ok();
}
