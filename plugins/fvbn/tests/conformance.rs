//! The shared requirements.

use zoo_conformance::{Options, check};
use zoo_fvbn::Fvbn;
use zoo_nn::ModelPlugin;

#[test]
fn conforms() {
    check(&ModelPlugin::<Fvbn>::default(), &Options::default()).assert_ok();
}
