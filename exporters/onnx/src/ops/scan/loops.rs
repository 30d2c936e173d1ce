//! Scans as Loops.

use zoo_graph::{Array, Attribute, Dim, Graph, Port, ValueType};

use super::{
    super::{
        OpKind,
        bodies::lower_bodies,
        rewrite::{Attributes, Failure, Rewrite, along, attributes, ints},
    },
    parts::{Parts, error, node},
};

/// `value` with `axis` in front, so that what a step gathers lies in one piece: single values far apart cost more than all arithmetic of a pixel.
fn to_front(cx: &mut Rewrite<'_>, value: &str, axis: usize) -> Result<String, String> {
    let ty = cx.ty(value).ok_or("the type of an input is not recorded")?;
    let mut perm: Vec<usize> = (0..ty.shape.len()).filter(|&d| d != axis).collect();
    perm.insert(0, axis);
    let perm = attributes([("perm", ints(&perm))]);
    cx.emit_with("steps", OpKind::Transpose, &[value], perm)
}

/// Ports that one value can carry, side by side along their last dimension: each is a node of its own in every step otherwise. Those that are `alone` are left so.
fn packs(ports: &[Port], axes: &[usize], alone: &[bool]) -> Vec<Vec<usize>> {
    let mut packs: Vec<Vec<usize>> = Vec::new();
    for (k, port) in ports.iter().enumerate() {
        let fits = |&other: &usize| {
            let rank = port.shape.len();
            let fixed = |port: &Port| port.shape.last().is_some_and(|d| d.fixed().is_some());
            let first = &ports[other];
            // Of rank 1 there is the batch alone.
            rank > 1
                && rank == first.shape.len()
                && port.shape[..rank - 1] == first.shape[..rank - 1]
                && fixed(port)
                && fixed(first)
                && port.dtype == first.dtype
                && axes[k] == axes[other]
                && !alone[k]
                && !alone[other]
        };
        match packs.iter_mut().find(|pack| fits(&pack[0])) {
            Some(pack) => pack.push(k),
            None => packs.push(vec![k]),
        }
    }
    packs
}

fn last_size(port: &Port) -> usize {
    port.shape.last().and_then(Dim::fixed).unwrap_or(0)
}

/// The last dimension of a step's value of `rank`, where the steps lie along `axis`.
fn packed_axis(rank: usize, axis: usize) -> usize {
    if axis == rank { rank - 1 } else { rank }
}

/// States the type of the value that carries a pack; gives its name.
fn declare(body: &mut Graph, name: &str, ports: &[Port], pack: &[usize]) -> String {
    let mut ty = ports[pack[0]].value_type();
    ty.shape.pop();
    let size: usize = pack.iter().map(|&k| last_size(&ports[k])).sum();
    ty.shape.push(size.into());
    body.types.insert(name.into(), ty);
    name.into()
}

/// A `Loop` that computes what the `Scan` does: a step gathers its slices, those alike at once; outputs, which a Loop stacks in front, are
/// packed likewise, then transposed.
pub(super) fn to_loop(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let scan = cx.node;
    let parts = Parts::of(scan, |name| cx.ty(name).cloned())?;
    let Some(steps) = parts.length.fixed() else {
        // A Loop must be told the number of its steps; a Scan sees it.
        return lower_bodies(cx);
    };
    let steps = i64::try_from(steps).map_err(|e| e.to_string())?;
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
        OpKind::Identity,
        &[&more],
        &[&goes_on],
        Attributes::new(),
        scan,
    ));
    let (states, slices) = parts.body.inputs.split_at(parts.states);
    body.inputs.extend_from_slice(states);
    let constant: Vec<bool> = (0..slices.len())
        .map(|k| cx.args.constant(parts.states + k).is_some())
        .collect();
    let groups = packs(slices, &parts.input_axes, &constant);
    for (number, group) in groups.iter().enumerate() {
        let (first, axis) = (group[0], parts.input_axes[group[0]]);
        let sources: Vec<&str> = group
            .iter()
            .map(|&k| scan.inputs[parts.states + k].as_str())
            .collect();
        let rank = slices[first].shape.len();
        let mut source = match sources[..] {
            [source] => source.to_string(),
            _ => cx.emit_with(
                "slices",
                OpKind::Concat,
                &sources,
                along(packed_axis(rank, axis)),
            )?,
        };
        let mut axis = axis;
        if axis != 0 && !constant[first] {
            (source, axis) = (to_front(cx, &source, axis)?, 0);
        }
        // The body's rewrites must know it.
        let ty = cx.ty(&source).cloned();
        body.types.extend(ty.map(|ty| (source.clone(), ty)));
        let names: Vec<&str> = group.iter().map(|&k| slices[k].name.as_str()).collect();
        let slice = match names[..] {
            [name] => name.to_string(),
            _ => declare(&mut body, &format!("{stem}/slices.{number}"), slices, group),
        };
        let inputs = [source.as_str(), &step];
        let gather = node(
            &slice,
            OpKind::Gather,
            &inputs,
            &[&slice],
            along(axis),
            scan,
        );
        body.nodes.push(gather);
        if names.len() > 1 {
            // Lowering the body writes the sizes.
            let split = node(
                &format!("{slice}/split"),
                OpKind::Split,
                &[&slice],
                &names,
                along(rank - 1),
                scan,
            );
            body.nodes.push(split);
        }
    }
    body.nodes.extend_from_slice(&parts.body.nodes);
    let (carried, collected) = parts.body.outputs.split_at(parts.states);
    body.outputs.extend_from_slice(carried);
    let groups = packs(collected, &parts.output_axes, &vec![false; collected.len()]);
    for (number, group) in groups.iter().enumerate() {
        let names: Vec<&str> = group.iter().map(|&k| collected[k].name.as_str()).collect();
        if names.len() == 1 {
            body.outputs.push(collected[group[0]].clone());
            continue;
        }
        let joined = declare(
            &mut body,
            &format!("{stem}/outputs.{number}"),
            collected,
            group,
        );
        let last = along(collected[group[0]].shape.len() - 1);
        body.nodes.push(node(
            &joined,
            OpKind::Concat,
            &names,
            &[&joined],
            last,
            scan,
        ));
        let ty = &body.types[&joined];
        body.outputs
            .push(Port::new(&joined, ty.dtype, ty.shape.clone()));
    }
    let stacked: Vec<ValueType> = body.outputs[1 + parts.states..]
        .iter()
        .map(|port| {
            let mut shape = port.shape.clone();
            shape.insert(0, parts.length.clone());
            ValueType {
                dtype: port.dtype,
                shape,
            }
        })
        .collect();
    let body = cx.body(&body)?;

    let mut outputs = scan.outputs[..parts.states].to_vec();
    let mut after = Vec::new();
    for (group, ty) in groups.iter().zip(stacked) {
        let axis = parts.output_axes[group[0]];
        let targets: Vec<&str> = group
            .iter()
            .map(|&k| scan.outputs[parts.states + k].as_str())
            .collect();
        let rank = ty.shape.len() - 1;
        // Dimension 0 goes to `axis`; those before it move up.
        let mut perm: Vec<usize> = (1..=rank).collect();
        perm.insert(axis, 0);
        let ordered = ValueType {
            dtype: ty.dtype,
            shape: perm.iter().map(|&d| ty.shape[d].clone()).collect(),
        };
        // From the last node back: each gives what the one after it reads.
        let mut given = match targets[..] {
            [target] => target.to_string(),
            _ => {
                let sizes: Vec<i64> = group
                    .iter()
                    .map(|&k| last_size(&collected[k]) as i64)
                    .collect();
                let sizes = cx.list("sizes", &sizes)?;
                let joined = cx.define("outputs", ordered);
                let inputs = [joined.as_str(), &sizes];
                let axis = along(packed_axis(rank, axis));
                after.push(node(
                    &format!("{joined}/split"),
                    OpKind::Split,
                    &inputs,
                    &targets,
                    axis,
                    scan,
                ));
                joined
            }
        };
        if axis != 0 {
            let stacked = cx.define("stacked", ty);
            let perm = attributes([("perm", ints(&perm))]);
            after.push(node(
                &format!("{given}/transpose"),
                OpKind::Transpose,
                &[&stacked],
                &[&given],
                perm,
                scan,
            ));
            given = stacked;
        }
        outputs.push(given);
    }
    // Without states the condition is the last input, and an input that is left out cannot be the last.
    let condition = match parts.states {
        0 => cx.add("condition", Array::bool([], [1]).map_err(error)?),
        _ => String::new(),
    };
    let mut inputs = vec![trips, condition];
    inputs.extend_from_slice(&scan.inputs[..parts.states]);
    let body = attributes([("body", Attribute::Graph(Box::new(body)))]);
    let mut written = node(&scan.name, OpKind::Loop, &[], &[], body, scan);
    (written.inputs, written.outputs) = (inputs, outputs);
    cx.copy(written);
    for node in after.into_iter().rev() {
        cx.copy(node);
    }
    Ok(())
}
