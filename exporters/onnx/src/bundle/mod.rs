//! A model's files, kept together: graphs, weights, settings, test vectors, and a manifest with the hash of each.

mod manifest;
mod reader;
mod writer;

use std::path::{Component, Path};

use sha2::{Digest, Sha256};

pub use manifest::{DataEntry, GraphEntry, Manifest, Proof, SCHEMA_VERSION, VariantEntry};
pub use reader::{Bundle, Vectors};
pub use writer::BundleWriter;

/// The manifest's name in a bundle.
pub const MANIFEST: &str = "manifest.json";

/// The [driver](VariantEntry::driver) of step graphs: a JSON file with [`zoo_graph::Steps`], whose files lie beside it.
pub const STEPS: &str = "steps";

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether a path of a manifest stays below the bundle on every system: plain names joined by `/`.
fn confined(path: &str) -> bool {
    let plain = !path.is_empty()
        && !path.contains(['\\', ':', '\0'])
        && !path.split('/').any(str::is_empty);
    plain
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        && !path.split('/').any(|p| p == ".")
}

#[cfg(test)]
mod tests;
