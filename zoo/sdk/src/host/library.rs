//! A library in this process.
#![allow(unsafe_code)]

use std::{path::Path, sync::Arc};

use super::{
    Channel, Inspected, LoadError, Loaded, Problem, inspect,
    remote::{self, RemotePlugin},
};
use crate::{
    Plugin, Result,
    abi::{
        Answer, Back, Caller, ENTRY_SYMBOL, Entry, Limits, MAJOR, MINOR, Peer, invoke, lent, op,
    },
};

/// Loads a library into this process, for ever, and asks it what it is. This runs its code: see the trust policy in README.md.
///
/// `pinned` is the SHA-256 that the file must have.
///
/// # Errors
/// Those of [`inspect`], before any code of the library runs; then what the system's loader says, and
/// [`Problem::Refused`] where its description makes no sense.
pub fn load(path: &Path, pinned: Option<&str>) -> Result<Loaded, LoadError> {
    let (inspected, library) = open(path, pinned)?;
    let library = Arc::new(library);
    let descriptions = remote::describe(&*library)
        .map_err(|e| remote::refusal(&*library, &e).at(&inspected.path))?;
    let plugin = |(index, description)| {
        let library = library.clone();
        let connect = Box::new(move || Ok(library.clone() as Arc<dyn Channel>));
        Box::new(RemotePlugin::new(connect, index, description)) as Box<dyn Plugin>
    };
    let plugins = descriptions.into_iter().enumerate().map(plugin).collect();
    Ok(Loaded { inspected, plugins })
}

/// Checks and maps a library, and asks for its table.
pub(super) fn open(path: &Path, pinned: Option<&str>) -> Result<(Inspected, Library), LoadError> {
    let inspected = inspect(path, pinned)?;
    let fail = |problem: Problem| problem.at(&inspected.path);
    // SAFETY: running the library's initialisers is what a person asked for by naming it. The path is absolute, so no search
    // path has a say; the file is a complete library for this machine.
    let library = unsafe { libloading::Library::new(&inspected.path) }
        .map_err(|e| fail(Problem::Link(cause(&e))))?;
    // SAFETY: in version 1 of the ABI, which the metadata declares, the symbol is a function of this type.
    let entry = unsafe { library.get::<Entry>(ENTRY_SYMBOL) }
        .map(|symbol| *symbol)
        .map_err(|e| fail(Problem::Link(cause(&e))))?;
    // Never unloaded: threads, thread-locals and what `atexit` knows may lead into it.
    std::mem::forget(library);
    // SAFETY: as declared by the ABI.
    let peer = unsafe { entry(MINOR) };
    let label = inspected.path.display().to_string();
    // SAFETY: the table lives for ever.
    let library = unsafe { Library::new(peer, label, Limits::default()) }
        .map_err(|e| fail(Problem::Refused(e)))?;
    Ok((inspected, library))
}

/// libloading shows only half of what went wrong.
fn cause(error: &libloading::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// A table of functions in this process.
pub(super) struct Library {
    peer: &'static Peer,
    label: String,
    limits: Limits,
}

// SAFETY: a peer may be called from any thread, also from several at once (see `Peer::call`).
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// # Safety
    /// `peer` is null or points to a [`Peer`] of `size` bytes that lives for ever and keeps the contract of the C ABI.
    pub(super) unsafe fn new(
        peer: *const Peer,
        label: String,
        limits: Limits,
    ) -> Result<Self, String> {
        if peer.is_null() || !peer.is_aligned() {
            return Err(format!("{ENTRY_SYMBOL} gave no table"));
        }
        // SAFETY: not null, aligned; every version's struct begins with its size.
        let size = unsafe { (*peer).size };
        if (size as usize) < size_of::<Peer>() {
            return Err(format!("{ENTRY_SYMBOL} gave a table of {size} bytes"));
        }
        // SAFETY: at least as large as ours.
        let peer = unsafe { &*peer };
        if peer.major != MAJOR {
            return Err(format!(
                "{ENTRY_SYMBOL} gave a table of ABI {}.{}",
                peer.major, peer.minor
            ));
        }
        if peer.call.is_none() {
            return Err(format!("{ENTRY_SYMBOL} gave a table without a function"));
        }
        Ok(Self {
            peer,
            label,
            limits,
        })
    }
}

#[cfg(test)]
impl Library {
    pub(super) fn peer(&self) -> *const Peer {
        self.peer
    }
}

impl Channel for Library {
    fn call(&self, request: &Caller<'_>, back: &mut Back<'_>) -> Result<Answer> {
        let call = |host: Option<&Peer>| {
            let request = Caller {
                host,
                ..request.clone()
            };
            // SAFETY: the library vouches for its table.
            unsafe { invoke(self.peer, &self.label, &self.limits, &request) }
        };
        match request.op {
            op::TRAIN | op::EVALUATE => lent(&self.limits, back, |host| call(Some(host))),
            _ => call(None),
        }
    }

    fn label(&self) -> &str {
        &self.label
    }
}
