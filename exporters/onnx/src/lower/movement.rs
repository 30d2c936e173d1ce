//! Operators that move elements, with axes counted from the front and everything constant.

use zoo_graph::Attribute;

use super::{
    Target,
    context::{Attributes, Cx, attributes, ints},
};
use crate::shape;

/// Explicit perm: candle-onnx without one swaps the last two axes only.
pub(super) fn transpose(cx: &mut Cx<'_>) -> Result<(), String> {
    let perm = shape::permutation(&cx.args)?;
    cx.rewritten(attributes([("perm", ints(&perm))]));
    Ok(())
}

/// Explicit axis.
pub(super) fn axis(cx: &mut Cx<'_>) -> Result<(), String> {
    let given = cx.node.int("axis").unwrap_or(0);
    let axis = cx.args.axis(given, cx.args.shape(0)?.len())?;
    let attribute = attributes([("axis", Attribute::Int(axis as i64))]);
    if cx.target == Target::CandleOnnx && cx.node.op == "Gather" && cx.args.shape(1)?.len() > 2 {
        // It takes at most two dimensions of indices.
        let (x, index) = (cx.input(0)?, cx.input(1)?);
        let flat = cx.list("flat", &[-1])?;
        let flat = cx.emit("indices", "Reshape", &[index, &flat], Attributes::new())?;
        let rows = cx.emit("rows", "Gather", &[x, &flat], attribute)?;
        let target = target_of(&cx.result(0)?.shape)?;
        let target = cx.list("shape", &target)?;
        cx.finish("Reshape", &[&rows, &target], Attributes::new());
        return Ok(());
    }
    cx.rewritten(attribute);
    Ok(())
}

/// A Reshape target for a shape with at most one symbolic size.
pub(super) fn target_of(shape: &[zoo_graph::Dim]) -> Result<Vec<i64>, String> {
    let target: Vec<i64> = shape
        .iter()
        .map(|d| d.fixed().map_or(-1, |s| s as i64))
        .collect();
    match target.iter().filter(|&&s| s == -1).count() {
        0 | 1 => Ok(target),
        _ => Err("more than one size is symbolic".into()),
    }
}

/// Starts and ends inside the fixed sizes; backward steps as Gather.
pub(super) fn slice(cx: &mut Cx<'_>) -> Result<(), String> {
    let mut x = cx.input(0)?.to_string();
    let sizes = cx.args.shape(0)?;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for range in shape::ranges(&cx.args)? {
        let size = sizes[range.axis].fixed();
        let (start, count) = size.map_or((0, 0), |size| range.within(size));
        match size {
            Some(size) if (start, count, range.step) == (0, size, 1) => {}
            Some(_) if range.step > 0 => {
                let end = if count == 0 {
                    start as i64
                } else {
                    start as i64 + (count as i64 - 1) * range.step + 1
                };
                forward.push([start as i64, end, range.axis as i64, range.step]);
            }
            Some(_) => {
                let index: Vec<i64> = (0..count as i64)
                    .map(|k| start as i64 + k * range.step)
                    .collect();
                backward.push((range.axis, index));
            }
            None if range.step > 0 => {
                forward.push([range.start, range.end, range.axis as i64, range.step])
            }
            None => return Err("the batch cannot be reversed".into()),
        }
    }
    for (axis, index) in backward {
        let index = cx.list("index", &index)?;
        x = cx.emit(
            "reversed",
            "Gather",
            &[&x, &index],
            attributes([("axis", Attribute::Int(axis as i64))]),
        )?;
    }
    if forward.is_empty() {
        cx.finish("Identity", &[&x], Attributes::new());
        return Ok(());
    }
    let mut inputs = vec![x];
    for (k, name) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
        let column: Vec<i64> = forward.iter().map(|row| row[k]).collect();
        inputs.push(cx.list(name, &column)?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    cx.finish("Slice", &inputs, Attributes::new());
    Ok(())
}

/// Sizes as an input.
pub(super) fn split(cx: &mut Cx<'_>) -> Result<(), String> {
    let axis = cx
        .args
        .axis(cx.node.int("axis").unwrap_or(0), cx.args.shape(0)?.len())?;
    let size = |i: usize| {
        cx.result(i)?.shape[axis]
            .fixed()
            .map(|s| s as i64)
            .ok_or("a part has no fixed size".to_string())
    };
    let sizes = (0..cx.node.outputs.len())
        .map(size)
        .collect::<Result<Vec<i64>, String>>()?;
    let sizes = cx.list("sizes", &sizes)?;
    cx.copy(zoo_graph::Node {
        inputs: vec![cx.input(0)?.into(), sizes],
        attributes: attributes([("axis", Attribute::Int(axis as i64))]),
        ..cx.node.clone()
    });
    Ok(())
}

/// Axes counted from the front.
pub(super) fn squeeze(cx: &mut Cx<'_>) -> Result<(), String> {
    let axes = shape::axes(&cx.args.ints(1)?, cx.args.shape(0)?.len())?;
    let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
    let axes = cx.list("axes", &axes)?;
    cx.finish("Squeeze", &[cx.input(0)?, &axes], Attributes::new());
    Ok(())
}

/// One axis at a time: candle-onnx confuses several.
pub(super) fn unsqueeze(cx: &mut Cx<'_>) -> Result<(), String> {
    let list = cx.args.ints(1)?;
    let axes = shape::axes(&list, cx.args.shape(0)?.len() + list.len())?;
    let mut x = cx.input(0)?.to_string();
    let Some((last, first)) = axes.split_last() else {
        cx.finish("Identity", &[&x], Attributes::new());
        return Ok(());
    };
    for &axis in first {
        let axis = cx.list("axis", &[axis as i64])?;
        x = cx.emit("wider", "Unsqueeze", &[&x, &axis], Attributes::new())?;
    }
    let axis = cx.list("axis", &[*last as i64])?;
    cx.finish("Unsqueeze", &[&x, &axis], Attributes::new());
    Ok(())
}

/// Reshape, Transpose, Reshape: candle-onnx has no DepthToSpace.
pub(super) fn depth_to_space(cx: &mut Cx<'_>) -> Result<(), String> {
    let block = cx.node.int("blocksize").unwrap_or(1);
    let sizes = cx.fixed(&cx.args.shape(0)?[1..])?;
    let [channels, height, width] = sizes[..] else {
        return Err("its input must be [N,C,H,W]".into());
    };
    let [channels, height, width] = [channels as i64, height as i64, width as i64];
    let depth = channels / (block * block);
    let (parts, perm) = match cx.node.attributes.get("mode") {
        Some(Attribute::Text(mode)) if mode == "CRD" => {
            ([0, depth, block, block, height, width], [0, 1, 4, 2, 5, 3])
        }
        _ => ([0, block, block, depth, height, width], [0, 3, 4, 1, 5, 2]),
    };
    let x = cx.input(0)?.to_string();
    interleave(
        cx,
        &x,
        &parts,
        &perm,
        &[0, depth, height * block, width * block],
        true,
    )?;
    Ok(())
}

/// Reshape to `parts`, Transpose by `perm`, Reshape to `target`; the last one is the node's result where `last`.
pub(super) fn interleave(
    cx: &mut Cx<'_>,
    x: &str,
    parts: &[i64],
    perm: &[usize],
    target: &[i64],
    last: bool,
) -> Result<String, String> {
    let parts = cx.list("parts", parts)?;
    let apart = cx.emit("apart", "Reshape", &[x, &parts], Attributes::new())?;
    let turned = cx.emit(
        "turned",
        "Transpose",
        &[&apart],
        attributes([("perm", ints(perm))]),
    )?;
    let target = cx.list("shape", target)?;
    if last {
        cx.finish("Reshape", &[&turned, &target], Attributes::new());
        return Ok(cx.node.outputs[0].clone());
    }
    cx.emit("joined", "Reshape", &[&turned, &target], Attributes::new())
}
