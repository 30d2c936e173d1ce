//! `zoo bench-sample`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zoo_sdk::RuntimeId;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json};
use crate::parse;
use crate::signals::Signals;

mod sampling;

const EXAMPLES: &str = "\
Examples:
  zoo bench-sample pixelcnn
  zoo bench-sample gated-pixelcnn --set model.channels=16 --set model.layers=5 --pixels 14,28,56
  zoo bench-sample pixelcnn --runtime ort --torch torch-venv/bin/python --json

cached: rows and pixels computed before are kept, as every exported sampler does. naive: the whole
network for each value of the image, their number times the time of one. Both in milliseconds an
image. The network is trained for one step only: what its weights are does not matter here.";

/// Time drawing value by value, with kept states and naively, on every runtime
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchSample {
    /// An autoregressive model
    #[arg(value_name = "MODEL")]
    model: String,
    /// A setting of the model, such as model.channels=16; repeat for more
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Height and width of the images
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "28", value_parser = super::at_least_one)]
    pixels: Vec<usize>,
    /// Images at a time
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,16", value_parser = super::at_least_one)]
    batch: Vec<usize>,
    /// Runtimes that must be there, of candle, tract, ort, candle-onnx [default: every one that is found]
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    runtime: Vec<RuntimeId>,
    /// CPU threads of each runtime; tract always uses one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::at_least_one)]
    threads: usize,
    /// How long to measure each case; two runs at least
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    time: Duration,
    /// A Python with PyTorch, safetensors and numpy, to draw with too
    #[arg(long, value_name = "PYTHON")]
    torch: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: BenchSample, globals: &Globals) -> Result {
    let signals = Signals::listen()?;
    let cancel = || signals.received().is_some();
    let timed = sampling::time(
        &globals.registry()?,
        &args,
        &globals.search(),
        &cancel,
        &mut |row| {
            tracing::info!(
                "{} pixels on {} ({}) at batch {}: {:.2} ms an image, naively {:.1}",
                row.pixels,
                row.runtime,
                row.form,
                row.batch,
                row.cached_ms,
                row.naive_ms
            );
        },
    )?;
    if args.json {
        for skipped in &timed.skipped {
            tracing::warn!("{} was left out: {}", skipped.runtime, skipped.reason);
        }
        print_json(&timed)?;
    } else {
        print(&super::ended(&timed.to_string()))?;
    }
    Ok(match signals.received() {
        Some(signal) => Outcome::Interrupted(signal),
        None => Outcome::Done,
    })
}
