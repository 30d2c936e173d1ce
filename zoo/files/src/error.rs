//! What the system refuses, with the file and the way out.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Reading or writing failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {}", path.display(), hint(source))]
pub struct Error {
    /// `read`, `write`, ...
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: what failed, on which path. `E` is an error that this one becomes a part of.
    pub fn io<E: From<Self>>(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> E {
        let path = path.to_owned();
        move |source| {
            E::from(Self {
                action,
                path,
                source,
            })
        }
    }
}

/// The system's answer, and the way out where there is a usual one.
fn hint(error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space and try again; a training goes on with --resume"
        }
        ErrorKind::ReadOnlyFilesystem => "choose a folder that can be written",
        ErrorKind::PermissionDenied => "check the permissions, or choose another folder",
        ErrorKind::NotFound => "check the path",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a file is in the way: name a folder, or one that is not there yet"
        }
        _ => return error.to_string(),
    };
    format!("{error}; {hint}")
}
