//! `zoo models`

use clap::Args;
use serde::Serialize;
use zoo_deploy::pretrained::{Pretrained, pretrained};
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
    task: &'static str,
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
            task: d.task.name(),
            paper: citation(d),
            graphs: d.graphs.keys().cloned().collect(),
            pretrained: trained(d).map(|bundle| bundle.name).collect(),
        }
    }
}

/// The trained bundles of a model.
fn trained(d: &Description) -> impl Iterator<Item = Pretrained> {
    let all = pretrained().into_iter();
    all.filter(|bundle| bundle.model == d.name)
}

/// `Goodfellow et al.`, where there are more than two.
fn short_authors(authors: &str) -> String {
    match authors.split(", ").collect::<Vec<_>>()[..] {
        [first, _, _, ..] => format!("{first} et al."),
        _ => authors.to_owned(),
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
    if args.json {
        let models: Vec<Model> = registry.descriptions().map(Model::from).collect();
        print_json(&models)?;
        return Ok(Outcome::Done);
    }
    let mut rows = vec![row(["MODEL", "FAMILY", "p(x)", "PAPER", "GRAPHS"])];
    for d in registry.descriptions() {
        let paper = &d.paper;
        let authors = short_authors(&paper.authors);
        let graphs: Vec<&str> = d.graphs.keys().map(String::as_str).collect();
        rows.push(row([
            &d.name,
            &d.family,
            &d.density,
            &format!("{authors}, {} ({})", paper.title, paper.year),
            &graphs.join(" "),
        ]));
    }
    let bundles: Vec<Vec<String>> = registry
        .descriptions()
        .flat_map(trained)
        .map(|bundle| row([&format!("pretrained:{}", bundle.name), &bundle.model]))
        .collect();
    let bundles = match bundles.is_empty() {
        true => String::new(),
        false => {
            let head = vec![row(["PRETRAINED", "MODEL"])];
            let all = [head, bundles].concat();
            format!("\n{}", table(&all))
        }
    };
    print(&format!(
        "{}{bundles}\n`zoo describe MODEL` says more: what it is, its settings, its graphs.\n",
        table(&rows)
    ))?;
    Ok(Outcome::Done)
}
