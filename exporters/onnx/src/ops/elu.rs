//! Elu.

use super::{prelude::*, unary::floats};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs: missing,
    #[cfg(test)]
    reference: |of| {
        let alpha = of.float("alpha", 1.0);
        of.map(move |v| if v > 0.0 { v } else { alpha * v.exp_m1() })
    },
    ..Operator::new(OpKind::Elu, ONE, &[("alpha", Float)], floats)
}];

/// `x > 0 ? x : alpha (exp(min(x, 0)) - 1)`: candle-onnx has no Elu.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let alpha = cx.node.float("alpha").unwrap_or(1.0);
    let (zero, one) = (cx.scalar("zero", 0.0, x)?, cx.scalar("one", 1.0, x)?);
    let low = cx.emit("low", OpKind::Min, &[x, &zero])?;
    let exp = cx.emit("exp", OpKind::Exp, &[&low])?;
    let mut below = cx.emit("below", OpKind::Sub, &[&exp, &one])?;
    if alpha != 1.0 {
        let factor = cx.scalar("alpha", alpha.into(), x)?;
        below = cx.emit("scaled", OpKind::Mul, &[&below, &factor])?;
    }
    let above = cx.emit("above", OpKind::Greater, &[x, &zero])?;
    cx.finish(OpKind::Where, &[&above, x, &below]);
    Ok(())
}
