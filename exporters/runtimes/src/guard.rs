//! Panics of the libraries below become errors.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is an `Err` with its text, and is not printed.
///
/// What `work` was changing must not be used after an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // The hook prints before anything can catch: stay silent for guarded threads, and as before for all others.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.map_err(|payload| {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        format!("it panicked: {}", shorten(text))
    })
}

/// One readable line of a library's error: no backtrace, no page-long dump of a node.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 600;
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("0: ") && !line.starts_with("Stack backtrace"))
        .filter(|line| !line.is_empty());
    let mut line = lines.collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(at);
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_errors() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(
            guarded(|| panic!("a {}", "b")),
            Err::<(), _>("it panicked: a b".into())
        );
        assert!(guarded(|| guarded(|| panic!("inner")).is_err()).unwrap());
        assert!(!GUARDED.get());
    }

    #[test]
    fn errors_are_one_line() {
        assert_eq!(shorten("a\n  b\n   0: core::panic\n 1: x"), "a b");
        assert_eq!(shorten(&"é".repeat(700)).chars().count(), 604);
    }
}
