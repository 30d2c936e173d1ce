//! Expand.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, same| same,
    evaluate: |of| of.expanded(0),
    ..broadcasting(OpKind::Expand, TWO, infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let target = sizes(&args.ints(1)?)?;
    Inferred::one(ty.dtype, broadcast(&known(&ty.shape), &target)?)
}

/// Positive sizes as dimensions.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<Dim>, String> {
    let size = |&v: &i64| {
        usize::try_from(v)
            .map(Dim::Fixed)
            .map_err(|_| format!("the size {v} is negative"))
    };
    values.iter().map(size).collect()
}
