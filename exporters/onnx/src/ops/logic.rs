//! Not, And and Or.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        #[cfg(test)]
        reference: |of| of.pairs(|a, b| a * b),
        ..broadcasting(OpKind::And, TWO, both)
    },
    Operator {
        evaluate: |of| {
            let values = of.x().as_bool().ok()?.iter().map(|v| 1 - v);
            Array::bool(of.shape.clone(), values.collect::<Vec<_>>()).ok()
        },
        ..Operator::new(OpKind::Not, ONE, &[], |args| {
            Inferred::same(args.boolean(0)?)
        })
    },
    Operator {
        #[cfg(test)]
        reference: |of| of.pairs(f64::max),
        ..broadcasting(OpKind::Or, TWO, both)
    },
];

fn both(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.boolean(0)?;
    args.boolean(1)?;
    Inferred::one(DType::Bool, args.broadcast_from(0)?)
}
