//! Ctrl-C and SIGTERM: the first asks a command to finish its step and save, or has it clear away what is half done; the second ends
//! the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::failure::{FAILED, Failure, Result};

/// Whether, and by what, this process was asked to stop. Commands that have nothing to save do not listen: the system's own
/// answer to a signal is right for them.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The number of the signal; 0 until one came.
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening, for the rest of the process.
    pub fn listen() -> Result<Self> {
        let received = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds `again` still false, the second ends the process.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))
                .and_then(|_| flag::register(signal, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&received), signal as usize))
                .map_err(|error| Failure::new(FAILED, &error))?;
        }
        Ok(Self { received })
    }

    /// Ends the process at the first signal, after `clear`: for a command that cannot go on later with what it has begun, and may be
    /// anywhere in a long computation.
    pub fn end_after(self, clear: impl FnOnce() + Send + 'static) -> Result<()> {
        let wait = move || {
            let signal = loop {
                match self.received() {
                    Some(signal) => break signal,
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            };
            clear();
            // At once: threads that still compute must not find that what they use is taken down.
            low_level::exit(128 + signal);
        };
        let thread = std::thread::Builder::new().name("signals".into());
        thread
            .spawn(wait)
            .map(drop)
            .map_err(|error| Failure::new(FAILED, &error))
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<i32> {
        match self.received.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}
