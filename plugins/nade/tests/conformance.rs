//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nade::Nade;
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    let options = Options {
        model: json!({"hidden": 20}),
        ..Options::default()
    };
    check(&ModelPlugin::<Nade>::default(), &options).assert_ok();
}
