//! Pad.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, same| same,
    lower,
    runs: missing,
    #[cfg(test)]
    reference,
    ..Operator::new(OpKind::Pad, (2, 3), &[("mode", Text)], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let mode = args.text("mode", "constant");
    if !["constant", "reflect", "edge"].contains(&mode) {
        return Err(format!("the mode {mode:?} is unknown"));
    }
    if args.has(2) && args.constant(2).is_none_or(|c| c.len() != 1) {
        return Err("its value must be one constant".into());
    }
    let pairs = ty.shape.iter().zip(pads(args)?);
    let shape = pairs.map(|(dim, (before, after))| plus(dim, &Dim::Fixed(before + after)));
    Inferred::one(ty.dtype, shape.collect::<Result<_, _>>()?)
}

/// Pads before and after each axis.
fn pads(args: &Args<'_>) -> Result<Vec<(usize, usize)>, String> {
    let rank = args.shape(0)?.len();
    let pads = args.ints(1)?;
    if pads.len() != 2 * rank {
        return Err(format!("it needs {} pads, not {}", 2 * rank, pads.len()));
    }
    let size = |v: i64| usize::try_from(v).ok().filter(|v| *v < 1 << 24);
    let pairs: Option<Vec<_>> = (0..rank)
        .map(|i| Some((size(pads[i])?, size(pads[rank + i])?)))
        .collect();
    pairs.ok_or_else(|| "negative pads are not supported, slice instead".into())
}

/// The pads of a convolution that do what a node does: where zeros stand around an image.
pub(crate) fn of_convolution(args: &Args<'_>) -> Option<Vec<i64>> {
    let zero = !args.has(2) || args.constant(2)?.to_f64().iter().all(|&v| v == 0.0);
    let pairs = pads(args).ok()?;
    let [(0, 0), (0, 0), image @ ..] = &pairs[..] else {
        return None;
    };
    let before = image.iter().map(|p| p.0 as i64);
    let pads = before.chain(image.iter().map(|p| p.1 as i64)).collect();
    (zero && !image.is_empty() && args.text("mode", "constant") == "constant").then_some(pads)
}

/// Constant pads as Concat, the others as Gather: candle-onnx has none of constant pads.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let mut x = cx.input(0)?.to_string();
    let pads = pads(&cx.args)?;
    let sizes = cx.args.shape(0)?;
    let mode = cx.args.text("mode", "constant");
    let value = cx.args.constant(2).map_or(0.0, |c| c.to_f64()[0]);
    for (axis, &(before, after)) in pads.iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        if mode == "constant" {
            x = surround(cx, &x, axis, before, after, value)?;
            continue;
        }
        let size = sizes[axis]
            .fixed()
            .ok_or_else(|| format!("the mode {mode:?} needs a fixed size along axis {axis}"))?
            as i64;
        let fits = match mode {
            "reflect" => before.max(after) < size as usize,
            _ => size > 0,
        };
        if !fits {
            let reason = format!("axis {axis} of {size} elements is too short for these pads");
            return Err(reason.into());
        }
        let source = |i: i64| match mode {
            "reflect" if i < 0 => -i,
            "reflect" if i >= size => 2 * (size - 1) - i,
            _ => i.clamp(0, size - 1),
        };
        let index = -(before as i64)..size + after as i64;
        let index: Vec<i64> = index.map(source).collect();
        let index = cx.list("index", &index)?;
        x = cx.emit_with("padded", OpKind::Gather, &[&x, &index], along(axis))?;
    }
    cx.pass(&x);
    Ok(())
}

/// `value` before and after the elements along an axis. The pads take their other sizes from the input itself, since
/// one of them may be the batch.
pub(super) fn surround(
    cx: &mut Rewrite<'_>,
    x: &str,
    axis: usize,
    before: usize,
    after: usize,
    value: f64,
) -> Result<String, String> {
    let value = cx.scalar("value", value, x)?;
    let yes = Array::bool([], [1]).map_err(|e| e.to_string())?;
    let yes = cx.add("yes", yes);
    let mut side = |count: usize| -> Result<Option<String>, String> {
        if count == 0 {
            return Ok(None);
        }
        let index = cx.list("index", &vec![0; count])?;
        let like = cx.emit_with("like", OpKind::Gather, &[x, &index], along(axis))?;
        // Not a product with 0, which infinity would spoil.
        cx.emit("side", OpKind::Where, &[&yes, &value, &like])
            .map(Some)
    };
    let (left, right) = (side(before)?, side(after)?);
    let inner = left.as_deref().into_iter().chain([x]);
    let parts: Vec<&str> = inner.chain(right.as_deref()).collect();
    cx.emit_with("padded", OpKind::Concat, &parts, along(axis))
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let (pads, value) = (of.get(1), of.operand(2).map_or(0.0, |t| t.values[0]));
    let mode = of.args.text("mode", "constant").to_owned();
    vec![Box::new(move |i| {
        let from = i.iter().zip(&pads.values);
        let from: Vec<i64> = from.map(|(&i, &pad)| i as i64 - pad as i64).collect();
        let inside = |(&i, &d): (&i64, &usize)| {
            let last = d as i64 - 1;
            match mode.as_str() {
                "reflect" if i < 0 => -i,
                "reflect" if i > last => 2 * last - i,
                "edge" => i.clamp(0, last),
                _ => i,
            }
        };
        let from: Vec<i64> = from.iter().zip(&x.shape).map(inside).collect();
        x.padded(&from).unwrap_or(value)
    })]
}
