//! Names of files.

use std::path::{Component, Path};

/// Whether a path of a manifest stays below the bundle on every system: plain names joined by `/`.
pub(super) fn confined(path: &str) -> bool {
    let plain = !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && !path.split('/').any(str::is_empty);
    plain
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        && !path.split('/').any(|p| p == ".")
}
