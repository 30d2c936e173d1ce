//! Checkpoints on disk: written whole or not at all, hashed, and read only if every hash fits.
//!
//! `checkpoints/<step>/` holds `model.safetensors`, `ema.safetensors` where the trainer keeps averages,
//! `optimizer.safetensors`, and `state.json`, which names the SHA-256 of each file and of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use zoo_files::{Disk, TEMPORARY, sha256, temporary_beside};
use zoo_sdk::{Checkpoint, StateRecord};

use super::tensors::{from_safetensors, to_safetensors};
use crate::{Error, Result};

/// Newest checkpoints that are kept.
pub const KEPT: usize = 3;

const FORMAT: u32 = 1;
const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const PREVIOUS: &str = ".previous";

/// `state.json`, without the hash of its own content.
#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    state: StateRecord,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
}

/// The files of a checkpoint, `state.json` last.
fn encode(checkpoint: &Checkpoint) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
    let mut files = vec![(MODEL, to_safetensors(&checkpoint.model)?)];
    if let Some(ema) = &checkpoint.ema {
        files.push((EMA, to_safetensors(ema)?));
    }
    files.push((OPTIMIZER, to_safetensors(&checkpoint.optimizer)?));
    let record = |bytes: &Vec<u8>| FileRecord {
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    };
    let state = StateFile {
        format: FORMAT,
        state: checkpoint.state.clone(),
        files: files
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), record(bytes)))
            .collect(),
    };
    let mut json = serde_json::to_value(&state).map_err(|e| e.to_string())?;
    let own = sha256(json.to_string());
    json["sha256"] = own.into();
    let mut text = serde_json::to_vec_pretty(&json).map_err(|e| e.to_string())?;
    text.push(b'\n');
    files.push((STATE, text));
    Ok(files)
}

/// Writes `folder` whole, or leaves everything as it was. At every moment the old content or the new stands under
/// `folder`, or the old under [`previous`].
pub(crate) fn write(
    disk: &Disk,
    folder: &Path,
    checkpoint: &Checkpoint,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let temporary = temporary_beside(folder);
    let files = encode(checkpoint).map_err(|what| Error::Corrupt {
        path: folder.to_owned(),
        what,
    })?;
    if folder.exists() {
        let same = |path: &Path| {
            let (_, state) = files.last()?;
            Some(fs::read(path.join(STATE)).ok()? == *state)
        };
        match read_state(folder) {
            // The last step of a finished run, saved again.
            Ok(_) if same(folder) == Some(true) && read(folder).is_ok() => return Ok(()),
            Ok(_) if same(folder) != Some(true) => {}
            _ => warnings.push(format!("damaged checkpoint: {}", set_aside(disk, folder)?)),
        }
    }
    if temporary.exists() {
        disk.remove_dir_all(&temporary)?;
    }
    let finished = disk.create_dir(&temporary).and_then(|()| {
        for (name, bytes) in &files {
            disk.write(&temporary.join(name), bytes)?;
        }
        disk.sync_dir(&temporary)?;
        put_in_place(disk, &temporary, folder)
    });
    if finished.is_err() {
        let _ = disk.remove_dir_all(&temporary);
    }
    finished?;
    disk.sync_dir(parent)?;
    let previous = previous(folder);
    if previous.exists() {
        disk.remove_dir_all(&previous)?;
    }
    Ok(())
}

fn put_in_place(disk: &Disk, new: &Path, folder: &Path) -> zoo_files::Result<()> {
    if !folder.exists() {
        return disk.rename(new, folder);
    }
    let previous = previous(folder);
    if previous.exists() {
        disk.remove_dir_all(&previous)?;
    }
    disk.rename(folder, &previous)?;
    let renamed = disk.rename(new, folder);
    if renamed.is_err() {
        let _ = disk.rename(&previous, folder);
    }
    renamed
}

/// Where the old content of `folder` stands while the new takes its place.
fn previous(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{name}{PREVIOUS}"))
}

/// Finishes or undoes the replacements that a crash interrupted in `parent`.
pub(crate) fn recover(disk: &Disk, parent: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str().and_then(|n| n.strip_suffix(PREVIOUS)) {
            let folder = parent.join(name);
            if folder.exists() {
                disk.remove_dir_all(&entry.path())?;
            } else {
                disk.rename(&entry.path(), &folder)?;
            }
        }
    }
    Ok(())
}

/// Renames a damaged checkpoint, so that it is never taken for a good one and nothing is lost. Says what it did.
pub(crate) fn set_aside(disk: &Disk, folder: &Path) -> Result<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let free = (1u64..)
        .map(|n| folder.with_file_name(format!("{name}.damaged-{n}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| folder.with_file_name(format!("{name}.damaged")));
    disk.rename(folder, &free)?;
    Ok(format!(
        "{} was moved to {}",
        folder.display(),
        free.display()
    ))
}

/// Reads a checkpoint and checks every hash.
///
/// # Errors
/// Names the first file that is missing or damaged.
pub fn read(folder: &Path) -> Result<Checkpoint> {
    let state = read_state(folder)?;
    let tensors = |name: &str| {
        let path = folder.join(name);
        let corrupt = |what: String| Error::Corrupt {
            path: path.clone(),
            what,
        };
        let record = state
            .files
            .get(name)
            .ok_or_else(|| corrupt(format!("{STATE} does not list this file")))?;
        // The size first: a wrong file may be huge.
        let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        if bytes != record.bytes {
            return Err(corrupt(format!(
                "the file has {bytes} bytes, but {STATE} says {}",
                record.bytes
            )));
        }
        let content = fs::read(&path).map_err(Error::io("read", &path))?;
        if sha256(&content) != record.sha256 {
            return Err(corrupt(format!(
                "the content is damaged: its SHA-256 is not the one in {STATE}"
            )));
        }
        from_safetensors(&content).map_err(corrupt)
    };
    let ema = state.files.contains_key(EMA).then(|| tensors(EMA));
    Ok(Checkpoint {
        step: state.state.step,
        model: tensors(MODEL)?,
        ema: ema.transpose()?,
        optimizer: tensors(OPTIMIZER)?,
        state: state.state,
    })
}

fn read_state(folder: &Path) -> Result<StateFile> {
    let path = folder.join(STATE);
    let corrupt = |what: String| Error::Corrupt {
        path: path.clone(),
        what,
    };
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let mut json: Json =
        serde_json::from_slice(&text).map_err(|e| corrupt(format!("no JSON: {e}")))?;
    let format = json.get("format").and_then(Json::as_u64);
    if let Some(newer) = format.filter(|&f| f > u64::from(FORMAT)) {
        return Err(corrupt(format!(
            "written by a newer zoo (format {newer}, this one reads {FORMAT}); update zoo"
        )));
    }
    let own = json
        .as_object_mut()
        .and_then(|map| map.shift_remove("sha256"));
    if own != Some(sha256(json.to_string()).into()) {
        return Err(corrupt(
            "the content is damaged: its hash does not fit".to_owned(),
        ));
    }
    serde_json::from_value(json).map_err(|e| corrupt(e.to_string()))
}

/// The metrics stored with a checkpoint, whose tensors are not looked at.
pub(crate) fn read_metrics(folder: &Path) -> Result<zoo_sdk::Metrics> {
    read_state(folder).map(|s| s.state.metrics)
}

/// Folders of checkpoints by step, newest first, unread.
///
/// # Errors
/// Where the folder cannot be listed; a missing one has no checkpoints.
pub fn list(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(checkpoints) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", checkpoints)(e)),
    };
    let mut steps = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read", checkpoints))?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|n| n.parse::<u64>().ok());
        if let Some(step) = step.filter(|s| name.to_str() == Some(&s.to_string())) {
            steps.push((step, entry.path()));
        }
    }
    steps.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(steps)
}

/// The newest checkpoint that can be used, and those that cannot.
#[derive(Debug)]
pub struct Newest {
    /// It, and its folder.
    pub checkpoint: Option<(Checkpoint, PathBuf)>,
    /// Folders of newer ones that are damaged, and how.
    pub damaged: Vec<(PathBuf, Error)>,
}

/// Looks for the newest checkpoint that verifies.
///
/// # Errors
/// Where `checkpoints` cannot be listed.
pub fn newest(checkpoints: &Path) -> Result<Newest> {
    // A training that goes on beside this may remove what was just listed.
    const TRIES: usize = 5;
    let mut damaged = Vec::new();
    for _ in 0..TRIES {
        damaged.clear();
        let mut vanished = false;
        for (step, folder) in list(checkpoints)? {
            match read(&folder) {
                Ok(checkpoint) if checkpoint.step == step => {
                    let checkpoint = Some((checkpoint, folder));
                    return Ok(Newest {
                        checkpoint,
                        damaged,
                    });
                }
                Ok(checkpoint) => {
                    let what = format!("the folder's name is not its step, {}", checkpoint.step);
                    let path = folder.clone();
                    damaged.push((folder, Error::Corrupt { path, what }));
                }
                Err(_) if !folder.exists() => vanished = true,
                Err(error) => damaged.push((folder, error)),
            }
        }
        if !vanished {
            break;
        }
    }
    Ok(Newest {
        checkpoint: None,
        damaged,
    })
}

/// Removes all but the [`KEPT`] newest. A checkpoint leaves the list in one step, so that none is seen half removed.
pub(crate) fn retain(disk: &Disk, checkpoints: &Path) -> Result<()> {
    for (step, folder) in list(checkpoints)?.into_iter().skip(KEPT) {
        let going = checkpoints.join(format!("{TEMPORARY}old-{step}"));
        disk.rename(&folder, &going)?;
        disk.remove_dir_all(&going)?;
    }
    Ok(())
}
