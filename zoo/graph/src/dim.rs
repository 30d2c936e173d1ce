//! Dimensions that may scale with the batch.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Error;

/// The symbol of the batch dimension.
pub const BATCH: &str = "N";

/// One dimension of a shape.
///
/// Written and serialised as a number (`28`), a symbol (`N`) or a multiple of one (`50*N`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// Known when the graph is made.
    Fixed(usize),
    /// `factor` times a symbol whose value the caller chooses.
    Scaled {
        /// Usually [`BATCH`].
        symbol: String,
        /// At least 1.
        factor: usize,
    },
}

impl Dim {
    /// The batch dimension N.
    pub fn batch() -> Self {
        Self::Scaled {
            symbol: BATCH.into(),
            factor: 1,
        }
    }

    /// The size where it is known without the batch.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Scaled { .. } => None,
        }
    }

    /// The size when every symbol stands for `n`; `None` on overflow.
    pub fn at(&self, n: usize) -> Option<usize> {
        match self {
            Self::Fixed(size) => Some(*size),
            Self::Scaled { factor, .. } => factor.checked_mul(n),
        }
    }
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Scaled { symbol, factor: 1 } => f.write_str(symbol),
            Self::Scaled { symbol, factor } => write!(f, "{factor}*{symbol}"),
        }
    }
}

impl FromStr for Dim {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Dim(text.into());
        if let Ok(size) = text.parse() {
            return Ok(Self::Fixed(size));
        }
        let (factor, symbol) = match text.split_once('*') {
            Some((factor, symbol)) => (factor.parse().map_err(|_| bad())?, symbol),
            None => (1, text),
        };
        let mut chars = symbol.chars();
        let starts = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
        if factor == 0 || !starts || !chars.all(|c| c.is_alphanumeric() || c == '_') {
            return Err(bad());
        }
        Ok(Self::Scaled {
            symbol: symbol.into(),
            factor,
        })
    }
}

impl Serialize for Dim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(size) => serializer.serialize_u64(*size as u64),
            Self::Scaled { .. } => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Dim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(usize),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(size) => Ok(Self::Fixed(size)),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, dim) in [
            ("28", Dim::Fixed(28)),
            ("N", Dim::batch()),
            (
                "50*N",
                Dim::Scaled {
                    symbol: "N".into(),
                    factor: 50,
                },
            ),
        ] {
            assert_eq!(text.parse::<Dim>().unwrap(), dim);
            assert_eq!(dim.to_string(), text);
        }
        for bad in ["", "-1", "0*N", "N*50", "2*", "1.5"] {
            assert_eq!(bad.parse::<Dim>(), Err(Error::Dim(bad.into())));
        }
        assert_eq!("50*N".parse::<Dim>().unwrap().at(3), Some(150));
        assert_eq!("50*N".parse::<Dim>().unwrap().at(usize::MAX), None);
    }
}
