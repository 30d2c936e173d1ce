//! Normalisations by ReduceMean, Sub and Mul: candle-onnx has none but BatchNormalization.

use zoo_graph::{Attribute, Dim};

use super::context::{Attributes, Cx, attributes, ints};

/// BatchNormalization that the optimiser could not fold; runtimes know it.
pub(super) fn batch(cx: &mut Cx<'_>) -> Result<(), String> {
    if cx.node.int("training_mode").unwrap_or(0) != 0 {
        return Err("it is in training mode; trace the network in evaluation mode".into());
    }
    let epsilon = cx.node.float("epsilon").unwrap_or(1e-5);
    cx.rewritten(attributes([("epsilon", Attribute::Float(epsilon))]));
    Ok(())
}

/// `(x - mean) / sqrt(var + epsilon)` over `axes`.
fn standardise(cx: &mut Cx<'_>, x: &str, axes: &[usize]) -> Result<String, String> {
    let epsilon = cx.node.float("epsilon").unwrap_or(1e-5);
    let over = || attributes([("axes", ints(axes)), ("keepdims", Attribute::Int(1))]);
    let mean = cx.emit("mean", "ReduceMean", &[x], over())?;
    let centred = cx.emit("centred", "Sub", &[x, &mean], Attributes::new())?;
    let square = cx.emit("square", "Mul", &[&centred, &centred], Attributes::new())?;
    let variance = cx.emit("variance", "ReduceMean", &[&square], over())?;
    let epsilon = cx.scalar("epsilon", epsilon.into(), x)?;
    let sum = cx.emit("sum", "Add", &[&variance, &epsilon], Attributes::new())?;
    let deviation = cx.emit("deviation", "Sqrt", &[&sum], Attributes::new())?;
    cx.emit("normal", "Div", &[&centred, &deviation], Attributes::new())
}

/// Over the last axes, from `axis` on.
pub(super) fn layer(cx: &mut Cx<'_>) -> Result<(), String> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.args.shape(0)?.len();
    let axis = cx.args.axis(cx.node.int("axis").unwrap_or(-1), rank)?;
    let axes: Vec<usize> = (axis..rank).collect();
    let normal = standardise(cx, x, &axes)?;
    match cx.input(2) {
        Ok(bias) => {
            let scaled = cx.emit("scaled", "Mul", &[&normal, scale], Attributes::new())?;
            cx.finish("Add", &[&scaled, bias], Attributes::new());
        }
        Err(_) => cx.finish("Mul", &[&normal, scale], Attributes::new()),
    }
    Ok(())
}

/// Over the positions of each image and group of channels; an instance normalisation has one channel in a group.
pub(super) fn group(cx: &mut Cx<'_>) -> Result<(), String> {
    let x = cx.input(0)?;
    let shape = cx.args.shape(0)?;
    let sizes = cx.fixed(shape.get(1..).unwrap_or_default())?;
    let channels = *sizes.first().ok_or("its input has no channels")?;
    let groups = match cx.node.op.as_str() {
        "InstanceNormalization" => channels,
        _ => usize::try_from(cx.node.int("num_groups").unwrap_or(0)).unwrap_or(0),
    };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!(
            "{channels} channels cannot be divided into {groups} groups"
        ));
    }
    let target = cx.list("groups", &[0, groups as i64, -1])?;
    let grouped = cx.emit("grouped", "Reshape", &[x, &target], Attributes::new())?;
    let normal = standardise(cx, &grouped, &[2])?;
    let back: Vec<i64> = std::iter::once(0)
        .chain(sizes.iter().map(|&s| s as i64))
        .collect();
    let back = cx.list("shape", &back)?;
    let normal = cx.emit("ungrouped", "Reshape", &[&normal, &back], Attributes::new())?;
    let scale = per_channel(cx, 1, "scale", shape)?;
    let bias = per_channel(cx, 2, "bias", shape)?;
    let scaled = cx.emit("scaled", "Mul", &[&normal, &scale], Attributes::new())?;
    cx.finish("Add", &[&scaled, &bias], Attributes::new());
    Ok(())
}

/// Input `i` as `[C,1,..]`; a constant becomes so when constants are folded.
fn per_channel(cx: &mut Cx<'_>, i: usize, name: &str, shape: &[Dim]) -> Result<String, String> {
    let input = cx.input(i)?;
    let mut target = vec![1; shape.len() - 1];
    target[0] = -1;
    let target = cx.list("column", &target)?;
    cx.emit(name, "Reshape", &[input, &target], Attributes::new())
}
