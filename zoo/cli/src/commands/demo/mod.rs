//! `zoo demo`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::print;
use crate::parse;
use crate::progress::Training;
use crate::signals::Signals;

mod job;
mod pictures;
mod plan;
mod report;

use job::DemoObserver;

const EXAMPLES: &str = "\
Examples:
  zoo demo --quick
  zoo demo --out my-demo

It trains a VAE and a GAN on the images inside this program, exports both to ONNX, checks every
file on every runtime found, and leaves pictures and a report. Nothing is downloaded.";

/// Do the whole job once: train, export, check on every runtime found, draw
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// Where everything goes: a new or empty folder, or that of an earlier demo, which is replaced
    #[arg(long, value_name = "DIR", default_value = "zoo-demo")]
    out: PathBuf,
    /// Within 90 seconds instead of 10 minutes, with rougher pictures
    #[arg(long)]
    quick: bool,
    /// The number from which all randomness follows
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    threads: Option<usize>,
}

impl DemoObserver for Training {
    fn stage(&mut self, title: &str) {
        self.finish();
        *self = Self::new();
        tracing::info!("== {title}");
    }
}

/// Runs the command.
pub fn run(args: Demo, globals: &Globals) -> Result {
    let signals = Signals::listen()?;
    let mut progress = Training::new();
    let done = job::demo(
        &globals.registry()?,
        &args,
        &globals.search(),
        &|| signals.received().is_some(),
        &mut progress,
    );
    progress.finish();
    let demo = done?;
    if let (true, Some(signal)) = (demo.cancelled, signals.received()) {
        print(&format!(
            "stopped; what was trained so far is in {}\n",
            demo.dir.display()
        ))?;
        return Ok(Outcome::Interrupted(signal));
    }
    let seconds = Duration::try_from_secs_f64(demo.seconds).unwrap_or_default();
    let mut text = format!("done in {}\n", parse::time(seconds));
    for (model, verified) in &demo.verified {
        let failed = verified.results.iter().filter(|row| !row.ok).count();
        let (all, reference) = (verified.results.len(), &verified.reference);
        text.push_str(&match verified.ok {
            true => format!(
                "  {model}: {all} outputs compared with {reference}, all within tolerance\n"
            ),
            false => format!("  {model}: {failed} of {all} outputs FAILED against {reference}\n"),
        });
    }
    text.push_str(&format!("  report    {}\n", demo.report.display()));
    for picture in &demo.pictures {
        text.push_str(&format!("  picture   {}\n", picture.display()));
    }
    print(&text)?;
    Ok(match demo.ok() {
        true => Outcome::Done,
        false => Outcome::Failed,
    })
}
