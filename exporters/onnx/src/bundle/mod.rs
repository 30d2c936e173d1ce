//! A model's files, kept together: graphs, weights, settings, test vectors, and a manifest with the hash of each.

mod card;
mod files;
mod manifest;
mod reader;
mod writer;

pub use card::Card;
pub use manifest::{
    DataEntry, GraphEntry, MANIFEST, Manifest, Proof, SCHEMA_VERSION, STEPS, VariantEntry,
};
pub use reader::{Bundle, Vectors};
pub use writer::{BundleWriter, abandon_unfinished};

#[cfg(test)]
mod tests;
