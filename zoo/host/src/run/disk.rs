//! Writing so that what was there before survives a crash or a full disk.
//!
//! Every change goes through [`Disk`], whose test build can fail at any of its operations.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Start of the names of unfinished files and folders; whoever holds the run's lock may remove them.
pub(super) const TEMPORARY: &str = ".tmp-";

/// The operations that change a run directory.
#[derive(Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) fault: fault::Plan,
}

impl Disk {
    /// Asked before each operation: an error where a test planned one.
    fn attempt(&self) -> io::Result<()> {
        #[cfg(test)]
        return self.fault.next();
        #[cfg(not(test))]
        Ok(())
    }

    fn run<T>(
        &self,
        action: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T> {
        self.attempt()
            .and_then(|()| work())
            .map_err(Error::io(action, path))
    }

    pub(super) fn create_dir(&self, path: &Path) -> Result<()> {
        self.run("create", path, || fs::create_dir(path))
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.run("create", path, || fs::create_dir_all(path))
    }

    /// Writes a new file and waits until its content is on the disk.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.run("create", path, || File::create(path))?;
        if let Err(error) = self.attempt() {
            // As a full disk does it: part of the content arrives.
            let _ = file.write_all(&bytes[..bytes.len() / 2]);
            return Err(Error::io("write", path)(error));
        }
        file.write_all(bytes).map_err(Error::io("write", path))?;
        self.run("write", path, || file.sync_all())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run("rename", from, || fs::rename(from, to))
    }

    /// Waits until the entries of a folder are on the disk.
    pub(super) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.run("write", path, || {
            if cfg!(unix) {
                File::open(path)?.sync_all()
            } else {
                // Elsewhere a folder cannot be opened as a file; renames are ordered by the file system.
                Ok(())
            }
        })
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.run("remove", path, || fs::remove_dir_all(path))
    }

    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        self.run("remove", path, || fs::remove_file(path))
    }

    /// Replaces `path`, or leaves it as it was.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = temporary_beside(path);
        let written = self
            .write(&temporary, bytes)
            .and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            let _ = self.remove_file(&temporary);
        }
        written?;
        path.parent().map_or(Ok(()), |parent| self.sync_dir(parent))
    }
}

/// An unfinished sibling of `path`.
pub(super) fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

#[cfg(test)]
pub(super) mod fault {
    use std::cell::Cell;
    use std::io;

    /// Which operations fail.
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub enum Kind {
        /// None.
        #[default]
        Never,
        /// The one, as on a disk that is full for a moment; removing still works.
        Once,
        /// It and all after it, as if the process had died.
        FromThen,
    }

    /// Counts operations, and fails at the chosen one.
    #[derive(Debug, Default)]
    pub struct Plan {
        pub kind: Cell<Kind>,
        pub at: Cell<usize>,
        pub count: Cell<usize>,
    }

    impl Plan {
        pub fn set(&self, kind: Kind, at: usize) {
            self.kind.set(kind);
            self.at.set(at);
            self.count.set(0);
        }

        pub fn next(&self) -> io::Result<()> {
            let now = self.count.get();
            self.count.set(now + 1);
            let fails = match self.kind.get() {
                Kind::Never => false,
                Kind::Once => now == self.at.get(),
                Kind::FromThen => now >= self.at.get(),
            };
            if fails {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        }
    }
}
