//! The command line: the commands, one file or folder each, with its options, its help and its words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use zoo_runs::Registry;
use zoo_runtimes::Search;

use crate::failure::Result;

mod bench;
mod bench_sample;
mod bench_train;
mod completions;
mod data;
mod demo;
mod describe;
mod device;
mod doctor;
mod eval;
mod export;
mod inspect;
mod models;
mod plugin;
mod plugin_new;
mod run;
mod runtime;
mod sample;
mod serve_plugin;
mod train;
mod translate;
mod verify;

const START: &str = "\
Start here:
  zoo demo                                             the whole job once, in a few minutes
  zoo train vae --data fashion-small --out runs/vae    train a model on images
  zoo sample runs/vae --out grid.png                   look at what it learned
  zoo export runs/vae --out bundles/vae                write it as ONNX files, proven
  zoo verify bundles/vae                               compare every runtime with the original

`zoo COMMAND --help` explains each command, with examples.
Results are written to standard output, messages to standard error. Exit codes: 0 done, 1 checked
and failed, 2 bad usage or input, 130/143 interrupted, with the state saved.";

/// Train generative models, export them to ONNX, and prove the export on every runtime.
#[derive(Debug, Parser)]
#[command(name = "zoo", version, after_help = START, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::Demo),
    Models(models::Models),
    Describe(describe::Describe),
    Train(train::Train),
    Eval(eval::Eval),
    Sample(sample::Sample),
    Translate(translate::Translate),
    Export(export::Export),
    Verify(verify::Verify),
    Bench(bench::Bench),
    BenchSample(bench_sample::BenchSample),
    BenchTrain(bench_train::BenchTrain),
    Run(run::Run),
    Inspect(inspect::Inspect),
    Data(data::Data),
    Doctor(doctor::Doctor),
    Plugin(plugin::Plugin),
    Runtime(runtime::Runtime),
    ServePlugin(serve_plugin::ServePlugin),
    Completions(completions::Completions),
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Globals {
    /// The ONNX Runtime library to use: the file, or a folder that holds it
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub ort: Option<PathBuf>,
    /// A shared library with further models, for this command alone; repeat for more
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help_heading = "Global options"
    )]
    pub plugin: Vec<PathBuf>,
    /// Run models from shared libraries in processes of their own
    #[arg(long, global = true, help_heading = "Global options")]
    pub isolate: bool,
    /// Say nothing but errors and results
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub quiet: bool,
    /// Say more; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

impl Globals {
    /// The models there are.
    pub fn registry(&self) -> Result<Registry> {
        plugin::registry(&self.plugin, self.isolate)
    }

    /// Where to look for runtimes.
    pub fn search(&self) -> Search {
        Search {
            ort: self.ort.clone(),
            data_dir: None,
        }
    }
}

/// For options that count something: a number of at least 1.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err("it is no whole number".to_owned()),
    }
}

/// `text` with a line end.
fn ended(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Runs the command.
pub fn run(cli: Cli) -> Result {
    let globals = &cli.globals;
    match cli.command {
        Command::Demo(args) => demo::run(args, globals),
        Command::Models(args) => models::run(args, globals),
        Command::Describe(args) => describe::run(args, globals),
        Command::Train(args) => train::run(args, globals),
        Command::Eval(args) => eval::run(args, globals),
        Command::Sample(args) => sample::run(args, globals),
        Command::Translate(args) => translate::run(args, globals),
        Command::Export(args) => export::run(args, globals),
        Command::Verify(args) => verify::run(args, globals),
        Command::Bench(args) => bench::run(args, globals),
        Command::BenchSample(args) => bench_sample::run(args, globals),
        Command::BenchTrain(args) => bench_train::run(args, globals),
        Command::Run(args) => run::run(args, globals),
        Command::Inspect(args) => inspect::run(args),
        Command::Data(args) => data::run(args),
        Command::Doctor(args) => doctor::run(args, globals),
        Command::Plugin(args) => plugin::run(args, globals),
        Command::Runtime(args) => runtime::run(args),
        Command::ServePlugin(args) => serve_plugin::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_explained_with_an_example() {
        fn check(command: &clap::Command) {
            if command.get_name() == "help" {
                return;
            }
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no explanation");
            for arg in command.get_arguments().filter(|a| a.get_id() != "help") {
                assert!(
                    arg.get_help().is_some(),
                    "{name}: {} has no help",
                    arg.get_id()
                );
            }
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                let longest = help.lines().map(str::len).max();
                assert!(longest.is_some_and(|n| n <= 100), "{name}: {longest:?}");
                assert!(
                    help.contains("Example") && help.contains("zoo "),
                    "{name} has no example"
                );
            }
        }
        let cli = Cli::command();
        cli.get_subcommands().for_each(check);
    }
}
