//! `zoo train`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zoo_runs::TrainOptions;
use zoo_runs::settings::Given;
use zoo_sdk::{GraphKind, StopReason};

use super::{Globals, device};
use crate::failure::{Outcome, Result};
use crate::output::print;
use crate::parse;
use crate::progress::Training;
use crate::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  zoo train vae --data fashion-small --out runs/vae
  zoo train vae --data fashion-small --out runs/beta --set beta=4 --set train.batch=128
  zoo train gan --data photos/ --set data.size=32x32 --out runs/photos --max-time 10m
  zoo train vae --out runs/vae --resume --epochs 50

`zoo describe MODEL` lists everything that --set can change. Ctrl-C finishes the step and saves;
--resume goes on from there exactly as if nothing had happened.";

/// Train a model and keep everything about it in a run directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// The model's name: `zoo models` lists them
    model: String,
    /// Images: `fashion-small` (inside this program), a folder (IDX, CIFAR-10 batches, PNG or JPEG) or an .npz file
    #[arg(long)]
    data: Option<String>,
    /// The run directory to write: settings, checkpoints, losses, sample pictures
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// Settings from a TOML file, for example the config.toml of another run
    #[arg(long, value_name = "F.toml")]
    config: Option<PathBuf>,
    /// One setting; repeat for more. A bare key is the model's: `beta=4`, `train.batch=64`, `data.valid=500`
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    set: Vec<String>,
    /// Stop after N passes over the training images
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    epochs: Option<u64>,
    /// Stop after N steps in all, those before --resume included
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Stop after this time at the latest: 90s, 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    max_time: Option<Duration>,
    /// The number from which all randomness follows; the same seed gives the same weights
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    device: device::OnDevice,
    /// Go on with the run in RUN; start it where there is none yet
    #[arg(long)]
    resume: bool,
    /// Start from the weights of another run or bundle, pretrained:NAME among them; with :PART, such as :decoder, from those
    /// of that part of the model alone
    #[arg(long, value_name = "RUN|DIR[:PART]", value_parser = parse::start)]
    init_from: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Train, globals: &Globals) -> Result {
    let signals = Signals::listen()?;
    let options = TrainOptions {
        given: Given {
            config: args.config,
            set: args.set,
            data: args.data,
            seed: args.seed,
            epochs: args.epochs,
            steps: args.steps,
            max_seconds: args.max_time.map(|t| t.as_secs_f64()),
            init_from: args.init_from,
        },
        resume: args.resume,
        threads: args.device.threads(),
        device: args.device.device,
        ..TrainOptions::new(args.model, &args.out)
    };
    let mut shown = Training::new();
    let registry = globals.registry()?;
    let trained = zoo_runs::train(
        &registry,
        &options,
        &|| signals.received().is_some(),
        &mut shown,
    );
    shown.finish();
    let outcome = trained?;

    let (out, step) = (args.out.display(), outcome.step);
    if let (StopReason::Cancelled, Some(signal)) = (outcome.reason, signals.received()) {
        print(&format!(
            "stopped at step {step}, saved in {out}; go on with: zoo train {} --out {out} --resume\n",
            options.model
        ))?;
        return Ok(Outcome::Interrupted(signal));
    }
    if outcome.was_finished {
        print(&format!(
            "{out} is finished already at step {step}: nothing was done. To train longer, give more --epochs or --steps.\n"
        ))?;
        return Ok(Outcome::Done);
    }
    let seconds = Duration::try_from_secs_f64(outcome.seconds).unwrap_or_default();
    let mut text = format!(
        "trained {} to step {step} in {}{}\n  run      {out}\n",
        options.model,
        parse::time(seconds),
        match outcome.reason {
            StopReason::TimeLimit => " (the time was over)",
            _ => "",
        },
    );
    if let Some(plot) = &outcome.loss_plot {
        text.push_str(&format!("  losses   {}\n", plot.display()));
    }
    let samples = outcome.run.samples();
    if samples.is_dir() {
        text.push_str(&format!("  samples  {}\n", samples.display()));
    }
    // Not every model draws: an autoencoder does not.
    let description = registry.describe(&options.model)?;
    let sample = match description.has(&GraphKind::Sample) {
        true => format!("zoo sample {out} --out grid.png, "),
        false => String::new(),
    };
    text.push_str(&format!(
        "next: {sample}zoo eval {out}, zoo export {out} --out BUNDLE\n"
    ));
    print(&text)?;
    Ok(Outcome::Done)
}
