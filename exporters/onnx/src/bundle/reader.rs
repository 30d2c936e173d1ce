//! Opening a bundle: nothing of it is believed before its hash is checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use zoo_files::sha256;
use zoo_graph::{Array, RuntimeId, Steps};

use super::{
    files::confined,
    manifest::{MANIFEST, Manifest, SCHEMA_VERSION, STEPS, VariantEntry},
};
use crate::{Content, Error, Result, tensor_from_pb};

/// For `map_err`: what cannot be read.
fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    zoo_files::Error::io("read", path)
}

/// No manifest is larger.
const MAX_MANIFEST: u64 = 64 << 20;

/// Inputs of a graph with the outputs that they give.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// By port name, in port order.
    pub inputs: Vec<(String, Array)>,
    /// By port name, in port order.
    pub outputs: Vec<(String, Array)>,
}

/// A bundle whose files are all there and as the manifest says.
#[derive(Clone, Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle at `dir`: its schema version is known, every path stays inside, every file has its hash.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let size = fs::metadata(&path).map_err(read_error(&path))?.len();
        if size > MAX_MANIFEST {
            return Err(Error::bundle(
                path,
                format!("{size} bytes are too many for a manifest"),
            ));
        }
        let bytes = fs::read(&path).map_err(read_error(&path))?;
        let bad = |reason: String| Error::bundle(&path, reason);
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| bad(format!("it is no JSON: {e}")))?;
        match json
            .get("schema_version")
            .and_then(serde_json::Value::as_u64)
        {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => {
                return Err(bad(format!(
                    "its schema version is {version}, this zoo reads {SCHEMA_VERSION}; update the zoo"
                )));
            }
            None => {
                return Err(bad(
                    "it has no schema_version, so it is no manifest of a bundle".into(),
                ));
            }
        }
        let manifest: Manifest = serde_json::from_value(json).map_err(|e| bad(e.to_string()))?;
        for (name, graph) in &manifest.graphs {
            for variant in &graph.variants {
                if manifest.files.get(&variant.file) != Some(&variant.sha256) {
                    return Err(bad(format!(
                        "the hash of {:?}, a variant of {name:?}, is not that among the files",
                        variant.file
                    )));
                }
            }
        }
        let dir = dir.canonicalize().map_err(read_error(dir))?;
        let bundle = Self { dir, manifest };
        for path in bundle.manifest.files.keys() {
            bundle.read(path)?;
        }
        Ok(bundle)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes of a file of the manifest, checked against its hash.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let expected = self.manifest.files.get(path);
        let expected = expected
            .ok_or_else(|| Error::bundle(self.dir.join(path), "the manifest lists no such file"))?;
        if !confined(path) {
            return Err(Error::bundle(path, "the path leads out of the bundle"));
        }
        let full = self.dir.join(path);
        let real = full.canonicalize().map_err(read_error(&full))?;
        if !real.starts_with(&self.dir) || !real.is_file() {
            return Err(Error::bundle(full, "it is no file inside the bundle"));
        }
        let bytes = fs::read(&real).map_err(read_error(&full))?;
        let got = sha256(&bytes);
        match got == *expected {
            true => Ok(bytes),
            false => Err(Error::Hash {
                path: full,
                expected: expected.clone(),
                got,
            }),
        }
    }

    /// What a variant consists of, every file checked against its hash.
    pub fn content(&self, variant: &VariantEntry) -> Result<Content> {
        let bytes = self.read(&variant.file)?;
        let bad = |reason: String| Error::bundle(self.dir.join(&variant.file), reason);
        match variant.driver.as_deref() {
            None => Ok(Content::File(bytes)),
            Some(STEPS) => {
                let steps: Steps =
                    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
                let folder = variant
                    .file
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| folder);
                let mut files = Vec::new();
                for file in steps.files() {
                    files.push((file.to_owned(), self.read(&format!("{folder}/{file}"))?));
                }
                Ok(Content::Steps { steps, files })
            }
            Some(other) => Err(bad(format!(
                "it is driven by {other:?}, which this zoo does not know; update the zoo"
            ))),
        }
    }

    /// The file with `graph` for a runtime.
    pub fn variant_for(&self, graph: &str, runtime: &RuntimeId) -> Result<&VariantEntry> {
        let Some(entry) = self.manifest.graphs.get(graph) else {
            let names: Vec<&str> = self.manifest.graphs.keys().map(String::as_str).collect();
            return Err(Error::bundle(
                &self.dir,
                format!(
                    "it has no graph {graph:?}; its graphs are {}",
                    names.join(", ")
                ),
            ));
        };
        let variant = entry.variants.iter().find(|v| v.serves(runtime));
        variant.ok_or_else(|| {
            let served = RuntimeId::list(entry.variants.iter().flat_map(|v| &v.runtimes));
            let reason = format!("{graph:?} was not exported for {runtime}, only for {served}; export the run again for it");
            Error::bundle(&self.dir, reason)
        })
    }

    /// All test vectors of a graph, by the number of their set.
    pub fn vectors(&self, graph: &str) -> Result<Vec<Vectors>> {
        let mut sets = Vec::new();
        loop {
            let folder = format!("onnx/test_data_set_{}/{graph}", sets.len());
            let side = |side: &str| -> Result<Vec<(String, Array)>> {
                let paths = (0..).map(|i| format!("{folder}/{side}_{i}.pb"));
                let present = paths.take_while(|path| self.manifest.files.contains_key(path));
                let read = |path: String| {
                    tensor_from_pb(&self.read(&path)?)
                        .map_err(|e| Error::bundle(self.dir.join(&path), e.to_string()))
                };
                present.map(read).collect()
            };
            let (inputs, outputs) = (side("input")?, side("output")?);
            if inputs.is_empty() && outputs.is_empty() {
                return Ok(sets);
            }
            sets.push(Vectors { inputs, outputs });
        }
    }
}
