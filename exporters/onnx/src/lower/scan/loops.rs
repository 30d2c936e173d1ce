//! Scans as Loops.

use zoo_graph::{Array, Attribute, Graph, Port, ValueType};

use super::{
    super::context::{Attributes, Cx, attributes, ints},
    Parts, along, error, node,
};

/// `value` with `axis` in front, so that what a step gathers lies in one piece: single values far apart cost more than all arithmetic of a pixel.
fn to_front(cx: &mut Cx<'_>, value: &str, axis: usize) -> Result<String, String> {
    let ty = cx.ty(value).ok_or("the type of an input is not recorded")?;
    let mut perm: Vec<usize> = (0..ty.shape.len()).filter(|&d| d != axis).collect();
    perm.insert(0, axis);
    let perm = attributes([("perm", ints(&perm))]);
    cx.emit("steps", "Transpose", &[value], perm)
}

/// A `Loop` that computes what the `Scan` does: a step gathers its slices; outputs, which a Loop stacks in front, are transposed.
/// `finish` lowers the body.
pub(in crate::lower) fn to_loop(
    cx: &mut Cx<'_>,
    finish: impl FnOnce(Graph) -> crate::Result<Graph>,
) -> Result<crate::Result<()>, String> {
    let scan = cx.node;
    let parts = Parts::of(scan, |name| cx.ty(name).cloned())?;
    let steps = i64::try_from(parts.steps).map_err(|e| e.to_string())?;
    let trips = cx.add("trips", Array::i64([], [steps]).map_err(error)?);
    let stem = &scan.outputs[0];
    let (step, more, goes_on) = (
        format!("{stem}/step"),
        format!("{stem}/more"),
        format!("{stem}/goes_on"),
    );
    let mut body = Graph {
        nodes: Vec::new(),
        inputs: vec![
            Port::new(&step, zoo_graph::DType::I64, []),
            Port::new(&more, zoo_graph::DType::Bool, []),
        ],
        outputs: vec![Port::new(&goes_on, zoo_graph::DType::Bool, [])],
        ..parts.body.clone()
    };
    for port in body.inputs.iter().chain(&body.outputs) {
        body.types.insert(port.name.clone(), port.value_type());
    }
    body.nodes.push(node(
        &goes_on,
        "Identity",
        &[&more],
        &[&goes_on],
        Attributes::new(),
        scan,
    ));
    let (states, slices) = parts.body.inputs.split_at(parts.states);
    body.inputs.extend_from_slice(states);
    for (k, Port { name, .. }) in slices.iter().enumerate() {
        let (i, axis) = (parts.states + k, parts.input_axes[k]);
        let mut source = (scan.inputs[i].clone(), axis);
        if axis != 0 && cx.constant(i).is_none() {
            source = (to_front(cx, &source.0, axis)?, 0);
            // The body's rewrites must know it.
            let ty = cx.ty(&source.0).cloned();
            body.types.extend(ty.map(|ty| (source.0.clone(), ty)));
        }
        let inputs = [source.0.as_str(), &step];
        let slice = node(name, "Gather", &inputs, &[name], along(source.1), scan);
        body.nodes.push(slice);
    }
    body.nodes.extend_from_slice(&parts.body.nodes);
    body.outputs.extend_from_slice(&parts.body.outputs);
    let body = match finish(body) {
        Ok(body) => body,
        Err(error) => return Ok(Err(error)),
    };

    let mut outputs = scan.outputs.clone();
    let mut ordered = Vec::new();
    for (k, &axis) in parts.output_axes.iter().enumerate() {
        let i = parts.states + k;
        if axis == 0 {
            continue;
        }
        let ty = cx.result(i)?.clone();
        // Dimension 0 goes to `axis`; those before it move up.
        let mut perm: Vec<usize> = (1..ty.shape.len()).collect();
        perm.insert(axis, 0);
        let mut shape = ty.shape.clone();
        let length = shape.remove(axis);
        shape.insert(0, length);
        let dtype = ty.dtype;
        let stacked = cx.define(&format!("stacked.{k}"), ValueType { dtype, shape });
        let target = std::mem::replace(&mut outputs[i], stacked.clone());
        let perm = attributes([("perm", ints(&perm))]);
        ordered.push(node(
            &target,
            "Transpose",
            &[&stacked],
            &[&target],
            perm,
            scan,
        ));
    }
    let mut inputs = vec![trips, String::new()];
    inputs.extend_from_slice(&scan.inputs[..parts.states]);
    let body = attributes([("body", Attribute::Graph(Box::new(body)))]);
    let mut written = node(&scan.name, "Loop", &[], &[], body, scan);
    (written.inputs, written.outputs) = (inputs, outputs);
    cx.copy(written);
    for transpose in ordered {
        cx.copy(transpose);
    }
    Ok(Ok(()))
}
