//! `zoo describe`

use clap::Args;
use zoo_host::settings::{self, Setting};
use zoo_sdk::Description;

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

/// What a graph of that name reads and gives, in every model that has it.
const GRAPHS: [(&str, &str, &str); 9] = [
    ("encode", "x", "mean, log_var, or z"),
    ("decode", "z", "x"),
    ("reconstruct", "x", "x_hat"),
    ("sample", "noise [, label]", "x"),
    ("complete", "noise, x, mask", "x"),
    ("log_prob", "x [, noise] [, label]", "log_prob"),
    ("discriminate", "x [, label]", "logit"),
    ("step_row", "state of the row", "state"),
    ("step_pixel", "state of the pixel", "x, state"),
];

/// What a port of that name carries, in every graph that has it.
const PORTS: [(&str, &str); 10] = [
    ("x", "images, f32 [N,C,H,W], 0 is black and 1 is white"),
    ("x_hat", "reconstructed images, f32 [N,C,H,W] in 0 to 1"),
    ("z", "latent vectors, f32 [N,L]"),
    (
        "mean, log_var",
        "mean and log-variance of q(z|x), f32 [N,L]",
    ),
    (
        "noise",
        "random numbers that the caller draws, so that the same noise gives the same image everywhere; the port says \
         whether they are normal or uniform",
    ),
    ("label", "classes, i64 [N]"),
    (
        "mask",
        "1 where a pixel is given, 0 where it is to be drawn",
    ),
    ("log_prob", "log p(x) of each image in nats, f32 [N]"),
    (
        "logit",
        "f32 [N]; its sigmoid is the probability that the image is real",
    ),
    ("state", "what one step hands to the next"),
];

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
    if let Some((metric, larger)) = &d.best_metric {
        let better = if *larger { "largest" } else { "smallest" };
        text.push_str(&format!(
            "Best    the checkpoint with the {better} {metric} on held-out images (data.valid)\n"
        ));
    }
    text.push_str("\nGraphs that `zoo export` writes\n");
    let mut ports = String::new();
    for (name, doc) in &d.graphs {
        text.push_str(&format!("  {name}\n"));
        text.push_str(&wrap(doc, 6, WIDTH));
        if let Some((_, reads, gives)) = GRAPHS.iter().find(|(n, ..)| n == name) {
            text.push_str(&format!("      reads {reads}; gives {gives}\n"));
            ports.push_str(&format!("{reads} {gives} "));
        }
    }
    let used: Vec<&str> = ports
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    text.push_str("\nPorts\n");
    for (name, meaning) in PORTS {
        if name.split(", ").any(|n| used.contains(&n)) {
            text.push_str(&format!("  {name}\n"));
            text.push_str(&wrap(meaning, 6, WIDTH));
        }
    }
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
