//! The demo's report.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use zoo_runs::directory::losses;
use zoo_sdk::RuntimeId;

use super::Demo;
use super::plan::{DATA, Done, Part, minutes};

/// `report.md`.
pub(super) fn text(options: &Demo, parts: &[Part], demo: &Done) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, options, parts, demo);
    out
}

fn write(out: &mut String, options: &Demo, parts: &[Part], demo: &Done) -> fmt::Result {
    let kind = if options.quick { "quick demo" } else { "demo" };
    writeln!(
        out,
        "# Report of the {kind}\n\nTwo models were trained on `{DATA}` with candle, exported to ONNX, and run on every runtime found here: {} in all.\n",
        minutes(demo.seconds)
    )?;
    writeln!(out, "## Training\n\n![Losses](training.png)\n")?;
    writeln!(
        out,
        "| model | steps | time | ended by | last losses |\n|---|---|---|---|---|"
    )?;
    for part in parts {
        let ended = match part.trained.reason {
            zoo_sdk::StopReason::TimeLimit => "the time limit",
            _ => "the last epoch",
        };
        writeln!(
            out,
            "| {} | {} | {} | {ended} | {} |",
            part.plan.title,
            part.trained.step,
            minutes(part.trained.seconds),
            last_losses(part)
        )?;
    }
    writeln!(out, "\n## Pictures\n")?;
    for (name, caption) in [
        ("vae-samples.png", "Drawn by the VAE from noise"),
        ("gan-samples.png", "Drawn by the GAN from noise"),
        (
            "reconstructions.png",
            "Test images, and what the VAE keeps of them",
        ),
        (
            "runtimes.png",
            "The same noise in candle and in each runtime, with what differs",
        ),
    ] {
        if demo.pictures.iter().any(|path| path.ends_with(name)) {
            writeln!(out, "{caption}:\n\n![{caption}]({name})\n")?;
        }
    }
    writeln!(out, "## Measured on test images\n")?;
    for part in parts {
        let figures = part.exported.manifest.metrics.iter();
        let figures: Vec<String> = figures
            .filter_map(|(name, value)| {
                let name = name.strip_prefix("test/")?;
                let digits = if value.fract() == 0.0 { 0 } else { 3 };
                Some(format!("{name} {value:.digits$}"))
            })
            .collect();
        writeln!(out, "- {}: {}", part.plan.title, figures.join(", "))?;
    }
    writeln!(
        out,
        "\n## Runtimes\n\nEvery graph was run at batch 1, 3 and 7 and compared with candle; allowed is 1e-5 + 1e-4 of the value.\n"
    )?;
    writeln!(
        out,
        "| model | runtime | comparisons | largest difference | verdict |\n|---|---|---|---|---|"
    )?;
    for part in parts {
        let mut by_runtime: BTreeMap<&RuntimeId, Vec<_>> = BTreeMap::new();
        for row in &part.verified.results {
            by_runtime.entry(&row.runtime).or_default().push(row);
        }
        for (runtime, rows) in by_runtime {
            let failed = rows.iter().find(|row| !row.ok);
            let largest = rows
                .iter()
                .filter_map(|row| row.max_abs)
                .fold(0.0, f64::max);
            let verdict = failed.map_or("agrees".to_owned(), |row| {
                format!(
                    "**differs**: {} {}: {}",
                    row.graph,
                    row.output,
                    row.finding()
                )
            });
            writeln!(
                out,
                "| {} | {runtime} | {} | {largest:.1e} | {verdict} |",
                part.plan.title,
                rows.len()
            )?;
        }
    }
    let mut skipped: Vec<_> = parts.iter().flat_map(|p| &p.verified.skipped).collect();
    // One line for each runtime, not for each model.
    skipped.sort_by(|a, b| a.runtime.cmp(&b.runtime));
    skipped.dedup_by(|a, b| a.runtime == b.runtime);
    if !skipped.is_empty() {
        writeln!(out)?;
    }
    for left_out in skipped {
        let (runtime, reason) = (&left_out.runtime, &left_out.reason);
        writeln!(out, "- {runtime} was left out: {reason}")?;
    }
    writeln!(out, "\n## What is where\n")?;
    for part in parts {
        let model = part.model();
        writeln!(
            out,
            "- `{model}/`: the run: settings, checkpoints, metrics, pictures of each epoch\n- `{model}-onnx/`: the bundle: ONNX files, weights, test vectors, and a model card that says how to run it from Rust, Python and the web"
        )?;
    }
    let dir = options.out.display();
    writeln!(
        out,
        "\n## What to try next\n\nIn a clone of the repository, write `cargo zoo` for `zoo`.\n\n```sh"
    )?;
    for line in [
        format!("zoo sample {dir}/gan-onnx --seed 7 --out more.png    # other noise"),
        format!("zoo verify {dir}/vae-onnx                            # every comparison"),
        format!(
            "zoo bench {dir}/gan-onnx                             # which runtime is fastest here"
        ),
        format!(
            "zoo inspect {dir}/vae-onnx/onnx/decode.onnx          # what an exported graph looks like"
        ),
        "zoo models                                         # what else can be trained".to_owned(),
        "zoo train vae --data FOLDER --out my-run           # your own images".to_owned(),
    ] {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "```")
}

/// The mean of each loss over the last twentieth of the training.
fn last_losses(part: &Part) -> String {
    let Ok(series) = losses(&part.trained.run) else {
        return String::new();
    };
    let means = series.iter().map(|s| {
        let last = &s.points[s.points.len() - (s.points.len() / 20).max(1).min(s.points.len())..];
        let mean = last.iter().map(|p| p.1).sum::<f64>() / last.len().max(1) as f64;
        format!("{} {mean:.2}", s.name)
    });
    means.collect::<Vec<_>>().join(", ")
}
