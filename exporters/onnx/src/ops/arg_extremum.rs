//! ArgMax and ArgMin.

use super::{prelude::*, reduce::reduced};

pub(super) const OPERATORS: &[Operator] = &[of(OpKind::ArgMax), of(OpKind::ArgMin)];

const fn of(kind: OpKind) -> Operator {
    let attributes = &[("axis", Int), ("keepdims", Int), ("select_last_index", Int)];
    Operator {
        lower,
        ..Operator::new(kind, ONE, attributes, infer)
    }
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let axis = args.axis(0)?;
    let shape = reduced(args.shape(0)?, &[axis], args.int("keepdims", 1) != 0);
    Inferred::one(DType::I64, shape)
}

/// Explicit axis; of equal elements the first, as every runtime does.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    if cx.args.int("select_last_index", 0) != 0 {
        return Err(
            "select_last_index is missing in candle-onnx; reverse the input instead".into(),
        );
    }
    let axis = cx.args.axis(0)?;
    cx.rewritten(attributes([
        ("axis", Attribute::Int(axis as i64)),
        ("keepdims", Attribute::Int(cx.args.int("keepdims", 1))),
    ]));
    Ok(())
}
