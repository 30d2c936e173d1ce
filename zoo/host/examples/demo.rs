//! The demo as a program of its own, as `zoo demo` runs it: `cargo run --release -p zoo-host --example demo -- OUT [--quick]`.

use std::path::PathBuf;

use zoo_host::run::Observer;
use zoo_host::{DemoObserver, DemoOptions, Registry, Search, demo};
use zoo_nn::ModelPlugin;

struct Tell;

impl Observer for Tell {}

impl DemoObserver for Tell {
    fn stage(&mut self, title: &str) {
        eprintln!("{title}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|a| a == "--quick");
    let out = arguments.iter().find(|a| !a.starts_with('-'));
    let registry = Registry::new(vec![
        Box::new(ModelPlugin::<zoo_vae::Vae>::default()),
        Box::new(ModelPlugin::<zoo_gan::Gan>::default()),
    ])?;
    let mut options =
        DemoOptions::new(out.map_or_else(|| PathBuf::from("zoo-demo"), PathBuf::from));
    options.quick = quick;
    options.search = Search::default();
    let done = demo(&registry, &options, &|| false, &mut Tell)?;
    eprintln!("{} after {:.1} s", done.report.display(), done.seconds);
    match done.ok() {
        true => Ok(()),
        false => Err("a runtime disagrees; see the report".into()),
    }
}
