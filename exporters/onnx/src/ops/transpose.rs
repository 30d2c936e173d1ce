//! Transpose.

use super::{
    constants::{each_index, pick, strides},
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |args, _| {
        let perm = args.node.ints("perm").unwrap_or_default();
        !perm.is_empty() && perm.iter().enumerate().all(|(i, &p)| p == i as i64)
    },
    evaluate,
    lower,
    ..Operator::new(OpKind::Transpose, ONE, &[("perm", Ints)], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let perm = permutation(args)?;
    let shape = perm.iter().map(|&p| Some(ty.shape[p].clone()));
    Inferred::one(ty.dtype, shape.collect())
}

/// The axes in their new order.
fn permutation(args: &Args<'_>) -> Result<Vec<usize>, String> {
    let rank = args.shape(0)?.len();
    let Some(perm) = args.node.ints("perm") else {
        return Ok((0..rank).rev().collect());
    };
    if perm.len() != rank || perm.iter().any(|&p| p < 0) || axes(perm, rank).is_err() {
        return Err(format!("perm {perm:?} is no order of {rank} axes"));
    }
    Ok(perm.iter().map(|&p| p as usize).collect())
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    let perm = permutation(of.args).ok()?;
    let steps = strides(of.x().shape());
    let sources = each_index(&of.shape, |index| {
        index.iter().zip(&perm).map(|(i, &p)| i * steps[p]).sum()
    });
    pick(of.x(), &of.shape, &sources)
}

/// Explicit perm: candle-onnx without one swaps the last two axes only.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let perm = permutation(&cx.args)?;
    cx.rewritten(attributes([("perm", ints(&perm))]));
    Ok(())
}
