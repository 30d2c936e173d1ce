//! `zoo eval`

use std::path::PathBuf;

use clap::Args;
use zoo_runs::{EvaluateOptions, Evaluation, Which};
use zoo_sdk::RuntimeId;

use super::{Globals, device};
use crate::failure::{Outcome, Result};
use crate::output::{number, print, print_json, row, table};
use crate::parse;
use crate::progress::Measuring;
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  zoo eval runs/vae
  zoo eval runs/vae --weights best --importance-samples 64 --json
  zoo eval bundles/vae --runtime ort
  zoo eval runs/vae --data mnist/ --split valid";

/// Measure a trained model on held-out images: likelihood in nats and bits, and what else it offers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Eval {
    /// A run directory or a bundle; pretrained:NAME for one of those that zoo models lists
    #[arg(value_name = "RUN|DIR", value_parser = parse::trained)]
    path: PathBuf,
    /// Other images than those of the training [default: the same]
    #[arg(long)]
    data: Option<String>,
    /// train, valid or test
    #[arg(long, default_value = "test")]
    split: String,
    /// Which weights of a run: raw, ema (averaged) or best [default: ema where there are some, else raw]
    #[arg(long, value_name = "W")]
    weights: Option<Which>,
    /// Samples per image for an importance-weighted estimate of log p(x), where the model has one; 0 leaves it out
    #[arg(long, value_name = "K", default_value_t = 0)]
    importance_samples: usize,
    /// Images at a time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = super::at_least_one)]
    batch: usize,
    /// The number from which all randomness follows
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Measure the likelihood by the exported graph log_prob on tract, ort or candle-onnx [default: all metrics, on candle]
    #[arg(long, value_name = "R")]
    runtime: Option<RuntimeId>,
    #[command(flatten)]
    device: device::OnDevice,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Eval, globals: &Globals) -> Result {
    let signals = Signals::listen()?;
    let options = EvaluateOptions {
        data: args.data,
        split: args.split,
        weights: args.weights.unwrap_or_default(),
        seed: args.seed,
        batch: args.batch,
        importance_samples: args.importance_samples,
        threads: args.device.threads(),
        device: args.device.device,
        ..EvaluateOptions::new(args.path)
    };
    let measured = zoo_deploy::evaluate(
        &globals.registry()?,
        &options,
        args.runtime.as_ref().unwrap_or(&RuntimeId::Candle),
        &globals.search(),
        &mut Measuring::new(&signals),
    );
    if let (Err(_), Some(signal)) = (&measured, signals.received()) {
        return Ok(Outcome::Interrupted(signal));
    }
    let evaluation = measured?;
    if args.json {
        print_json(&evaluation)?;
    } else {
        print(&text(&evaluation))?;
    }
    Ok(Outcome::Done)
}

fn text(e: &Evaluation) -> String {
    let binarization = match e.binarization.as_str() {
        "none" => "not binarised".to_owned(),
        how => format!("binarised: {how}"),
    };
    let mut text = format!(
        "{} on {} images of {} ({}, {binarization}), {:.1} s\n",
        e.model, e.images, e.data, e.split, e.seconds
    );
    let rows: Vec<_> = e
        .metrics
        .iter()
        .map(|(name, value)| row([&format!("  {name}"), &number(*value)]))
        .collect();
    text.push_str(&table(&rows));
    if rows.is_empty() {
        text.push_str("  this model has no metric of its own; look at `zoo sample`\n");
    }
    text
}
