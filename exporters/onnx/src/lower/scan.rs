//! Scans in the form that a target has: Loops, or one flat Scan.

use zoo_graph::{Array, Attribute, Dim, Graph, Initializer, Node, Port, ValueType};

use super::context::{Attributes, Cx, attributes, ints};
use crate::{optimize::redirect, scope::Scope, shape};

/// A `Scan` taken apart.
pub(crate) struct Parts<'a> {
    pub body: &'a Graph,
    /// Number of states.
    pub states: usize,
    /// Number of steps.
    pub steps: usize,
    /// The axis along which each scanned input is cut.
    pub input_axes: Vec<usize>,
    /// The axis along which each output is stacked.
    pub output_axes: Vec<usize>,
}

impl<'a> Parts<'a> {
    /// `ty` tells the types of the node's inputs.
    pub fn of(node: &'a Node, ty: impl Fn(&str) -> Option<ValueType>) -> Result<Self, String> {
        let body = node.bodies().next().ok_or("it has no body")?;
        let forward = |name: &str| node.ints(name).is_none_or(|d| d.iter().all(|&d| d == 0));
        if !forward("scan_input_directions") || !forward("scan_output_directions") {
            return Err("scans that run backwards are not written".into());
        }
        let scanned = node.int("num_scan_inputs").unwrap_or(0);
        let scanned = usize::try_from(scanned).map_err(|_| "num_scan_inputs is negative")?;
        let states = node.inputs.len().checked_sub(scanned);
        let states = states.ok_or("num_scan_inputs is too large")?;
        let axes = |name: &str, ranks: Vec<usize>| -> Result<Vec<usize>, String> {
            let listed = node.ints(name).map(<[i64]>::to_vec);
            let listed = listed.unwrap_or_else(|| vec![0; ranks.len()]);
            let pairs = listed.into_iter().zip(ranks);
            pairs.map(|(axis, rank)| shape::axis(axis, rank)).collect()
        };
        let types: Option<Vec<ValueType>> = node.inputs[states..].iter().map(|i| ty(i)).collect();
        let types = types.ok_or("the type of an input is not recorded")?;
        let input_axes = axes(
            "scan_input_axes",
            types.iter().map(|t| t.shape.len()).collect(),
        )?;
        let outputs = body.outputs.iter().skip(states);
        let output_axes = axes(
            "scan_output_axes",
            outputs.map(|port| port.shape.len() + 1).collect(),
        )?;
        let length = types.first().map(|t| &t.shape[input_axes[0]]);
        let steps = length
            .and_then(Dim::fixed)
            .ok_or("the number of its steps must be fixed")?;
        Ok(Self {
            body,
            states,
            steps,
            input_axes,
            output_axes,
        })
    }
}

fn error(e: zoo_graph::Error) -> String {
    e.to_string()
}

/// Gather along `axis`.
fn along(axis: usize) -> Attributes {
    attributes([("axis", Attribute::Int(axis as i64))])
}

fn node(
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Attributes,
    of: &Node,
) -> Node {
    Node {
        name: name.into(),
        op: op.into(),
        inputs: inputs.iter().map(|i| i.to_string()).collect(),
        outputs: outputs.iter().map(|o| o.to_string()).collect(),
        attributes,
        origin: of.origin.clone(),
    }
}

fn fixed(dtype: zoo_graph::DType, shape: &[usize]) -> ValueType {
    let shape = shape.iter().map(|&d| d.into()).collect();
    ValueType { dtype, shape }
}

/// A `Loop` that computes what the `Scan` does: a step gathers its slices; outputs, which a Loop stacks in front, are transposed.
/// `finish` lowers the body.
pub(super) fn to_loop(
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
    for ((slice, input), &axis) in slices
        .iter()
        .zip(&scan.inputs[parts.states..])
        .zip(&parts.input_axes)
    {
        let name = &slice.name;
        body.nodes.push(node(
            name,
            "Gather",
            &[input, &step],
            &[name],
            along(axis),
            scan,
        ));
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

/// The scan within a scan's body, if there is exactly one and nothing deeper.
fn inner(body: &Graph) -> Result<Option<(usize, &Node)>, String> {
    let mut loops = body
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| n.bodies().next().is_some());
    let Some(first) = loops.next() else {
        return Ok(None);
    };
    let deeper = |body: &Graph| body.nodes.iter().any(|n| n.bodies().next().is_some());
    match loops.next() {
        None if first.1.op == "Scan" && !first.1.bodies().any(deeper) => Ok(Some(first)),
        _ => Err("rows with loops of their own do not become one flat scan".into()),
    }
}

/// Scans over rows whose bodies scan pixels, as one scan over all pixels: tract runs no scan within a scan.
///
/// A row's part is computed at each of its pixels, from states that change after the row's last pixel only.
pub(super) fn flatten(
    cx: &mut Cx<'_>,
    scope: &Scope<'_>,
    finish: impl FnOnce(Graph) -> crate::Result<Graph>,
) -> Result<crate::Result<()>, String> {
    let rows = cx.node;
    let outer = Parts::of(rows, |name| cx.ty(name).cloned())?;
    let Some((at, pixels)) = inner(outer.body)? else {
        let mut body = outer.body.clone();
        separate(&mut body, outer.states);
        let written = match finish(body) {
            Ok(body) => body,
            Err(error) => return Ok(Err(error)),
        };
        let mut node = rows.clone();
        node.attributes
            .insert("body".into(), Attribute::Graph(Box::new(written)));
        cx.copy(node);
        return Ok(Ok(()));
    };
    let within = Scope::new(outer.body, Some(scope));
    let line = Parts::of(pixels, |name| within.ty(name).cloned())?;
    let (height, width) = (outer.steps, line.steps);
    let steps = height * width;
    let stem = rows.outputs[0].clone();

    let mut flat = Graph {
        name: outer.body.name.clone(),
        initializers: [&outer.body.initializers[..], &line.body.initializers].concat(),
        types: outer.body.types.clone(),
        ..Graph::default()
    };
    flat.types
        .extend(line.body.types.iter().map(|(k, v)| (k.clone(), v.clone())));
    let mut build = Flat {
        stem: stem.clone(),
        graph: flat,
        of: rows,
    };

    // What tells a step its place: its column. It is computed from an input, as tract fails on scans over constants.
    let columns = (0..steps).map(|t| (t % width) as f32);
    let columns = Array::f32([steps], columns.collect::<Vec<_>>()).map_err(error)?;
    let columns = cx.add("columns", columns);
    let zero = batched(cx, rows).ok_or("nothing that it reads has the batch")?;
    let none = Attributes::new;
    let axes: Vec<usize> = (0..cx.ty(&zero).map_or(0, |t| t.shape.len())).collect();
    let over = attributes([("axes", ints(&axes)), ("keepdims", Attribute::Int(0))]);
    let zero = cx.emit("one", "ReduceMean", &[&zero], over)?;
    let nothing = cx.scalar("zero", 0.0, &zero)?;
    let zero = cx.emit("empty", "Mul", &[&zero, &nothing], none())?;
    let columns = cx.emit("places", "Add", &[&columns, &zero], none())?;
    let mut scanned = vec![(columns, 0)];
    let place = build.define("place", fixed(zoo_graph::DType::F32, &[]));
    let mut slices = vec![place.clone()];
    let (low, high) = (build.number(0.5)?, build.number(width as f32 - 1.5)?);
    let flag = fixed(zoo_graph::DType::Bool, &[]);
    let (first, last) = (
        &build.define("is_first", flag.clone()),
        &build.define("is_last", flag),
    );
    let column = &build.define("column", fixed(zoo_graph::DType::I64, &[]));
    build.push("Less", &[&place, &low], first, none());
    build.push("Greater", &[&place, &high], last, none());
    let to = crate::tensor::dtype_code(zoo_graph::DType::I64);
    let to = attributes([("to", Attribute::Int(to.into()))]);
    build.push("Cast", &[&place], column, to);

    // Inputs of rows that only the pixels read are cut into pixels at once, others are repeated for each pixel of their row.
    let (row_states, row_slices) = outer.body.inputs.split_at(outer.states);
    let mut direct = vec![None; line.input_axes.len()];
    for (j, port) in row_slices.iter().enumerate() {
        let (source, axis) = (&rows.inputs[outer.states + j], outer.input_axes[j]);
        let reads = reads_of(outer.body, &port.name);
        let cut = (0..line.input_axes.len())
            .find(|&k| pixels.inputs[line.states + k] == port.name && line.input_axes[k] == axis);
        match cut {
            Some(k) if reads == 1 => {
                let shape = cx.ty(source).ok_or("an input has no type")?.shape.clone();
                let mut sizes: Vec<i64> = vec![0; axis];
                sizes.push(steps as i64);
                for dim in &shape[axis + 2..] {
                    sizes.push(dim.fixed().ok_or("only the batch may be symbolic")? as i64);
                }
                let sizes = cx.list("pixels_shape", &sizes)?;
                let line = cx.emit("pixels", "Reshape", &[source, &sizes], Attributes::new())?;
                scanned.push((line, axis));
                direct[k] = Some(());
            }
            _ => {
                let row: Vec<i64> = (0..steps).map(|t| (t / width) as i64).collect();
                let row = cx.list("rows", &row)?;
                let repeated = cx.emit("repeated", "Gather", &[source, &row], along(axis))?;
                scanned.push((repeated, axis));
                slices.push(port.name.clone());
                continue;
            }
        }
        let k = cut.ok_or("an input is read by nothing")?;
        slices.push(line.body.inputs[line.states + k].name.clone());
    }

    // The part of a row, then the pixel's states and slices.
    let (before, after) = around(outer.body, at);
    build.graph.nodes.extend(before);
    let pixel_states = &line.body.inputs[..line.states];
    let mut previous = Vec::new();
    for (port, start) in pixel_states.iter().zip(&pixels.inputs) {
        let name = build.define(&format!("{}/before", port.name), port.value_type());
        build.push(
            "Where",
            &[first, start, &name],
            &port.name,
            Attributes::new(),
        );
        previous.push((name, port.value_type()));
    }
    for (k, &axis) in line.input_axes.iter().enumerate() {
        if direct[k].is_none() {
            let (source, slice) = (
                &pixels.inputs[line.states + k],
                &line.body.inputs[line.states + k].name,
            );
            build.push("Gather", &[source, column], slice, along(axis));
        }
    }
    build.graph.nodes.extend_from_slice(&line.body.nodes);

    // The row so far: outputs move in from the end.
    let (next, given) = line.body.outputs.split_at(line.states);
    let mut rows_so_far = Vec::new();
    for (k, (port, &axis)) in given.iter().zip(&line.output_axes).enumerate() {
        let row = &pixels.outputs[line.states + k];
        let ty = outer
            .body
            .types
            .get(row)
            .ok_or("an output has no type")?
            .clone();
        let name = build.define(&format!("{row}/before"), ty.clone());
        let mut parts = Vec::new();
        if width > 1 {
            let (from, to) = (build.list(1)?, build.list(width as i64)?);
            let axes = build.list(axis as i64)?;
            let mut shape = ty.shape.clone();
            shape[axis] = (width - 1).into();
            let dtype = ty.dtype;
            let kept = build.define(&format!("{row}/kept"), ValueType { dtype, shape });
            build.push(
                "Slice",
                &[&name, &from, &to, &axes],
                &kept,
                Attributes::new(),
            );
            parts.push(kept);
        }
        let mut shape = ty.shape.clone();
        shape[axis] = 1.into();
        let dtype = ty.dtype;
        let new = build.define(&format!("{row}/new"), ValueType { dtype, shape });
        let axes = build.list(axis as i64)?;
        build.push("Unsqueeze", &[&port.name, &axes], &new, Attributes::new());
        parts.push(new);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        build.push("Concat", &parts, row, along(axis));
        rows_so_far.push((name, row.clone(), ty));
    }
    let mut after = after;
    for (port, name) in next.iter().zip(&pixels.outputs) {
        redirect(&mut after, name, &port.name);
    }
    build.graph.nodes.extend(after);

    // States of rows change after the last pixel.
    let mut outputs = Vec::new();
    let mut inputs: Vec<(String, ValueType)> = Vec::new();
    let mut starts: Vec<String> = rows.inputs[..outer.states].to_vec();
    for (port, new) in row_states.iter().zip(&outer.body.outputs) {
        let name = build.define(&format!("{}/after", port.name), port.value_type());
        let new = aliased(outer.body, &new.name);
        let new = resolve(new, pixels, next);
        build.push("Where", &[last, &new, &port.name], &name, Attributes::new());
        inputs.push((port.name.clone(), port.value_type()));
        outputs.push(name);
    }
    for ((name, ty), port) in previous.into_iter().zip(next) {
        starts.push(zeros(cx, rows, &ty)?);
        inputs.push((name, ty));
        outputs.push(port.name.clone());
    }
    for (name, row, ty) in rows_so_far {
        starts.push(zeros(cx, rows, &ty)?);
        inputs.push((name, ty));
        outputs.push(row);
    }
    let states = inputs.len();

    // A row's output is what its pixels gave, pixel by pixel.
    let mut axes = Vec::new();
    let mut pending = Vec::new();
    for (k, &axis) in outer.output_axes.iter().enumerate() {
        let row = aliased(outer.body, &outer.body.outputs[outer.states + k].name);
        let m = pixels.outputs[line.states..].iter().position(|o| o == row);
        let Some(m) = m.filter(|&m| line.output_axes[m] == axis) else {
            return Err("a row's output is more than what its pixels gave".into());
        };
        outputs.push(given[m].name.clone());
        axes.push(axis);
        pending.push((rows.outputs[outer.states + k].clone(), axis));
    }
    let Flat { mut graph, .. } = build;
    for (name, ty) in &inputs {
        graph
            .inputs
            .push(Port::new(name, ty.dtype, ty.shape.clone()));
    }
    for name in &slices {
        let ty = &graph.types[name];
        graph
            .inputs
            .push(Port::new(name, ty.dtype, ty.shape.clone()));
    }
    for name in &outputs {
        let ty = graph.types.get(name).or_else(|| scope.ty(name));
        let ty = ty.ok_or_else(|| format!("the type of {name:?} is not recorded"))?;
        graph
            .outputs
            .push(Port::new(name, ty.dtype, ty.shape.clone()));
    }
    keep_defined(&mut graph);
    separate(&mut graph, states);
    let graph = match finish(graph) {
        Ok(graph) => graph,
        Err(error) => return Ok(Err(error)),
    };

    let mut results = Vec::new();
    for (i, (_, ty)) in inputs.iter().enumerate() {
        results.push(match rows.outputs.get(i).filter(|_| i < outer.states) {
            Some(output) => output.clone(),
            None => cx.define(&format!("end.{i}"), ty.clone()),
        });
    }
    let mut shaped = Vec::new();
    for (target, axis) in pending {
        let ty = cx.ty(&target).ok_or("an output has no type")?.clone();
        let sizes: Vec<i64> = ty
            .shape
            .iter()
            .map(|d| d.fixed().map_or(-1, |s| s as i64))
            .collect();
        let mut shape = ty.shape.clone();
        shape.remove(axis);
        shape[axis] = steps.into();
        let dtype = ty.dtype;
        let line = cx.define("drawn", ValueType { dtype, shape });
        let sizes = cx.list("drawn_shape", &sizes)?;
        let none = Attributes::new();
        shaped.push(node(
            &target,
            "Reshape",
            &[&line, &sizes],
            &[&target],
            none,
            rows,
        ));
        results.push(line);
    }
    let input_axes: Vec<usize> = scanned.iter().map(|(_, axis)| *axis).collect();
    let mut all = attributes([
        ("body", Attribute::Graph(Box::new(graph))),
        ("num_scan_inputs", Attribute::Int(scanned.len() as i64)),
        ("scan_input_axes", ints(&input_axes)),
    ]);
    if !axes.is_empty() {
        all.insert("scan_output_axes".into(), ints(&axes));
    }
    let mut written = node(&rows.name, "Scan", &[], &[], all, rows);
    written.inputs = starts;
    written
        .inputs
        .extend(scanned.into_iter().map(|(name, _)| name));
    debug_assert_eq!(written.inputs.len(), states + slices.len());
    written.outputs = results;
    cx.copy(written);
    for reshape in shaped {
        cx.copy(reshape);
    }
    Ok(Ok(()))
}

/// Gives each collected output of a body a name that nothing reads: tract adds the dimension of the steps for every reader. And it
/// calls the bias of a node `conv` in a body `conv.bias`, which is what a weight from outside may be called: nodes get names of their own.
fn separate(body: &mut Graph, states: usize) {
    for node in &mut body.nodes {
        node.name.push_str("/step");
    }
    for i in states..body.outputs.len() {
        let port = body.outputs[i].clone();
        if reads_of(body, &port.name) == 1 {
            continue;
        }
        let copy = format!("{}/given.{i}", port.name);
        body.types.insert(copy.clone(), port.value_type());
        body.nodes.push(Node {
            name: copy.clone(),
            op: "Identity".into(),
            inputs: vec![port.name],
            outputs: vec![copy.clone()],
            ..Node::default()
        });
        body.outputs[i].name = copy;
    }
}

/// The body of the flat scan as it grows.
struct Flat<'a> {
    stem: String,
    graph: Graph,
    of: &'a Node,
}

impl Flat<'_> {
    /// A new value.
    fn define(&mut self, name: &str, ty: ValueType) -> String {
        let name = match name.contains('/') {
            true => name.to_string(),
            false => format!("{}/{name}", self.stem),
        };
        self.graph.types.insert(name.clone(), ty);
        name
    }

    /// A list of one integer.
    fn list(&mut self, value: i64) -> Result<String, String> {
        let array = Array::i64([1], [value]).map_err(error)?;
        Ok(self.constant(format!("list.{value}"), array))
    }

    /// A number.
    fn number(&mut self, value: f32) -> Result<String, String> {
        let array = Array::f32([], [value]).map_err(error)?;
        Ok(self.constant(format!("number.{value}"), array))
    }

    fn constant(&mut self, name: String, value: Array) -> String {
        let name = format!("{}/{name}", self.stem);
        if self.graph.initializer(&name).is_none() {
            let ty = fixed(value.dtype(), value.shape());
            self.graph.types.insert(name.clone(), ty);
            let name = name.clone();
            self.graph.initializers.push(Initializer { name, value });
        }
        name
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Attributes) {
        let written = node(output, op, inputs, &[output], attributes, self.of);
        self.graph.nodes.push(written);
    }
}

/// How often a body reads a value, deeper bodies included.
fn reads_of(body: &Graph, name: &str) -> usize {
    let own = body.nodes.iter().flat_map(|n| &n.inputs);
    let given = body.outputs.iter().map(|port| &port.name);
    let deeper = body.nodes.iter().flat_map(Node::bodies);
    own.chain(given).filter(|read| *read == name).count()
        + deeper.map(|body| reads_of(body, name)).sum::<usize>()
}

/// The nodes of a body that do not need the scan at `at`, and those that do.
fn around(body: &Graph, at: usize) -> (Vec<Node>, Vec<Node>) {
    let mut late: Vec<&String> = body.nodes[at].outputs.iter().collect();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (i, node) in body.nodes.iter().enumerate() {
        if i == at {
            continue;
        }
        if node.inputs.iter().any(|input| late.contains(&input)) {
            late.extend(&node.outputs);
            after.push(node.clone());
        } else {
            before.push(node.clone());
        }
    }
    (before, after)
}

/// The value that a chain of identities carries.
fn aliased<'a>(body: &'a Graph, name: &'a str) -> &'a str {
    let source = body
        .nodes
        .iter()
        .find(|n| n.op == "Identity" && n.outputs[0] == name);
    source.map_or(name, |node| aliased(body, &node.inputs[0]))
}

/// A scan's last states are called in its body as the body calls them.
fn resolve(name: &str, scan: &Node, next: &[Port]) -> String {
    let state = scan.outputs.iter().take(next.len()).position(|o| o == name);
    state.map_or(name, |i| &next[i].name).into()
}

/// Drops the types of values that are nothing's.
fn keep_defined(graph: &mut Graph) {
    let mut defined: std::collections::BTreeSet<String> = graph
        .nodes
        .iter()
        .flat_map(|n| n.outputs.iter().cloned())
        .collect();
    defined.extend(graph.inputs.iter().map(|p| p.name.clone()));
    defined.extend(graph.initializers.iter().map(|i| i.name.clone()));
    graph.types.retain(|name, _| defined.contains(name));
}

/// A value of the batch that the scan reads.
fn batched(cx: &Cx<'_>, scan: &Node) -> Option<String> {
    let has_batch = |name: &&String| {
        let ty = cx.ty(name);
        ty.is_some_and(|t| {
            t.dtype == zoo_graph::DType::F32 && t.shape.first() == Some(&Dim::batch())
        })
    };
    scan.inputs.iter().find(has_batch).cloned()
}

/// Zeros of a type, with the batch of what the scan reads.
fn zeros(cx: &mut Cx<'_>, scan: &Node, ty: &ValueType) -> Result<String, String> {
    if ty.dtype != zoo_graph::DType::F32 {
        return Err(format!("states of pixels must be f32, one is {ty}"));
    }
    let batch = Dim::batch();
    if ty.shape.first() != Some(&batch) {
        let shape = cx.fixed(&ty.shape)?;
        let count = shape.iter().product();
        return Ok(cx.add("zeros", Array::f32(shape, vec![0.0; count]).map_err(error)?));
    }
    let sizes = cx.fixed(&ty.shape[1..])?;
    let like = &batched(cx, scan).ok_or("nothing that it reads has the batch")?;
    let rank = cx.ty(like).map_or(1, |t| t.shape.len()) as i64;
    let none = Attributes::new;
    let mut one = like.clone();
    if rank > 1 {
        let axes: Vec<i64> = (1..rank).collect();
        let from = cx.list("from", &vec![0; axes.len()])?;
        let to = cx.list("to", &vec![1; axes.len()])?;
        let axes = cx.list("axes", &axes)?;
        one = cx.emit("one", "Slice", &[&one, &from, &to, &axes], none())?;
    }
    let mut shape = vec![1; ty.shape.len()];
    shape[0] = -1;
    let shape = cx.list("one_shape", &shape)?;
    let one = cx.emit("ones", "Reshape", &[&one, &shape], none())?;
    let zero = cx.scalar("zero", 0.0, &one)?;
    let zero = cx.emit("empty", "Mul", &[&one, &zero], none())?;
    let mut shape = vec![1];
    shape.extend(sizes.iter().map(|&s| s as i64));
    let shape = cx.list("zeros_shape", &shape)?;
    cx.emit("zeros", "Expand", &[&zero, &shape], none())
}
