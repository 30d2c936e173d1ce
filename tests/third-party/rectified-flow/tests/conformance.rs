//! What every plugin is held to: seeded, interruptible and resumable training, refused nonsense, graphs that export.

use rectified_flow::RectifiedFlow;
use serde_json::json;
use zoo_conformance::{Options, check};
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    // Small, so that the test is quick.
    let model = json!({"channels": 4, "waves": 3});
    check(
        &ModelPlugin::<RectifiedFlow>::default(),
        &Options {
            model,
            ..Options::default()
        },
    )
    .assert_ok();
}
