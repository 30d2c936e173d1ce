//! What a plugin says of itself.

use zoo_sdk::{DENSITY_FAMILIES, Plugin};

use crate::{Outcome, Report, ensure};

pub(crate) fn check(plugin: &dyn Plugin, report: &mut Report) {
    let first = plugin.describe();
    report.add(
        "describes itself the same way twice",
        ensure(first == plugin.describe(), || {
            "two descriptions differ".into()
        }),
    );
    report.add("describes itself completely", complete(&first));
}

fn complete(d: &zoo_sdk::Description) -> Outcome {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure(!d.name.is_empty() && d.name.chars().all(plain), || {
        format!(
            "the name {:?} is not lower-case letters, digits and hyphens",
            d.name
        )
    })?;
    ensure(
        !d.summary.is_empty() && !d.family.is_empty() && !d.version.is_empty(),
        || "summary, family or version is empty".into(),
    )?;
    ensure(DENSITY_FAMILIES.contains(&d.density.as_str()), || {
        format!("density {:?} is none of {DENSITY_FAMILIES:?}", d.density)
    })?;
    ensure(
        !d.paper.title.is_empty() && d.paper.url.starts_with("http"),
        || "the paper has no title or address".into(),
    )?;
    ensure(
        !d.graphs.is_empty() && d.graphs.values().all(|doc| !doc.is_empty()),
        || "there is no graph, or one without explanation".into(),
    )?;
    for (table, schema) in [("model", &d.model_schema), ("train", &d.train_schema)] {
        let defaults = d.defaults[table]
            .as_object()
            .ok_or_else(|| format!("the defaults have no table {table:?}"))?;
        let known = schema["properties"]
            .as_object()
            .ok_or_else(|| format!("the schema of {table:?} has no properties"))?;
        for key in defaults.keys() {
            ensure(known.contains_key(key), || {
                format!("the default {table}.{key} is not in the schema")
            })?;
        }
        for (key, property) in known {
            ensure(defaults.contains_key(key), || {
                format!("the setting {table}.{key} has no default")
            })?;
            let documented = property["description"].is_string() || property["$ref"].is_string();
            ensure(documented, || {
                format!("the setting {table}.{key} has no description")
            })?;
        }
    }
    Ok(())
}
