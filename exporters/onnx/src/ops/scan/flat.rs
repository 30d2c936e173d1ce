//! Scans of scans as one.

use std::collections::BTreeSet;

use zoo_graph::{Array, Attribute, DType, Dim, Graph, Initializer, Node, Port, ValueType};

use super::{
    super::{
        OpKind,
        args::{Scope, Values},
        cast, is,
        rewrite::{Attributes, Failure, Rewrite, along, attributes, ints},
    },
    opaque::{self, Never},
    parts::{Parts, error, fixed, node},
};
use crate::edit::redirect;

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
        None if is(first.1, OpKind::Scan) && !first.1.bodies().any(deeper) => Ok(Some(first)),
        _ => Err("rows with loops of their own do not become one flat scan".into()),
    }
}

/// Scans over rows whose bodies scan pixels, as one scan over all pixels: tract runs no scan within a scan.
///
/// A row's part is computed at each of its pixels, from states that change after the row's last pixel only.
pub(super) fn flatten(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let rows = cx.node;
    let outer = Parts::of(rows, |name| cx.ty(name).cloned())?;
    let mut never = Never::new();
    let inputs = opaque::lists(cx, outer.states, &mut never)?;
    let Some((at, pixels)) = inner(outer.body)? else {
        let mut body = outer.body.clone();
        separate(&mut body, outer.states);
        opaque::slices(cx, &mut body, outer.states, &mut never)?;
        let body = Attribute::Graph(Box::new(cx.body(&body)?));
        let mut node = rows.clone();
        node.attributes.insert("body".into(), body);
        node.inputs = inputs;
        cx.copy(node);
        return Ok(());
    };
    let within = Scope::new(outer.body, Some(cx.scope));
    let line = Parts::of(pixels, |name| within.ty(name).cloned())?;
    if line.steps()? < 2 {
        // tract 0.23 fails to prepare such a scan: its inputs and those of its body no longer agree in number.
        return Err("rows of one pixel do not become one flat scan".into());
    }
    let mut flat = Flat::new(cx, inputs, outer, pixels, line);
    let place = flat.place(&mut never)?;
    let cut = flat.slices()?;
    let (before, after) = around(flat.outer.body, at);
    flat.graph.nodes.extend(before);
    flat.pixel(&place, &cut)?;
    flat.row_so_far()?;
    flat.end_of_row(after, &place)?;
    flat.drawn()?;
    let mut body = flat.body()?;
    opaque::slices(flat.cx, &mut body, flat.states.len(), &mut never)?;
    let body = flat.cx.body(&body)?;
    Ok(flat.write(body)?)
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
            op: OpKind::Identity.name().into(),
            inputs: vec![port.name],
            outputs: vec![copy.clone()],
            ..Node::default()
        });
        body.outputs[i].name = copy;
    }
}

/// Where a step stands in its row, as values of the body.
struct Place {
    /// Whether the pixel is its row's first; a bool.
    first: String,
    /// Whether it is the row's last; a bool.
    last: String,
    /// Its column; an i64.
    column: String,
}

/// What the flat scan carries from pixel to pixel.
struct State {
    /// The value outside that it starts from.
    start: String,
    /// Its name in the body.
    name: String,
    ty: ValueType,
    /// The value in the body that the next pixel gets.
    next: String,
}

/// The flat scan as it grows: its body, and what the body is given and gives.
struct Flat<'a, 'c> {
    cx: &'a mut Rewrite<'c>,
    /// What the scan over rows reads.
    inputs: Vec<String>,
    outer: Parts<'c>,
    pixels: &'c Node,
    line: Parts<'c>,
    graph: Graph,
    states: Vec<State>,
    /// Values outside that are cut into steps, along which axis, and the slice's name in the body.
    scanned: Vec<(String, usize, String)>,
    /// Values in the body that are collected, along which axis, and the output outside that they become.
    collected: Vec<(String, usize, String)>,
}

impl<'a, 'c> Flat<'a, 'c> {
    fn new(
        cx: &'a mut Rewrite<'c>,
        inputs: Vec<String>,
        outer: Parts<'c>,
        pixels: &'c Node,
        line: Parts<'c>,
    ) -> Self {
        let mut types = outer.body.types.clone();
        types.extend(line.body.types.clone());
        let graph = Graph {
            name: outer.body.name.clone(),
            initializers: [&outer.body.initializers[..], &line.body.initializers].concat(),
            types,
            ..Graph::default()
        };
        Self {
            cx,
            inputs,
            outer,
            pixels,
            line,
            graph,
            states: Vec::new(),
            scanned: Vec::new(),
            collected: Vec::new(),
        }
    }

    /// Number of pixels, of all rows.
    fn steps(&self) -> Result<usize, String> {
        Ok(self.outer.steps()? * self.line.steps()?)
    }

    /// Tells each step its place, by a scanned list of columns.
    fn place(&mut self, never: &mut Never) -> Result<Place, String> {
        let (steps, width) = (self.steps()?, self.line.steps()?);
        let cx = &mut *self.cx;
        let columns = (0..steps).map(|t| (t % width) as f32);
        let columns = Array::f32([steps], columns.collect::<Vec<_>>()).map_err(error)?;
        let columns = cx.add("columns", columns);
        let never = never.name(cx)?.ok_or("nothing that it reads is computed")?;
        let columns = cx.emit("places", OpKind::Where, &[&never, &columns, &columns])?;

        let here = self.define("place", fixed(DType::F32, &[]));
        self.scanned.push((columns, 0, here.clone()));
        let (low, high) = (self.number(0.5)?, self.number(width as f32 - 1.5)?);
        let place = Place {
            first: self.define("is_first", fixed(DType::Bool, &[])),
            last: self.define("is_last", fixed(DType::Bool, &[])),
            column: self.define("column", fixed(DType::I64, &[])),
        };
        self.push(
            OpKind::Less,
            &[&here, &low],
            &place.first,
            Attributes::new(),
        );
        self.push(
            OpKind::Greater,
            &[&here, &high],
            &place.last,
            Attributes::new(),
        );
        let to = cast::to(DType::I64);
        self.push(OpKind::Cast, &[&here], &place.column, to);
        Ok(place)
    }

    /// Cuts what the rows are given: inputs that only the pixels read into pixels at once; others are repeated for each pixel of
    /// their row. Returns which of the pixels' slices were cut.
    fn slices(&mut self) -> Result<Vec<bool>, String> {
        let (steps, width) = (self.steps()?, self.line.steps()?);
        let mut cut = vec![false; self.line.input_axes.len()];
        for (j, port) in self.outer.body.inputs[self.outer.states..]
            .iter()
            .enumerate()
        {
            let (source, axis) = (
                self.inputs[self.outer.states + j].as_str(),
                self.outer.input_axes[j],
            );
            let read = self.pixels.inputs[self.line.states..].iter();
            let mut slices = read.zip(&self.line.input_axes);
            let slice = slices.position(|(name, &along)| *name == port.name && along == axis);
            let only = reads_of(self.outer.body, &port.name) == 1;
            if let Some(k) = slice.filter(|_| only) {
                let ty = self.cx.ty(source).ok_or("an input has no type")?;
                let mut sizes: Vec<i64> = vec![0; axis];
                sizes.push(steps as i64);
                for dim in &ty.shape[axis + 2..] {
                    sizes.push(dim.fixed().ok_or("only the batch may be symbolic")? as i64);
                }
                let sizes = self.cx.list("pixels_shape", &sizes)?;
                let line = self.cx.emit("pixels", OpKind::Reshape, &[source, &sizes])?;
                let name = self.line.body.inputs[self.line.states + k].name.clone();
                self.scanned.push((line, axis, name));
                cut[k] = true;
            } else {
                let row: Vec<i64> = (0..steps).map(|t| (t / width) as i64).collect();
                let row = self.cx.list("rows", &row)?;
                let repeated =
                    self.cx
                        .emit_with("repeated", OpKind::Gather, &[source, &row], along(axis))?;
                self.scanned.push((repeated, axis, port.name.clone()));
            }
        }
        Ok(cut)
    }

    /// What a pixel computes: its states, which a row's first pixel gets anew, its slices, and its body.
    fn pixel(&mut self, place: &Place, cut: &[bool]) -> Result<(), String> {
        let body = self.line.body;
        let (states, slices) = body.inputs.split_at(self.line.states);
        let (starts, sources) = self.pixels.inputs.split_at(self.line.states);
        for ((port, start), next) in states.iter().zip(starts).zip(&body.outputs) {
            let name = self.define(&format!("{}/before", port.name), port.value_type());
            let inputs = [&place.first, start, &name];
            self.push(OpKind::Where, &inputs, &port.name, Attributes::new());
            self.carry(name, port.value_type(), next.name.clone())?;
        }
        for (k, (port, source)) in slices.iter().zip(sources).enumerate() {
            if !cut[k] {
                let axis = along(self.line.input_axes[k]);
                self.push(OpKind::Gather, &[source, &place.column], &port.name, axis);
            }
        }
        self.graph.nodes.extend_from_slice(&body.nodes);
        Ok(())
    }

    /// The row so far, of each of the pixels' outputs: a state into which pixels move from the end.
    fn row_so_far(&mut self) -> Result<(), String> {
        let given = &self.line.body.outputs[self.line.states..];
        for (k, port) in given.iter().enumerate() {
            let axis = self.line.output_axes[k];
            let row = &self.pixels.outputs[self.line.states + k];
            let ty = self.outer.body.types.get(row);
            let ty = ty.ok_or("an output has no type")?.clone();
            let name = self.define(&format!("{row}/before"), ty.clone());
            let axes = self.list(axis as i64)?;
            let long = |length: usize| {
                let mut ty = ty.clone();
                ty.shape[axis] = length.into();
                ty
            };
            let mut parts = Vec::new();
            let width = self.line.steps()?;
            if width > 1 {
                let (from, to) = (self.list(1)?, self.list(width as i64)?);
                let kept = self.define(&format!("{row}/kept"), long(width - 1));
                let inputs = [&name, &from, &to, &axes];
                self.push(OpKind::Slice, &inputs, &kept, Attributes::new());
                parts.push(kept);
            }
            let new = self.define(&format!("{row}/new"), long(1));
            self.push(
                OpKind::Unsqueeze,
                &[&port.name, &axes],
                &new,
                Attributes::new(),
            );
            parts.push(new);
            self.push(
                OpKind::Concat,
                &parts.iter().collect::<Vec<_>>(),
                row,
                along(axis),
            );
            self.carry(name, ty, row.clone())?;
        }
        Ok(())
    }

    /// What a row computes `after` its pixels, and its states, which change after the last of them.
    fn end_of_row(&mut self, mut after: Vec<Node>, place: &Place) -> Result<(), String> {
        let next = &self.line.body.outputs[..self.line.states];
        for (port, name) in next.iter().zip(&self.pixels.outputs) {
            redirect(&mut after, name, &port.name);
        }
        self.graph.nodes.extend(after);
        let body = self.outer.body;
        let mut states = Vec::new();
        for (i, port) in body.inputs[..self.outer.states].iter().enumerate() {
            let name = self.define(&format!("{}/after", port.name), port.value_type());
            let new = resolve(aliased(body, &body.outputs[i].name), self.pixels, next);
            let inputs = [&place.last, &new, &port.name];
            self.push(OpKind::Where, &inputs, &name, Attributes::new());
            states.push(State {
                start: self.cx.node.inputs[i].clone(),
                name: port.name.clone(),
                ty: port.value_type(),
                next: name,
            });
        }
        // The rows' states come first, as in the scan that this one replaces.
        self.states.splice(0..0, states);
        Ok(())
    }

    /// What is collected: a row's output is what its pixels gave, pixel by pixel.
    fn drawn(&mut self) -> Result<(), String> {
        let rows = self.cx.node;
        let given = &self.line.body.outputs[self.line.states..];
        for (k, &axis) in self.outer.output_axes.iter().enumerate() {
            let i = self.outer.states + k;
            let row = aliased(self.outer.body, &self.outer.body.outputs[i].name);
            let mut pixels = self.pixels.outputs[self.line.states..].iter();
            let m = pixels.position(|output| output == row);
            let Some(m) = m.filter(|&m| self.line.output_axes[m] == axis) else {
                return Err("a row's output is more than what its pixels gave".into());
            };
            let output = rows.outputs[i].clone();
            self.collected.push((given[m].name.clone(), axis, output));
        }
        Ok(())
    }

    /// The body, with its ports.
    fn body(&mut self) -> Result<Graph, String> {
        let mut graph = std::mem::take(&mut self.graph);
        for State { name, ty, .. } in &self.states {
            let port = Port::new(name, ty.dtype, ty.shape.clone());
            graph.inputs.push(port);
        }
        for (_, _, name) in &self.scanned {
            let ty = &graph.types[name];
            let port = Port::new(name, ty.dtype, ty.shape.clone());
            graph.inputs.push(port);
        }
        let next = self.states.iter().map(|state| &state.next);
        for name in next.chain(self.collected.iter().map(|(name, ..)| name)) {
            let ty = graph.types.get(name).or_else(|| self.cx.scope.ty(name));
            let ty = ty.ok_or_else(|| format!("the type of {name:?} is not recorded"))?;
            let port = Port::new(name, ty.dtype, ty.shape.clone());
            graph.outputs.push(port);
        }
        keep_defined(&mut graph);
        separate(&mut graph, self.states.len());
        Ok(graph)
    }

    /// Writes the scan, and the reshapes that cut its outputs into rows.
    fn write(self, body: Graph) -> Result<(), String> {
        let (rows, steps) = (self.cx.node, self.steps()?);
        let cx = self.cx;
        let mut outputs = Vec::new();
        for (i, state) in self.states.iter().enumerate() {
            outputs.push(
                match rows.outputs.get(i).filter(|_| i < self.outer.states) {
                    Some(output) => output.clone(),
                    None => cx.define(&format!("end.{i}"), state.ty.clone()),
                },
            );
        }
        let mut reshapes = Vec::new();
        for (_, axis, target) in &self.collected {
            let ty = cx.ty(target).ok_or("an output has no type")?.clone();
            let sizes = ty.shape.iter().map(|d| d.fixed().map_or(-1, |s| s as i64));
            let sizes: Vec<i64> = sizes.collect();
            let mut shape = ty.shape;
            shape.remove(*axis);
            shape[*axis] = steps.into();
            let dtype = ty.dtype;
            let line = cx.define("drawn", ValueType { dtype, shape });
            let sizes = cx.list("drawn_shape", &sizes)?;
            let inputs = [line.as_str(), &sizes];
            let none = Attributes::new();
            let name = format!("{target}/reshape");
            reshapes.push(node(&name, OpKind::Reshape, &inputs, &[target], none, rows));
            outputs.push(line);
        }
        let input_axes: Vec<usize> = self.scanned.iter().map(|(_, axis, _)| *axis).collect();
        let output_axes: Vec<usize> = self.collected.iter().map(|(_, axis, _)| *axis).collect();
        let mut all = attributes([
            ("body", Attribute::Graph(Box::new(body))),
            ("num_scan_inputs", Attribute::Int(input_axes.len() as i64)),
            ("scan_input_axes", ints(&input_axes)),
        ]);
        if !output_axes.is_empty() {
            all.insert("scan_output_axes".into(), ints(&output_axes));
        }
        let mut written = node(&rows.name, OpKind::Scan, &[], &[], all, rows);
        let starts = self.states.into_iter().map(|state| state.start);
        let scanned = self.scanned.into_iter().map(|(name, ..)| name);
        written.inputs = starts.chain(scanned).collect();
        written.outputs = outputs;
        cx.copy(written);
        for reshape in reshapes {
            cx.copy(reshape);
        }
        Ok(())
    }

    /// A state that starts as zeros; a row's first pixel does not read it.
    fn carry(&mut self, name: String, ty: ValueType, next: String) -> Result<(), String> {
        let start = zeros(self.cx, &ty)?;
        self.states.push(State {
            start,
            name,
            ty,
            next,
        });
        Ok(())
    }

    /// A new value.
    fn define(&mut self, name: &str, ty: ValueType) -> String {
        let name = match name.contains('/') {
            true => name.to_string(),
            false => format!("{}/{name}", self.stem()),
        };
        self.graph.types.insert(name.clone(), ty);
        name
    }

    fn stem(&self) -> &'c str {
        &self.cx.node.outputs[0]
    }

    /// A list of one integer.
    fn list(&mut self, value: i64) -> Result<String, String> {
        let array = Array::i64([1], [value]).map_err(error)?;
        Ok(self.constant(&format!("list.{value}"), array))
    }

    /// A number.
    fn number(&mut self, value: f32) -> Result<String, String> {
        let array = Array::f32([], [value]).map_err(error)?;
        Ok(self.constant(&format!("number.{value}"), array))
    }

    fn constant(&mut self, name: &str, value: Array) -> String {
        let name = format!("{}/{name}", self.stem());
        if self.graph.initializer(&name).is_none() {
            let ty = fixed(value.dtype(), value.shape());
            self.graph.types.insert(name.clone(), ty);
            let name = name.clone();
            self.graph.initializers.push(Initializer { name, value });
        }
        name
    }

    fn push(&mut self, op: OpKind, inputs: &[&String], output: &str, attributes: Attributes) {
        let inputs: Vec<&str> = inputs.iter().map(|input| input.as_str()).collect();
        let written = node(output, op, &inputs, &[output], attributes, self.cx.node);
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
        .find(|n| is(n, OpKind::Identity) && n.outputs[0] == name);
    source.map_or(name, |node| aliased(body, &node.inputs[0]))
}

/// A scan's last states are called in its body as the body calls them.
fn resolve(name: &str, scan: &Node, next: &[Port]) -> String {
    let state = scan.outputs.iter().take(next.len()).position(|o| o == name);
    state.map_or(name, |i| &next[i].name).into()
}

/// Drops the types of values that are nothing's.
fn keep_defined(graph: &mut Graph) {
    let mut defined: BTreeSet<String> = graph
        .nodes
        .iter()
        .flat_map(|n| n.outputs.iter().cloned())
        .collect();
    defined.extend(graph.inputs.iter().map(|p| p.name.clone()));
    defined.extend(graph.initializers.iter().map(|i| i.name.clone()));
    graph.types.retain(|name, _| defined.contains(name));
}

/// A value of the batch that the scan reads.
fn batched(cx: &Rewrite<'_>) -> Option<String> {
    let has_batch = |name: &&String| {
        let ty = cx.ty(name);
        ty.is_some_and(|t| t.dtype == DType::F32 && t.shape.first() == Some(&Dim::batch()))
    };
    cx.node.inputs.iter().find(has_batch).cloned()
}

/// Zeros of a type, with the batch of what the scan reads.
fn zeros(cx: &mut Rewrite<'_>, ty: &ValueType) -> Result<String, String> {
    if ty.dtype != DType::F32 {
        return Err(format!("states of pixels must be f32, one is {ty}"));
    }
    let batch = Dim::batch();
    if ty.shape.first() != Some(&batch) {
        let shape = cx.fixed(&ty.shape)?;
        let count = shape.iter().product();
        return Ok(cx.add("zeros", Array::f32(shape, vec![0.0; count]).map_err(error)?));
    }
    let sizes = cx.fixed(&ty.shape[1..])?;
    let like = &batched(cx).ok_or("nothing that it reads has the batch")?;
    let rank = cx.ty(like).map_or(1, |t| t.shape.len()) as i64;
    let mut one = like.clone();
    if rank > 1 {
        let axes: Vec<i64> = (1..rank).collect();
        let from = cx.list("from", &vec![0; axes.len()])?;
        let to = cx.list("to", &vec![1; axes.len()])?;
        let axes = cx.list("axes", &axes)?;
        one = cx.emit("one", OpKind::Slice, &[&one, &from, &to, &axes])?;
    }
    let mut shape = vec![1; ty.shape.len()];
    shape[0] = -1;
    let shape = cx.list("one_shape", &shape)?;
    let one = cx.emit("ones", OpKind::Reshape, &[&one, &shape])?;
    let zero = cx.scalar("zero", 0.0, &one)?;
    let zero = cx.emit("empty", OpKind::Mul, &[&one, &zero])?;
    let mut shape = vec![1];
    shape.extend(sizes.iter().map(|&s| s as i64));
    let shape = cx.list("zeros_shape", &shape)?;
    cx.emit("zeros", OpKind::Expand, &[&zero, &shape])
}
