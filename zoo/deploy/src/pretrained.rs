//! Trained bundles that come with the program, by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use zoo_onnx::bundle::MANIFEST;

use crate::{Error, Result};

/// What stands before a name where a path could stand: `pretrained:pixelcnn-mnist`.
pub const PREFIX: &str = "pretrained:";

/// A trained bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pretrained {
    /// Model and data: `pixelcnn-mnist`.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// The bundle.
    pub dir: PathBuf,
}

/// Where bundles are looked for, in this order.
fn folders() -> Vec<PathBuf> {
    let parents = zoo_data::folders().into_iter();
    parents.map(|folder| folder.join("pretrained")).collect()
}

/// The bundles there are, by name.
pub fn pretrained() -> Vec<Pretrained> {
    among(&folders())
}

fn among(folders: &[PathBuf]) -> Vec<Pretrained> {
    let mut found = BTreeMap::new();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for dir in entries.map(|entry| entry.path()) {
            let name = dir.file_name().and_then(|name| name.to_str());
            if let (Some(name), Some(model)) = (name, model_of(&dir)) {
                found.entry(name.to_owned()).or_insert(Pretrained {
                    name: name.to_owned(),
                    model,
                    dir: dir.canonicalize().unwrap_or(dir.clone()),
                });
            }
        }
    }
    found.into_values().collect()
}

/// The model of a bundle; none for anything else. Whoever opens the bundle checks the rest.
fn model_of(dir: &Path) -> Option<String> {
    let text = fs::read(dir.join(MANIFEST)).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(manifest.get("model")?.as_str()?.to_owned())
}

/// The folder that `text` stands for: that of a bundle where it is `pretrained:NAME`, else itself.
///
/// # Errors
/// Where there is no bundle of that name; lists those that there are, nearest first.
pub fn resolve(text: &str) -> Result<PathBuf> {
    match text.strip_prefix(PREFIX) {
        Some(name) => find(name, pretrained()),
        None => Ok(text.into()),
    }
}

fn find(name: &str, mut known: Vec<Pretrained>) -> Result<PathBuf> {
    known.sort_by_key(|bundle| strsim::damerau_levenshtein(&bundle.name, name));
    match known.first() {
        Some(bundle) if bundle.name == name => Ok(bundle.dir.clone()),
        Some(nearest) => {
            let names: Vec<&str> = known.iter().map(|bundle| bundle.name.as_str()).collect();
            Err(Error::Usage(format!(
                "there is no pretrained bundle {name:?}; did you mean {}? (bundles: {})",
                nearest.name,
                names.join(", ")
            )))
        }
        None => Err(Error::Usage(format!(
            "there is no pretrained bundle {name:?}, and no other; put bundles into {}",
            folders()
                .first()
                .map_or_else(String::new, |folder| folder.display().to_string())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_found_by_name_and_the_first_folder_wins() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| place.path().join(name);
        for (dir, manifest) in [
            ("first/a-mnist", r#"{"model":"a"}"#),
            ("second/a-mnist", r#"{"model":"older"}"#),
            ("second/b-mnist", r#"{"model":"b"}"#),
            ("second/broken", "{"),
            ("second/no-model", "{}"),
        ] {
            fs::create_dir_all(folder(dir)).unwrap();
            fs::write(folder(dir).join(MANIFEST), manifest).unwrap();
        }
        fs::create_dir_all(folder("first/empty")).unwrap();
        let known = among(&[folder("first"), folder("nowhere"), folder("second")]);
        let names: Vec<(&str, &str)> = known
            .iter()
            .map(|bundle| (bundle.name.as_str(), bundle.model.as_str()))
            .collect();
        assert_eq!(names, [("a-mnist", "a"), ("b-mnist", "b")]);
        let found = find("b-mnist", known.clone()).unwrap();
        assert_eq!(found, folder("second/b-mnist").canonicalize().unwrap());
        let error = find("b-mnits", known).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no pretrained bundle \"b-mnits\"; did you mean b-mnist? (bundles: b-mnist, a-mnist)"
        );
        assert!(
            find("a", Vec::new())
                .unwrap_err()
                .to_string()
                .contains("and no other")
        );
    }

    #[test]
    fn paths_stay_paths() {
        assert_eq!(resolve("runs/vae").unwrap(), Path::new("runs/vae"));
        assert!(resolve("pretrained:no such thing").is_err());
    }
}
