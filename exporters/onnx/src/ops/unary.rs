//! Operators on single numbers that every target has.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        evaluate: |of| integers(of, i64::checked_abs).or_else(|| each(of, f32::abs)),
        ..Operator::new(OpKind::Abs, ONE, &[], numbers)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(f64::ceil),
        ..plain(OpKind::Ceil)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(f64::cos),
        ..plain(OpKind::Cos)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(erf),
        ..plain(OpKind::Erf)
    },
    Operator {
        evaluate: |of| each(of, f32::exp),
        ..plain(OpKind::Exp)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(f64::floor),
        ..plain(OpKind::Floor)
    },
    Operator {
        evaluate: |of| each(of, f32::ln),
        ..plain(OpKind::Log)
    },
    Operator {
        evaluate: |of| integers(of, i64::checked_neg).or_else(|| each(of, |v| -v)),
        ..Operator::new(OpKind::Neg, ONE, &[], numbers)
    },
    Operator {
        // NaN stays.
        evaluate: |of| each(of, |v| if v.is_nan() { v } else { v.max(0.0) }),
        ..plain(OpKind::Relu)
    },
    Operator {
        evaluate: |of| each(of, |v| 1.0 / (1.0 + (-v).exp())),
        #[cfg(test)]
        reference: |of| of.map(|v| 1.0 / (1.0 + (-v).exp())),
        ..plain(OpKind::Sigmoid)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(|v| if v == 0.0 { v } else { v.signum() }),
        ..Operator::new(OpKind::Sign, ONE, &[], numbers)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.map(f64::sin),
        ..plain(OpKind::Sin)
    },
    Operator {
        evaluate: |of| each(of, f32::sqrt),
        ..plain(OpKind::Sqrt)
    },
    Operator {
        evaluate: |of| each(of, f32::tanh),
        #[cfg(test)]
        reference: |of| of.map(f64::tanh),
        ..plain(OpKind::Tanh)
    },
];

const fn plain(kind: OpKind) -> Operator {
    Operator::new(kind, ONE, &[], floats)
}

/// Floats give as many of the same type.
pub(super) fn floats(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    Inferred::same(args.float(0)?)
}

fn numbers(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    Inferred::same(args.number(0)?)
}

fn each(of: &Constants<'_>, f: fn(f32) -> f32) -> Option<Array> {
    let values = of.x().as_f32().ok()?.iter().map(|&v| f(v));
    Array::f32(of.shape.clone(), values.collect::<Vec<_>>()).ok()
}

fn integers(of: &Constants<'_>, f: fn(i64) -> Option<i64>) -> Option<Array> {
    let values = of.x().as_i64().ok()?.iter().map(|&v| f(v));
    let values: Vec<i64> = values.collect::<Option<_>>()?;
    Array::i64(of.shape.clone(), values).ok()
}

/// By its power series, which is exact enough for small numbers.
#[cfg(test)]
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
