//! Pads and pooling.

use zoo_graph::{Array, Attribute, DType};

use super::{
    Target,
    context::{Attributes, Cx, attributes, ints},
};
use crate::shape::{self, Window};

/// Constant pads as Concat, the others as Gather: candle-onnx has none of constant pads.
pub(super) fn pad(cx: &mut Cx<'_>) -> Result<(), String> {
    let mut x = cx.input(0)?.to_string();
    let pads = shape::pads(&cx.args)?;
    let sizes = cx.args.shape(0)?;
    let mode = match cx.node.attributes.get("mode") {
        Some(Attribute::Text(mode)) => mode.as_str(),
        _ => "constant",
    };
    let value = cx.constant(2).map_or(0.0, |c| c.to_f64()[0]);
    for (axis, &(before, after)) in pads.iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        if mode == "constant" {
            x = surround(cx, &x, axis, before, after, value)?;
            continue;
        }
        let size = sizes[axis].fixed().ok_or("the batch cannot be padded")? as i64;
        let fits = if mode == "reflect" {
            before.max(after) < size as usize
        } else {
            size > 0
        };
        if !fits {
            return Err(format!(
                "axis {axis} of {size} elements is too short for these pads"
            ));
        }
        let source = |i: i64| match mode {
            "reflect" if i < 0 => -i,
            "reflect" if i >= size => 2 * (size - 1) - i,
            _ => i.clamp(0, size - 1),
        };
        let index: Vec<i64> = (-(before as i64)..size + after as i64)
            .map(source)
            .collect();
        let index = cx.list("index", &index)?;
        x = cx.emit(
            "padded",
            "Gather",
            &[&x, &index],
            attributes([("axis", Attribute::Int(axis as i64))]),
        )?;
    }
    cx.finish("Identity", &[&x], Attributes::new());
    Ok(())
}

/// `value` before and after the elements along an axis. The pads take their other sizes from the input itself, since
/// one of them may be the batch.
fn surround(
    cx: &mut Cx<'_>,
    x: &str,
    axis: usize,
    before: usize,
    after: usize,
    value: f64,
) -> Result<String, String> {
    let along = || attributes([("axis", Attribute::Int(axis as i64))]);
    let value = cx.scalar("value", value, x)?;
    let yes = Array::bool([], [1]).map_err(|e| e.to_string())?;
    let yes = cx.add("yes", yes);
    let mut side = |count: usize| -> Result<Option<String>, String> {
        if count == 0 {
            return Ok(None);
        }
        let index = cx.list("index", &vec![0; count])?;
        let like = cx.emit("like", "Gather", &[x, &index], along())?;
        // Not a product with 0, which infinity would spoil.
        cx.emit("side", "Where", &[&yes, &value, &like], Attributes::new())
            .map(Some)
    };
    let (left, right) = (side(before)?, side(after)?);
    let parts: Vec<&str> = left
        .as_deref()
        .into_iter()
        .chain([x])
        .chain(right.as_deref())
        .collect();
    cx.emit("padded", "Concat", &parts, along())
}

/// Explicit attributes; pads outside of the pooling, as candle-onnx and some others take none.
pub(super) fn pool(cx: &mut Cx<'_>) -> Result<(), String> {
    let mut x = cx.input(0)?.to_string();
    let window = Window::of(cx.node, None)?;
    let padded = window.begin.iter().chain(&window.end).any(|&p| p != 0);
    let counted = cx.node.int("count_include_pad").unwrap_or(0) != 0;
    let max = cx.node.op == "MaxPool";
    if window.dilations.iter().any(|&d| d != 1) {
        return Err("a dilated pooling window is missing in candle-onnx".into());
    }
    let inside = padded && !max && !counted;
    if inside && cx.target == Target::CandleOnnx {
        return Err(
            "an average that leaves pads out is missing there; set count_include_pad".into(),
        );
    }
    if padded && !inside {
        if cx.args.ty(0)?.dtype != DType::F32 {
            return Err("padded pooling is for f32".into());
        }
        let value = if max { f64::from(f32::MIN) } else { 0.0 };
        for i in 0..window.kernel.len() {
            if window.begin[i] + window.end[i] > 0 {
                x = surround(cx, &x, i + 2, window.begin[i], window.end[i], value)?;
            }
        }
    }
    let mut attributes = attributes([
        ("kernel_shape", ints(&window.kernel)),
        ("strides", ints(&window.strides)),
    ]);
    if inside {
        attributes.insert(
            "pads".into(),
            ints(&[window.begin.as_slice(), &window.end].concat()),
        );
    }
    cx.finish(&cx.node.op, &[&x], attributes);
    Ok(())
}
