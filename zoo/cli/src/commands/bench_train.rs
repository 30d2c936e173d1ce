//! `zoo bench-train`

use std::path::PathBuf;
use std::process::Command;

use clap::{ArgGroup, Args, ValueEnum};
use zoo_bench::suite::{self, Case, Options};
use zoo_bench::{Network, Size, kernels};

use super::Globals;
use crate::failure::{FAILED, Failure, Outcome, Result};
use crate::output::{print, print_json, table};

const EXAMPLES: &str = "\
Examples:
  zoo bench-train --suite torch
  zoo bench-train --suite torch --torch torch-venv/bin/python --rounds 5
  zoo bench-train --network dcgan --weights dcgan.safetensors --threads 2 --json
  zoo bench-train --network conv-vae --batch 16,64,256 --threads 1
  zoo bench-train --suite kernels

Each measurement runs in a process of its own: two steps to warm up, then those that count. CPU
time is user and system time of all threads. Without --weights, weights and data are drawn by a
generator that the PyTorch script has too.";

/// Time training steps, beside PyTorch, and the kernels below them, beside candle
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["suite", "network"]))]
pub struct BenchTrain {
    /// The five networks that PyTorch can be compared with, or kernels one by one beside candle's
    #[arg(long, value_enum)]
    suite: Option<Suite>,
    /// Networks of the suite: mlp-vae, conv-vae, dcgan, gated-pixelcnn, row-lstm
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    network: Vec<Network>,
    /// Weights, data and noise as the PyTorch script saves them: a file, or a folder with a file for each network
    #[arg(long, value_name = "F.safetensors")]
    weights: Option<PathBuf>,
    /// Steps to measure [default: as many as take some seconds]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    steps: Option<usize>,
    /// CPU threads, one measurement for each
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2", value_parser = super::at_least_one)]
    threads: Vec<usize>,
    /// Images a step, where they are drawn
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "64", value_parser = super::at_least_one)]
    batch: Vec<usize>,
    /// Height and width of the images, where they are drawn; multiples of 4
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "28", value_parser = super::at_least_one)]
    pixels: Vec<usize>,
    /// A Python with PyTorch and safetensors, to measure in turns with
    #[arg(long, value_name = "PYTHON")]
    torch: Option<PathBuf>,
    /// Processes for each measurement, of which the median counts [default: 3 with --torch, else 1]
    #[arg(long, value_name = "N", value_parser = super::at_least_one)]
    rounds: Option<usize>,
    /// Of drawn weights and data
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Measure here, not in a process of its own
    #[arg(long, hide = true)]
    in_process: bool,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    // No doc comments: clap would spread the whole page over twice the lines for them.
    Torch,
    Kernels,
}

/// Runs the command.
pub fn run(args: BenchTrain, globals: &Globals) -> Result {
    if args.suite == Some(Suite::Kernels) {
        return run_kernels(&args);
    }
    let networks = if args.network.is_empty() {
        Network::ALL.to_vec()
    } else {
        args.network
    };
    let sizes = args.batch.iter().flat_map(|&batch| {
        args.pixels
            .iter()
            .map(move |&pixels| Size { batch, pixels })
    });
    let options = Options {
        networks,
        threads: args.threads,
        sizes: sizes.collect(),
        steps: args.steps.map(|n| n as u64),
        rounds: args
            .rounds
            .unwrap_or(if args.torch.is_some() { 3 } else { 1 }),
        seed: args.seed,
        weights: args.weights,
        torch: args.torch,
    };
    if args.in_process {
        let (&[network], &[size], &[threads], Some(steps)) = (
            &options.networks[..],
            &options.sizes[..],
            &options.threads[..],
            options.steps,
        ) else {
            return Err(Failure::usage("--in-process measures one case"));
        };
        let case = Case {
            network,
            size,
            threads,
            steps,
            seed: options.seed,
            weights: options.weights,
        };
        print_json(&case.measure()?)?;
        return Ok(Outcome::Done);
    }
    let program = std::env::current_exe().map_err(|error| Failure::new(FAILED, &error))?;
    let child = |case: &Case| {
        let mut command = Command::new(&program);
        command
            .args(["bench-train", "--in-process"])
            .arg(format!("--network={}", case.network))
            .arg(format!("--threads={}", case.threads))
            .arg(format!("--steps={}", case.steps));
        match &case.weights {
            Some(path) => command.arg("--weights").arg(path),
            None => command
                .arg(format!("--batch={}", case.size.batch))
                .arg(format!("--pixels={}", case.size.pixels))
                .arg(format!("--seed={}", case.seed)),
        };
        command
    };
    let quiet = globals.quiet;
    let report = suite::run(&options, &child, &mut |text| {
        if !quiet {
            tracing::info!("{text}");
        }
    })?;
    if args.json {
        print_json(&report)?;
    } else {
        let torch = report.torch_version.as_ref().map_or(String::new(), |v| {
            format!("\nPyTorch {v}; faster: its time over ours, with Adam as it is and fused. Its MiB are without what importing it takes.")
        });
        print(&format!(
            "{}\nA large matrix product runs at {:.0} GFLOP/s on one core. Medians of {} round(s).{torch}\n",
            table(&report.rows()),
            report.gemm_gflops,
            report.rounds,
        ))?;
    }
    Ok(Outcome::Done)
}

fn run_kernels(args: &BenchTrain) -> Result {
    if args.weights.is_some() || args.torch.is_some() || args.steps.is_some() {
        return Err(Failure::usage(
            "--suite kernels takes --threads and --json: it has no weights, no steps and no PyTorch",
        ));
    }
    if let (true, &[threads]) = (args.in_process, &args.threads[..]) {
        print_json(&kernels::table(threads)?)?;
        return Ok(Outcome::Done);
    }
    let program = std::env::current_exe().map_err(|error| Failure::new(FAILED, &error))?;
    let report = kernels::run(&args.threads, &|threads| {
        let mut command = Command::new(&program);
        command
            .args(["bench-train", "--in-process", "--suite=kernels"])
            .arg(format!("--threads={threads}"));
        command
    })?;
    if args.json {
        print_json(&report)?;
    } else {
        print(&format!(
            "{}\nThe fastest of some runs; backward: gradients of input and weights together.\n",
            table(&report.rows()),
        ))?;
    }
    Ok(Outcome::Done)
}
