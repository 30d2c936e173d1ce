//! `zoo translate`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use zoo_deploy::{TranslateOptions, Translator};

use super::{Globals, device};
use crate::failure::{Failure, Outcome, Result};
use crate::output::print;
use crate::parse;

const EXAMPLES: &str = "\
Examples:
  zoo translate pretrained:super-resolution-emoji small.png --out large.png
  zoo translate runs/sr photos/*.jpg --out larger --runtime ort";

/// Map pictures to pictures with a trained model: enlarge, colour, ...
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Translate {
    /// A run directory or a bundle; pretrained:NAME for one of those that zoo models lists
    #[arg(value_name = "RUN|DIR", value_parser = parse::trained)]
    path: PathBuf,
    /// PNG or JPEG pictures, of any size that the model takes
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    by: device::Computing,
    /// The picture to write; a folder for several, where each keeps its name
    #[arg(long, value_name = "OUT.png|DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Translate, globals: &Globals) -> Result {
    let single = args.pictures.len() == 1 && zoo_pictures::has_extension(&args.out, "png");
    let mut to = Vec::new();
    for picture in &args.pictures {
        let path = match single {
            true => args.out.clone(),
            false => args
                .out
                .join(picture.file_stem().unwrap_or_default())
                .with_extension("png"),
        };
        if to.contains(&path) {
            return Err(Failure::usage(format!(
                "two of the pictures are called {}; give them names of their own",
                path.display()
            )));
        }
        to.push(path);
    }
    if !single {
        std::fs::create_dir_all(&args.out)
            .map_err(|e| Failure::usage(format!("{}: {e}", args.out.display())))?;
    }
    let mut translator = Translator::open(
        &globals.registry()?,
        &TranslateOptions {
            path: args.path,
            runtime: args.by.runtime,
            weights: args.by.weights.unwrap_or_default(),
            threads: args.by.on.threads(),
            device: args.by.on.device,
            search: globals.search(),
        },
    )?;
    for (picture, path) in args.pictures.iter().zip(&to) {
        zoo_pictures::check_destination(path, &["png"])?;
        let start = Instant::now();
        let made = translator.picture(picture)?;
        let seconds = start.elapsed().as_secs_f64();
        zoo_pictures::save_png(&zoo_pictures::single(&made)?, path)?;
        let [.., h, w] = made.shape() else {
            continue;
        };
        print(&format!(
            "{} became {w}x{h} by {} on {} in {seconds:.2} s: {}\n",
            picture.display(),
            translator.model,
            translator.runtime,
            path.display()
        ))?;
    }
    Ok(Outcome::Done)
}
