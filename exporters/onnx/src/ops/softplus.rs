//! Softplus.

use super::{prelude::*, unary::floats};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs: missing,
    #[cfg(test)]
    reference: |of| of.map(|v| v.exp().ln_1p()),
    ..Operator::new(OpKind::Softplus, ONE, &[], floats)
}];

/// `relu(x) + log(1 + exp(-|x|))`: tract's own overflows near 100, candle-onnx has none.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let one = cx.scalar("one", 1.0, x)?;
    let abs = cx.emit("abs", OpKind::Abs, &[x])?;
    let neg = cx.emit("neg", OpKind::Neg, &[&abs])?;
    let exp = cx.emit("exp", OpKind::Exp, &[&neg])?;
    let sum = cx.emit("sum", OpKind::Add, &[&exp, &one])?;
    let log = cx.emit("log", OpKind::Log, &[&sum])?;
    let relu = cx.emit("relu", OpKind::Relu, &[x])?;
    cx.finish(OpKind::Add, &[&relu, &log]);
    Ok(())
}
