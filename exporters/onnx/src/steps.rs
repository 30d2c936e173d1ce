//! Cutting a graph at its loops, for runtimes that have none: what stands between them becomes files, and a host runs the loops.

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::{
    Array, Attribute, Count, DType, Dim, Graph, Initializer, Node, Port, ScanSteps, Slices,
    Stacked, State, Step, Steps, ValueType,
};

use crate::{
    Error, Result,
    check::is_batched,
    ops::{OpKind, is, is_loop, repeat::Turns, scan::Parts},
};

/// The parts of a graph that a host drives, each with the name of its file without the ending.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub steps: Steps,
    pub parts: Vec<(String, Graph)>,
}

/// Cuts `graph` at its scans. Files are called like the graph and what they compute: `sample.step_row`.
pub(crate) fn cut(graph: &Graph) -> Result<Cut> {
    let mut cutter = Cutter {
        top: graph,
        types: graph.types.clone(),
        reads: BTreeMap::new(),
        aliases: BTreeMap::new(),
        added: Vec::new(),
        parts: Vec::new(),
    };
    cutter.collect(graph);
    let program = cutter.program(graph, 0)?;
    let outputs = graph.outputs.iter();
    let results = outputs.map(|port| cutter.source(&port.name).to_string());
    Ok(Cut {
        steps: Steps {
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            results: results.collect(),
            program,
        },
        parts: cutter.parts,
    })
}

struct Cutter<'a> {
    top: &'a Graph,
    /// Of all values, those of bodies included.
    types: BTreeMap<String, ValueType>,
    /// How often each value is read anywhere.
    reads: BTreeMap<String, usize>,
    /// What identities carry: the host reads the source.
    aliases: BTreeMap<String, String>,
    /// Constants of bodies, and those that only the files have.
    added: Vec<Initializer>,
    parts: Vec<(String, Graph)>,
}

/// A Scan or a Loop, taken apart.
struct Looped {
    steps: Count,
    /// What each state starts as.
    starts: Vec<String>,
    /// The name of a slice, what it is cut from, along which axis.
    lists: Vec<(String, String, usize)>,
    output_axes: Vec<usize>,
    /// The value of the body that is the number of the step.
    step: Option<String>,
    body: Graph,
}

fn refused(node: &Node, reason: impl Into<String>) -> Error {
    Error::Lower {
        node: node.name.clone(),
        op: node.op.clone(),
        target: "a host with step graphs".into(),
        origin: node.origin.clone(),
        reason: reason.into(),
    }
}

impl Cutter<'_> {
    fn collect(&mut self, graph: &Graph) {
        self.types
            .extend(graph.types.iter().map(|(k, v)| (k.clone(), v.clone())));
        for node in &graph.nodes {
            if is(node, OpKind::Identity) {
                self.aliases
                    .insert(node.outputs[0].clone(), node.inputs[0].clone());
            }
            for body in node.bodies() {
                self.added.extend(body.initializers.iter().cloned());
                self.collect(body);
            }
        }
        let inputs = graph.nodes.iter().flat_map(|n| &n.inputs);
        let outputs = graph.outputs.iter().map(|port| &port.name);
        for name in inputs.chain(outputs) {
            *self.reads.entry(name.clone()).or_default() += 1;
        }
    }

    /// What an identity, or a chain of them, carries.
    fn source<'s>(&'s self, name: &'s str) -> &'s str {
        match self.aliases.get(name) {
            Some(source) => self.source(source),
            None => name,
        }
    }

    fn ty(&self, name: &str) -> Result<&ValueType> {
        let ty = self.types.get(name);
        ty.ok_or_else(|| Error::value(name, "its type is not recorded"))
    }

    /// What computes the nodes of `graph`, which stands within `depth` loops.
    fn program(&mut self, graph: &Graph, depth: usize) -> Result<Vec<Step>> {
        let mut program = Vec::new();
        let mut rest: Vec<&Node> = graph
            .nodes
            .iter()
            .filter(|n| !is(n, OpKind::Identity))
            .collect();
        loop {
            // All that does not wait for the next loop comes before it.
            let next = rest.iter().position(|n| is_loop(n));
            let (mut now, mut later): (Vec<&Node>, Vec<&Node>) = (Vec::new(), Vec::new());
            let mut waiting: BTreeSet<&str> = BTreeSet::new();
            for (i, node) in rest.iter().enumerate() {
                let waits = node
                    .inputs
                    .iter()
                    .any(|input| waiting.contains(self.source(input)));
                if next.is_some_and(|next| i >= next) && (waits || is_loop(node)) {
                    waiting.extend(node.outputs.iter().map(String::as_str));
                    later.push(node);
                } else {
                    now.push(node);
                }
            }
            if !now.is_empty() {
                let last = later.is_empty() && !program.is_empty();
                let name = self.name(graph, depth, last);
                program.push(self.run(name, &now)?);
            }
            if later.is_empty() {
                return Ok(program);
            }
            let scan = later.remove(0);
            program.push(Step::Scan(self.scan(scan, depth)?));
            rest = later;
        }
    }

    /// The name of a file: where it stands says what it computes.
    fn name(&self, graph: &Graph, depth: usize, last: bool) -> String {
        let inner = graph.nodes.iter().any(|n| n.bodies().next().is_some());
        let what = match (depth, inner, last) {
            (0, _, false) => "begin",
            (0, _, true) => "end",
            (_, true, false) => "step_row",
            (_, true, true) => "step_row_end",
            (_, false, _) => "step_pixel",
        };
        let stem = format!("{}.{what}", self.top.name);
        let mut name = stem.clone();
        let mut k = 2;
        while self.parts.iter().any(|(taken, _)| *taken == name) {
            name = format!("{stem}_{k}");
            k += 1;
        }
        name
    }

    /// A file with these nodes.
    fn run(&mut self, name: String, nodes: &[&Node]) -> Result<Step> {
        let mut graph = Graph {
            name: name.clone(),
            ..Graph::default()
        };
        let mut own: BTreeSet<&str> = BTreeSet::new();
        let mut read = BTreeSet::new();
        for node in nodes {
            if node.bodies().next().is_some() {
                return Err(refused(node, "only scans can be driven from a host"));
            }
            let mut node = (*node).clone();
            for input in node.inputs.iter_mut().filter(|i| !i.is_empty()) {
                *input = self.source(input).to_string();
                read.insert(input.clone());
            }
            graph.nodes.push(node);
        }
        for node in nodes {
            for output in &node.outputs {
                own.insert(output);
                graph.types.insert(output.clone(), self.ty(output)?.clone());
            }
        }
        for name in &read {
            if own.contains(name.as_str()) {
                continue;
            }
            graph.types.insert(name.clone(), self.ty(name)?.clone());
            let mut constants = self.top.initializers.iter().chain(&self.added);
            match constants.find(|i| i.name == *name) {
                Some(weight) => graph.initializers.push(weight.clone()),
                None => {
                    let ty = self.ty(name)?.clone();
                    let known = self.top.inputs.iter().find(|port| port.name == *name);
                    let port = known.cloned();
                    let port = port.unwrap_or_else(|| Port::new(name, ty.dtype, ty.shape));
                    graph.inputs.push(port);
                }
            }
        }
        // Given is what others read, identities among them.
        let within = |name: &str| {
            let inputs = nodes.iter().flat_map(|n| &n.inputs);
            inputs.filter(|input| *input == name).count()
        };
        for node in nodes {
            for output in &node.outputs {
                let all = self.reads.get(output).copied().unwrap_or(0);
                if all > within(output) {
                    let ty = self.ty(output)?.clone();
                    graph.outputs.push(Port::new(output, ty.dtype, ty.shape));
                }
            }
        }
        let mut ports = graph.inputs.iter().chain(&graph.outputs);
        if let Some(port) = ports.find(|port| !port.shape.is_empty() && !is_batched(port)) {
            let touches =
                |n: &&&Node| n.inputs.contains(&port.name) || n.outputs.contains(&port.name);
            let node = nodes.iter().find(touches).unwrap_or(&nodes[0]);
            let ty = port.value_type();
            let reason = format!(
                "a host passes on values whose first dimension is the batch, {:?} is {ty}",
                port.name
            );
            return Err(refused(node, reason));
        }
        graph.validate()?;
        self.parts.push((name.clone(), graph));
        Ok(Step::Run(format!("{name}.onnx")))
    }

    fn scan(&mut self, node: &Node, depth: usize) -> Result<ScanSteps> {
        let Looped {
            mut body,
            steps,
            starts,
            lists,
            output_axes,
            step,
        } = self.looped(node).map_err(|reason| refused(node, reason))?;
        let states = starts.len();
        let carried = body.inputs[..states].iter().zip(&body.outputs).enumerate();
        let carried = carried.map(|(i, (port, next))| State {
            name: port.name.clone(),
            start: self.source(&starts[i]).to_string(),
            next: self.source(&next.name).to_string(),
            end: node.outputs[i].clone(),
        });
        let carried: Vec<State> = carried.collect();
        if let Some(state) = carried.iter().find(|s| self.constant(&s.start).is_some()) {
            let reason = format!(
                "its state {:?} starts as a constant; make it of something with the batch",
                state.name
            );
            return Err(refused(node, reason));
        }
        let outputs = body.outputs[states..].iter().zip(output_axes).enumerate();
        let outputs = outputs.map(|(k, (port, axis))| Stacked {
            from: self.source(&port.name).to_string(),
            name: node.outputs[states + k].clone(),
            axis,
        });
        let outputs = outputs.collect();
        let mut inputs = Vec::new();
        let number = format!("{}/index", node.outputs[0]);
        let mut index = None;
        for (name, list, axis) in lists {
            let of = self.source(&list).to_string();
            if self.constant(&of).is_none() {
                inputs.push(Slices { name, of, axis });
                continue;
            }
            // A constant stays in the file, which cuts it itself.
            let index = index.get_or_insert_with(|| number.clone());
            self.pick(&mut body, index, &of, axis, &name)?;
        }
        if let Some(step) = step {
            let index = index.get_or_insert(number);
            self.number(&mut body, index, &step)?;
        }
        Ok(ScanSteps {
            steps,
            states: carried,
            inputs,
            outputs,
            index,
            body: self.program(&body, depth + 1)?,
        })
    }

    /// What a loop consists of.
    fn looped(&self, node: &Node) -> Result<Looped, String> {
        if is(node, OpKind::Loop) {
            let Turns {
                count,
                starts,
                body,
            } = Turns::of(node)?;
            let count = self.source(count);
            let known = self.constant(count).and_then(|c| c.as_i64().ok()?.first());
            let steps = match known.map(|&steps| usize::try_from(steps)) {
                None => Count::Value(count.into()),
                Some(Ok(steps)) => Count::Fixed(steps),
                Some(Err(_)) => return Err("its number of steps is negative".into()),
            };
            return Ok(Looped {
                steps,
                starts: starts.to_vec(),
                lists: Vec::new(),
                output_axes: vec![0; body.outputs.len() - starts.len()],
                step: body.inputs.last().map(|port| port.name.clone()),
                body,
            });
        }
        let parts = Parts::of(node, |name| self.types.get(name).cloned())?;
        let (starts, lists) = node.inputs.split_at(parts.states);
        let steps = match parts.length.fixed() {
            Some(steps) => Count::Fixed(steps),
            None => Count::Length {
                length_of: self.source(&lists[0]).into(),
                axis: parts.input_axes[0],
            },
        };
        let slices = parts.body.inputs[parts.states..].iter();
        let lists = slices.zip(lists.iter().zip(parts.input_axes));
        Ok(Looped {
            steps,
            starts: starts.to_vec(),
            lists: lists
                .map(|(port, (list, axis))| (port.name.clone(), list.clone(), axis))
                .collect(),
            output_axes: parts.output_axes,
            step: None,
            body: parts.body.clone(),
        })
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        let added = || self.added.iter().find(|i| i.name == name);
        let own = self.top.initializer(name);
        own.or_else(|| added().map(|i| &i.value))
    }

    /// Nodes that gather slice `index` of the constant `of` as `to`.
    fn pick(
        &mut self,
        body: &mut Graph,
        index: &str,
        of: &str,
        axis: usize,
        to: &str,
    ) -> Result<()> {
        let first = self.first(body, index)?;
        let (dtype, mut shape) = (self.ty(to)?.dtype, self.ty(to)?.shape.clone());
        shape.insert(axis, 1.into());
        let thin = format!("{to}.thin");
        let along = [("axis", Attribute::Int(axis as i64))];
        let gather = self.node(&thin, OpKind::Gather, &[of, &first], &along, dtype, shape);
        let axes = self.list(index, axis as i64)?;
        let shape = self.ty(to)?.shape.clone();
        let squeeze = self.node(to, OpKind::Squeeze, &[&thin, &axes], &[], dtype, shape);
        self.prepend(body, &first, vec![gather, squeeze]);
        Ok(())
    }

    /// A node that gives the number of the step, without dimensions, as `to`.
    fn number(&mut self, body: &mut Graph, index: &str, to: &str) -> Result<()> {
        let first = self.first(body, index)?;
        let axes = self.list(index, 0)?;
        let shape = self.ty(to)?.shape.clone();
        let op = match shape.is_empty() {
            true => self.node(
                to,
                OpKind::Squeeze,
                &[&first, &axes],
                &[],
                DType::I64,
                shape,
            ),
            false => self.node(to, OpKind::Identity, &[&first], &[], DType::I64, shape),
        };
        self.prepend(body, &first, vec![op]);
        Ok(())
    }

    /// All elements of the index are equal: the first is taken, with its dimension.
    fn first(&mut self, body: &mut Graph, index: &str) -> Result<String> {
        let first = format!("{index}.first");
        if !body.nodes.iter().any(|n| n.outputs[0] == first) {
            let shape = vec![Dim::batch()];
            let dtype = DType::I64;
            self.types.insert(index.into(), ValueType { dtype, shape });
            let (zero, one) = (self.list(index, 0)?, self.list(index, 1)?);
            let inputs = [index, &zero, &one, &zero];
            let node = self.node(&first, OpKind::Slice, &inputs, &[], dtype, vec![1.into()]);
            self.prepend(body, "", vec![node]);
        }
        Ok(first)
    }

    /// Puts nodes at the start of a body, behind that of `after`: what a loop gives as a slice is now computed in its body.
    fn prepend(&mut self, body: &mut Graph, after: &str, nodes: Vec<Node>) {
        for input in nodes.iter().flat_map(|n| &n.inputs) {
            *self.reads.entry(input.clone()).or_default() += 1;
        }
        let at = body.nodes.iter().position(|n| n.outputs[0] == after);
        let at = at.map_or(0, |at| at + 1);
        body.nodes.splice(at..at, nodes);
    }

    /// A constant list of one integer, for the files that read it.
    fn list(&mut self, index: &str, value: i64) -> Result<String> {
        let name = format!("{index}.{value}");
        if !self.added.iter().any(|i| i.name == name) {
            let shape = vec![1.into()];
            let dtype = DType::I64;
            self.types.insert(name.clone(), ValueType { dtype, shape });
            let value = Array::i64([1], [value])?;
            let name = name.clone();
            self.added.push(Initializer { name, value });
        }
        Ok(name)
    }

    /// A node with one new value.
    fn node(
        &mut self,
        output: &str,
        op: OpKind,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        dtype: DType,
        shape: Vec<Dim>,
    ) -> Node {
        self.types.insert(output.into(), ValueType { dtype, shape });
        let attributes = attributes.iter();
        Node {
            name: output.into(),
            op: op.name().into(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: vec![output.into()],
            attributes: attributes
                .map(|(k, v)| (k.to_string(), v.clone()))
                .collect(),
            origin: None,
        }
    }
}
