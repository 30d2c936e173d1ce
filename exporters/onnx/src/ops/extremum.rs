//! Max and Min of any number of values.

use super::{
    arithmetic::{fold, infer},
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        idle: |args, _| args.node.inputs.len() == 1,
        // NaN wins, as in ONNX.
        evaluate: |of| {
            fold(
                of,
                |a, b| Some(a.max(b)),
                |a, b| if a.is_nan() || a > b { a } else { b },
            )
        },
        lower: |cx| pairs(cx, larger),
        runs: missing,
        ..broadcasting(OpKind::Max, (1, MANY), infer)
    },
    Operator {
        idle: |args, _| args.node.inputs.len() == 1,
        evaluate: |of| {
            fold(
                of,
                |a, b| Some(a.min(b)),
                |a, b| if a.is_nan() || a < b { a } else { b },
            )
        },
        lower: |cx| {
            pairs(cx, |cx, a, b, last| {
                put(cx, last, "min", OpKind::Min, &[a, b])
            })
        },
        ..broadcasting(OpKind::Min, (1, MANY), infer)
    },
];

/// Against a scalar constant as Clip, or else `a > b ? a : b`: candle-onnx has no Max.
fn larger(cx: &mut Rewrite<'_>, a: &str, b: &str, last: bool) -> Result<String, String> {
    let scalar = |name: &str| {
        cx.ty(name)
            .is_some_and(|ty| ty.shape.is_empty() && ty.dtype == DType::F32)
    };
    if scalar(b) {
        return put(cx, last, "max", OpKind::Clip, &[a, b]);
    }
    if scalar(a) {
        return put(cx, last, "max", OpKind::Clip, &[b, a]);
    }
    let above = cx.emit("above", OpKind::Greater, &[a, b])?;
    put(cx, last, "max", OpKind::Where, &[&above, a, b])
}

/// Folds the inputs from the left, as not every runtime takes more than two; `join` is told which pair is the last.
fn pairs(
    cx: &mut Rewrite<'_>,
    join: impl Fn(&mut Rewrite<'_>, &str, &str, bool) -> Result<String, String>,
) -> Result<(), Failure> {
    let inputs = &cx.node.inputs;
    if inputs.len() == 1 {
        cx.pass(&inputs[0]);
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
    cx: &mut Rewrite<'_>,
    last: bool,
    suffix: &str,
    op: OpKind,
    inputs: &[&str],
) -> Result<String, String> {
    if !last {
        return cx.emit(suffix, op, inputs);
    }
    cx.finish(op, inputs);
    Ok(cx.node.outputs[0].clone())
}
