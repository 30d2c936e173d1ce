//! Settings from tables. What fits stands with the fields of a model's or the trainer's settings, as attributes that become their schema (`range`); here alone it is checked,
//! before anything is made.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use zoo_sdk::{DataSpec, schema::Schema};

use crate::{Error, Model, Result};

/// The settings in the table called `name`, where they fit the schema.
pub(crate) fn read<T: DeserializeOwned>(name: &str, table: &Json, schema: &Json) -> Result<T> {
    let fitting = Schema::new(schema).check_table(name, table);
    let fitting = fitting.map_err(|misfit| Error::input(misfit.to_string()))?;
    serde_json::from_value(fitting).map_err(|e| Error::input(format!("settings under {name}: {e}")))
}

/// The model of these settings, for these data.
pub(crate) fn model<M: Model>(table: &Json, data: &DataSpec) -> Result<M> {
    let schema = schemars::schema_for!(M::Config).to_value();
    M::new(&read("model", table, &schema)?, data)
}

/// As [`model`], from settings that are not in a table.
pub(crate) fn model_of<M: Model>(config: &M::Config, data: &DataSpec) -> Result<M> {
    let table = serde_json::to_value(config);
    let table = table.map_err(|e| Error::input(format!("settings under model: {e}")))?;
    model(&table, data)
}
