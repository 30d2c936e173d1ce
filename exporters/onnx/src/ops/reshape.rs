//! Reshape, Squeeze and Unsqueeze, which keep every value and their order.

use super::{dims::Count, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        idle: |_, same| same,
        evaluate,
        ..Operator::new(OpKind::Reshape, TWO, &[("allowzero", Int)], infer)
    },
    Operator {
        idle: |_, same| same,
        evaluate,
        lower: squeeze,
        ..Operator::new(OpKind::Squeeze, (1, 2), &[], squeezed)
    },
    Operator {
        idle: |_, same| same,
        evaluate,
        lower: unsqueeze,
        ..Operator::new(OpKind::Unsqueeze, TWO, &[], unsqueezed)
    },
];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let x = &ty.shape;
    if args.int("allowzero", 0) != 0 {
        return Err("allowzero is not supported".into());
    }
    let target = args.ints(1)?;
    let mut shape: Vec<Option<Dim>> = Vec::with_capacity(target.len());
    for (i, &size) in target.iter().enumerate() {
        shape.push(match size {
            -1 => None,
            0 => {
                Some(x.get(i).cloned().ok_or_else(|| {
                    format!("0 keeps dimension {i}, which the input does not have")
                })?)
            }
            size => Some(
                usize::try_from(size)
                    .map(Dim::Fixed)
                    .map_err(|_| format!("the size {size} is negative"))?,
            ),
        });
    }
    let (all, known) = (Count::of(x)?, Count::of(shape.iter().flatten())?);
    match target.iter().filter(|&&size| size == -1).count() {
        0 if all == known => {}
        0 => {
            return Err(format!(
                "{target:?} does not hold as many elements as the input"
            ));
        }
        1 => {
            let rest = all.over(&known)?;
            let open = shape.iter_mut().filter(|d| d.is_none());
            open.for_each(|d| *d = rest.clone());
        }
        _ => return Err(format!("{target:?} has more than one -1")),
    }
    Inferred::one(ty.dtype, shape)
}

fn squeezed(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    if !args.has(1) {
        return Err("its axes must be given: which sizes are 1 may depend on the batch".into());
    }
    let gone = axes(&args.ints(1)?, ty.shape.len())?;
    if let Some(axis) = gone.iter().find(|&&a| ty.shape[a] != Dim::Fixed(1)) {
        return Err(format!(
            "axis {axis} has the size {}, not 1",
            ty.shape[*axis]
        ));
    }
    let kept = ty.shape.iter().enumerate();
    let kept = kept.filter(|(i, _)| !gone.contains(i));
    Inferred::one(ty.dtype, kept.map(|(_, dim)| Some(dim.clone())).collect())
}

fn unsqueezed(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let list = args.ints(1)?;
    let rank = ty.shape.len() + list.len();
    let new = axes(&list, rank)?;
    let mut rest = ty.shape.iter();
    let dim = |i: usize| match new.contains(&i) {
        true => Some(Dim::Fixed(1)),
        false => rest.next().cloned(),
    };
    Inferred::one(ty.dtype, (0..rank).map(dim).collect())
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    of.x().clone().reshaped(of.shape.clone()).ok()
}

/// Axes counted from the front.
fn squeeze(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let axes = axes(&cx.args.ints(1)?, cx.args.shape(0)?.len())?;
    let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
    let axes = cx.list("axes", &axes)?;
    cx.finish(OpKind::Squeeze, &[cx.input(0)?, &axes]);
    Ok(())
}

/// One axis at a time: candle-onnx confuses several.
fn unsqueeze(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let list = cx.args.ints(1)?;
    let axes = axes(&list, cx.args.shape(0)?.len() + list.len())?;
    let mut x = cx.input(0)?.to_string();
    let Some((last, first)) = axes.split_last() else {
        cx.pass(&x);
        return Ok(());
    };
    for &axis in first {
        let axis = cx.list("axis", &[axis as i64])?;
        x = cx.emit("wider", OpKind::Unsqueeze, &[&x, &axis])?;
    }
    let axis = cx.list("axis", &[*last as i64])?;
    cx.finish(OpKind::Unsqueeze, &[&x, &axis]);
    Ok(())
}
