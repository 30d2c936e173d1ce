//! `zoo bench`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zoo_sdk::RuntimeId;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json};
use crate::parse;

mod graphs;

const EXAMPLES: &str = "\
Examples:
  zoo bench bundles/vae
  zoo bench bundles/gan --runtime tract,ort --batch 1,16,64 --threads 2
  zoo bench bundles/gan --runtime ort --device cuda:0 --json";

/// Time every graph of a bundle on every runtime
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// The bundle
    #[arg(value_name = "DIR", value_parser = parse::trained)]
    bundle: PathBuf,
    /// Runtimes that must be there, of candle, tract, ort, candle-onnx [default: every one that is found]
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    runtime: Vec<RuntimeId>,
    /// Where to compute: cpu, cuda:0, tensorrt:0, coreml, directml or webgpu
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
    /// Batch sizes
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,64", value_parser = super::at_least_one)]
    batch: Vec<usize>,
    /// What other open sizes stand for, such as H=128,W=96; sides of 64 pixels where nothing is said
    #[arg(long, value_name = "NAME=N,..", value_delimiter = ',', value_parser = parse::named_size)]
    size: Vec<(String, usize)>,
    /// CPU threads of each runtime; tract always uses one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::at_least_one)]
    threads: usize,
    /// How long to measure each case
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    time: Duration,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Bench, globals: &Globals) -> Result {
    let timed = graphs::time(&globals.registry()?, &args, &globals.search(), &mut |row| {
        tracing::info!(
            "{} on {} at batch {}: {:.3} ms",
            row.graph,
            row.runtime,
            row.batch,
            row.ms_median
        );
    })?;
    if args.json {
        for skipped in &timed.skipped {
            tracing::warn!("{} was left out: {}", skipped.runtime, skipped.reason);
        }
        print_json(&timed)?;
    } else {
        print(&super::ended(&timed.to_string()))?;
    }
    Ok(Outcome::Done)
}
