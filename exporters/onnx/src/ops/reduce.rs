//! Reductions.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        #[cfg(test)]
        reference: |of| reference(of, |v| v.iter().copied().fold(f64::MIN, f64::max)),
        ..by_attribute(OpKind::ReduceMax, |cx| lower(cx, OpKind::ReduceMax))
    },
    Operator {
        #[cfg(test)]
        reference: |of| reference(of, |v| v.iter().sum::<f64>() / v.len() as f64),
        ..by_attribute(OpKind::ReduceMean, |cx| lower(cx, OpKind::ReduceMean))
    },
    Operator {
        #[cfg(test)]
        reference: |of| reference(of, |v| v.iter().copied().fold(f64::MAX, f64::min)),
        ..by_attribute(OpKind::ReduceMin, |cx| lower(cx, OpKind::ReduceMin))
    },
    Operator {
        lower: |cx| lower(cx, OpKind::ReduceSum),
        #[cfg(test)]
        reference: |of| reference(of, |v| v.iter().sum()),
        ..Operator::new(
            OpKind::ReduceSum,
            (1, 2),
            &[("keepdims", Int), ("noop_with_empty_axes", Int)],
            infer,
        )
    },
];

/// A reduction whose axes are an attribute, as all but the sum have them in opset 17.
const fn by_attribute(
    kind: OpKind,
    lower: fn(&mut Rewrite<'_>) -> Result<(), Failure>,
) -> Operator {
    Operator {
        lower,
        ..Operator::new(kind, ONE, &[("axes", Ints), ("keepdims", Int)], infer)
    }
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.number(0)?;
    let shape = reduced(&ty.shape, &over(args)?, args.int("keepdims", 1) != 0);
    Inferred::one(ty.dtype, shape)
}

/// A shape without `axes`, or with 1 in their places.
pub(super) fn reduced(shape: &[Dim], axes: &[usize], keep: bool) -> Vec<Option<Dim>> {
    let kept = shape
        .iter()
        .enumerate()
        .filter_map(|(i, dim)| match axes.contains(&i) {
            false => Some(dim.clone()),
            true => keep.then_some(Dim::Fixed(1)),
        });
    kept.map(Some).collect()
}

/// The axes that a reduction goes over.
fn over(args: &Args<'_>) -> Result<Vec<usize>, String> {
    let rank = args.shape(0)?.len();
    let given = match args.has(1) {
        true => Some(args.ints(1)?),
        false => args.node.ints("axes").map(<[i64]>::to_vec),
    };
    match given {
        Some(list) if !list.is_empty() => axes(&list, rank),
        _ if args.int("noop_with_empty_axes", 0) != 0 => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

/// Axes counted from the front: an input for ReduceSum, an attribute for the others.
fn lower(cx: &mut Rewrite<'_>, kind: OpKind) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let axes = over(&cx.args)?;
    if axes.is_empty() {
        cx.pass(x);
        return Ok(());
    }
    let keep = ("keepdims", Attribute::Int(cx.args.int("keepdims", 1)));
    if kind == OpKind::ReduceSum {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let axes = cx.list("axes", &axes)?;
        cx.finish_with(kind, &[x, &axes], attributes([keep]));
    } else {
        cx.finish_with(kind, &[x], attributes([("axes", ints(&axes)), keep]));
    }
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>, reduce: fn(&[f64]) -> f64) -> Vec<Element> {
    of.over(
        over(of.args).unwrap(),
        of.args.int("keepdims", 1) != 0,
        reduce,
    )
}
