//! The `zoo` command: a thin layer over `zoo-runs` and `zoo-deploy`. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 done; 1 checked or computed, and failed; 2 bad usage or input; 130 and 143 ended by SIGINT or SIGTERM.

mod commands;
mod failure;
mod logging;
mod output;
mod parse;
mod progress;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use failure::USAGE;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and the version are results, everything else is bad usage. A reader that has gone is no error.
            let _ = message.print();
            let code = if message.use_stderr() { USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    logging::init(cli.globals.quiet, cli.globals.verbose);
    let code = match commands::run(cli) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            logging::say(&failure.text());
            failure.code
        }
    };
    if zoo_runtimes::given_up() {
        // What was printed is out: every command flushes its result.
        signal_hook::low_level::exit(code.into());
    }
    ExitCode::from(code)
}
