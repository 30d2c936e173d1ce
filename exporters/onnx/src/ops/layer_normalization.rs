//! LayerNormalization.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs: missing,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::LayerNormalization,
        (2, 3),
        &[("axis", Int), ("epsilon", Float), ("stash_type", Int)],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.float(0)?;
    args.same_dtype(0)?;
    let normalised = known(&ty.shape[args.axis(-1)?..]);
    for i in (1..3).filter(|&i| args.has(i)) {
        if broadcast(&normalised, args.shape(i)?)? != normalised {
            return Err(format!("input {i} does not fit the normalised shape"));
        }
    }
    Inferred::same(ty)
}

/// Over the last axes, from `axis` on, by ReduceMean, Sub and Mul: candle-onnx has no normalisation but BatchNormalization.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axes: Vec<usize> = (cx.args.axis(-1)?..cx.args.shape(0)?.len()).collect();
    let normal = standardise(cx, x, &axes)?;
    match cx.input(2) {
        Ok(bias) => {
            let scaled = cx.emit("scaled", OpKind::Mul, &[&normal, scale])?;
            cx.finish(OpKind::Add, &[&scaled, bias]);
        }
        Err(_) => cx.finish(OpKind::Mul, &[&normal, scale]),
    }
    Ok(())
}

/// `(x - mean) / sqrt(var + epsilon)` over `axes`.
pub(super) fn standardise(cx: &mut Rewrite<'_>, x: &str, axes: &[usize]) -> Result<String, String> {
    let epsilon = cx.node.float("epsilon").unwrap_or(1e-5);
    let over = || attributes([("axes", ints(axes)), ("keepdims", Attribute::Int(1))]);
    let mean = cx.emit_with("mean", OpKind::ReduceMean, &[x], over())?;
    let centred = cx.emit("centred", OpKind::Sub, &[x, &mean])?;
    let square = cx.emit("square", OpKind::Mul, &[&centred, &centred])?;
    let variance = cx.emit_with("variance", OpKind::ReduceMean, &[&square], over())?;
    let epsilon = cx.scalar("epsilon", epsilon.into(), x)?;
    let sum = cx.emit("sum", OpKind::Add, &[&variance, &epsilon])?;
    let deviation = cx.emit("deviation", OpKind::Sqrt, &[&sum])?;
    cx.emit("normal", OpKind::Div, &[&centred, &deviation])
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (scale, shift) = (of.get(1), of.operand(2));
    let axis = of.args.axis(-1).unwrap();
    of.standardised(
        move |i, j| i[..axis] == j[..axis],
        move |i| {
            let shift = shift.as_ref().map_or(0.0, |t| t.at(&i[axis..]));
            (scale.at(&i[axis..]), shift)
        },
    )
}
