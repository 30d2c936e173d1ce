//! A likelihood measured by the exported graph agrees with the plugin's own.
#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use std::path::Path;

use zoo_deploy::{Error, ExportOptions, Result, evaluate, export};
use zoo_nn::ModelPlugin;
use zoo_runs::{EvaluateOptions, Quiet, Registry, TrainOptions, train};
use zoo_runtimes::Search;
use zoo_sdk::{Metrics, RuntimeId, Silent};

fn registry() -> Registry {
    Registry::new(vec![
        Box::new(ModelPlugin::<zoo_vae::Vae>::default()),
        Box::new(ModelPlugin::<zoo_gan::Gan>::default()),
    ])
    .unwrap()
}

fn trained(model: &str, out: &Path, set: &[&str]) {
    let mut options = TrainOptions::new(model, out);
    options.given.data = Some("fashion-small".to_owned());
    options.given.steps = Some(4);
    options.given.set = set.iter().map(|s| (*s).to_owned()).collect();
    train(&registry(), &options, &|| false, &mut Quiet).unwrap();
}

fn measured(
    path: &Path,
    split: &str,
    runtime: RuntimeId,
    importance_samples: usize,
) -> Result<Metrics> {
    let mut options = EvaluateOptions::new(path);
    options.split = split.to_owned();
    options.importance_samples = importance_samples;
    let search = Search::default();
    Ok(evaluate(&registry(), &options, &runtime, &search, &mut Silent)?.metrics)
}

fn on_tract(path: &Path, split: &str) -> Result<Metrics> {
    measured(path, split, RuntimeId::Tract, 0)
}

#[test]
fn a_runtime_measures_what_the_plugin_measures() {
    let folder = tempfile::tempdir().unwrap();
    for binarization in ["none", "threshold", "dynamic"] {
        let run = folder.path().join(binarization);
        let binarization = format!("data.binarization={binarization}");
        let set = [
            "hidden=[16]",
            "latent=2",
            "importance_samples=8",
            "data.valid=16",
            &binarization,
        ];
        trained("vae", &run, &set);
        let plugin = measured(&run, "valid", RuntimeId::Candle, 8).unwrap();
        let tract = on_tract(&run, "valid").unwrap();
        // The latent samples differ, and with them the estimates, by a little; other binarised images would differ by more.
        for name in ["nll_nats", "bits_per_dim"] {
            let (a, b) = (plugin[name], tract[name]);
            assert!(
                (a - b).abs() < 2e-4 * a.abs(),
                "{binarization} {name}: {a} and {b}"
            );
        }
        let bundle = folder.path().join("bundle");
        export(&registry(), &ExportOptions::new(&run, &bundle), &mut |_| ()).unwrap();
        assert_eq!(
            on_tract(&bundle, "test").unwrap(),
            on_tract(&run, "test").unwrap()
        );
    }
}

#[test]
fn what_cannot_be_measured_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (gan, vae) = (folder.path().join("gan"), folder.path().join("vae"));
    trained("gan", &gan, &["channels=8", "train.batch=4"]);
    let error = on_tract(&gan, "test").unwrap_err();
    assert!(matches!(error, Error::NoGraph { .. }), "{error}");
    trained("vae", &vae, &["hidden=[16]", "latent=2"]);
    let error = measured(&vae, "test", RuntimeId::Tract, 5).unwrap_err();
    assert!(
        error.to_string().contains("--importance-samples"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}
