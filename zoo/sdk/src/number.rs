//! Numbers that JSON cannot say: NaN and the infinities travel as the texts `NaN`, `inf` and `-inf`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An `f64` in its JSON form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
            /// What other writers make of NaN.
            Null(()),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(x) => Ok(Self(x)),
            Form::Null(()) => Ok(Self(f64::NAN)),
            Form::Text(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "inf" => Ok(Self(f64::INFINITY)),
                "-inf" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(de::Error::custom(format!(
                    "{text:?} is no number: write one, or NaN, inf or -inf"
                ))),
            },
        }
    }
}

/// For `#[serde(with)]` on a field of `f64`.
pub(crate) mod float {
    use super::*;

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Number(*x).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Number::deserialize(deserializer)?.0)
    }
}

/// For `#[serde(with)]` on a field of [`Metrics`](crate::Metrics).
pub(crate) mod metrics {
    use super::*;
    use crate::Metrics;
    use std::collections::BTreeMap;

    pub fn serialize<S: Serializer>(metrics: &Metrics, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(metrics.iter().map(|(name, x)| (name, Number(*x))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metrics, D::Error> {
        let map = BTreeMap::<String, Number>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(name, x)| (name, x.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, LossTerm};

    #[test]
    fn every_float_survives_json() {
        for x in [
            0.1 + 0.2,
            -0.0,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            let text = serde_json::to_string(&Number(x)).unwrap();
            let back: Number = serde_json::from_str(&text).unwrap();
            assert_eq!(back.0.to_bits(), x.to_bits(), "{text}");
        }
        for text in ["null", "\"NaN\""] {
            assert!(serde_json::from_str::<Number>(text).unwrap().0.is_nan());
        }
        assert_eq!(serde_json::from_str::<Number>("3").unwrap(), Number(3.0));
        assert!(serde_json::from_str::<Number>("\"three\"").is_err());
    }

    #[test]
    fn events_keep_a_loss_that_is_not_finite() {
        let event = Event::Step {
            step: 3,
            epoch: 0.5,
            losses: vec![LossTerm {
                name: "kl".into(),
                value: f64::INFINITY,
            }],
            learning_rate: 1e-3,
            gradient_norm: f64::NEG_INFINITY,
            images_per_s: 10.0,
        };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
