//! Reductions, with axes counted from the front and everything written out.

use zoo_graph::Attribute;

use super::context::{Attributes, Cx, attributes, ints};
use crate::shape;

/// Explicit axis.
pub(super) fn softmax(cx: &mut Cx<'_>) -> Result<(), String> {
    let axis = cx
        .args
        .axis(cx.node.int("axis").unwrap_or(-1), cx.args.shape(0)?.len())?;
    cx.rewritten(attributes([("axis", Attribute::Int(axis as i64))]));
    Ok(())
}

/// Axes as an input for ReduceSum, as an attribute for the others, as opset 17 has them.
pub(super) fn reduce(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let axes = shape::reduced_axes(&cx.args)?;
    if axes.is_empty() {
        cx.finish("Identity", &[x], Attributes::new());
        return Ok(());
    }
    let keep = (
        "keepdims",
        Attribute::Int(cx.node.int("keepdims").unwrap_or(1)),
    );
    if cx.node.op == "ReduceSum" {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let axes = cx.list("axes", &axes)?;
        cx.finish("ReduceSum", &[x, &axes], attributes([keep]));
    } else {
        cx.finish(&cx.node.op, &[x], attributes([("axes", ints(&axes)), keep]));
    }
    Ok(())
}

/// Explicit axis; of equal elements the first, as every runtime does.
pub(super) fn arg(cx: &mut Cx<'_>) -> Result<(), String> {
    if cx.node.int("select_last_index").unwrap_or(0) != 0 {
        return Err(
            "select_last_index is missing in candle-onnx; reverse the input instead".into(),
        );
    }
    let axis = cx
        .args
        .axis(cx.node.int("axis").unwrap_or(0), cx.args.shape(0)?.len())?;
    let keep = cx.node.int("keepdims").unwrap_or(1);
    cx.rewritten(attributes([
        ("axis", Attribute::Int(axis as i64)),
        ("keepdims", Attribute::Int(keep)),
    ]));
    Ok(())
}

/// A constant axis counted from the front; an exclusive sum as the inclusive one less its input.
pub(super) fn cumsum(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let axis = cx.args.ints(1)?.first().copied().unwrap_or(0);
    let axis = cx.args.axis(axis, cx.args.shape(0)?.len())?;
    let axis = zoo_graph::Array::i64([], [axis as i64]).map_err(|e| e.to_string())?;
    let axis = cx.add("axis", axis);
    let reverse = cx.node.int("reverse").unwrap_or(0);
    let attributes = match reverse {
        0 => Attributes::new(),
        _ => attributes([("reverse", Attribute::Int(1))]),
    };
    if cx.node.int("exclusive").unwrap_or(0) == 0 {
        cx.finish("CumSum", &[x, &axis], attributes);
    } else {
        let sum = cx.emit("inclusive", "CumSum", &[x, &axis], attributes)?;
        cx.finish("Sub", &[&sum, x], Attributes::new());
    }
    Ok(())
}

/// ReduceMean over the spatial axes: candle-onnx has no GlobalAveragePool.
pub(super) fn global_average(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let axes: Vec<usize> = (2..cx.args.shape(0)?.len()).collect();
    cx.finish(
        "ReduceMean",
        &[x],
        attributes([("axes", ints(&axes)), ("keepdims", Attribute::Int(1))]),
    );
    Ok(())
}
