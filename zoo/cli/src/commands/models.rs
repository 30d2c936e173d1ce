//! `zoo models`

use clap::Args;
use serde::Serialize;
use zoo_sdk::Description;

use super::Globals;
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json, row, table};

/// List the models
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  zoo models\n  zoo models --json\n  zoo describe vae")]
pub struct Models {
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// A model in the stable JSON.
#[derive(Debug, Serialize)]
struct Model {
    name: String,
    family: String,
    density: String,
    paper: String,
    graphs: Vec<String>,
    pretrained: Vec<String>,
}

impl From<&Description> for Model {
    fn from(d: &Description) -> Self {
        Self {
            name: d.name.clone(),
            family: d.family.clone(),
            density: d.density.clone(),
            paper: citation(d),
            graphs: d.graphs.keys().cloned().collect(),
            pretrained: Vec::new(),
        }
    }
}

/// `Kingma, Welling: Auto-Encoding Variational Bayes (2014)`
pub fn citation(d: &Description) -> String {
    let paper = &d.paper;
    format!("{}: {} ({})", paper.authors, paper.title, paper.year)
}

/// Runs the command.
pub fn run(args: Models, globals: &Globals) -> Result {
    let registry = globals.registry()?;
    let models: Vec<Model> = registry.descriptions().map(Model::from).collect();
    if args.json {
        print_json(&models)?;
        return Ok(Outcome::Done);
    }
    let mut rows = vec![row(["MODEL", "FAMILY", "p(x)", "PAPER", "GRAPHS"])];
    for m in models {
        let graphs = m.graphs.join(" ");
        rows.push(vec![m.name, m.family, m.density, m.paper, graphs]);
    }
    print(&format!(
        "{}\n`zoo describe MODEL` says more: what it is, its settings, its graphs.\n",
        table(&rows)
    ))?;
    Ok(Outcome::Done)
}
