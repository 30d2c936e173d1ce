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

use std::fmt;

use serde_json::{Value as Json, json};
use zoo_runtimes::Search;
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: json!({}),
            size: 8,
            search: Search::default(),
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

/// All requirements.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order they were checked.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether every requirement holds.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }

    /// Panics with the report where a requirement does not hold: for tests.
    ///
    /// # Panics
    /// See above.
    pub fn assert_ok(&self) {
        assert!(self.ok(), "\n{self}");
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

/// Holds a plugin to all requirements.
pub fn check(plugin: &dyn Plugin, options: &Options) -> Report {
    let mut report = Report::default();
    description::check(plugin, &mut report);
    let subject = training::Subject::new(plugin, options);
    training::check(&subject, &mut report);
    graphs::check(&subject, &options.search, &mut report);
    report
}
