//! `manifest.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zoo_graph::{Port, RuntimeId, Sizes};

/// The manifest's name in a bundle.
pub const MANIFEST: &str = "manifest.json";

/// The [driver](VariantEntry::driver) of step graphs: a JSON file with [`zoo_graph::Steps`], whose files lie beside it.
pub const STEPS: &str = "steps";

/// The version of the manifest's form that this crate writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// All that is known of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`]; the writer sets it.
    pub schema_version: u32,
    /// The model's name: `vae`.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// One line for people.
    #[serde(default)]
    pub summary: String,
    /// ONNX operator set of the graphs; the writer sets it.
    pub opset: i64,
    /// ONNX IR version of the graphs; the writer sets it.
    pub ir_version: i64,
    /// The run's seed.
    pub seed: u64,
    /// Steps trained.
    #[serde(default)]
    pub step: u64,
    /// What it was trained on.
    pub data: DataEntry,
    /// Metrics on held-out data, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// The model's settings, also in `config.json`.
    pub config: Json,
    /// Graphs by name; the writer adds them.
    #[serde(default)]
    pub graphs: BTreeMap<String, GraphEntry>,
    /// What was run and compared before the bundle was written.
    #[serde(default)]
    pub proven: Vec<Proof>,
    /// SHA-256 of every other file by its path; the writer adds them.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// A data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataEntry {
    /// Its name.
    pub name: String,
    /// SHA-256 over its decoded images and labels.
    pub sha256: String,
    /// How its images became binary: `none`, `threshold`, `dynamic`, `static`.
    pub binarization: String,
    /// Channels, height, width.
    pub image: [usize; 3],
    /// Those of the targets, where each image comes with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<[usize; 3]>,
    /// What made an input of each image, if anything did: `shrink 2`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub degrade: String,
    /// Names of the classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Its licence, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// A graph and its files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GraphEntry {
    /// What it computes, in one line.
    pub doc: String,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    /// Its files.
    pub variants: Vec<VariantEntry>,
}

/// A file with a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VariantEntry {
    /// Its path in the bundle: `onnx/decode.onnx`.
    pub file: String,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// The runtimes that it serves.
    pub runtimes: Vec<RuntimeId>,
    /// How a host drives it, where one call is not all: the name of a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl VariantEntry {
    /// Whether a runtime can run it.
    pub fn serves(&self, runtime: &RuntimeId) -> bool {
        self.runtimes.contains(runtime)
    }
}

/// One comparison with the reference: a row of `zoo verify --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// The graph.
    pub graph: String,
    /// The file that was run.
    pub variant: String,
    /// The runtime that ran it.
    pub runtime: RuntimeId,
    /// Images at a time.
    pub batch: usize,
    /// What the other symbols of the graph stood for, if it has any.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
    /// The output compared.
    pub output: String,
    /// Largest difference; none where something was not finite.
    pub max_abs: Option<f64>,
    /// Largest difference relative to the reference; none where something was not finite.
    pub max_rel: Option<f64>,
    /// Whether all of it was within the tolerance.
    pub ok: bool,
    /// Why nothing could be compared.
    pub error: Option<String>,
}
