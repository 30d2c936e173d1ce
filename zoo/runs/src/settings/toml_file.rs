//! Settings as TOML: read with the line of every key, written so that the same settings give the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use toml::de::{DeTable, DeValue};

use crate::{Error, Result};

/// A file of settings.
pub(super) struct TomlFile {
    pub(super) path: PathBuf,
    pub(super) root: Map<String, Json>,
    /// Line of each key, by its path.
    lines: BTreeMap<Vec<String>, usize>,
}

impl TomlFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let failed = |message: String| Error::Toml {
            path: path.to_owned(),
            message,
        };
        let table =
            DeTable::parse(text).map_err(|e| failed(e.to_string().trim_end().to_owned()))?;
        let mut file = Self {
            path: path.to_owned(),
            root: Map::new(),
            lines: BTreeMap::new(),
        };
        file.root = file
            .table(table.get_ref(), text, &mut Vec::new())
            .map_err(failed)?;
        Ok(file)
    }

    /// The line of a key, or of the nearest table around it.
    pub(super) fn line(&self, path: &[String]) -> usize {
        (0..=path.len())
            .rev()
            .find_map(|n| self.lines.get(&path[..n]))
            .copied()
            .unwrap_or(1)
    }

    fn table(
        &mut self,
        table: &DeTable<'_>,
        text: &str,
        path: &mut Vec<String>,
    ) -> Result<Map<String, Json>, String> {
        let mut out = Map::new();
        for (key, value) in table {
            let line = 1 + text[..key.span().start].matches('\n').count();
            path.push(key.get_ref().to_string());
            self.lines.insert(path.clone(), line);
            let value = match value.get_ref() {
                DeValue::Table(inner) => Json::Object(self.table(inner, text, path)?),
                other => scalar(other).map_err(|e| format!("line {line}: {e}"))?,
            };
            path.pop();
            out.insert(key.get_ref().to_string(), value);
        }
        Ok(out)
    }
}

/// What `text` means as a TOML value, where it is one.
pub(super) fn literal(text: &str) -> Option<Json> {
    let document = format!("v = {text}");
    let table = DeTable::parse(&document).ok()?;
    // More than one key would mean that the text held a line break and another setting.
    match table.get_ref().iter().next() {
        Some((_, value)) if table.get_ref().len() == 1 => scalar(value.get_ref()).ok(),
        _ => None,
    }
}

fn scalar(value: &DeValue<'_>) -> Result<Json, String> {
    Ok(match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Boolean(b) => Json::Bool(*b),
        DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix())
            .map(Json::from)
            .map_err(|_| format!("{i} does not fit a 64-bit integer"))?,
        DeValue::Float(f) => f
            .as_str()
            .parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Json::Number)
            .ok_or_else(|| format!("{f} is no finite number"))?,
        DeValue::Array(items) => items
            .iter()
            .map(|item| scalar(item.get_ref()))
            .collect::<Result<_, _>>()?,
        DeValue::Table(table) => Json::Object(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), scalar(value.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
        DeValue::Datetime(date) => return Err(format!("{date} is a date, which no setting is")),
    })
}

/// Writes `table` under the header `name`, scalars before tables, in the order in which it holds them.
pub(super) fn write_table(out: &mut String, name: &str, table: &Map<String, Json>) {
    if !name.is_empty() {
        out.push_str(&format!("\n[{name}]\n"));
    }
    for (key, value) in table {
        if !value.is_object() {
            out.push_str(&format!("{} = {}\n", key_text(key), inline(value)));
        }
    }
    for (key, value) in table {
        if let Json::Object(inner) = value {
            let key = key_text(key);
            let path = if name.is_empty() {
                key
            } else {
                format!("{name}.{key}")
            };
            write_table(out, &path, inner);
        }
    }
}

/// A value on one line; null is `"none"`.
pub(super) fn inline(value: &Json) -> String {
    match value {
        Json::Null => "\"none\"".to_owned(),
        Json::Bool(b) => b.to_string(),
        Json::Number(n) => match n.as_f64() {
            // serde_json writes 1e-5 and 1.0, both of which TOML reads as floats.
            Some(float) if n.is_f64() => Json::from(float).to_string(),
            _ => n.to_string(),
        },
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(map) => {
            let items: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{} = {}", key_text(key), inline(value)))
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
    }
}

fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        // A JSON string escapes everything that a TOML basic string must.
        Json::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn written_settings_read_the_same() {
        let root = json!({
            "seed": 3, "rate": 1e-5, "small": 1e-30, "one": 1.0, "big": 1e22, "text": "a \"b\"\n\u{7}'c'", "list": [[1, 2], ["x"]],
            "odd key": true, "\u{1}": 1, "table": {"x": 1, "inner": {"tagged": {"gaussian": 0.5}}, "list": [{"a": 1}]},
        });
        let mut text = String::new();
        write_table(&mut text, "", root.as_object().unwrap());
        let file = TomlFile::parse(Path::new("x.toml"), &text).unwrap();
        assert_eq!(Json::Object(file.root), root, "{text}");
    }

    #[test]
    fn lines_are_known() {
        let text = "# head\nseed = 1\n[model]\nlatent = 3\n[model.net]\n\nwidth = 2\n";
        let file = TomlFile::parse(Path::new("x.toml"), text).unwrap();
        let line = |path: &[&str]| {
            file.line(
                &path
                    .iter()
                    .map(|s| (*s).to_owned())
                    .collect::<Vec<String>>(),
            )
        };
        assert_eq!(line(&["seed"]), 2);
        assert_eq!(line(&["model", "latent"]), 4);
        assert_eq!(line(&["model", "net", "width"]), 7);
        assert_eq!(line(&["model", "net", "missing"]), 5);
    }

    #[test]
    fn bad_files_say_where() {
        for (text, part) in [
            ("a = \n", "line 1"),
            ("a = 1\nb = 99999999999999999999", "line 2"),
            ("a = 1979-05-27", "date"),
            ("a = inf", "finite"),
            ("a = 1\na = 2", "duplicate"),
        ] {
            let error = TomlFile::parse(Path::new("x.toml"), text).err().unwrap();
            let message = error.to_string();
            assert!(
                message.contains(part) && message.starts_with("x.toml"),
                "{message}"
            );
        }
    }

    #[test]
    fn literals() {
        assert_eq!(literal("3"), Some(json!(3)));
        assert_eq!(literal("[1, 2.5]"), Some(json!([1, 2.5])));
        assert_eq!(literal("conv"), None);
        assert_eq!(literal("1\nother = 2"), None);
    }
}
