//! The settings under `data.`.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use zoo_sdk::{Binarization, Degradations};

/// How a source becomes a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// How images become binary: `none`, `threshold` (at 0.5), `dynamic` (drawn anew each epoch) or `static` (the data are
    /// binary already).
    #[schemars(schema_with = "binarization_schema")]
    pub binarization: Binarization,
    /// What makes an input of each image, for models that map images to images; the image is the target. Steps with commas between them:
    /// `shrink 2` (bicubic), `grey`, `noise 0.1` (standard deviation), `crop 32x32` (a random window of both).
    #[serde(skip_serializing_if = "Degradations::is_empty")]
    #[schemars(with = "String")]
    pub degrade: Degradations,
    /// Images held out of training for validation; without effect where the source has a validation split of its own.
    pub valid: usize,
    /// Most images to train on; all where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Height and width to resize to, as in `32x32`: cropped in the middle to the same proportions, then scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Most memory that the decoded images may take, in MB.
    pub max_mb: u64,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            binarization: Binarization::None,
            degrade: Degradations::default(),
            valid: 0,
            limit: None,
            size: None,
            max_mb: 4096,
        }
    }
}

fn binarization_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": Binarization::ALL.map(|(name, _)| name) })
}

/// A height and a width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |s: &str| s.parse().ok().filter(|n| (1..=crate::MAX_SIDE).contains(n));
        let sides = text
            .split_once('x')
            .and_then(|(h, w)| Some((side(h)?, side(w)?)));
        let (height, width) = sides.ok_or_else(|| {
            format!(
                "expected HEIGHTxWIDTH in pixels, as in 32x32, each from 1 to {}",
                crate::MAX_SIDE
            )
        })?;
        Ok(Self { height, width })
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+x[0-9]+$" })
    }
}
