//! Run directories: who may write, what they hold, and what a crash left behind.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use zoo_files::{Disk, TEMPORARY};
use zoo_sdk::{Checkpoint, DataSpec, Metrics};

use super::checkpoint;
use crate::{Error, Result};

/// What the run is trained on; the first file written.
const DATA: &str = "data.json";

/// What a path holds, as far as training into it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A run.
    Run,
}

/// The paths of a run.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The paths of the run at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The run directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The [`DataSpec`].
    pub fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// One JSON object per line.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Folders named by step.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The best checkpoint.
    pub fn best(&self) -> PathBuf {
        self.root.join("best")
    }

    /// Pictures drawn while training.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples")
    }

    /// The plot of losses.
    pub fn loss_plot(&self) -> PathBuf {
        self.root.join("loss.png")
    }

    fn lock(&self) -> PathBuf {
        self.root.join(".lock")
    }

    /// What the directory holds. One with other files in it is an error, so that nothing is mixed up or lost.
    ///
    /// # Errors
    /// [`Error::NotARun`] for a file, or a folder that holds something else.
    pub fn content(&self) -> Result<Content> {
        let not_a_run = |what: String| Error::NotARun {
            path: self.root.clone(),
            what,
        };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Content::Empty),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(not_a_run("is a file; give a folder".to_owned()));
            }
            Err(e) => return Err(Error::io("read", &self.root)(e)),
        };
        if self.config().is_file() {
            return Ok(Content::Run);
        }
        for entry in entries {
            let name = entry.map_err(Error::io("read", &self.root))?.file_name();
            let name = name.to_string_lossy();
            // A run that was killed before its settings were written holds these, and starts afresh.
            if name != ".lock" && name != DATA && !name.starts_with(TEMPORARY) {
                return Err(not_a_run(format!(
                    "holds other files ({name}) and no run; give a new or empty folder"
                )));
            }
        }
        Ok(Content::Empty)
    }

    /// What the run was trained on.
    ///
    /// # Errors
    /// Where `data.json` is missing or damaged.
    pub fn read_spec(&self) -> Result<DataSpec> {
        let path = self.data();
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|e| Error::Corrupt {
            path,
            what: format!("not a description of data: {e}; restore it from a copy of the run"),
        })
    }
}

/// A run directory that this process alone may write to, until dropped.
#[derive(Debug)]
pub struct RunDir {
    layout: Layout,
    pub(crate) disk: Disk,
    /// Things a person should know: damaged checkpoints, what was moved.
    pub warnings: Vec<String>,
    // The lock goes when the process dies, too.
    lock: File,
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Closing is not enough: a child process being started may still hold a copy of the file.
        let _ = self.lock.unlock();
    }
}

impl RunDir {
    /// Creates the directory if need be, locks it, and clears up after a crash.
    ///
    /// # Errors
    /// [`Error::RunInUse`] where another process holds the lock.
    pub fn lock(root: &Path) -> Result<Self> {
        let layout = Layout::new(root);
        layout.content()?;
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let path = layout.lock();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok();
                return Err(Error::RunInUse {
                    path: root.to_owned(),
                    pid: pid.and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &path)(e)),
        }
        // Only for the message of whoever comes second.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        let mut run = Self {
            layout,
            disk: Disk::default(),
            warnings: Vec::new(),
            lock: file,
        };
        run.clear_up()?;
        Ok(run)
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Notes a warning.
    pub fn warn(&mut self, message: String) {
        tracing::warn!("{message}");
        self.warnings.push(message);
    }

    /// Removes what a killed process left unfinished.
    fn clear_up(&mut self) -> Result<()> {
        for folder in [
            self.layout.root.clone(),
            self.layout.checkpoints(),
            self.layout.samples(),
        ] {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    let path = entry.path();
                    tracing::info!("removing {}, which was never finished", path.display());
                    if path.is_dir() {
                        self.disk.remove_dir_all(&path)?;
                    } else {
                        self.disk.remove_file(&path)?;
                    }
                }
            }
        }
        checkpoint::recover(&self.disk, &self.layout.checkpoints())?;
        checkpoint::recover(&self.disk, &self.layout.root)?;
        Ok(())
    }

    /// Writes the settings and what the data are.
    pub(crate) fn write_settings(&self, config: &str, spec: &DataSpec) -> Result<()> {
        let path = self.layout.data();
        let mut json = serde_json::to_vec_pretty(spec).map_err(|e| Error::Corrupt {
            path: path.clone(),
            what: e.to_string(),
        })?;
        json.push(b'\n');
        self.disk.replace(&path, &json)?;
        // Last: it is what makes the folder a run.
        Ok(self
            .disk
            .replace(&self.layout.config(), config.as_bytes())?)
    }

    /// The newest checkpoint that verifies. Damaged newer ones are moved aside, with a warning.
    ///
    /// # Errors
    /// [`Error::NoCheckpoint`] where there are some, and all are damaged.
    pub fn resume_from(&mut self) -> Result<Option<Checkpoint>> {
        let found = checkpoint::newest(&self.layout.checkpoints())?;
        if found.checkpoint.is_none()
            && let Some((_, first)) = found.damaged.first()
        {
            return Err(Error::NoCheckpoint {
                path: self.layout.root.clone(),
                what: format!(
                    "none of its {} checkpoints can be read (the newest: {first}); to start afresh, remove its folder checkpoints",
                    found.damaged.len()
                ),
            });
        }
        for (folder, error) in found.damaged {
            let moved = checkpoint::set_aside(&self.disk, &folder)?;
            self.warn(format!("damaged checkpoint: {error}; {moved}"));
        }
        if let Some((checkpoint, folder)) = &found.checkpoint
            && !self.warnings.is_empty()
        {
            let text = format!(
                "going on from step {}: {}",
                checkpoint.step,
                folder.display()
            );
            self.warn(text);
        }
        Ok(found.checkpoint.map(|(checkpoint, _)| checkpoint))
    }

    /// Saves a checkpoint as the newest, removes those beyond the last [`checkpoint::KEPT`], and keeps it as `best` too where
    /// `better` says so of its metrics and those of the best so far.
    ///
    /// # Errors
    /// [`Error::Save`]; the earlier checkpoints are intact.
    pub fn save(
        &mut self,
        checkpoint: &Checkpoint,
        better: &dyn Fn(&Metrics, Option<&Metrics>) -> bool,
    ) -> Result<PathBuf> {
        let failed = |cause: Error| Error::Save {
            step: checkpoint.step,
            cause: Box::new(cause),
        };
        let folder = self.layout.checkpoints().join(checkpoint.step.to_string());
        let mut warnings = Vec::new();
        let saved = self.save_parts(&folder, checkpoint, better, &mut warnings);
        for warning in warnings {
            self.warn(warning);
        }
        saved.map_err(failed)?;
        Ok(folder)
    }

    fn save_parts(
        &self,
        folder: &Path,
        checkpoint: &Checkpoint,
        better: &dyn Fn(&Metrics, Option<&Metrics>) -> bool,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        let checkpoints = self.layout.checkpoints();
        if !checkpoints.exists() {
            self.disk.create_dir_all(&checkpoints)?;
            self.disk.sync_dir(&self.layout.root)?;
        }
        let best = self.layout.best();
        let so_far = best.exists().then(|| checkpoint::read_metrics(&best));
        let so_far = match so_far {
            Some(Err(error)) => {
                let moved = checkpoint::set_aside(&self.disk, &best)?;
                warnings.push(format!("damaged best checkpoint: {error}; {moved}"));
                None
            }
            other => other.transpose()?,
        };
        // First: a process killed between the two does this step again, and so misses no best one.
        if better(&checkpoint.state.metrics, so_far.as_ref()) {
            checkpoint::write(&self.disk, &best, checkpoint, warnings)?;
        }
        checkpoint::write(&self.disk, folder, checkpoint, warnings)?;
        checkpoint::retain(&self.disk, &checkpoints)
    }
}
