//! `zoo sample`

use std::path::PathBuf;

use clap::Args;
use zoo_deploy::{Given, Known, SampleOptions};

use super::{Globals, device};
use crate::failure::{Outcome, Result};
use crate::output::print;
use crate::parse;

const EXAMPLES: &str = "\
Examples:
  zoo sample runs/vae --out grid.png
  zoo sample runs/gan -n 16 --seed 7 --out sixteen.png
  zoo sample bundles/gan --runtime ort --out same-picture.png
  zoo sample pretrained:pixelcnn-mnist --out digits.gif
  zoo sample runs/flow --input steps=8 --input temperature=0.7 --out eight-steps.png
  zoo sample runs/pixelcnn --given half.png --mask upper-half-white.png -n 16 --out completed.png

`zoo describe MODEL` shows what a model's graph sample reads.
The same seed draws the same picture in every runtime. Where pixels have 256 levels, rounding can
make an image differ now and then.";

/// Draw images with a trained model
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Sample {
    /// A run directory or a bundle; pretrained:NAME for one of those that zoo models lists
    #[arg(value_name = "RUN|DIR", value_parser = parse::trained)]
    path: PathBuf,
    /// How many images
    #[arg(short = 'n', long, value_name = "N", default_value_t = 64, value_parser = super::at_least_one)]
    count: usize,
    /// The number from which the noise follows
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// The class to draw, for models that take one [default: all in turn]
    #[arg(long, value_name = "L")]
    label: Option<i64>,
    /// A picture to complete, of the size that the model draws; for models with a graph complete
    #[arg(long, value_name = "IMG", requires = "mask")]
    given: Option<PathBuf>,
    /// Which part of it is kept: white is kept, black is drawn
    #[arg(long, value_name = "IMG", requires = "given")]
    mask: Option<PathBuf>,
    /// A further input of the graph that draws, such as a number of steps or a temperature: a number, or an .npy file of the
    /// input's shape as NAME=@FILE.npy; repeat for more [default for a number of steps: the most]
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::given)]
    input: Vec<(String, Given)>,
    #[command(flatten)]
    by: device::Computing,
    /// The picture to write; a .gif shows images that are drawn pixel by pixel as they are drawn
    #[arg(long, value_name = "GRID.png")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Sample, globals: &Globals) -> Result {
    zoo_pictures::check_destination(&args.out, &["png", "gif"])?;
    let options = SampleOptions {
        count: args.count,
        seed: args.seed,
        label: args.label,
        known: args
            .given
            .zip(args.mask)
            .map(|(given, mask)| Known { given, mask }),
        inputs: args.input,
        runtime: args.by.runtime,
        weights: args.by.weights.unwrap_or_default(),
        threads: args.by.on.threads(),
        device: args.by.on.device,
        search: globals.search(),
        ..SampleOptions::new(args.path)
    };
    let samples = zoo_deploy::sample(&globals.registry()?, &options)?;
    samples.save(&args.out)?;
    print(&format!(
        "{} images of {} drawn by {} in {:.2} s: {}\n",
        options.count,
        samples.model,
        samples.runtime,
        samples.seconds,
        args.out.display()
    ))?;
    Ok(Outcome::Done)
}
