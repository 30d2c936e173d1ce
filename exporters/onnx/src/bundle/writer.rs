//! Writing a bundle: all of it or nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use zoo_files::{Disk, TEMPORARY, sha256, temporary_beside};
use zoo_graph::{Array, Port};

use super::{
    card::Card,
    files::confined,
    manifest::{GraphEntry, MANIFEST, Manifest, SCHEMA_VERSION, STEPS, VariantEntry},
};
use crate::{Content, Error, IR_VERSION, OPSET, Result, Variant, tensor_to_pb};

/// Collects the files in a folder beside the final one, which [`BundleWriter::finish`] puts in place.
#[derive(Debug)]
pub struct BundleWriter {
    disk: Disk,
    target: PathBuf,
    work: PathBuf,
    files: BTreeMap<String, String>,
    graphs: BTreeMap<String, GraphEntry>,
    done: bool,
}

impl BundleWriter {
    /// Begins a bundle that will be at `dir`: a new folder, an empty one, or an older bundle, which it replaces. Any
    /// other folder is left alone.
    pub fn create(dir: &Path) -> Result<Self> {
        if dir.is_file() {
            return Err(Error::bundle(
                dir,
                "is a file; name a folder for the bundle",
            ));
        }
        replaceable(dir)?;
        let name = dir
            .file_name()
            .and_then(|n| n.to_str())
            .filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| Error::bundle(dir, "give the bundle's folder a name"))?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let disk = Disk::default();
        disk.create_dir_all(parent)?;
        let work = parent.join(format!("{TEMPORARY}{}-{name}", std::process::id()));
        if work.exists() {
            disk.remove_dir_all(&work)?;
        }
        disk.create_dir(&work)?;
        Ok(Self {
            disk,
            target: dir.to_path_buf(),
            work,
            files: BTreeMap::new(),
            graphs: BTreeMap::new(),
            done: false,
        })
    }

    /// Where the files are until the bundle is finished.
    pub fn folder(&self) -> &Path {
        &self.work
    }

    /// Adds a file under a path such as `model.safetensors`.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        if !confined(path) || path == MANIFEST || self.files.contains_key(path) {
            return Err(Error::bundle(
                path,
                "a bundle cannot hold a file of this name, or has one already",
            ));
        }
        self.write(path, bytes)?;
        self.files.insert(path.into(), sha256(bytes));
        Ok(())
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let full = self.work.join(path);
        if let Some(folder) = full.parent() {
            self.disk.create_dir_all(folder)?;
        }
        Ok(self.disk.write(&full, bytes)?)
    }

    /// Adds a graph: `onnx/<name>.onnx`, `onnx/<name>.<suffix>.onnx` for each further variant, and step graphs with `onnx/<name>.steps.json`, which
    /// says how a host drives them.
    pub fn graph(
        &mut self,
        name: &str,
        doc: &str,
        inputs: &[Port],
        outputs: &[Port],
        variants: &[Variant],
    ) -> Result<()> {
        let mut entry = GraphEntry {
            doc: doc.into(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            variants: Vec::with_capacity(variants.len()),
        };
        for variant in variants {
            let file = format!("onnx/{}", variant.file_name(name));
            let (bytes, driver) = match &variant.content {
                Content::File(bytes) => (bytes.clone(), None),
                Content::Steps { steps, files } => {
                    for (part, bytes) in files {
                        self.file(&format!("onnx/{part}"), bytes)?;
                    }
                    let steps = serde_json::to_value(steps);
                    let steps = steps.map_err(|e| Error::bundle(&file, e.to_string()))?;
                    (format!("{steps:#}\n").into_bytes(), Some(STEPS.into()))
                }
            };
            self.file(&file, &bytes)?;
            entry.variants.push(VariantEntry {
                sha256: sha256(&bytes),
                file,
                runtimes: variant.runtimes.clone(),
                driver,
            });
        }
        self.graphs.insert(name.into(), entry);
        Ok(())
    }

    /// Adds test vectors of a graph, in the order of its ports: `onnx/test_data_set_<set>/<graph>/input_<i>.pb` and `output_<i>.pb`.
    pub fn vectors(
        &mut self,
        set: usize,
        graph: &str,
        inputs: &[(String, Array)],
        outputs: &[(String, Array)],
    ) -> Result<()> {
        for (side, tensors) in [("input", inputs), ("output", outputs)] {
            for (i, (name, array)) in tensors.iter().enumerate() {
                let path = format!("onnx/test_data_set_{set}/{graph}/{side}_{i}.pb");
                self.file(&path, &tensor_to_pb(name, array))?;
            }
        }
        Ok(())
    }

    /// The manifest as it will be written, for the model card and for pictures made of the bundle.
    pub fn manifest(&self, given: Manifest) -> Manifest {
        Manifest {
            schema_version: SCHEMA_VERSION,
            opset: OPSET,
            ir_version: IR_VERSION,
            graphs: self.graphs.clone(),
            files: self.files.clone(),
            ..given
        }
    }

    /// Writes `config.json`, `README.md` and `manifest.json`, and puts the bundle in place. Graphs, hashes and versions
    /// of `manifest` are filled in.
    pub fn finish(mut self, manifest: Manifest, card: &Card) -> Result<PathBuf> {
        let json = |value: &serde_json::Value| format!("{value:#}\n").into_bytes();
        self.file("config.json", &json(&manifest.config))?;
        let readme = card.text(&self.manifest(manifest.clone()));
        self.file("README.md", readme.as_bytes())?;
        let manifest = serde_json::to_value(self.manifest(manifest));
        let manifest = manifest.map_err(|e| Error::bundle(MANIFEST, e.to_string()))?;
        self.write(MANIFEST, &json(&manifest))?;
        replaceable(&self.target)?;
        let old = temporary_beside(&self.work);
        let replaced = self.target.exists();
        if replaced {
            self.disk.rename(&self.target, &old)?;
        }
        if let Err(cause) = self.disk.rename(&self.work, &self.target) {
            if replaced {
                // The older bundle goes back where it was; the first error is the one to tell.
                let _ = self.disk.rename(&old, &self.target);
            }
            return Err(cause.into());
        }
        self.done = true;
        if replaced {
            self.disk.remove_dir_all(&old)?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        if !self.done {
            // Nothing more can be done about a folder that does not go.
            let _ = fs::remove_dir_all(&self.work);
        }
    }
}

/// Refuses a target that holds anything but a bundle.
fn replaceable(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir).map_err(zoo_files::Error::io::<Error>("read", dir))?;
    if entries.next().is_none() {
        return Ok(());
    }
    let manifest = fs::read(dir.join(MANIFEST)).ok();
    let manifest =
        manifest.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    match manifest.is_some_and(|m| m.get("schema_version").is_some() && m.get("graphs").is_some()) {
        true => Ok(()),
        false => Err(Error::bundle(
            dir,
            "the folder holds something else than a bundle; choose another one or empty it",
        )),
    }
}
