//! `zoo export`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zoo_deploy::ExportOptions;
use zoo_runs::Which;
use zoo_sdk::RuntimeId;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, row, table};
use crate::parse;
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  zoo export runs/vae --out bundles/vae
  zoo export runs/gan --out bundles/gan --weights best --target ort,web

The bundle holds an ONNX file for each graph, weights, test vectors, a model card and a picture.
Before it is put in place, every file has been checked, and run on tract against candle.";

/// Write a trained model as a bundle of checked ONNX files
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The run directory
    run: PathBuf,
    /// The bundle's folder: new, empty, or an older bundle, which is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Runtimes to serve, of ort, tract, web, candle-onnx [default: all]
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    target: Vec<RuntimeId>,
    /// Which weights of the run: raw, ema (averaged) or best [default: ema where there are some, else raw]
    #[arg(long, value_name = "W")]
    weights: Option<Which>,
    /// Store weights at half precision: half the size, and about three digits
    #[arg(long)]
    half: bool,
    /// Test images of the run's data to measure the metrics on, all where there are fewer
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = super::at_least_one)]
    test_images: usize,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    threads: Option<usize>,
    /// How long a runtime may take to load a file, and for one run of it, such as 30m [default: 10m, or a hundred times what
    /// candle takes where that is longer]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

/// Runs the command.
pub fn run(args: Export, globals: &Globals) -> Result {
    Signals::listen()?.end_after(zoo_onnx::bundle::abandon_unfinished)?;
    let options = ExportOptions {
        targets: args.target,
        weights: args.weights.unwrap_or_default(),
        half: args.half,
        test_images: args.test_images,
        threads: args.threads.unwrap_or(0),
        timeout: args.timeout,
        ..ExportOptions::new(args.run, args.out)
    };
    let exported = zoo_deploy::export(&globals.registry()?, &options, &mut |step| {
        tracing::info!("{step}");
    })?;
    for warning in &exported.warnings {
        tracing::warn!("{warning}");
    }
    let mut rows = vec![row(["GRAPH", "FILE", "RUNTIMES"])];
    for (name, graph) in &exported.manifest.graphs {
        for variant in &graph.variants {
            rows.push(row([
                name,
                &variant.file,
                &RuntimeId::list(&variant.runtimes),
            ]));
        }
    }
    let dir = exported.dir.display();
    print(&format!(
        "{}\nbundle: {dir} (its README.md says how to use it)\nnext: zoo verify {dir}, zoo bench {dir}\n",
        table(&rows)
    ))?;
    Ok(Outcome::Done)
}
