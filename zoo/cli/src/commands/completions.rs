//! `zoo completions`

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::failure::{Outcome, Result};
use crate::output::print;

const EXAMPLES: &str = "\
Examples:
  zoo completions bash > ~/.local/share/bash-completion/completions/zoo
  zoo completions zsh > ~/.zfunc/_zoo
  zoo completions fish > ~/.config/fish/completions/zoo.fish";

/// Print completions for a shell, to be put where it looks for them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Runs the command.
pub fn run(args: Completions) -> Result {
    let mut text = Vec::new();
    generate(args.shell, &mut super::Cli::command(), "zoo", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(Outcome::Done)
}
