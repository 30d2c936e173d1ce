//! Pow.

use super::{
    arithmetic::{fold, infer},
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    evaluate: |of| fold(of, |_, _| None, f32::powf),
    lower,
    ..broadcasting(OpKind::Pow, TWO, infer)
}];

/// Powers by a constant 1, 2 or 1/2 as what they are. candle-onnx takes other exponents as scalars only: it computes
/// the rest through logarithms, which is wrong for negative bases.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let exponent = cx.args.constant(1).filter(|c| c.len() == 1);
    let scalar = exponent.is_some_and(|c| c.shape().is_empty());
    // A larger exponent's rank would be the result's.
    let same = cx.ty(x).map(|ty| ty.shape.len()) >= exponent.map(|c| c.shape().len());
    match exponent.map(|c| c.to_f64()[0]) {
        Some(1.0) if same => cx.pass(x),
        Some(2.0) if same => cx.finish(OpKind::Mul, &[x, x]),
        Some(0.5) if same && cx.args.ty(0)?.dtype == DType::F32 => cx.finish(OpKind::Sqrt, &[x]),
        _ if scalar || cx.target != Target::CandleOnnx => cx.copy(cx.node.clone()),
        _ => return Err("the exponent must be a scalar constant".into()),
    }
    Ok(())
}
