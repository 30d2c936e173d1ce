//! The tests that any plugin must pass.
//!
//! [`check`] trains a plugin's model for a few steps on a small synthetic data set and holds it to what the host relies on:
//! seeded and resumable trainings, refused nonsense, graphs that export and compute the same on every runtime found.
//! A plugin's own test is three lines:
//!
//! ```ignore
//! #[test]
//! fn conforms() {
//!     zoo_conformance::check(&zoo_nn::ModelPlugin::<MyModel>::default(), &Default::default()).assert_ok();
//! }
//! ```

mod data;
mod description;
mod graphs;
mod training;

use std::{fmt, io::Write, time::Duration};

use serde_json::{Value as Json, json};
use zoo_runtimes::{RuntimeId, Search};
use zoo_sdk::Plugin;

pub use data::Synthetic;

/// How to check.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings on top of the model's defaults: smaller networks make it faster.
    pub model: Json,
    /// Height and width of the synthetic images, for models that need a certain size.
    pub size: usize,
    /// Where to look for runtimes.
    pub search: Search,
    /// How long a runtime may take for one answer, where not [as ever](zoo_runtimes::patience).
    pub timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: json!({}),
            size: 8,
            search: Search::default(),
            timeout: None,
        }
    }
}

/// One requirement, and how the plugin failed it, if it did.
#[derive(Clone, Debug)]
pub struct Check {
    /// What is required.
    pub name: String,
    /// `None` where it holds.
    pub failure: Option<String>,
}

/// A runtime on which no graph was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// `ort`, `candle-onnx`.
    pub runtime: RuntimeId,
    /// Why, and what helps.
    pub reason: String,
}

/// All requirements.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// In the order they were checked.
    pub checks: Vec<Check>,
    /// Runtimes that are not here, which is no fault of the plugin.
    pub left_out: Vec<LeftOut>,
}

impl Report {
    /// Whether every requirement holds.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// Panics with the report where a requirement does not hold: for tests. Says on standard error which runtimes were left
    /// out, also where the test's own output is not shown.
    ///
    /// # Panics
    /// See above.
    pub fn assert_ok(&self) {
        assert!(self.ok(), "\n{self}");
        let mut text = format!("zoo-conformance: {} requirements hold\n", self.checks.len());
        for LeftOut { runtime, reason } in &self.left_out {
            text += &format!("zoo-conformance: not compared on {runtime}: {reason}\n");
        }
        // Where it cannot be written, nobody reads it.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn add(&mut self, name: impl Into<String>, outcome: Outcome) {
        self.checks.push(Check {
            name: name.into(),
            failure: outcome.err(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            match &check.failure {
                None => writeln!(f, "ok      {}", check.name)?,
                Some(failure) => writeln!(f, "FAILED  {}: {failure}", check.name)?,
            }
        }
        for LeftOut { runtime, reason } in &self.left_out {
            writeln!(f, "absent  not compared on {runtime}: {reason}")?;
        }
        Ok(())
    }
}

/// What a single check gives.
type Outcome<T = ()> = Result<T, String>;

/// An [`Outcome`] from a condition.
fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(otherwise()) }
}

/// Something that must be refused with an error that mentions one of `words`.
fn refused<T>(result: zoo_sdk::Result<T>, what: &str, words: &[&str]) -> Outcome {
    match result {
        Ok(_) => Err(format!("{what} was accepted")),
        Err(zoo_sdk::Error::Input(message)) => ensure(
            words.is_empty() || words.iter().any(|w| message.contains(w)),
            || format!("the error for {what} names none of {words:?}: {message}"),
        ),
        Err(other) => Err(format!("{what} must be an Input error, not {other:?}")),
    }
}

/// The runtimes that an export serves, but that are not here.
fn left_out(search: &Search) -> Vec<LeftOut> {
    let missing = zoo_runtimes::not_built().map(|runtime| LeftOut {
        reason: format!(
            "it is not compiled in; the feature {:?} adds it",
            runtime.name()
        ),
        runtime,
    });
    let found = zoo_runtimes::found(search).into_iter();
    let unusable = found.filter_map(|(runtime, found)| {
        Some(LeftOut {
            runtime,
            reason: found.err()?.to_string(),
        })
    });
    unusable.chain(missing).collect()
}

/// Holds a plugin to all requirements.
pub fn check(plugin: &dyn Plugin, options: &Options) -> Report {
    let mut report = Report {
        left_out: left_out(&options.search),
        ..Report::default()
    };
    description::check(plugin, &mut report);
    let subject = training::Subject::new(plugin, options);
    training::check(&subject, &mut report);
    graphs::check(&subject, options, &mut report);
    report
}
