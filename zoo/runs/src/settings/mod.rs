//! The settings of a run, from the plugin's defaults to the command line.
//!
//! Later layers win: defaults of the plugin, then `--config F.toml`, then each `--set key=value`, then options of their own
//! (`--epochs`, `--steps`, `--max-time`, `--seed`). Keys are `model.x`, `data.x`, `train.x`; in `--set` a bare `x` is `model.x`.
//! Schemas type the values, and every error says where the value was given.

mod layers;
mod list;
mod toml_file;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use zoo_sdk::Description;

use crate::Result;
use layers::Builder;
use toml_file::TomlFile;

pub use list::{Setting, list, resolve_data};

/// The tables, in the order in which files hold them.
const TABLES: [&str; 3] = ["data", "model", "train"];

const HEADER: &str = "\
# The resolved settings of this run. They are complete: `zoo train MODEL --config THIS --out ELSEWHERE` repeats it.
# Change settings with --set or in a copy; in this file only train.epochs, train.steps, train.max_seconds and
# train.checkpoint_every may change, through `zoo train ... --resume`.
";

/// What a person asked for; all of it optional.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// A TOML file with tables `model`, `data`, `train` and keys `seed`, `plugin`, `init_from`.
    pub config: Option<PathBuf>,
    /// `key=value` pairs, later ones win.
    pub set: Vec<String>,
    /// `--data`: the name of an embedded data set, or a path.
    pub data: Option<String>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--epochs`: stop after so many passes over the data.
    pub epochs: Option<u64>,
    /// `--steps`: stop after so many steps in all.
    pub steps: Option<u64>,
    /// `--max-time`, in seconds.
    pub max_seconds: Option<f64>,
    /// `--init-from`: a run or bundle whose weights to start from.
    pub init_from: Option<PathBuf>,
}

/// The complete settings of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The model's name.
    pub model_name: String,
    /// The one seed from which every random number follows.
    pub seed: u64,
    /// Where the data come from: `data.source`.
    pub source: String,
    /// The other settings of the data.
    pub data: Json,
    /// The model's settings.
    pub model: Json,
    /// The trainer's settings.
    pub train: Json,
    /// A run or bundle whose weights the training starts from.
    pub init_from: Option<String>,
}

impl Resolved {
    /// The text of `config.toml`; the same settings give the same bytes.
    pub fn to_toml(&self) -> String {
        let mut top = Map::new();
        top.insert("plugin".into(), self.model_name.clone().into());
        top.insert("seed".into(), self.seed.into());
        if let Some(from) = &self.init_from {
            top.insert("init_from".into(), from.clone().into());
        }
        let mut data = Map::new();
        data.insert("source".into(), self.source.clone().into());
        data.extend(self.data.as_object().cloned().unwrap_or_default());
        top.insert("data".into(), Json::Object(data));
        top.insert("model".into(), self.model.clone());
        top.insert("train".into(), self.train.clone());
        let mut out = HEADER.to_owned();
        toml_file::write_table(&mut out, "", &top);
        out
    }

    /// Every setting with its dotted key, for comparing two runs.
    fn leaves(&self) -> Vec<(String, Json)> {
        let mut out = vec![
            ("seed".to_owned(), Json::from(self.seed)),
            ("data.source".to_owned(), Json::String(self.source.clone())),
            ("init_from".to_owned(), Json::from(self.init_from.clone())),
        ];
        for (name, table) in TABLES.iter().zip([&self.data, &self.model, &self.train]) {
            collect_leaves(name, table, &mut out);
        }
        out
    }

    /// Settings that differ: key, value here, value there.
    pub fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let (here, there) = (self.leaves(), other.leaves());
        let value = |leaves: &[(String, Json)], key: &str| {
            let found = leaves.iter().find(|(k, _)| k == key);
            found.map_or(Json::Null, |(_, v)| v.clone())
        };
        let mut keys: Vec<_> = here.iter().chain(&there).map(|(k, _)| k).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .map(|key| (key, value(&here, key), value(&there, key)))
            .filter(|(_, a, b)| a != b)
            .map(|(key, a, b)| (key.clone(), toml_file::inline(&a), toml_file::inline(&b)))
            .collect()
    }
}

fn collect_leaves(prefix: &str, value: &Json, out: &mut Vec<(String, Json)>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                collect_leaves(&format!("{prefix}.{key}"), value, out);
            }
        }
        other => out.push((prefix.to_owned(), other.clone())),
    }
}

/// The settings for a new run of the model that `description` describes.
///
/// # Errors
/// Names the key, the value, what was expected and where it was given.
pub fn resolve(description: &Description, given: &Given) -> Result<Resolved> {
    let mut builder = Builder::new(description)?;
    builder.apply_given(given)?;
    builder.finish()
}

/// The settings in a run's `config.toml`, and the same with what was given on top.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_run(
    description: &Description,
    config: &Path,
    given: &Given,
) -> Result<(Resolved, Resolved)> {
    let mut builder = Builder::new(description)?;
    builder.apply_file(&TomlFile::read(config)?)?;
    let stored = builder.clone().finish()?;
    builder.apply_given(given)?;
    Ok((stored, builder.finish()?))
}

/// The model that a settings file is for, where it says so.
///
/// # Errors
/// For a file that cannot be read or is no TOML.
pub fn model_of(config: &Path) -> Result<Option<String>> {
    let file = TomlFile::read(config)?;
    Ok(file
        .root
        .get("plugin")
        .and_then(Json::as_str)
        .map(str::to_owned))
}

#[cfg(test)]
mod tests;
