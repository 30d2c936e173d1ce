//! Gather and GatherElements.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        lower,
        #[cfg(test)]
        reference,
        ..Operator::new(OpKind::Gather, TWO, AXIS, infer)
    },
    Operator {
        lower: explicit_axis,
        #[cfg(test)]
        reference: |of| {
            let (x, index, axis) = (of.x(), of.get(1), of.args.axis(0).unwrap());
            vec![Box::new(move |i| {
                let mut j = i.to_vec();
                j[axis] = index.at(i) as usize;
                x.at(&j)
            })]
        },
        ..Operator::new(OpKind::GatherElements, TWO, AXIS, elements)
    },
];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let axis = args.axis(0)?;
    indices(args, ty.shape[axis].fixed())?;
    let (before, after) = (&ty.shape[..axis], &ty.shape[axis + 1..]);
    let shape = [before, args.shape(1)?, after].concat();
    Inferred::one(ty.dtype, known(&shape))
}

fn elements(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let axis = args.axis(0)?;
    indices(args, ty.shape[axis].fixed())?;
    let index = args.shape(1)?;
    let smaller = |(i, (a, b)): (usize, (&Dim, &Dim))| {
        i == axis || a == b || matches!((a.fixed(), b.fixed()), (Some(a), Some(b)) if a <= b)
    };
    if index.len() != ty.shape.len() || !index.iter().zip(&ty.shape).enumerate().all(smaller) {
        return Err("its indices do not fit the data".into());
    }
    Inferred::one(ty.dtype, known(index))
}

/// Indices are integers, and constant ones lie inside.
fn indices(args: &Args<'_>, size: Option<usize>) -> Result<(), String> {
    let dtype = args.ty(1)?.dtype;
    if !matches!(dtype, DType::I64 | DType::I32) {
        return Err(format!("its indices must be integers, not {dtype}"));
    }
    if let (Some(constant), Some(size)) = (args.constant(1), size) {
        let size = size as i64;
        let values = constant.as_i64().unwrap_or_default();
        if let Some(i) = values.iter().find(|&&i| i < -size || i >= size) {
            return Err(format!("the index {i} lies outside of {size} elements"));
        }
    }
    Ok(())
}

/// The node with its axis counted from the front.
pub(super) fn explicit_axis(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let axis = cx.args.axis(0)?;
    cx.rewritten(along(axis));
    Ok(())
}

/// Explicit axis; indices of more than two dimensions as a list for candle-onnx, which takes no more.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    if cx.target != Target::CandleOnnx || cx.args.shape(1)?.len() <= 2 {
        return explicit_axis(cx);
    }
    let axis = along(cx.args.axis(0)?);
    let (x, index) = (cx.input(0)?, cx.input(1)?);
    let flat = cx.list("flat", &[-1])?;
    let flat = cx.emit("indices", OpKind::Reshape, &[index, &flat])?;
    let rows = cx.emit_with("rows", OpKind::Gather, &[x, &flat], axis)?;
    let shape = cx.result(0)?.shape.iter();
    let target: Vec<i64> = shape.map(|d| d.fixed().map_or(-1, |s| s as i64)).collect();
    if target.iter().filter(|&&size| size == -1).count() > 1 {
        return Err("more than one size is symbolic".into());
    }
    let target = cx.list("shape", &target)?;
    cx.finish(OpKind::Reshape, &[&rows, &target]);
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (x, index) = (of.x(), of.get(1));
    let axis = of.args.axis(0).unwrap();
    vec![Box::new(move |i| {
        let (head, rest) = i.split_at(axis);
        let (at, tail) = rest.split_at(index.shape.len());
        let k = index.at(at) as i64;
        let k = if k < 0 { k + x.shape[axis] as i64 } else { k } as usize;
        x.at(&[head, &[k], tail].concat())
    })]
}
