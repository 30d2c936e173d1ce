//! `zoo describe`

use clap::Args;
use zoo_runs::settings::{self, Setting};
use zoo_sdk::{Description, Port, SHOWN_IMAGE, Task};

use super::{Globals, models::citation};
use crate::failure::{Outcome, Result};
use crate::output::{print, print_json, wrap};

/// Say what a model is, what can be set, and which graphs it exports
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  zoo describe vae\n  zoo describe gan --json")]
pub struct Describe {
    /// The model's name: `zoo models` lists them
    model: String,
    /// The model's whole description as JSON, schemas of its settings included
    #[arg(long)]
    json: bool,
}

const WIDTH: usize = 100;

/// Runs the command.
pub fn run(args: Describe, globals: &Globals) -> Result {
    let registry = globals.registry()?;
    let description = registry.describe(&args.model)?;
    if args.json {
        print_json(description)?;
    } else {
        print(&prose(description, &settings::list(description)?))?;
    }
    Ok(Outcome::Done)
}

fn prose(d: &Description, settings: &[Setting]) -> String {
    let mut text = wrap(&format!("{}: {}", d.name, d.summary), 0, WIDTH);
    text.push_str(&format!(
        "\nPaper   {}\n        {}\n",
        citation(d),
        d.paper.url
    ));
    let density = match d.density.as_str() {
        "tractable" => "its likelihood p(x) is computed exactly",
        "approximate" => "its likelihood p(x) is bounded or estimated",
        "implicit" => "it has no likelihood, it can only be sampled",
        _ => "it is no model of p(x)",
    };
    text.push_str(&format!("Family  {}; {density}\n", d.family));
    let task = match d.task {
        Task::GenerateFromLabel => "images from a class; the data need labels",
        Task::ImageToImage => {
            "from one image to another; the data need targets, or data.degrade makes pairs of images"
        }
        Task::Represent => "from an image to a code and back",
        _ => "images like those of the data",
    };
    text.push_str(&format!("Task    {task}\n"));
    if let Some((metric, larger)) = &d.best_metric {
        let better = if *larger { "largest" } else { "smallest" };
        text.push_str(&format!(
            "Best    the checkpoint with the {better} {metric} on held-out images (data.valid)\n"
        ));
    }
    text.push_str(&graphs(d));
    text.push_str("\nSettings (change one with --set KEY=VALUE; `model.` may be left out)\n");
    for setting in settings {
        text.push_str(&format!("  {} = {}\n", setting.key, setting.default));
        let doc = match setting.doc.trim().trim_end_matches('.') {
            "" => String::new(),
            doc => format!("{doc}. "),
        };
        text.push_str(&wrap(
            &format!("{doc}Takes {}.", setting.expected),
            6,
            WIDTH,
        ));
    }
    text.push_str(&format!(
        "\nTry it: zoo train {} --data fashion-small --out runs/{0}\n",
        d.name
    ));
    text
}

/// The graphs with their ports, and what the ports carry.
fn graphs(d: &Description) -> String {
    let [c, h, w] = SHOWN_IMAGE;
    let mut text = String::from("\nGraphs that `zoo export` writes");
    if !d.signatures.is_empty() {
        text.push_str(&format!(
            " (N is the batch; shapes are those of the default settings and {c}x{h}x{w} images)"
        ));
    }
    text.push('\n');
    for (name, doc) in &d.graphs {
        text.push_str(&format!("  {name}\n"));
        text.push_str(&wrap(doc, 6, WIDTH));
        if let Some(graph) = d.signatures.iter().find(|g| g.name == *name) {
            for (verb, ports) in [("reads", &graph.inputs), ("gives", &graph.outputs)] {
                let ports: Vec<String> = ports.iter().map(port).collect();
                text.push_str(&format!("      {verb} {}\n", ports.join(", ")));
            }
        }
    }
    let mut known = Vec::new();
    for port in d
        .signatures
        .iter()
        .flat_map(|g| g.inputs.iter().chain(&g.outputs))
    {
        let meaning = port.meaning().map(|meaning| (&port.name, meaning));
        known.extend(meaning.filter(|line| !known.contains(line)));
    }
    if !known.is_empty() {
        text.push_str("\nPorts\n");
        for (name, meaning) in known {
            text.push_str(&wrap(&format!("{name}: {meaning}"), 2, WIDTH));
        }
    }
    text
}

/// A port in one line: name, type, what to feed.
fn port(port: &Port) -> String {
    let values = match (port.distribution, port.values()) {
        (Some(_), Some(noise)) => format!(", {noise}"),
        (None, Some(range)) => format!(" in {range}"),
        (_, None) => String::new(),
    };
    format!("{} {}{values}", port.name, port.value_type())
}
