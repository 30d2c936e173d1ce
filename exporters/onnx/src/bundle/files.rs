//! Names and hashes of files.

use std::path::{Component, Path};

use sha2::{Digest, Sha256};

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

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
