//! Where processes of their own are not to be had yet.

use std::{io, path::Path};

use super::{Isolation, LoadError, Loaded, Problem, inspect};

/// Not on this system.
///
/// # Errors
/// Always.
pub fn isolate(path: &Path, pinned: Option<&str>, _: &Isolation) -> Result<Loaded, LoadError> {
    let inspected = inspect(path, pinned)?;
    let why = "a plugin can have a process of its own on Unix only; leave out --isolate";
    Err(Problem::Process(why.into()).at(&inspected.path))
}

/// Not on this system.
///
/// # Errors
/// Always.
pub fn serve(_: &Path, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
