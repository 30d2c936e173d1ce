//! `zoo doctor`

use clap::Args;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json};

mod report;

use report::doctor;

/// Show what this program finds on this machine: runtimes, devices, models, data
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  zoo doctor\n  zoo doctor --ort /opt/onnxruntime/lib --json")]
pub struct Doctor {
    /// One JSON object instead of a text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Doctor, globals: &Globals) -> Result {
    let report = doctor(&globals.registry()?, &globals.search());
    if args.json {
        print_json(&report)?;
    } else {
        print(&super::ended(&report.to_string()))?;
    }
    Ok(Outcome::Done)
}
