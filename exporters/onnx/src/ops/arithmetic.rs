//! Add, Sub, Mul and Div.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        evaluate: |of| fold(of, i64::checked_add, |a, b| a + b),
        ..broadcasting(OpKind::Add, TWO, infer)
    },
    Operator {
        evaluate: |of| fold(of, i64::checked_sub, |a, b| a - b),
        ..broadcasting(OpKind::Sub, TWO, infer)
    },
    Operator {
        evaluate: |of| fold(of, i64::checked_mul, |a, b| a * b),
        ..broadcasting(OpKind::Mul, TWO, infer)
    },
    Operator {
        evaluate: |of| fold(of, i64::checked_div, |a, b| a / b),
        ..broadcasting(OpKind::Div, TWO, infer)
    },
];

/// Numbers of one type, broadcast.
pub(super) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.number(0)?;
    Inferred::one(args.same_dtype(0)?, args.broadcast_from(0)?)
}

/// Folds the inputs from the left, broadcast: of i64 where nothing overflows, and of f32.
pub(super) fn fold(
    of: &Constants<'_>,
    of_i64: impl Fn(i64, i64) -> Option<i64>,
    of_f32: impl Fn(f32, f32) -> f32,
) -> Option<Array> {
    let mut all = of.expanded(0)?;
    for i in 1..of.inputs.len() {
        let next = of.expanded(i)?;
        all = match (all.as_i64(), next.as_i64()) {
            (Ok(a), Ok(b)) => {
                let values = a.iter().zip(b).map(|(&a, &b)| of_i64(a, b));
                let values: Vec<i64> = values.collect::<Option<_>>()?;
                Array::i64(of.shape.clone(), values).ok()?
            }
            _ => {
                let pairs = all.as_f32().ok()?.iter().zip(next.as_f32().ok()?);
                let values: Vec<f32> = pairs.map(|(&a, &b)| of_f32(a, b)).collect();
                Array::f32(of.shape.clone(), values).ok()?
            }
        };
    }
    Some(all)
}
