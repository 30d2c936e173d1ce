//! Putting settings on top of each other, each value typed by its schema.

use std::rc::Rc;

use serde_json::{Map, Value as Json};
use zoo_sdk::{Description, schema::Schema};

use super::toml_file::{self, TomlFile};
use super::{Given, Resolved, TABLES};
use crate::error::Origin;
use crate::{Error, Result};

/// A value that still has to be typed.
enum Raw<'a> {
    Json(&'a Json),
    /// From the command line: a TOML literal, or a text without quotes.
    Text(&'a str),
}

/// The settings so far.
#[derive(Clone)]
pub(super) struct Builder<'a> {
    description: &'a Description,
    /// In the order of [`TABLES`].
    schemas: [Rc<Json>; 3],
    values: [Map<String, Json>; 3],
    seed: u64,
    source: Option<String>,
    init_from: Option<String>,
    /// `train.` keys that the current layer set.
    touched: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(description: &'a Description) -> Result<Self> {
        let data_schema = Json::from(schemars::schema_for!(zoo_data::DataSettings));
        let mut builder = Self {
            description,
            schemas: [
                data_schema.into(),
                description.model_schema.clone().into(),
                description.train_schema.clone().into(),
            ],
            values: Default::default(),
            seed: 0,
            source: None,
            init_from: None,
            touched: Vec::new(),
        };
        let origin = Origin::Defaults(description.name.clone());
        for (index, table) in TABLES.iter().enumerate() {
            if let Some(Json::Object(map)) = description.defaults.get(table) {
                builder.apply_table(index, map, &mut vec![(*table).to_owned()], &|_| {
                    origin.clone()
                })?;
            }
        }
        builder.end_layer();
        Ok(builder)
    }

    pub(super) fn apply_given(&mut self, given: &Given) -> Result<()> {
        if let Some(path) = &given.config {
            self.apply_file(&TomlFile::read(path)?)?;
        }
        for pair in &given.set {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| Error::BadSet(pair.clone()))?;
            self.apply_set(key.trim(), value.trim())?;
        }
        self.end_layer();
        if let Some(seed) = given.seed {
            self.set_seed(&seed.into(), &Origin::Flag("--seed"))?;
        }
        let whole = |n: u64| Json::from(n);
        let time = given.max_seconds.map(|s| {
            // A schema may want an integer; a number schema takes one as well.
            if s.fract() == 0.0 && (0.0..1e15).contains(&s) {
                whole(s as u64)
            } else {
                Json::from(s)
            }
        });
        for (flag, key, value) in [
            ("--epochs", "epochs", given.epochs.map(whole)),
            ("--steps", "steps", given.steps.map(whole)),
            ("--max-time", "max_seconds", time),
        ] {
            if let Some(value) = value {
                let path = ["train".to_owned(), key.to_owned()];
                self.set(2, &path, Raw::Json(&value), &Origin::Flag(flag))?;
            }
        }
        self.end_layer();
        if let Some(source) = &given.data {
            self.source = Some(absolute(source));
        }
        if let Some(from) = &given.init_from {
            self.init_from = Some(absolute(&from.to_string_lossy()));
        }
        Ok(())
    }

    pub(super) fn apply_file(&mut self, file: &TomlFile) -> Result<()> {
        for (key, value) in &file.root {
            let path = vec![key.clone()];
            let origin = Origin::File(file.path.clone(), file.line(&path));
            if let Some(index) = TABLES.iter().position(|t| t == key) {
                let Json::Object(map) = value else {
                    return Err(bad(&origin, key, value, "a table"));
                };
                let mut map = map.clone();
                if index == 0
                    && let Some(source) = map.remove("source")
                {
                    self.source = Some(text(&source, "data.source", &origin)?);
                }
                self.apply_table(index, &map, &mut vec![key.clone()], &|path| {
                    Origin::File(file.path.clone(), file.line(path))
                })?;
                continue;
            }
            match key.as_str() {
                "seed" => self.set_seed(value, &origin)?,
                "init_from" => self.init_from = Some(text(value, "init_from", &origin)?),
                "plugin" => {
                    let found = text(value, "plugin", &origin)?;
                    if found != self.description.name {
                        return Err(Error::OtherModel {
                            path: file.path.clone(),
                            found,
                            wanted: self.description.name.clone(),
                        });
                    }
                }
                _ => return Err(self.unknown(&origin, key)),
            }
        }
        self.end_layer();
        Ok(())
    }

    fn apply_set(&mut self, key: &str, value: &str) -> Result<()> {
        let mut path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let bare_seed = key == "seed" && self.schema(1).property("seed").is_none();
        if bare_seed {
            let value = toml_file::literal(value).unwrap_or_else(|| value.into());
            return self.set_seed(&value, &Origin::Set);
        }
        if key == "data.source" {
            self.source = Some(absolute(value));
            return Ok(());
        }
        let index = match TABLES.iter().position(|t| *t == path[0]) {
            Some(index) if path.len() > 1 => index,
            _ => {
                path.insert(0, "model".to_owned());
                if self.find(1, &path).is_none() {
                    return Err(self.unknown(&Origin::Set, key));
                }
                1
            }
        };
        match (toml_file::literal(value), self.find(index, &path)) {
            (Some(Json::Object(table)), Some(schema)) if !schema.properties().is_empty() => {
                self.apply_table(index, &table, &mut path, &|_| Origin::Set)
            }
            _ => self.set(index, &path, Raw::Text(value), &Origin::Set),
        }
    }

    /// Takes over a table; tables in it are merged key by key.
    fn apply_table(
        &mut self,
        index: usize,
        table: &Map<String, Json>,
        path: &mut Vec<String>,
        origin: &dyn Fn(&[String]) -> Origin,
    ) -> Result<()> {
        for (key, value) in table {
            path.push(key.clone());
            let merged = match value {
                Json::Object(inner) => self
                    .find(index, path)
                    .is_some_and(|s| !s.properties().is_empty())
                    .then_some(inner),
                _ => None,
            };
            match merged {
                Some(inner) => self.apply_table(index, inner, path, origin)?,
                None => self.set(index, path, Raw::Json(value), &origin(path))?,
            }
            path.pop();
        }
        Ok(())
    }

    fn schema(&self, index: usize) -> Schema<'_> {
        Schema::new(&self.schemas[index])
    }

    /// The schema of the setting at `path`, whose first part is the table.
    fn find(&self, index: usize, path: &[String]) -> Option<Schema<'_>> {
        path[1..]
            .iter()
            .try_fold(self.schema(index), |schema, key| schema.property(key))
    }

    fn set(&mut self, index: usize, path: &[String], raw: Raw<'_>, origin: &Origin) -> Result<()> {
        let key = path.join(".");
        let Some(schema) = self.find(index, path) else {
            return Err(self.unknown(origin, &key));
        };
        let value = typed(schema, &raw)
            .and_then(|value| match index {
                0 => understood(&path[1..], value),
                _ => Ok(value),
            })
            .map_err(|expected| Error::BadValue {
                origin: origin.clone(),
                key: key.clone(),
                value: match raw {
                    Raw::Json(value) => toml_file::inline(value),
                    Raw::Text(text) => text.to_owned(),
                },
                expected,
            })?;
        if index == 2 {
            self.touched.push(path[1..].join("."));
        }
        insert(&mut self.values[index], &path[1..], value);
        Ok(())
    }

    fn set_seed(&mut self, value: &Json, origin: &Origin) -> Result<()> {
        // TOML's integers end there.
        self.seed = value
            .as_u64()
            .filter(|&seed| i64::try_from(seed).is_ok())
            .ok_or_else(|| bad(origin, "seed", value, "an integer from 0 to 2^63 - 1"))?;
        Ok(())
    }

    /// Of two ways to say when to stop, the later layer's counts: it unsets the other.
    fn end_layer(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        let has = |key: &str| touched.iter().any(|t| t == key);
        for (set, other) in [("epochs", "steps"), ("steps", "epochs")] {
            let path = ["train".to_owned(), other.to_owned()];
            if has(set) && !has(other) && self.find(2, &path).is_some_and(|s| s.nullable()) {
                self.values[2].insert(other.to_owned(), Json::Null);
            }
        }
    }

    fn unknown(&self, origin: &Origin, key: &str) -> Error {
        let mut known = vec!["seed".to_owned(), "data.source".to_owned()];
        for (index, table) in TABLES.iter().enumerate() {
            known.extend(self.schema(index).keys(table));
        }
        let hint = match nearest_key(key, &known) {
            Some(nearest) => format!(
                "; did you mean `{nearest}`? `zoo describe {}` lists them all",
                self.description.name
            ),
            None => format!(". Settings: {}", known.join(", ")),
        };
        Error::UnknownKey {
            origin: origin.clone(),
            key: key.to_owned(),
            hint,
        }
    }

    pub(super) fn finish(mut self) -> Result<Resolved> {
        let values = std::mem::take(&mut self.values);
        let mut tables = Vec::with_capacity(3);
        for (index, given) in values.into_iter().enumerate() {
            tables.push(Json::Object(fill(
                self.schema(index),
                given,
                TABLES[index],
            )?));
        }
        let mut next = || tables.remove(0);
        Ok(Resolved {
            model_name: self.description.name.clone(),
            seed: self.seed,
            source: self.source.ok_or(Error::NoData)?,
            data: next(),
            model: next(),
            train: next(),
            init_from: self.init_from,
        })
    }
}

/// The data setting `value` where [`DataSettings`](zoo_data::DataSettings) takes it, else what it expects: a schema
/// does not know all of its rules.
fn understood(path: &[String], value: Json) -> Result<Json, String> {
    let mut alone = Map::new();
    insert(&mut alone, path, value.clone());
    match serde_json::from_value::<zoo_data::DataSettings>(Json::Object(alone)) {
        Ok(_) => Ok(value),
        Err(error) => Err(error.to_string().trim_start_matches("expected ").to_owned()),
    }
}

/// The value that `raw` stands for under `schema`, or what was expected.
fn typed(schema: Schema<'_>, raw: &Raw<'_>) -> Result<Json, String> {
    let none = |text: &str| matches!(text, "none" | "null") && schema.nullable();
    let candidates = match raw {
        Raw::Json(Json::String(text)) if none(text) => {
            vec![Json::String(text.clone()), Json::Null]
        }
        Raw::Json(value) => vec![(*value).clone()],
        Raw::Text(text) => {
            let mut candidates: Vec<_> = toml_file::literal(text).into_iter().collect();
            // A word that an enumeration knows comes before null; a free text does not.
            candidates.push(Json::String((*text).to_owned()));
            if none(text) {
                candidates.push(Json::Null);
            }
            candidates
        }
    };
    let free_text = schema.check(&Json::from("\u{0}")).is_ok();
    if free_text && candidates.contains(&Json::Null) {
        return Ok(Json::Null);
    }
    let mut answer = Err(String::new());
    for candidate in candidates {
        answer = schema.check(&candidate);
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// `given` in the schema's order, completed with the schema's defaults.
fn fill(schema: Schema<'_>, mut given: Map<String, Json>, path: &str) -> Result<Map<String, Json>> {
    let mut out = Map::new();
    for (name, property) in schema.properties() {
        let default = || {
            property
                .default()
                .or(property.nullable().then_some(Json::Null))
        };
        let Some(value) = given.remove(name).or_else(default) else {
            if schema.requires(name) {
                return Err(Error::MissingKey {
                    key: format!("{path}.{name}"),
                });
            }
            continue;
        };
        let value = match value {
            Json::Object(inner) if !property.properties().is_empty() => {
                Json::Object(fill(property, inner, &format!("{path}.{name}"))?)
            }
            // Defaults are brought into the same form as given values.
            other => property.check(&other).unwrap_or(other),
        };
        out.insert(name.to_owned(), value);
    }
    out.extend(given);
    Ok(out)
}

fn insert(table: &mut Map<String, Json>, path: &[String], value: Json) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert(Json::Null);
            if !inner.is_object() {
                *inner = Json::Object(Map::new());
            }
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The known key most like `key`; the last part weighs most, so that `lr` finds `train.lr`.
fn nearest_key(key: &str, known: &[String]) -> Option<String> {
    // A table that is misspelt hides what stands in it.
    let (table, rest) = key.split_once('.').unwrap_or((key, ""));
    let alike = |name: &&&str| strsim::jaro_winkler(table, name) > 0.85;
    if let Some(meant) = TABLES.iter().find(alike).filter(|name| **name != table) {
        let meant = format!("{meant}.{rest}");
        if rest.is_empty() || known.contains(&meant) {
            return Some(meant.trim_end_matches('.').to_owned());
        }
    }
    let bare = |k: &str| match k.split_once('.') {
        Some((table, rest)) if TABLES.contains(&table) => rest.to_owned(),
        _ => k.to_owned(),
    };
    let table = key.split_once('.').map(|(table, _)| table);
    let score = |candidate: &str| {
        let same_table = candidate.split_once('.').map(|(t, _)| t) == table;
        strsim::jaro_winkler(&bare(key), &bare(candidate)) + if same_table { 0.02 } else { 0.0 }
    };
    known
        .iter()
        .max_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| b.cmp(a)))
        .filter(|best| score(best) > 0.75)
        .cloned()
}

fn bad(origin: &Origin, key: &str, value: &Json, expected: &str) -> Error {
    Error::BadValue {
        origin: origin.clone(),
        key: key.to_owned(),
        value: toml_file::inline(value),
        expected: expected.to_owned(),
    }
}

fn text(value: &Json, key: &str, origin: &Origin) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| bad(origin, key, value, "a text"))
}

/// An existing path made absolute, so that a run can be read from any folder; other names as they are.
fn absolute(source: &str) -> String {
    let known = zoo_data::KNOWN.iter().any(|k| k.name == source);
    match std::fs::canonicalize(source) {
        Ok(path) if !known => path.to_string_lossy().into_owned(),
        _ => source.to_owned(),
    }
}
