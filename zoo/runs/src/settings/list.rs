//! Settings for people to read, and those of data alone.

use serde::Serialize;
use serde_json::Value as Json;
use zoo_sdk::{Description, schema::Schema};

use super::{Given, resolve, toml_file};
use crate::{Error, Result};
use zoo_data::DataSettings;

/// A setting, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The whole key: `train.batch`.
    pub key: String,
    /// Its value where nothing is given, as a settings file would write it.
    pub default: String,
    /// What fits: `an integer, at least 1`.
    pub expected: String,
    /// What it means.
    pub doc: String,
}

/// Every setting of a model: the model's own first, then those of the trainer and of the data.
///
/// # Errors
/// Where the plugin's own defaults do not fit its schemas.
pub fn list(description: &Description) -> Result<Vec<Setting>> {
    let given = Given {
        // Only to have something to resolve; sources are no part of the list.
        data: Some(String::new()),
        ..Given::default()
    };
    let resolved = resolve(description, &given)?;
    let data = Json::from(schemars::schema_for!(DataSettings));
    let mut out = Vec::new();
    for (table, schema, values) in [
        ("model", &description.model_schema, &resolved.model),
        ("train", &description.train_schema, &resolved.train),
        ("data", &data, &resolved.data),
    ] {
        let schema = Schema::new(schema);
        for key in schema.keys(table) {
            let mut path = key.split('.').skip(1);
            let default = path.clone().try_fold(values, |v, k| v.get(k));
            let Some(found) = path.try_fold(schema, |s, k| s.property(k)) else {
                continue;
            };
            // The text beside the setting itself, not that of its type.
            let doc = found.description().unwrap_or_default();
            out.push(Setting {
                default: toml_file::inline(default.unwrap_or(&Json::Null)),
                expected: found.fits(),
                doc: doc.split_whitespace().collect::<Vec<_>>().join(" "),
                key,
            });
        }
    }
    Ok(out)
}

/// What `--set data.key=value` pairs ask for where no model is in play: the source, and how to read it.
///
/// # Errors
/// Names the key, the value and what was expected.
pub fn resolve_data(source: &str, set: &[String]) -> Result<(String, DataSettings)> {
    let nothing = || serde_json::json!({ "type": "object" });
    let description = Description {
        name: "data".to_owned(),
        model_schema: nothing(),
        train_schema: nothing(),
        ..Description::default()
    };
    let given = Given {
        set: set.to_vec(),
        data: Some(source.to_owned()),
        ..Given::default()
    };
    let resolved = resolve(&description, &given)?;
    let settings =
        serde_json::from_value(resolved.data).map_err(|e| Error::BadData(e.to_string()))?;
    Ok((resolved.source, settings))
}

#[cfg(test)]
mod tests {
    use zoo_sdk::Plugin;

    use super::*;
    use crate::testing::FakePlugin;

    #[test]
    fn settings_are_listed_with_their_defaults() {
        let settings = list(&FakePlugin::named("fake").describe()).unwrap();
        let find = |key: &str| settings.iter().find(|s| s.key == key).unwrap();
        assert_eq!(settings[0].key, "model.arch");
        assert_eq!(find("model.arch").default, "\"mlp\"");
        assert_eq!(find("model.arch").expected, "one of mlp, conv");
        assert_eq!(find("model.net.width").default, "32");
        // The recommended value, not the schema's.
        assert_eq!(find("train.lr").default, "0.01");
        assert_eq!(find("data.binarization").default, "\"dynamic\"");
        assert!(find("data.valid").doc.contains("held out"));
    }

    #[test]
    fn data_settings_without_a_model() {
        let set = |text: &str| resolve_data("fashion-small", &[text.to_owned()]);
        let (source, settings) = set("data.valid=500").unwrap();
        assert_eq!((source.as_str(), settings.valid), ("fashion-small", 500));
        assert_eq!(set("data.size=8x9").unwrap().1.size.unwrap().width, 9);
        for (text, told) in [
            ("data.vaild=5", "`data.valid`"),
            ("data.valid=many", "integer"),
            ("valid=5", "data.valid"),
            ("train.batch=4", "train.batch"),
        ] {
            let error = set(text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
