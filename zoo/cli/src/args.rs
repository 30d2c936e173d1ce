//! The command line as a whole; each command's own options stand with the command.

use clap::Parser;

use crate::commands::{Command, Globals};

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
