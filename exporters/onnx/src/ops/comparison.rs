//! Comparisons.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        evaluate: |of| holds(of, |a, b| a == b, |a, b| a == b),
        ..broadcasting(OpKind::Equal, TWO, infer)
    },
    Operator {
        evaluate: |of| holds(of, |a, b| a > b, |a, b| a > b),
        ..broadcasting(OpKind::Greater, TWO, ordered)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.pairs(|a, b| f64::from(a >= b)),
        ..broadcasting(OpKind::GreaterOrEqual, TWO, ordered)
    },
    Operator {
        evaluate: |of| holds(of, |a, b| a < b, |a, b| a < b),
        ..broadcasting(OpKind::Less, TWO, ordered)
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.pairs(|a, b| f64::from(a <= b)),
        ..broadcasting(OpKind::LessOrEqual, TWO, ordered)
    },
];

fn ordered(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.number(0)?;
    infer(args)
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.same_dtype(0)?;
    Inferred::one(DType::Bool, args.broadcast_from(0)?)
}

fn holds(
    of: &Constants<'_>,
    of_i64: fn(&i64, &i64) -> bool,
    of_f32: fn(&f32, &f32) -> bool,
) -> Option<Array> {
    fn each<T>(a: &[T], b: &[T], holds: fn(&T, &T) -> bool) -> Vec<u8> {
        a.iter().zip(b).map(|(a, b)| holds(a, b).into()).collect()
    }
    let values = match (of.expanded(0)?.data(), of.expanded(1)?.data()) {
        (Data::F32(a), Data::F32(b)) => each(a, b, of_f32),
        (Data::I64(a), Data::I64(b)) => each(a, b, of_i64),
        _ => return None,
    };
    Array::bool(of.shape.clone(), values).ok()
}
