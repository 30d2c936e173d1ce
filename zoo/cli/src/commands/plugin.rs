//! `zoo plugin`

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use zoo_conformance::Options;
use zoo_runs::registry::{self, Added, Store};
use zoo_sdk::host::{Inspected, Isolation, Loaded, inspect, isolate};

use super::plugin_new::{self, New};
use super::{Globals, at_least_one};
use crate::failure::{Failure, Outcome, Result};
use crate::output::{print, print_json, row, table};
use crate::{logging, parse};

/// Add models of others, and write your own
#[derive(Debug, Args)]
pub struct Plugin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
    Check(Check),
    Add(Add),
    List(List),
    Remove(Remove),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  zoo plugin check target/release/libmy_gan.so
  zoo plugin check libmy_gan.so --set channels=16 --size 16

It trains the models for a few steps on a small synthetic data set, in a process of their own with
limits. Exit code 1 where a requirement does not hold.";

/// Hold a plugin to what every plugin is held to, in a process of its own
#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
struct Check {
    /// The shared library
    file: PathBuf,
    /// A setting of the model, such as hidden=16: small ones make it quick; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    set: Vec<String>,
    /// Height and width of the images
    #[arg(long, default_value = "8", value_parser = at_least_one)]
    size: usize,
    /// The memory that the process may have, in MiB
    #[arg(long, value_name = "MIB", default_value = "8192", value_parser = at_least_one)]
    memory: usize,
    /// How long it may compute without a sign of life, and a runtime for one answer [default: 60s, and 10m or a hundred
    /// times what the plugin takes]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// One JSON array instead of a text
    #[arg(long)]
    json: bool,
}

const ADD_EXAMPLES: &str = "\
Examples:
  zoo plugin add libmy_gan.so
  zoo plugin add libmy_gan.so --yes

It is copied into your data folder, and from then on loaded whenever a command needs the models
there are, as long as its SHA-256 stays the same. A plugin is a program: it can do whatever you can.";

/// Add a plugin's models to those of this program
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
struct Add {
    /// The shared library
    file: PathBuf,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// List the plugins that were added
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  zoo plugin list\n  zoo plugin list --json")]
struct List {
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Remove a plugin that was added
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  zoo plugin remove my-gan")]
struct Remove {
    /// The package, as `zoo plugin list` shows it
    package: String,
}

/// Runs the command.
pub fn run(args: Plugin, globals: &Globals) -> Result {
    match args.command {
        Command::New(args) => plugin_new::new(args),
        Command::Check(args) => check(args, globals),
        Command::Add(args) => add(args),
        Command::List(args) => list(args),
        Command::Remove(args) => remove(args),
    }
}

/// How this program starts processes for plugins.
pub fn isolation(memory: Option<usize>, silence: Duration) -> Result<Isolation> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::usage(format!("cannot find this program's own file: {e}")))?;
    Ok(Isolation {
        program,
        arguments: vec!["serve-plugin".into()],
        memory: memory.map(|mib| (mib as u64).saturating_mul(1 << 20)),
        silence,
    })
}

/// A requirement in the stable JSON.
#[derive(Debug, Serialize)]
struct Requirement<'a> {
    model: &'a str,
    requirement: &'a str,
    ok: bool,
    error: Option<&'a str>,
}

fn check(args: Check, globals: &Globals) -> Result {
    let silence = args.timeout.unwrap_or(Duration::from_secs(60));
    let isolation = isolation(Some(args.memory), silence)?;
    let loaded = isolate(&args.file, None, &isolation).map_err(zoo_runs::Error::from)?;
    let mut model = serde_json::json!({});
    for set in &args.set {
        let (key, value) = set.split_once('=').unwrap_or((set, ""));
        // As in --set elsewhere: a bare word is a text.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        model[key.strip_prefix("model.").unwrap_or(key)] = value;
    }
    let options = Options {
        model,
        size: args.size,
        search: globals.search(),
        timeout: args.timeout,
    };
    let reports: Vec<_> = loaded
        .plugins
        .iter()
        .map(|plugin| {
            let name = plugin.describe().name;
            tracing::info!("checking {name}");
            let report = zoo_conformance::check(plugin.as_ref(), &options);
            (name, report)
        })
        .collect();
    let ok = reports.iter().all(|(_, report)| report.ok());
    if args.json {
        // The same for each model.
        for missing in reports.iter().take(1).flat_map(|(_, r)| &r.left_out) {
            tracing::warn!("not compared on {}: {}", missing.runtime, missing.reason);
        }
        let rows = reports.iter().flat_map(|(model, report)| {
            report.checks.iter().map(move |check| Requirement {
                model,
                requirement: &check.name,
                ok: check.failure.is_none(),
                error: check.failure.as_deref(),
            })
        });
        print_json(&rows.collect::<Vec<_>>())?;
    } else {
        let mut text = about(&loaded.inspected);
        for (model, report) in &reports {
            text.push_str(&format!("\n{model}\n{report}"));
        }
        print(&text)?;
    }
    Ok(if ok { Outcome::Done } else { Outcome::Failed })
}

/// What a library is, for people.
fn about(inspected: &Inspected) -> String {
    let m = &inspected.metadata;
    let (major, minor) = m.abi;
    format!(
        "{} {}\n  file    {}\n  sha256  {}\n  ABI     {major}.{minor}\n",
        m.package,
        m.version,
        inspected.path.display(),
        inspected.sha256
    )
}

fn store() -> Result<Store> {
    Store::of_user().ok_or_else(|| {
        Failure::usage("there is no home folder to keep plugins in; set HOME or ZOO_DATA_DIR")
    })
}

fn add(args: Add) -> Result {
    let store = store()?;
    let inspected = inspect(&args.file, None).map_err(zoo_runs::Error::from)?;
    if !args.yes {
        ask(&inspected)?;
    }
    // Asked for by now. In a process of its own all the same: a library that crashes at once is not worth keeping.
    let isolation = isolation(None, Duration::from_secs(60))?;
    let Loaded { inspected, plugins } =
        isolate(&args.file, Some(&inspected.sha256), &isolation).map_err(zoo_runs::Error::from)?;
    let models: Vec<String> = plugins.iter().map(|p| p.describe().name).collect();
    let builtins = zoo_builtins::registry()?;
    if let Some(taken) = models.iter().find(|model| builtins.get(model).is_ok()) {
        return Err(Failure::usage(format!(
            "{}: it has a model named {taken:?}, and so has this program; the model needs another name",
            inspected.path.display()
        )));
    }
    let added = store.add(&inspected, models)?;
    tracing::debug!("kept in {}", store.folder().display());
    print(&format!(
        "added {} {}: {}\n",
        added.package,
        added.version,
        added.models.join(", ")
    ))?;
    Ok(Outcome::Done)
}

/// Goes on only where a person says yes.
fn ask(inspected: &Inspected) -> Result<()> {
    let stdin = std::io::stdin();
    let about = about(inspected);
    if !stdin.is_terminal() {
        return Err(Failure::usage(format!(
            "a plugin is a program that can do whatever you can, and nobody is here to ask; if you trust it, say --yes\n{about}"
        )));
    }
    logging::say(&format!(
        "{about}A plugin is a program: it can do whatever you can. Add it? [y/N] "
    ));
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let agreed = |word: &str| line.trim().eq_ignore_ascii_case(word);
    match read {
        Ok(_) if agreed("y") || agreed("yes") => Ok(()),
        _ => Err(Failure::usage("not added")),
    }
}

fn list(args: List) -> Result {
    let added = store()?.list()?;
    if args.json {
        print_json(&added)?;
        return Ok(Outcome::Done);
    }
    if added.is_empty() {
        print("no plugins were added; `zoo plugin add FILE` adds one\n")?;
        return Ok(Outcome::Done);
    }
    let mut rows = vec![row(["PLUGIN", "VERSION", "MODELS", "SHA-256", "FROM"])];
    for Added {
        package,
        version,
        models,
        sha256,
        source,
        ..
    } in &added
    {
        let short: String = sha256.chars().take(12).collect();
        rows.push(row([package, version, &models.join(" "), &short, source]));
    }
    print(&table(&rows))?;
    Ok(Outcome::Done)
}

fn remove(args: Remove) -> Result {
    let removed = store()?.remove(&args.package)?;
    print(&format!(
        "removed {} {}\n",
        removed.package, removed.version
    ))?;
    Ok(Outcome::Done)
}

/// The models of a command.
pub fn registry(named: &[PathBuf], isolated: bool) -> Result<zoo_runs::Registry> {
    // Long, since an honest step may take minutes.
    let isolation = match isolated {
        true => Some(isolation(None, Duration::from_secs(1800))?),
        false => None,
    };
    let store = Store::of_user();
    Ok(registry::assemble(
        zoo_builtins::plugins(),
        named,
        store.as_ref(),
        isolation.as_ref(),
    )?)
}
