//! Plugins from outside this program: those that the user added, and those named for one command.
//!
//! Loading a library is running it, so only a person's word causes it: `--plugin PATH`, or `zoo plugin add` once. Nothing is
//! searched for, and no data set, checkpoint or bundle can name a library.

use std::path::{Path, PathBuf};

use zoo_sdk::{
    Plugin,
    host::{self, Isolation, Loaded},
};

use super::{Registry, Store};
use crate::Result;

/// Loads the library that a person named: here, or in processes of its own.
///
/// # Errors
/// [`Error::Library`](crate::Error::Library).
pub fn load(path: &Path, isolation: Option<&Isolation>) -> Result<Loaded> {
    Ok(match isolation {
        None => host::load(path, None)?,
        Some(isolation) => host::isolate(path, None, isolation)?,
    })
}

/// The models of a command: the built-in ones, those of the libraries that it `named`, those that the user added.
///
/// A named library wins over an added one with the same model: that is how an author tries a new build. An added library that
/// cannot be loaded is no reason to refuse a command that does not need it: it is told as a warning, and as the error of whoever
/// asks for its models.
///
/// # Errors
/// Where a named library cannot be loaded, or offers a built-in model's name.
pub fn assemble(
    builtins: Vec<Box<dyn Plugin>>,
    named: &[PathBuf],
    store: Option<&Store>,
    isolation: Option<&Isolation>,
) -> Result<Registry> {
    let mut plugins = builtins;
    for path in named {
        plugins.extend(load(path, isolation)?.plugins);
    }
    let mut registry = Registry::new(plugins)?;
    let Some(store) = store else {
        return Ok(registry);
    };
    for added in store.list()? {
        match store.load(&added, isolation) {
            Ok(plugins) => registry.extend(plugins),
            Err(error) => {
                tracing::warn!("plugin {}: {error}", added.package);
                registry.note_broken(&added.models, &error.to_string());
            }
        }
    }
    Ok(registry)
}
