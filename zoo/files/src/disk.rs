//! Writing so that what was there before survives a crash or a full disk.
//!
//! A file is written under a temporary name in its own folder, synced, renamed, and the folder synced.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Start of the names of unfinished files and folders.
pub const TEMPORARY: &str = ".tmp-";

/// An unfinished sibling of `path`.
pub fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

/// Replaces `path`, or leaves it as it was.
///
/// # Errors
/// What the system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    Disk::default().replace(path, bytes)
}

/// Makes a file of what `content` writes, which is there as a whole or not at all.
///
/// # Errors
/// Where `path` exists already, and what `content` or the system answers.
pub fn create_new(
    path: &Path,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(folder)?;
    content(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    sync_entries(folder)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_entries(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        // Elsewhere a folder cannot be opened as a file; renames are ordered by the file system.
        Ok(())
    }
}

/// Asked before an operation, which fails where this does.
type Before = dyn Fn() -> io::Result<()> + Send + Sync;

/// The operations that change files and folders. Each answers with what the system refuses.
#[derive(Default)]
pub struct Disk {
    private: bool,
    before: Option<Box<Before>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("private", &self.private)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Writes files that their owner alone can read, where the system knows owners.
    pub fn private() -> Self {
        Self {
            private: true,
            before: None,
        }
    }

    /// A disk that fails where `before` does, which is asked before each operation: for tests.
    pub fn failing(before: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self {
            private: false,
            before: Some(Box::new(before)),
        }
    }

    fn attempt(&self) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before())
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

    /// Makes a folder in one that is there.
    pub fn create_dir(&self, path: &Path) -> Result<()> {
        self.run("create", path, || fs::create_dir(path))
    }

    /// Makes a folder and those above it.
    pub fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.run("create", path, || fs::create_dir_all(path))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        if self.private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        options.open(path)
    }

    /// Writes a new file and waits until its content is on the disk. Where that fails, part of it may be there.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.run("create", path, || self.create(path))?;
        if let Err(error) = self.attempt() {
            // As a full disk does it: part of the content arrives.
            let _ = file.write_all(&bytes[..bytes.len() / 2]);
            return Err(Error::io("write", path)(error));
        }
        file.write_all(bytes).map_err(Error::io("write", path))?;
        self.run("write", path, || file.sync_all())
    }

    /// Renames a file or a folder.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.run("rename", from, || fs::rename(from, to))
    }

    /// Waits until the entries of a folder are on the disk.
    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        self.run("write", path, || sync_entries(path))
    }

    /// Removes a folder and all that is in it.
    pub fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.run("remove", path, || fs::remove_dir_all(path))
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        self.run("remove", path, || fs::remove_file(path))
    }

    /// Replaces `path`, or leaves it as it was. An error is about `path` itself.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        // With a number of its own: two processes that replace one file must not write into one temporary file.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = format!("{TEMPORARY}{}-{name}", std::process::id());
        let temporary = path.with_file_name(unfinished);
        let written = self
            .write(&temporary, bytes)
            .and_then(|()| self.rename(&temporary, path));
        if written.is_err() {
            let _ = self.remove_file(&temporary);
        }
        // Nobody knows the temporary name.
        written.map_err(|error| Error {
            action: "write",
            path: path.to_owned(),
            ..error
        })?;
        self.sync_dir(folder_of(path))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_file_is_replaced_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        // Every operation fails once: what is read is the old content or the new.
        for fault in 0..5 {
            let count = AtomicUsize::new(0);
            let disk = Disk::failing(move || match count.fetch_add(1, Ordering::Relaxed) {
                n if n == fault => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            });
            let error = disk.replace(&path, b"new").unwrap_err().to_string();
            // The last of them waits for the folder.
            let named = if fault < 4 {
                "file:"
            } else {
                "free some space"
            };
            assert!(error.contains(named), "{error}");
            let read = fs::read(&path).unwrap();
            assert_eq!(read, if fault < 4 { b"old" } else { b"new" });
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_is_there_is_not_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let write = |text: &'static str| create_new(&path, |file| file.write_all(text.as_bytes()));
        write("first").unwrap();
        assert_eq!(
            write("second").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Disk::private().replace(&path, b"mine").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
