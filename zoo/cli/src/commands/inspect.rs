//! `zoo inspect`

use std::path::PathBuf;

use clap::Args;
use zoo_deploy::onnx_file::{self, Inspection};
use zoo_sdk::Port;

use crate::failure::{Outcome, Result};
use crate::output::{print, print_json, row, table};

const EXAMPLES: &str = "\
Examples:
  zoo inspect bundles/vae/onnx/decode.onnx
  zoo inspect any.onnx --json

Exit code 1 means that the file can be read, but failed the check.";

/// Show what an ONNX file holds: ports, metadata, operators, and the graph as text
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// The ONNX file
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// One JSON object instead of a text
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Inspect) -> Result {
    let seen = onnx_file::inspect(&args.file)?;
    if args.json {
        print_json(&seen)?;
    } else {
        print(&text(&seen))?;
    }
    Ok(match seen.problem {
        None => Outcome::Done,
        Some(_) => Outcome::Failed,
    })
}

fn text(seen: &Inspection) -> String {
    let producer = match seen.producer.as_str() {
        "" => "an unknown program",
        name => name,
    };
    let mut text = format!(
        "{}\n  written by  {producer}\n  versions    opset {}, IR {}\n  size        {} bytes, {} parameters, {} nodes\n  \
         sha256      {}\n  check       {}\n",
        seen.file.display(),
        seen.opset,
        seen.ir_version,
        seen.bytes,
        seen.parameters,
        seen.nodes,
        seen.sha256,
        seen.problem.as_deref().unwrap_or("passed"),
    );
    for (title, ports) in [("Inputs", &seen.inputs), ("Outputs", &seen.outputs)] {
        text.push_str(&format!("\n{title}\n"));
        let rows: Vec<_> = ports
            .iter()
            .map(|p| {
                let name = format!("  {}", p.name);
                row([&name, &p.value_type().to_string(), &meaning(p)])
            })
            .collect();
        text.push_str(&table(&rows));
    }
    if !seen.metadata.is_empty() {
        text.push_str("\nMetadata\n");
        let rows: Vec<_> = seen
            .metadata
            .iter()
            .map(|(key, value)| row([&format!("  {key}"), &value.replace('\n', " ")]))
            .collect();
        text.push_str(&table(&rows));
    }
    text.push_str("\nOperators\n");
    let mut operators: Vec<_> = seen.operators.iter().collect();
    operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let rows: Vec<_> = operators
        .iter()
        .map(|(name, count)| row([&format!("  {name}"), &count.to_string()]))
        .collect();
    text.push_str(&table(&rows));
    text.push_str(&format!("\n{}", seen.graph));
    text
}

/// Which values a port takes, and what its author says of them.
fn meaning(port: &Port) -> String {
    let parts = [port.values(), port.description.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}
