//! The shared requirements.

use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_made::Made;
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    for model in [
        json!({"hidden": [60], "direct": false}),
        json!({"hidden": [50, 40], "masks": 2, "direct": true}),
    ] {
        let options = Options {
            model,
            ..Options::default()
        };
        check(&ModelPlugin::<Made>::default(), &options).assert_ok();
    }
}
