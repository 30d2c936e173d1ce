//! Clip.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    // Each bound may be left out.
    required: 1,
    #[cfg(test)]
    reference,
    ..Operator::new(OpKind::Clip, (1, 3), &[], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    args.same_dtype(0)?;
    let mut bounds = args.types.iter().skip(1).flatten();
    match bounds.any(|ty| !ty.shape.is_empty()) {
        true => Err("its bounds must be scalars".into()),
        false => Inferred::same(args.number(0)?),
    }
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let low = of.operand(1).map_or(f64::MIN, |t| t.values[0]);
    let high = of.operand(2).map_or(f64::MAX, |t| t.values[0]);
    vec![Box::new(move |i| x.at(i).max(low).min(high))]
}
