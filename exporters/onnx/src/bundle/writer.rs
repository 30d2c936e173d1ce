//! Writing a bundle: all of it or nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use zoo_files::{Disk, sha256};
use zoo_graph::{Array, Port};

use super::{
    card::Card,
    files::confined,
    manifest::{GraphEntry, MANIFEST, Manifest, SCHEMA_VERSION, STEPS, VariantEntry},
};
use crate::{Content, Error, IR_VERSION, OPSET, Result, Variant, tensor_to_pb};

/// Folders of unfinished bundles. Whoever changes one holds the lock.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all that unfinished bundles of this process have written, for a process that is about to end: no bundle gets any further.
pub fn abandon_unfinished() {
    let folders = unfinished();
    for folder in folders.iter() {
        // Nothing more can be done about a folder that does not go.
        let _ = fs::remove_dir_all(folder);
    }
    // For ever: a writer on another thread waits for the end of the process.
    std::mem::forget(folders);
}

/// Locked by its process, beside the new bundle and, for a moment, the old one.
const LOCK: &str = "lock";
const NEW: &str = "new";
const OLD: &str = "old";

/// Collects the files in a folder beside the final one, which [`BundleWriter::finish`] puts in place.
#[derive(Debug)]
pub struct BundleWriter {
    disk: Disk,
    target: PathBuf,
    /// `.NAME.PROCESS.part`
    work: PathBuf,
    _lock: File,
    files: BTreeMap<String, String>,
    graphs: BTreeMap<String, GraphEntry>,
}

impl BundleWriter {
    /// Begins a bundle that will be at `dir`: a new folder, an empty one, or an older bundle, which it replaces. Any
    /// other folder is left alone. What a process left there that was killed is cleared away.
    pub fn create(dir: &Path) -> Result<Self> {
        if dir.is_file() {
            return Err(Error::bundle(
                dir,
                "is a file; name a folder for the bundle",
            ));
        }
        let name = dir.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| Error::bundle(dir, "give the bundle's folder a name"))?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let disk = Disk::default();
        disk.create_dir_all(parent)?;
        clear(&disk, parent, name, dir)?;
        replaceable(dir)?;
        let work = parent.join(format!(".{name}.{}.part", std::process::id()));
        let mut unfinished = unfinished();
        disk.create_dir(&work)?;
        unfinished.push(work.clone());
        drop(unfinished);
        let made = File::create(work.join(LOCK)).and_then(|lock| {
            // Where the file system knows no locks, nobody clears away what it cannot lock.
            let _ = lock.try_lock();
            fs::create_dir(work.join(NEW))?;
            Ok(lock)
        });
        let lock = made.map_err(|error| {
            forget(&work);
            zoo_files::Error::io::<Error>("write", &work)(error)
        })?;
        Ok(Self {
            disk,
            target: dir.to_path_buf(),
            work,
            _lock: lock,
            files: BTreeMap::new(),
            graphs: BTreeMap::new(),
        })
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
        let full = self.work.join(NEW).join(path);
        let _held = unfinished();
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
        let (new, old) = (self.work.join(NEW), self.work.join(OLD));
        let held = unfinished();
        let replaced = self.target.exists();
        if replaced {
            self.disk.rename(&self.target, &old)?;
        }
        if let Err(cause) = self.disk.rename(&new, &self.target) {
            if replaced {
                // The older bundle goes back where it was; the first error is the one to tell.
                let _ = self.disk.rename(&old, &self.target);
            }
            return Err(cause.into());
        }
        drop(held);
        Ok(self.target.clone())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        forget(&self.work);
    }
}

/// Removes the folder of a bundle that was finished or given up.
fn forget(work: &Path) {
    let mut unfinished = unfinished();
    unfinished.retain(|folder| folder != work);
    // Nothing more can be done about a folder that does not go; the next bundle clears it away.
    let _ = fs::remove_dir_all(work);
}

/// Removes what processes that are no more left of bundles at `dir`, and puts the old bundle back where one ended between taking
/// that away and putting its own in place. A folder belongs to whoever has locked the file in it.
fn clear(disk: &Disk, parent: &Path, name: &str, dir: &Path) -> Result<()> {
    let (head, own) = (format!(".{name}."), unfinished());
    let unread = || zoo_files::Error::io::<Error>("read", parent);
    for entry in fs::read_dir(parent).map_err(unread())? {
        let entry = entry.map_err(unread())?;
        let process = entry.file_name();
        let process = process.to_str().and_then(|name| name.strip_prefix(&head));
        let process = process.and_then(|rest| rest.strip_suffix(".part"));
        let left = entry.path();
        if process.is_none_or(|id| id.parse::<u32>().is_err()) || own.contains(&left) {
            continue;
        }
        let lock = File::open(left.join(LOCK));
        if let Ok(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            continue;
        }
        let old = left.join(OLD);
        if old.exists() && !dir.exists() {
            disk.rename(&old, dir)?;
        }
        disk.remove_dir_all(&left)?;
    }
    Ok(())
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
