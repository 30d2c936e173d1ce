//! Pointwise operators.

use zoo_graph::{Attribute, DType};

use super::context::{Attributes, Cx, attributes};

/// `x > 0 ? x : alpha (exp(min(x, 0)) - 1)`: candle-onnx has no Elu.
pub(super) fn elu(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let alpha = cx.node.float("alpha").unwrap_or(1.0);
    let (zero, one) = (cx.scalar("zero", 0.0, x)?, cx.scalar("one", 1.0, x)?);
    let low = cx.emit("low", "Min", &[x, &zero], Attributes::new())?;
    let exp = cx.emit("exp", "Exp", &[&low], Attributes::new())?;
    let mut below = cx.emit("below", "Sub", &[&exp, &one], Attributes::new())?;
    if alpha != 1.0 {
        let factor = cx.scalar("alpha", alpha.into(), x)?;
        below = cx.emit("scaled", "Mul", &[&below, &factor], Attributes::new())?;
    }
    let above = cx.emit("above", "Greater", &[x, &zero], Attributes::new())?;
    cx.finish("Where", &[&above, x, &below], Attributes::new());
    Ok(())
}

/// `relu(x) + log(1 + exp(-|x|))`: tract's own overflows near 100, candle-onnx has none.
pub(super) fn softplus(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let one = cx.scalar("one", 1.0, x)?;
    let abs = cx.emit("abs", "Abs", &[x], Attributes::new())?;
    let neg = cx.emit("neg", "Neg", &[&abs], Attributes::new())?;
    let exp = cx.emit("exp", "Exp", &[&neg], Attributes::new())?;
    let sum = cx.emit("sum", "Add", &[&exp, &one], Attributes::new())?;
    let log = cx.emit("log", "Log", &[&sum], Attributes::new())?;
    let relu = cx.emit("relu", "Relu", &[x], Attributes::new())?;
    cx.finish("Add", &[&relu, &log], Attributes::new());
    Ok(())
}

/// Pairs, each as Clip against a scalar constant or else `a > b ? a : b`: candle-onnx has no Max.
pub(super) fn max(cx: &mut Cx<'_>) -> Result<(), String> {
    pairs(cx, |cx, a, b, last| {
        let scalar = |name: &str| {
            cx.ty(name)
                .is_some_and(|ty| ty.shape.is_empty() && ty.dtype == DType::F32)
        };
        let operands = if scalar(b) {
            vec![a, b]
        } else if scalar(a) {
            vec![b, a]
        } else {
            Vec::new()
        };
        if !operands.is_empty() {
            return put(cx, last, "max", "Clip", &operands);
        }
        let above = cx.emit("above", "Greater", &[a, b], Attributes::new())?;
        put(cx, last, "max", "Where", &[&above, a, b])
    })
}

/// Pairs.
pub(super) fn min(cx: &mut Cx<'_>) -> Result<(), String> {
    pairs(cx, |cx, a, b, last| put(cx, last, "min", "Min", &[a, b]))
}

/// Folds a variadic operator from the left; `join` is told which pair is the last.
fn pairs(
    cx: &mut Cx<'_>,
    join: impl Fn(&mut Cx<'_>, &str, &str, bool) -> Result<String, String>,
) -> Result<(), String> {
    let inputs = &cx.node.inputs;
    if inputs.len() == 1 {
        cx.finish("Identity", &[&inputs[0]], Attributes::new());
        return Ok(());
    }
    let mut left = inputs[0].clone();
    for (i, right) in inputs.iter().enumerate().skip(1) {
        left = join(cx, &left, right, i + 1 == inputs.len())?;
    }
    Ok(())
}

/// An intermediate node, or the last one.
fn put(
    cx: &mut Cx<'_>,
    last: bool,
    suffix: &str,
    op: &str,
    inputs: &[&str],
) -> Result<String, String> {
    match last {
        true => {
            cx.finish(op, inputs, Attributes::new());
            Ok(cx.node.outputs[0].clone())
        }
        false => cx.emit(suffix, op, inputs, Attributes::new()),
    }
}

/// Powers by a constant 1, 2 or 1/2 as what they are. candle-onnx takes other exponents as scalars only: it computes
/// the rest through logarithms, which is wrong for negative bases.
pub(super) fn pow(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let exponent = cx.constant(1).filter(|c| c.len() == 1);
    let scalar = exponent.is_some_and(|c| c.shape().is_empty());
    // A larger exponent's rank would be the result's.
    let same = cx.ty(x).map(|ty| ty.shape.len()) >= exponent.map(|c| c.shape().len());
    match exponent.map(|c| c.to_f64()[0]) {
        Some(1.0) if same => cx.finish("Identity", &[x], Attributes::new()),
        Some(2.0) if same => cx.finish("Mul", &[x, x], Attributes::new()),
        Some(0.5) if same && cx.args.ty(0)?.dtype == DType::F32 => {
            cx.finish("Sqrt", &[x], Attributes::new())
        }
        _ if scalar || cx.target != super::Target::CandleOnnx => cx.copy(cx.node.clone()),
        _ => return Err("the exponent must be a scalar constant".into()),
    }
    Ok(())
}

/// A cast to bool as `!(x == 0)`: candle-onnx keeps the value.
pub(super) fn cast(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let (from, to) = (cx.args.ty(0)?.dtype, cx.result(0)?.dtype);
    if from == to {
        cx.finish("Identity", &[x], Attributes::new());
    } else if to == DType::Bool {
        let zero = cx.scalar("zero", 0.0, x)?;
        let is_zero = cx.emit("is_zero", "Equal", &[x, &zero], Attributes::new())?;
        cx.finish("Not", &[&is_zero], Attributes::new());
    } else {
        let code = crate::tensor::dtype_code(to);
        cx.rewritten(attributes([("to", Attribute::Int(code.into()))]));
    }
    Ok(())
}
