//! `zoo doctor`

use clap::Args;
use zoo_host::doctor;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json};

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
    let report = doctor::doctor(&globals.registry()?, &globals.search());
    if args.json {
        print_json(&report)?;
    } else {
        print(&super::ended(&report.to_string()))?;
    }
    Ok(Outcome::Done)
}
