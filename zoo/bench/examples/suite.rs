//! The suite without the rest of the program, which compiles in a fraction of the time: for work on the kernels.
//!
//! `cargo run --release -p zoo-bench --example suite -- [mlp-vae,dcgan,..|all|kernels] [THREADS] [WEIGHTS|-] [PYTHON|-] [BATCH,..] [PIXELS,..]`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{error::Error, path::PathBuf, process::Command};

use zoo_bench::{
    Network, Size, kernels,
    suite::{self, Case, Options},
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize| args.get(i).map(String::as_str);
    let path = |i: usize| argument(i).filter(|a| *a != "-").map(PathBuf::from);
    let threads = argument(1).unwrap_or("1").parse()?;
    let program = std::env::current_exe()?;

    // A process of its own for one case, started below.
    if argument(0) == Some("case") {
        let number = |i: usize| argument(i).unwrap_or_default().parse::<usize>();
        let case = Case {
            network: argument(2).unwrap_or_default().parse()?,
            size: Size {
                batch: number(4)?,
                pixels: number(5)?,
            },
            threads,
            steps: number(3)? as u64,
            seed: 0,
            weights: path(6),
        };
        println!("{}", serde_json::to_string(&case.measure()?)?);
        return Ok(());
    }
    if argument(0) == Some("kernels") {
        return show(&kernels::table(threads)?.rows());
    }

    let numbers = |i: usize, usual: usize| -> Result<Vec<usize>, _> {
        argument(i).map_or(Ok(vec![usual]), |list| {
            list.split(',').map(str::parse).collect()
        })
    };
    let usual = Size::default();
    let (batches, sides) = (numbers(4, usual.batch)?, numbers(5, usual.pixels)?);
    let sizes = batches
        .iter()
        .flat_map(|&batch| sides.iter().map(move |&pixels| Size { batch, pixels }));
    let options = Options {
        networks: match argument(0).unwrap_or("all") {
            "all" => Network::ALL.to_vec(),
            names => names.split(',').map(str::parse).collect::<Result<_, _>>()?,
        },
        threads: vec![threads],
        sizes: sizes.collect(),
        steps: None,
        rounds: 3,
        seed: 0,
        weights: path(2),
        torch: path(3),
    };
    let child = |case: &Case| {
        let mut command = Command::new(&program);
        command.args(["case", &case.threads.to_string(), case.network.name()]);
        command.args([
            case.steps.to_string(),
            case.size.batch.to_string(),
            case.size.pixels.to_string(),
        ]);
        command.args(&case.weights);
        command
    };
    let report = suite::run(&options, &child, &mut |text| eprintln!("{text}"))?;
    show(&report.rows())
}

fn show(rows: &[Vec<String>]) -> Result<(), Box<dyn Error>> {
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| format!("{cell:>14}")).collect();
        println!("{}", cells.join(" "));
    }
    Ok(())
}
