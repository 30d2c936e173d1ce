//! `zoo serve-plugin`: the process behind --isolate.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Outcome, Result};

/// Hold one plugin for the zoo that started this process
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "Example:\n  zoo --isolate models   (starts it where it is needed)"
)]
pub struct ServePlugin {
    /// The library
    path: PathBuf,
    /// What the other process tells this one
    settings: String,
}

/// Runs the command.
pub fn run(args: ServePlugin) -> Result {
    zoo_sdk::host::serve(&args.path, &args.settings).map_err(|error| {
        Failure::usage(format!(
            "{error}; this command is for `zoo --isolate` alone"
        ))
    })?;
    Ok(Outcome::Done)
}
