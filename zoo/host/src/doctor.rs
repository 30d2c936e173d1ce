//! The library call behind `zoo doctor`.

use std::path::PathBuf;

use serde::Serialize;
use zoo_runtimes::Search;

use crate::registry::Registry;

/// What this program finds on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Doctor {
    /// The program's version.
    pub version: String,
    /// `linux x86_64`.
    pub system: String,
    /// CPU threads that it may use.
    pub cores: usize,
    /// Instruction sets that the kernels can use here.
    pub cpu_features: Vec<String>,
    /// Everything that runs ONNX files, and candle, that trains.
    pub runtimes: Vec<RuntimeReport>,
    /// Models that can be trained.
    pub models: Vec<ModelReport>,
    /// Data sets in the program.
    pub data: Vec<DataReport>,
    /// Where libraries are installed, where there is a home.
    pub data_dir: Option<PathBuf>,
}

/// A runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeReport {
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub found: bool,
    /// Its version.
    pub version: Option<String>,
    /// The library, where it is not part of the program.
    pub path: Option<PathBuf>,
    /// Devices that it computes on here.
    pub devices: Vec<String>,
    /// What is missing and how to get it.
    pub reason: Option<String>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataReport {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Its licence.
    pub licence: String,
}

/// Looks around. Never fails: what is missing is part of the report.
pub fn doctor(registry: &Registry, search: &Search) -> Doctor {
    let _ = (registry, search);
    todo!()
}

impl std::fmt::Display for Doctor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.version)
    }
}
