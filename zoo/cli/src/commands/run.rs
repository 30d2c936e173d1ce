//! `zoo run`

use std::path::PathBuf;

use clap::Args;
use zoo_deploy::onnx_file::{self, RunOptions};
use zoo_sdk::RuntimeId;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{number, print, print_json, row, table};
use crate::parse;

const EXAMPLES: &str = "\
Examples:
  zoo run bundles/vae/onnx/decode.onnx --input z=z.npy --out images
  zoo run any.onnx --input x=x.npy --input mask=mask.npy --out results --runtime ort

Inputs are files that numpy.save wrote. Each output becomes DIR/NAME.npy, and DIR/NAME.png where
it looks like images.
`zoo inspect FILE.onnx` shows the names, types and shapes of the inputs.";

/// Run one ONNX file on arrays of your own
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// The ONNX file; it is checked before any runtime sees it
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// An input: its name and an .npy file; repeat for more
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = parse::named_file)]
    input: Vec<(String, PathBuf)>,
    /// The folder to write the outputs to; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What computes: tract, ort or candle-onnx
    #[arg(long, value_name = "R", default_value_t)]
    runtime: RuntimeId,
    /// Where to compute: cpu, cuda:0, tensorrt:0, coreml, directml or webgpu
    #[arg(long, value_name = "D", default_value = "cpu")]
    device: String,
    /// CPU threads [default: what the runtime chooses]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    threads: Option<usize>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Run, globals: &Globals) -> Result {
    let options = RunOptions {
        inputs: args.input,
        runtime: args.runtime,
        device: args.device,
        threads: args.threads.unwrap_or(0),
        search: globals.search(),
        ..RunOptions::new(args.file, args.out)
    };
    let report = onnx_file::run(&options)?;
    if args.json {
        print_json(&report)?;
        return Ok(Outcome::Done);
    }
    let mut rows = vec![row(["OUTPUT", "TYPE", "MIN", "MAX", "MEAN", "FILES"])];
    for output in &report.outputs {
        let figure = |value: Option<f64>| value.map_or("not finite".to_owned(), number);
        let picture = output.picture.as_ref();
        let picture = picture.map_or(String::new(), |p| format!(" {}", p.display()));
        rows.push(vec![
            output.name.clone(),
            format!("{}{:?}", output.dtype, output.shape),
            figure(output.min),
            figure(output.max),
            figure(output.mean),
            format!("{}{picture}", output.file.display()),
        ]);
    }
    let ms = report.seconds * 1e3;
    print(&format!(
        "{}\ncomputed by {} in {ms:.2} ms\n",
        table(&rows),
        report.runtime
    ))?;
    Ok(Outcome::Done)
}
