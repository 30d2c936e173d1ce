//! The host's side: shared libraries as [`Plugin`]s, in this process or in one of their own.
//!
//! [`inspect`] reads a file without running anything. [`load`] maps the library into this process, [`isolate`] starts a
//! process that does; both give plugins that work like built-in ones. Nothing here searches for libraries: a path is what a
//! person named, and loading it is running it.

#[cfg(all(unix, any(test, feature = "fuzz")))]
#[doc(hidden)]
pub mod fuzz;
mod inspect;
#[cfg(unix)]
mod isolate;
mod library;
#[cfg(not(unix))]
mod no_isolate;
mod remote;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use inspect::{Inspected, Metadata, check_writers, inspect};
#[cfg(unix)]
pub use isolate::{isolate, serve};
pub use library::load;
#[cfg(not(unix))]
pub use no_isolate::{isolate, serve};

use crate::{
    Plugin, Result,
    abi::{Answer, Back, Caller},
};

/// Answers calls: a library in this process, or a process with one.
pub(crate) trait Channel: Send + Sync {
    /// `back` answers the call-backs that come before the call is done.
    fn call(&self, request: &Caller<'_>, back: &mut Back<'_>) -> Result<Answer>;

    /// What error messages call it.
    fn label(&self) -> &str;
}

/// How to start processes for libraries.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// A program that calls [`serve`] with the two arguments that follow these.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
    /// Bytes of memory that a process may have.
    pub memory: Option<u64>,
    /// A process that computes and says nothing for so long is taken for hung, and ended.
    pub silence: Duration,
}

/// A library whose plugins are ready.
pub struct Loaded {
    /// What was found in the file.
    pub inspected: Inspected,
    /// One for each model.
    pub plugins: Vec<Box<dyn Plugin>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("inspected", &self.inspected)
            .field("plugins", &self.plugins.len())
            .finish()
    }
}

/// Why a library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(std::io::Error),
    /// A folder, a device, ...
    #[error("it is {0}, not a file; name the plugin's shared library")]
    NotAFile(&'static str),
    /// Larger than any plugin.
    #[error("it has {0} bytes: too many for a plugin")]
    TooLarge(u64),
    /// Others could replace it.
    #[error("{} can be written by other users, who could change what runs as you; chmod go-w {}", what.display(), what.display())]
    Writable {
        /// The file, or its folder.
        what: PathBuf,
    },
    /// Another format.
    #[error("it is {found}, not {wanted}; build the plugin as a `cdylib` on this kind of system")]
    NotALibrary {
        /// What it is.
        found: String,
        /// What this system loads.
        wanted: &'static str,
    },
    /// Another processor.
    #[error(
        "it is made for {found}, and this program runs on {wanted}; build the plugin for {wanted}"
    )]
    OtherMachine {
        /// The library's.
        found: String,
        /// This program's.
        wanted: String,
    },
    /// Only a part of the file is there.
    #[error("it is damaged or cut off: {0}; copy or build it again")]
    Damaged(String),
    /// Some other shared library.
    #[error(
        "it is a shared library, but no zoo plugin: it does not export {0}; a plugin's crate calls `export_plugin!`"
    )]
    NoSymbol(&'static str),
    /// The metadata block makes no sense.
    #[error("its metadata cannot be read: {0}; build the plugin again")]
    Metadata(String),
    /// An ABI that this host does not speak.
    #[error(
        "it speaks plugin ABI {major}.{minor}, this program {}.{}; {way_out}",
        crate::abi::MAJOR,
        crate::abi::MINOR
    )]
    OtherAbi {
        /// The library's major version.
        major: u32,
        /// Its minor version.
        minor: u32,
        /// What helps.
        way_out: String,
    },
    /// It needs what this host does not have.
    #[error("it needs {} of plugin ABI 1.{minor}, which this program does not have; update zoo", features.join(", "))]
    Missing {
        /// The library's minor version.
        minor: u32,
        /// Names of the features.
        features: Vec<String>,
    },
    /// Not the file that was pinned.
    #[error(
        "its SHA-256 is {found}, but {pinned} was pinned: the file has changed; if you trust the new one, `zoo plugin add` it again"
    )]
    Hash {
        /// The file's.
        found: String,
        /// The pinned one.
        pinned: String,
    },
    /// The system's loader refuses it.
    #[error("the system cannot load it: {0}")]
    Link(String),
    /// It loads, but its first answers are wrong.
    #[error("{0}")]
    Refused(String),
    /// The process that should hold it does not work.
    #[error("{0}")]
    Process(String),
}

impl Problem {
    pub(crate) fn at(self, path: &Path) -> LoadError {
        LoadError {
            path: path.to_owned(),
            problem: self,
        }
    }
}
