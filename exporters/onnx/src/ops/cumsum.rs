//! CumSum.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::CumSum,
        TWO,
        &[("exclusive", Int), ("reverse", Int)],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.number(0)?;
    if args.shape(1)?.iter().any(|d| *d != Dim::Fixed(1)) {
        return Err("its axis must be one number".into());
    }
    if args.constant(1).is_some() {
        the_axis(args)?;
    }
    Inferred::same(ty)
}

fn the_axis(args: &Args<'_>) -> Result<usize, String> {
    let list = args.ints(1)?;
    axis(list.first().copied().unwrap_or(0), args.shape(0)?.len())
}

/// A constant axis counted from the front; an exclusive sum as the inclusive one less its input.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let axis = the_axis(&cx.args)?;
    let axis = Array::i64([], [axis as i64]).map_err(|e| e.to_string())?;
    let axis = cx.add("axis", axis);
    let attributes = match cx.args.int("reverse", 0) {
        0 => Attributes::new(),
        _ => attributes([("reverse", Attribute::Int(1))]),
    };
    if cx.args.int("exclusive", 0) == 0 {
        cx.finish_with(OpKind::CumSum, &[x, &axis], attributes);
    } else {
        let sum = cx.emit_with("inclusive", OpKind::CumSum, &[x, &axis], attributes)?;
        cx.finish(OpKind::Sub, &[&sum, x]);
    }
    Ok(())
}

fn runs(target: Target, node: &Node) -> Result<(), String> {
    let other = node.int("exclusive") == Some(1) || node.int("reverse") == Some(1);
    match other && target == Target::CandleOnnx {
        true => Err("exclusive and reverse sums are missing there".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let axis = the_axis(of.args).unwrap();
    let skip = of.args.int("exclusive", 0) as usize;
    vec![Box::new(move |i| {
        let before = (0..i[axis] + 1 - skip).map(|k| {
            let mut j = i.to_vec();
            j[axis] = k;
            x.at(&j)
        });
        before.sum()
    })]
}
