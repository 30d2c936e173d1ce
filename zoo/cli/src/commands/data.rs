//! `zoo data`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use zoo_data::{DataInfo, KNOWN, Source};
use zoo_runs::settings;

use crate::failure::{Outcome, Result};
use crate::output::{number, print, print_json, row, table};
use crate::parse;

/// Look at data sets, and convert them
#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Info(Info),
    Import(Import),
}

const FORMATS: &str = "\
Besides these, --data takes a path:
  a folder of IDX files, gzipped or not (MNIST, Fashion-MNIST)
  a folder with the CIFAR-10 binary batches
  a folder of PNG or JPEG images, a sub-folder for each class
  an .npz file with x_train, y_train, x_test, y_test, or train, valid, test, or images, labels
";

/// List the data sets that come with this program, and what else can be read
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  zoo data list")]
struct List {
    /// One JSON array instead of a text
    #[arg(long)]
    json: bool,
}

const INFO_EXAMPLES: &str = "\
Examples:
  zoo data info fashion-small --out garments.png
  zoo data info photos/ --set data.size=32x32 --json";

/// Show what a data set holds: counts, shape, classes, range, hash, and a picture
#[derive(Debug, Args)]
#[command(after_help = INFO_EXAMPLES)]
struct Info {
    /// A data set's name or path: what --data takes
    data: String,
    /// A setting of the data, such as data.size=32x32 or data.valid=500; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    set: Vec<String>,
    /// Draw some of its images, a row for each class, into this PNG
    #[arg(long, value_name = "GRID.png")]
    out: Option<PathBuf>,
    /// The split to draw: train, valid or test
    #[arg(long, default_value = "train")]
    split: String,
    /// One JSON object instead of a text
    #[arg(long)]
    json: bool,
}

const IMPORT_EXAMPLES: &str = "\
Example:
  zoo data import photos/ --set data.size=32x32 --out photos.npz
  zoo train gan --data photos.npz --out runs/photos";

/// Convert a data set into one .npz file that loads fast and always the same
#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct Import {
    /// A data set's name or path: what --data takes
    data: String,
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE.npz")]
    out: PathBuf,
    /// A setting of the data, such as data.size=32x32; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    set: Vec<String>,
}

/// Runs the command.
pub fn run(args: Data) -> Result {
    match args.command {
        Command::List(args) => list(args),
        Command::Info(args) => info(args),
        Command::Import(args) => import(args),
    }
}

fn list(args: List) -> Result {
    if args.json {
        let sets: Vec<_> = KNOWN
            .iter()
            .map(|k| {
                serde_json::json!({
                    "name": k.name, "summary": k.summary, "licence": k.licence, "found": k.is_here(),
                })
            })
            .collect();
        print_json(&sets)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for set in KNOWN {
        text.push_str(&format!(
            "{}\n  {}\n  licence: {}\n",
            set.name, set.summary, set.licence
        ));
        if !set.is_here() {
            text.push_str(&format!(
                "  its file is not here: zoo data info {} says where to put it\n",
                set.name
            ));
        }
    }
    print(&format!("{text}\n{FORMATS}"))?;
    Ok(Outcome::Done)
}

fn info(args: Info) -> Result {
    const COLUMNS: usize = 10;
    if let Some(out) = &args.out {
        zoo_pictures::check_destination(out, &["png"])?;
    }
    let (source, settings) = settings::resolve_data(&args.data, &args.set)?;
    let data = zoo_data::load(&Source::parse(&source)?, &settings)?;
    // First, so that a split that is not there is an error in every case.
    data.split(&args.split)?;
    if let Some(out) = &args.out {
        let images = zoo_data::preview(&data, &args.split, COLUMNS, 10)?;
        zoo_pictures::save_png(&zoo_pictures::grid(&images, COLUMNS, None)?, out)?;
        tracing::info!("drawn: {}", out.display());
    }
    let info = zoo_data::info(&data);
    if args.json {
        print_json(&info)?;
        return Ok(Outcome::Done);
    }
    let mut text = text(&info);
    if args.out.is_none() {
        text.push_str("\n--out GRID.png draws some of the images.\n");
    }
    print(&text)?;
    Ok(Outcome::Done)
}

fn text(info: &DataInfo) -> String {
    let [c, h, w] = info.image;
    let mut text = format!(
        "{}: images {h}x{w}, {}\n  sha256   {}\n",
        info.name,
        match c {
            1 => "grey".to_owned(),
            3 => "colour".to_owned(),
            n => format!("{n} channels"),
        },
        info.sha256
    );
    if let Some([c, h, w]) = info.target {
        text.push_str(&format!("  targets  {h}x{w}, {c} channels\n"));
    }
    if let Some(licence) = &info.licence {
        text.push_str(&format!("  licence  {licence}\n"));
    }
    let mut rows = vec![row([
        "SPLIT", "IMAGES", "TYPE", "MIN", "MAX", "MEAN", "STD",
    ])];
    for split in &info.splits {
        let mut cells = row([split.name, &split.images.to_string(), split.dtype]);
        let figures = [split.range[0], split.range[1], split.mean, split.std];
        cells.extend(figures.map(number));
        rows.push(cells);
    }
    text.push_str(&format!("\n{}", table(&rows)));
    if !info.classes.is_empty() {
        let mut head = row(["CLASS", "NAME"]);
        head.extend(info.splits.iter().map(|s| s.name.to_uppercase()));
        let mut rows = vec![head];
        for (i, class) in info.classes.iter().enumerate() {
            let mut cells = row([&i.to_string(), class]);
            let count = |counts: &Vec<usize>| counts.get(i).copied().unwrap_or(0).to_string();
            cells.extend(info.splits.iter().map(|s| count(&s.per_class)));
            rows.push(cells);
        }
        text.push_str(&format!("\n{}", table(&rows)));
    }
    for note in &info.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    if !info.notes.is_empty() {
        text.push('\n');
    }
    text
}

fn import(args: Import) -> Result {
    let (source, settings) = settings::resolve_data(&args.data, &args.set)?;
    let info = zoo_data::import(&Source::parse(&source)?, &settings, &args.out)?;
    let images: usize = info.splits.iter().map(|s| s.images).sum();
    print(&format!(
        "wrote {images} images to {}\n  sha256  {}\n",
        args.out.display(),
        info.sha256
    ))?;
    Ok(Outcome::Done)
}
