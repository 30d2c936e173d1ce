//! Who looks on while a model is trained.

use std::path::Path;

use zoo_sdk::{DataSpec, Event};

use crate::settings::Resolved;

/// Hears of everything while it happens.
pub trait Observer: Send {
    /// The settings and data of the run, before the first step.
    fn prepared(&mut self, _settings: &Resolved, _data: &DataSpec) {}
    /// What the plugin reports.
    fn event(&mut self, _event: &Event) {}
    /// A checkpoint is safe on the disk.
    fn saved(&mut self, _step: u64, _folder: &Path) {}
    /// A picture was drawn.
    fn picture(&mut self, _step: u64, _file: &Path) {}
    /// Something a person should know.
    fn warning(&mut self, _message: &str) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Observer for Quiet {}
