//! `zoo verify`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zoo_deploy::VerifyOptions;
use zoo_runtimes::{RuntimeId, parity::Compared};

use super::Globals;
use crate::failure::{Failure, Outcome, Result};
use crate::output::{number, print, print_json};
use crate::parse;

const EXAMPLES: &str = "\
Examples:
  zoo verify bundles/vae
  zoo verify bundles/vae --runtime ort --device cuda:0
  zoo verify bundles/vae --json

Exit code 1 means that something was compared and is out of tolerance (1e-5 + 1e-4 |reference|).";

/// Compare every graph and output of a bundle, on every runtime, with the original
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// The bundle
    #[arg(value_name = "DIR", value_parser = parse::trained)]
    bundle: PathBuf,
    /// Runtimes that must be there, of tract, ort, candle-onnx [default: every one that is found]
    #[arg(long, value_name = "R,..", value_delimiter = ',')]
    runtime: Vec<RuntimeId>,
    /// Where the runtimes compute: cpu, cuda:0, tensorrt:0, coreml, directml or webgpu
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
    /// Batch sizes to compare at
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,3,7", value_parser = super::at_least_one)]
    batch: Vec<usize>,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    threads: Option<usize>,
    /// How long a runtime may take to load a file, and for one run of it, such as 30m [default: 10m, or a hundred times what
    /// candle takes where that is longer]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Verify, globals: &Globals) -> Result {
    let options = VerifyOptions {
        runtimes: args.runtime,
        device: args.device,
        batches: args.batch,
        threads: args.threads.unwrap_or(0),
        search: globals.search(),
        timeout: args.timeout,
        ..VerifyOptions::new(args.bundle)
    };
    let verified = zoo_deploy::verify(&globals.registry()?, &options, &mut |row| {
        tracing::debug!("{}", line(row));
    })?;
    if args.json {
        for skipped in &verified.skipped {
            tracing::warn!("{} was left out: {}", skipped.runtime, skipped.reason);
        }
        print_json(&verified)?;
    } else {
        print(&super::ended(&verified.to_string()))?;
    }
    if verified.results.is_empty() {
        return Err(Failure::usage(
            "nothing was compared: no runtime can run this bundle as asked",
        ));
    }
    Ok(match verified.ok {
        true => Outcome::Done,
        false => Outcome::Failed,
    })
}

/// A row while it is made.
fn line(row: &Compared) -> String {
    let verdict = match (&row.error, row.max_abs) {
        (Some(error), _) => error.clone(),
        (None, Some(max)) => format!("differs by {} at most", number(max)),
        (None, None) => "not finite".to_owned(),
    };
    let ok = if row.ok { "ok" } else { "FAILED" };
    format!(
        "{ok}: {} of {} on {} at batch {}: {verdict}",
        row.output, row.variant, row.runtime, row.batch
    )
}
