//! The JSON schemas in which plugins describe their settings, the subset that schemars writes: what fits them, and what would.
//!
//! A range stands in the schema alone: whoever reads settings checks them here, and nobody by hand.

use std::fmt;

use serde_json::{Map, Value as Json};

/// References and tables followed before a schema counts as circular.
const MAX_DEPTH: usize = 10;

/// A schema, or a part of one, with the document that its references point into.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    root: &'a Json,
    node: &'a Json,
}

/// A value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The dotted key, from the table's name on.
    pub key: String,
    /// The value there, as JSON; `nothing` where it is missing.
    pub value: String,
    /// What would have done: `an integer (at least 1)`.
    pub expected: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            value,
            expected,
        } = self;
        write!(f, "`{key}` = {value}: expected {expected}")
    }
}

impl From<Misfit> for crate::Error {
    fn from(misfit: Misfit) -> Self {
        Self::input(misfit.to_string())
    }
}

impl<'a> Schema<'a> {
    /// The schema that a whole document is.
    pub fn new(root: &'a Json) -> Self {
        Self { root, node: root }.resolve()
    }

    fn part(self, node: &'a Json) -> Self {
        Self { node, ..self }.resolve()
    }

    /// Follows `$ref`, and `allOf` of one.
    fn resolve(mut self) -> Self {
        for _ in 0..MAX_DEPTH {
            let next = match (self.node.get("$ref"), self.node.get("allOf")) {
                (Some(Json::String(reference)), _) => reference
                    .strip_prefix('#')
                    .and_then(|pointer| self.root.pointer(pointer)),
                (_, Some(Json::Array(all))) if all.len() == 1 => all.first(),
                _ => None,
            };
            match next {
                Some(node) => self.node = node,
                None => break,
            }
        }
        self
    }

    fn alternatives(self) -> Option<Vec<Self>> {
        let list = ["anyOf", "oneOf"]
            .iter()
            .find_map(|k| self.node.get(k)?.as_array())?;
        Some(list.iter().map(|node| self.part(node)).collect())
    }

    fn types(self) -> Vec<&'a str> {
        match self.node.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether null is a value, which settings write as `"none"`.
    pub fn nullable(self) -> bool {
        self.resolve().accept(&Json::Null, 0).is_some()
    }

    /// Named settings of an object; through `Option<T>` too.
    pub fn properties(self) -> Vec<(&'a str, Self)> {
        self.resolve().tables(0)
    }

    fn tables(self, depth: usize) -> Vec<(&'a str, Self)> {
        if depth > MAX_DEPTH {
            return Vec::new();
        }
        if let Some(map) = self.node.get("properties").and_then(Json::as_object) {
            return map
                .iter()
                .map(|(key, node)| (key.as_str(), self.part_with_default(node)))
                .collect();
        }
        let inner: Vec<_> = self.alternatives().unwrap_or_default();
        match inner
            .iter()
            .filter(|s| s.types() != ["null"])
            .collect::<Vec<_>>()[..]
        {
            [only] => only.tables(depth + 1),
            _ => Vec::new(),
        }
    }

    /// Unlike [`Self::part`] this does not look through references, so that a `default` beside `$ref` stays visible.
    fn part_with_default(self, node: &'a Json) -> Self {
        Self { node, ..self }
    }

    /// The setting called `key`; where the table takes any key, its values' schema.
    pub fn property(self, key: &str) -> Option<Self> {
        let known = self.properties().into_iter().find(|(name, _)| *name == key);
        known.map(|(_, schema)| schema).or_else(|| {
            let any = self.resolve().node.get("additionalProperties")?;
            any.is_object().then(|| self.part(any))
        })
    }

    /// Whether a table is incomplete without `name`.
    pub fn requires(self, name: &str) -> bool {
        let required = self.resolve().node.get("required").and_then(Json::as_array);
        required.is_some_and(|names| names.iter().any(|n| n.as_str() == Some(name)))
    }

    /// The value where none is given.
    pub fn default(self) -> Option<Json> {
        self.node
            .get("default")
            .or_else(|| self.resolve().node.get("default"))
            .cloned()
    }

    /// What the setting means, in the author's words.
    pub fn description(self) -> Option<&'a str> {
        self.node.get("description").and_then(Json::as_str)
    }

    /// What fits, for people: `an integer, at least 1`.
    pub fn fits(self) -> String {
        self.resolve().expected(0)
    }

    /// Dotted keys of everything that can be set.
    pub fn keys(self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect_keys(prefix, 0, &mut keys);
        keys
    }

    fn collect_keys(self, prefix: &str, depth: usize, keys: &mut Vec<String>) {
        for (name, schema) in self.properties() {
            let key = format!("{prefix}.{name}");
            let schema = schema.resolve();
            if depth < 3 && !schema.properties().is_empty() {
                schema.collect_keys(&key, depth + 1, keys);
            } else {
                keys.push(key);
            }
        }
    }

    /// The value as its type wants it (1 becomes 1.0 for a float).
    ///
    /// # Errors
    /// What would have done, for people.
    pub fn check(self, value: &Json) -> Result<Json, String> {
        let this = self.resolve();
        this.accept(value, 0).ok_or_else(|| this.expected(0))
    }

    /// As [`Self::check`] for the table of settings called `name`, where what is wrong is told of the one setting at fault.
    ///
    /// # Errors
    /// The first setting that does not fit, in the table's order.
    pub fn check_table(self, name: &str, table: &Json) -> Result<Json, Misfit> {
        self.check(table).map_err(|expected| {
            self.misfit(table, name, 0).unwrap_or(Misfit {
                key: name.to_owned(),
                value: table.to_string(),
                expected,
            })
        })
    }

    /// The setting at fault in `table`, whose key is `prefix`.
    fn misfit(self, table: &Json, prefix: &str, depth: usize) -> Option<Misfit> {
        let this = self.resolve();
        let known = this.properties();
        let key_of = |name: &str| format!("{prefix}.{name}");
        for (name, value) in table.as_object().filter(|_| depth <= MAX_DEPTH)? {
            let Some(schema) = this.property(name) else {
                if this.node.get("additionalProperties") == Some(&Json::Bool(false)) {
                    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    return Some(Misfit {
                        key: key_of(name),
                        value: value.to_string(),
                        expected: format!("one of the settings {}", names.join(", ")),
                    });
                }
                continue;
            };
            if let Err(expected) = schema.check(value) {
                let key = key_of(name);
                return schema.misfit(value, &key, depth + 1).or(Some(Misfit {
                    key,
                    value: value.to_string(),
                    expected,
                }));
            }
        }
        let missing = known
            .into_iter()
            .find(|(name, _)| this.requires(name) && table.get(name).is_none());
        missing.map(|(name, schema)| Misfit {
            key: key_of(name),
            value: "nothing".to_owned(),
            expected: schema.fits(),
        })
    }

    fn accept(self, value: &Json, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(list) = self.alternatives() {
            return list.iter().find_map(|s| s.accept(value, depth + 1));
        }
        if let Some(constant) = self.node.get("const") {
            return (constant == value).then(|| value.clone());
        }
        if let Some(Json::Array(options)) = self.node.get("enum") {
            return options.contains(value).then(|| value.clone());
        }
        let types = self.types();
        if types.is_empty() {
            return Some(value.clone());
        }
        types
            .iter()
            .find_map(|kind| self.accept_type(kind, value, depth))
    }

    fn accept_type(self, kind: &str, value: &Json, depth: usize) -> Option<Json> {
        match kind {
            "null" => value.is_null().then_some(Json::Null),
            "boolean" => value.is_boolean().then(|| value.clone()),
            "string" => value.is_string().then(|| value.clone()),
            "integer" => {
                let exact = value.is_i64() || value.is_u64();
                (exact && self.in_range(value.as_f64()?)).then(|| value.clone())
            }
            "number" => {
                let mut number = value.as_f64()?;
                if !self.in_range(number) {
                    return None;
                }
                // The shortest decimal of an f32 instead of all digits that it has as f64.
                if self.node.get("format").and_then(Json::as_str) == Some("float") {
                    number = (number as f32).to_string().parse().ok()?;
                }
                serde_json::Number::from_f64(number).map(Json::Number)
            }
            "array" => self.accept_array(value.as_array()?, depth),
            "object" => self.accept_object(value.as_object()?, depth),
            _ => None,
        }
    }

    fn accept_array(self, items: &[Json], depth: usize) -> Option<Json> {
        let bound = |key: &str| self.node.get(key).and_then(Json::as_u64);
        let len = items.len() as u64;
        if bound("minItems").is_some_and(|min| len < min)
            || bound("maxItems").is_some_and(|max| len > max)
        {
            return None;
        }
        let fixed = self.node.get("prefixItems").and_then(Json::as_array);
        let rest = self.node.get("items").filter(|node| node.is_object());
        let checked = items.iter().enumerate().map(|(i, item)| {
            match fixed.and_then(|list| list.get(i)).or(rest) {
                Some(node) => self.part(node).accept(item, depth + 1),
                None => Some(item.clone()),
            }
        });
        checked.collect::<Option<Vec<_>>>().map(Json::Array)
    }

    fn accept_object(self, object: &Map<String, Json>, depth: usize) -> Option<Json> {
        let closed = self.node.get("additionalProperties") == Some(&Json::Bool(false));
        let required = self.node.get("required").and_then(Json::as_array);
        let missing = |name: &Json| name.as_str().is_some_and(|n| !object.contains_key(n));
        if required.is_some_and(|names| names.iter().any(missing)) {
            return None;
        }
        let mut out = Map::new();
        for (key, value) in object {
            let value = match self.property(key) {
                Some(schema) => schema.resolve().accept(value, depth + 1)?,
                None if closed => return None,
                None => value.clone(),
            };
            out.insert(key.clone(), value);
        }
        Some(Json::Object(out))
    }

    fn in_range(self, number: f64) -> bool {
        let bound = |key: &str| self.node.get(key).and_then(Json::as_f64);
        bound("minimum").is_none_or(|min| number >= min)
            && bound("maximum").is_none_or(|max| number <= max)
            && bound("exclusiveMinimum").is_none_or(|min| number > min)
            && bound("exclusiveMaximum").is_none_or(|max| number < max)
    }

    /// What fits, for people: `an integer (at least 1)`.
    fn expected(self, depth: usize) -> String {
        if depth > MAX_DEPTH {
            return "a value".to_owned();
        }
        let mut options = self.options(depth);
        options.dedup();
        let words: Vec<_> = options
            .iter()
            .filter(|o| o.starts_with('"') || *o == "none")
            .cloned()
            .collect();
        if words.len() == options.len() && words.len() > 1 {
            return format!("one of {}", words.join(", ").replace('"', ""));
        }
        options.join(" or ")
    }

    fn options(self, depth: usize) -> Vec<String> {
        if depth > MAX_DEPTH {
            return vec!["a value".to_owned()];
        }
        if let Some(list) = self.alternatives() {
            let mut options: Vec<_> = list.iter().flat_map(|s| s.options(depth + 1)).collect();
            // "none" last, whatever the order in the schema.
            options.sort_by_key(|o| o == "none");
            return options;
        }
        if let Some(constant) = self.node.get("const") {
            return vec![constant.to_string()];
        }
        if let Some(Json::Array(options)) = self.node.get("enum") {
            let text = |value: &Json| match value {
                Json::Null => "none".to_owned(),
                other => other.to_string(),
            };
            return options.iter().map(text).collect();
        }
        let types = self.types();
        let named = types.iter().map(|kind| match *kind {
            "null" => "none".to_owned(),
            "boolean" => "true or false".to_owned(),
            "string" => "a text".to_owned(),
            "integer" => format!("an integer{}", self.range_text()),
            "number" => format!("a number{}", self.range_text()),
            "array" => self.array_text(depth),
            "object" => self.object_text(),
            other => format!("a value of type {other}"),
        });
        named.collect()
    }

    fn range_text(self) -> String {
        let bounds: Vec<_> = [
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        ]
        .iter()
        .filter_map(|(key, words)| Some(format!("{words} {}", self.node.get(key)?)))
        .collect();
        if bounds.is_empty() {
            String::new()
        } else {
            format!(" ({})", bounds.join(", "))
        }
    }

    fn array_text(self, depth: usize) -> String {
        let bound = |key: &str| self.node.get(key).and_then(Json::as_u64);
        let size = match (bound("minItems"), bound("maxItems")) {
            (Some(min), Some(max)) if min == max => format!(" of {min}"),
            (Some(min), _) => format!(" of at least {min}"),
            (None, Some(max)) => format!(" of at most {max}"),
            (None, None) => String::new(),
        };
        let item = self.node.get("items").filter(|node| node.is_object());
        let item = item.map(|node| format!(", each {}", self.part(node).expected(depth + 1)));
        format!("a list{size}{}", item.unwrap_or_default())
    }

    fn object_text(self) -> String {
        let keys: Vec<_> = self.properties().into_iter().map(|(k, _)| k).collect();
        if keys.is_empty() {
            "a table".to_owned()
        } else {
            format!("a table of {}", keys.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: Json, value: Json) -> Result<Json, String> {
        Schema::new(&schema).check(&value)
    }

    #[test]
    fn values_are_checked_and_brought_into_form() {
        let documented = json!({"oneOf": [
            {"type": "string", "const": "mlp", "description": "dense"},
            {"type": "string", "const": "conv", "description": "convolutions"},
        ]});
        let optional = json!({"anyOf": [{"$ref": "#/$defs/Arch"}, {"type": "null"}], "$defs": {"Arch": {"type": "string", "enum": ["mlp", "conv"]}}});
        let tagged = json!({"oneOf": [
            {"type": "string", "const": "bernoulli"},
            {"type": "object", "properties": {"gaussian": {"type": "number"}}, "required": ["gaussian"], "additionalProperties": false},
        ]});
        let ints =
            json!({"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1});
        let half_open = json!({"type": "number", "exclusiveMinimum": 0.0, "maximum": 1});
        #[rustfmt::skip]
        let table = [
            (json!({"type": "integer", "minimum": 1}), json!(3), Ok(json!(3))),
            (json!({"type": "integer", "minimum": 1}), json!(0), Err("an integer (at least 1)")),
            (json!({"type": "integer"}), json!(1.5), Err("an integer")),
            (json!({"type": "number"}), json!(1), Ok(json!(1.0))),
            (json!({"type": "number", "format": "float"}), json!(f64::from(0.1f32)), Ok(json!(0.1))),
            (half_open.clone(), json!(1), Ok(json!(1.0))),
            (half_open, json!(0), Err("a number (above 0.0, at most 1)")),
            (json!({"type": ["integer", "null"], "minimum": 2}), json!(null), Ok(json!(null))),
            (json!({"type": ["integer", "null"], "minimum": 2}), json!(1), Err("an integer (at least 2) or none")),
            (json!({"type": "boolean"}), json!("yes"), Err("true or false")),
            (documented.clone(), json!("conv"), Ok(json!("conv"))),
            (documented, json!("cnn"), Err("one of mlp, conv")),
            (optional.clone(), json!("mlp"), Ok(json!("mlp"))),
            (optional.clone(), json!(null), Ok(json!(null))),
            (optional, json!(4), Err("one of mlp, conv, none")),
            (tagged.clone(), json!({"gaussian": 1}), Ok(json!({"gaussian": 1.0}))),
            (tagged, json!({"gauss": 1}), Err("\"bernoulli\" or a table of gaussian")),
            (ints.clone(), json!([1, 2]), Ok(json!([1, 2]))),
            (ints.clone(), json!([1, 0]), Err("a list of at least 1, each an integer (at least 1)")),
            (ints, json!([]), Err("a list of at least 1, each an integer (at least 1)")),
        ];
        for (schema, value, expected) in table {
            let got = check(schema.clone(), value.clone());
            assert_eq!(got, expected.map_err(str::to_owned), "{value} in {schema}");
        }
    }

    #[test]
    fn circular_references_end() {
        let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
        let _ = check(circle, json!(1));
        let tree = json!({"type": "object", "properties": {"child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}});
        assert!(!Schema::new(&tree).keys("model").is_empty());
        assert!(check(tree, json!({"child": {"child": 3}})).is_err());
    }

    #[test]
    fn a_table_is_told_its_one_setting_at_fault() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["net"],
            "properties": {
                "rate": {"type": "number", "exclusiveMinimum": 0.0},
                "net": {"type": "object", "properties": {"width": {"type": "integer", "minimum": 1}}},
            },
        });
        let told = |table: Json| {
            Schema::new(&schema)
                .check_table("model", &table)
                .map_err(|m| m.to_string())
        };
        let good = json!({"rate": 1, "net": {"width": 3}});
        assert_eq!(told(good), Ok(json!({"rate": 1.0, "net": {"width": 3}})));
        for (table, text) in [
            (
                json!({"rate": 0, "net": {}}),
                "`model.rate` = 0: expected a number (above 0.0)",
            ),
            (
                json!({"net": {"width": 0}}),
                "`model.net.width` = 0: expected an integer (at least 1)",
            ),
            (
                json!({"net": {}, "wide": 1}),
                "`model.wide` = 1: expected one of the settings rate, net",
            ),
            (
                json!({}),
                "`model.net` = nothing: expected a table of width",
            ),
            (json!(3), "`model` = 3: expected a table of rate, net"),
        ] {
            assert_eq!(told(table), Err(text.to_owned()));
        }
    }

    #[test]
    fn keys_go_into_tables() {
        let schema = json!({"type": "object", "$defs": {"Net": {"type": "object", "properties": {"width": {"type": "integer"}}}},
            "properties": {"latent": {"type": "integer"}, "net": {"$ref": "#/$defs/Net", "default": {"width": 3}}, "extra": {"anyOf": [{"$ref": "#/$defs/Net"}, {"type": "null"}]}}});
        let schema = Schema::new(&schema);
        assert_eq!(
            schema.keys("model"),
            ["model.latent", "model.net.width", "model.extra.width"]
        );
        assert_eq!(
            schema.property("net").unwrap().default(),
            Some(json!({"width": 3}))
        );
        assert!(schema.property("nett").is_none());
    }
}
