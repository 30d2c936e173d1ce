//! What one engine computes beside what another does: how far values may lie apart, and how far they do.

use serde::{Deserialize, Serialize};
use zoo_sdk::{Array, BATCH, DType, Port, Sizes, Tensors};

use crate::{Error, Loaded, Result, RuntimeId};

/// An output of a runtime beside the reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The graph.
    pub graph: String,
    /// The file.
    pub variant: String,
    /// The runtime.
    pub runtime: RuntimeId,
    /// Images at a time.
    pub batch: usize,
    /// What the other symbols of the graph stand for, if it has any.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
    /// The output.
    pub output: String,
    /// Largest difference; none where a value is not finite, or nothing was computed.
    pub max_abs: Option<f64>,
    /// Largest difference relative to the reference's value; none as above.
    pub max_rel: Option<f64>,
    /// Index of the largest difference, or of the first value that is not finite.
    pub at: Option<Vec<usize>>,
    /// Whether every value is within the tolerance.
    pub ok: bool,
    /// Why nothing was compared.
    pub error: Option<String>,
}

/// A batch of inputs and the outputs they should give.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the symbols of the graph stand for, the batch among them.
    pub sizes: Sizes,
    /// By port name.
    pub inputs: Tensors,
    /// By port name.
    pub outputs: Tensors,
}

/// A file to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The graph.
    pub graph: &'a str,
    /// The file.
    pub variant: &'a str,
    /// What is compared.
    pub outputs: &'a [Port],
    /// How far a value may lie from its reference.
    pub tolerance: Tolerance,
}

impl Compared {
    /// `3`, or `3, H=14, W=19` where there are other symbols than the batch.
    pub fn at_sizes(&self) -> String {
        match self.sizes.is_empty() {
            true => self.batch.to_string(),
            false => format!("{}, {}", self.batch, self.sizes),
        }
    }
}

impl Case<'_> {
    /// A row for each batch and output. What could not be loaded or run has rows too, with the reason as `say` words it.
    pub fn run(
        &self,
        runtime: &RuntimeId,
        mut loaded: Result<Box<dyn Loaded>>,
        cases: &[Expected],
        say: &dyn Fn(&Error) -> String,
    ) -> Vec<Compared> {
        let mut rows = Vec::new();
        for case in cases {
            let got = match &mut loaded {
                Ok(loaded) => loaded.run(&case.inputs).map_err(|e| say(&e)),
                Err(error) => Err(say(error)),
            };
            for port in self.outputs {
                let row = Compared {
                    graph: self.graph.to_owned(),
                    variant: self.variant.to_owned(),
                    runtime: runtime.clone(),
                    batch: case.sizes.get(BATCH).unwrap_or(1),
                    sizes: case.sizes.clone().free(),
                    output: port.name.clone(),
                    ..Compared::default()
                };
                let pair = match &got {
                    Ok(got) => match (case.outputs.get(&port.name), got.get(&port.name)) {
                        (Some(expected), Some(got)) => Ok((expected, got)),
                        (None, _) => Err("the reference has no such output".to_owned()),
                        (_, None) => Err("the runtime gave no such output".to_owned()),
                    },
                    Err(error) => Err(error.clone()),
                };
                rows.push(match pair {
                    Ok((expected, got)) => self.tolerance.compare(expected, got, row),
                    Err(error) => Compared {
                        error: Some(error),
                        ..row
                    },
                });
            }
        }
        rows
    }
}

/// How far a value may lie from its reference: `absolute + relative * |reference|`. Integers must be equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    /// For single precision.
    pub const F32: Self = Self {
        absolute: 1e-5,
        relative: 1e-4,
    };
    /// For weights at half precision.
    pub const F16: Self = Self {
        absolute: 1e-3,
        relative: 5e-3,
    };

    /// For what was computed from weights of this type.
    pub fn of(weights: DType) -> Self {
        match weights {
            DType::F16 => Self::F16,
            _ => Self::F32,
        }
    }

    /// Whether `got` lies close enough to `expected`. What is not finite lies close to nothing.
    pub fn within(self, expected: f64, got: f64) -> bool {
        (expected - got).abs() <= self.absolute + self.relative * expected.abs()
    }

    /// Fills in `row` with how far `got` lies from `expected`.
    fn compare(self, expected: &Array, got: &Array, row: Compared) -> Compared {
        if (expected.dtype(), expected.shape()) != (got.dtype(), got.shape()) {
            let error = Some(format!("it is {got:?}, the reference {expected:?}"));
            return Compared { error, ..row };
        }
        let whole = !matches!(expected.dtype(), DType::F16 | DType::F32 | DType::F64);
        let (mut max_abs, mut max_rel, mut largest, mut ok) = (0.0f64, 0.0f64, 0, true);
        for (i, (e, g)) in expected.to_f64().into_iter().zip(got.to_f64()).enumerate() {
            if !e.is_finite() || !g.is_finite() {
                let at = Some(index(expected.shape(), i));
                return Compared { at, ..row };
            }
            let difference = (e - g).abs();
            if difference > max_abs {
                (max_abs, largest) = (difference, i);
            }
            // Below the absolute tolerance a value counts as no smaller than that.
            max_rel = max_rel.max(difference / e.abs().max(self.absolute));
            ok &= match whole {
                true => difference == 0.0,
                false => self.within(e, g),
            };
        }
        Compared {
            max_abs: Some(max_abs),
            max_rel: Some(max_rel),
            at: (max_abs > 0.0).then(|| index(expected.shape(), largest)),
            ok,
            ..row
        }
    }
}

/// The place in each dimension of the element at `offset`.
fn index(shape: &[usize], mut offset: usize) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (at, &size) in place.iter_mut().zip(shape).rev() {
        *at = offset % size.max(1);
        offset /= size.max(1);
    }
    place
}

impl Compared {
    /// The difference and its place, or what went wrong.
    pub fn finding(&self) -> String {
        let at = self.at.as_ref().map(|at| format!(" at {at:?}"));
        match (&self.error, self.max_abs) {
            (Some(error), _) => error.clone(),
            (None, Some(0.0)) => "equal".to_owned(),
            (None, Some(difference)) => format!("{difference:.1e}{}", at.unwrap_or_default()),
            (None, None) => format!("not finite{}", at.unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &Array, got: &Array) -> Compared {
        Tolerance::F32.compare(expected, got, Compared::default())
    }

    #[test]
    fn the_largest_difference_has_a_place() {
        let expected = Array::f32([2, 1, 2, 2], vec![1.0; 8]).unwrap();
        let mut values = vec![1.0; 8];
        values[6] = 1.000_05;
        let close = compare(
            &expected,
            &Array::f32([2, 1, 2, 2], values.clone()).unwrap(),
        );
        assert!(close.ok, "{close:?}");
        assert_eq!(close.at, Some(vec![1, 0, 1, 0]));
        assert!((close.max_abs.unwrap() - 5e-5).abs() < 1e-7);
        values[6] = 1.000_2;
        assert!(!compare(&expected, &Array::f32([2, 1, 2, 2], values).unwrap()).ok);
        let same = compare(&expected, &expected);
        assert_eq!((same.ok, same.max_abs, same.at), (true, Some(0.0), None));
    }

    #[test]
    fn what_is_not_finite_is_not_within_any_tolerance() {
        let expected = Array::f32([3], [0.0, 1.0, f32::NAN]).unwrap();
        for got in [[0.0, 1.0, f32::NAN], [0.0, 1.0, 1.0]] {
            let row = compare(&expected, &Array::f32([3], got).unwrap());
            assert_eq!(
                (row.ok, row.max_abs, row.at.clone()),
                (false, None, Some(vec![2]))
            );
            assert_eq!(row.finding(), "not finite at [2]");
        }
        let infinite = Array::f32([1], [f32::INFINITY]).unwrap();
        assert!(!compare(&infinite, &infinite).ok);
    }

    #[test]
    fn types_and_shapes_must_agree_and_integers_be_equal() {
        let expected = Array::i64([1], [1_000_000]).unwrap();
        assert!(!compare(&expected, &Array::i64([1], [1_000_001]).unwrap()).ok);
        assert!(compare(&expected, &expected).ok);
        let row = compare(&expected, &Array::i64([1, 1], [1_000_000]).unwrap());
        assert_eq!(row.error.unwrap(), "it is i64[1, 1], the reference i64[1]");
    }
}
