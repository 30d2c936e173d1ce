//! What one run of a network writes down.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{DType, Tensor};
use zoo_graph::{Array, Attribute, Dim, Graph, Initializer, Node, Port, ValueType};

use crate::{Error, Result, array::array_of, error::here};

/// Where a value comes from, as a trace sees it.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Computed outside any trace.
    Unknown,
    /// A parameter or buffer under this path.
    Param(Arc<str>),
    /// Declared constant by the author.
    Constant,
    /// A value of the trace with this serial number.
    Traced { trace: u64, name: Arc<str> },
}

impl Origin {
    /// Whether both are the same value of a trace.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Traced { trace: a, name: x }, Self::Traced { trace: b, name: y }) => {
                a == b && x == y
            }
            _ => false,
        }
    }
}

thread_local! {
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
}

thread_local! {
    static PROBING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` only for what its networks ask for: loops take one step.
pub(crate) fn probing<T>(f: impl FnOnce() -> T) -> T {
    /// Restores the setting, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PROBING.set(self.0);
        }
    }
    let _restore = Restore(PROBING.replace(true));
    f()
}

/// Whether loops take one step.
pub(crate) fn is_probing() -> bool {
    PROBING.get()
}

/// Tells values of one run from those of another; never shows in a graph.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// One recorded run.
struct Tracer {
    serial: u64,
    /// The graph, and the bodies that are being recorded within it, the innermost last.
    frames: Vec<Frame>,
    /// Frames opened so far.
    opened: usize,
    /// What is known of each value: never removed, so that the use of a body's value outside the body is noticed.
    known: BTreeMap<Arc<str>, Known>,
    /// Names in use, over all frames.
    names: BTreeSet<String>,
    /// For each initializer made from a constant: where it was first used.
    constants: BTreeMap<String, String>,
}

/// A graph that grows.
struct Frame {
    id: usize,
    graph: Graph,
}

/// Where a value was made.
struct Known {
    frame: usize,
    /// Path of the layer that it belongs to; empty for none.
    scope: String,
}

/// Collects inputs and attributes of one node.
pub(crate) struct NodeBuilder<'a> {
    tracer: &'a mut Tracer,
    node: Node,
    scope: Option<String>,
    at: String,
    /// Element type where candle has none of its own (bool).
    dtype: Option<zoo_graph::DType>,
}

impl NodeBuilder<'_> {
    /// The node has all that it needs.
    pub fn done(&mut self) -> Result<()> {
        Ok(())
    }

    /// Adds an input.
    pub fn input(&mut self, origin: &Origin, tensor: &Tensor) -> Result<&mut Self> {
        let name = match origin {
            Origin::Traced { trace, name } if *trace == self.tracer.serial => {
                let known = self.tracer.known.get(name);
                if !known.is_some_and(|k| self.tracer.is_open(k.frame)) {
                    let message = "an input was computed in the body of a scan that has ended. Let the body give it as a state or output";
                    return Err(self.unfit(message));
                }
                if let Some(known) = known {
                    self.scope.get_or_insert_with(|| known.scope.clone());
                }
                name.to_string()
            }
            Origin::Param(path) => {
                let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer);
                self.scope = Some(layer.to_string());
                self.tracer.initializer(path, array_of(tensor)?, None)?;
                path.to_string()
            }
            Origin::Constant => {
                let array = array_of(tensor)?;
                self.constant("const", array)?
            }
            Origin::Traced { .. } | Origin::Unknown => {
                let message = "an input was computed outside the graph being recorded. Make it a graph input, compute it \
                               inside the function, or declare it with Value::constant";
                return Err(self.unfit(message));
            }
        };
        self.node.inputs.push(name);
        Ok(self)
    }

    fn unfit(&self, message: &str) -> Error {
        Error::Usage {
            op: "trace",
            at: self.at.clone(),
            message: message.into(),
        }
    }

    /// Adds a constant input: i64 of one dimension.
    pub fn ints(&mut self, suffix: &str, values: &[i64]) -> Result<&mut Self> {
        let name = self.constant(suffix, Array::i64([values.len()], values)?)?;
        self.node.inputs.push(name);
        Ok(self)
    }

    /// Adds a constant input: one i64.
    pub fn index(&mut self, suffix: &str, value: i64) -> Result<&mut Self> {
        let name = self.constant(suffix, Array::i64([], [value])?)?;
        self.node.inputs.push(name);
        Ok(self)
    }

    /// Adds a constant input: one f32.
    pub fn scalar(&mut self, suffix: &str, value: f64) -> Result<&mut Self> {
        let name = self.constant(suffix, Array::f32([], [value as f32])?)?;
        self.node.inputs.push(name);
        Ok(self)
    }

    /// Adds a constant input: f32 of one dimension.
    pub fn floats(&mut self, suffix: &str, values: &[f32]) -> Result<&mut Self> {
        let name = self.constant(suffix, Array::f32([values.len()], values)?)?;
        self.node.inputs.push(name);
        Ok(self)
    }

    /// Leaves an optional input out.
    pub fn skip(&mut self) -> &mut Self {
        self.node.inputs.push(String::new());
        self
    }

    /// Sets an integer attribute.
    pub fn int(&mut self, key: &str, value: i64) -> &mut Self {
        self.node
            .attributes
            .insert(key.into(), Attribute::Int(value));
        self
    }

    /// Sets an integer-list attribute.
    pub fn int_list(&mut self, key: &str, values: &[usize]) -> &mut Self {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.i64_list(key, &values)
    }

    /// Sets an integer-list attribute.
    pub fn i64_list(&mut self, key: &str, values: &[i64]) -> &mut Self {
        self.node
            .attributes
            .insert(key.into(), Attribute::Ints(values.into()));
        self
    }

    /// Sets a float attribute.
    pub fn float(&mut self, key: &str, value: f64) -> &mut Self {
        self.node
            .attributes
            .insert(key.into(), Attribute::Float(value as f32));
        self
    }

    /// Sets a text attribute.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.node
            .attributes
            .insert(key.into(), Attribute::Text(value.into()));
        self
    }

    /// Sets a sub-graph.
    pub fn graph(&mut self, key: &str, body: Graph) -> &mut Self {
        let body = Attribute::Graph(Box::new(body));
        self.node.attributes.insert(key.into(), body);
        self
    }

    /// The result holds truth values, which candle stores as u8.
    pub fn truth(&mut self) -> &mut Self {
        self.dtype = Some(zoo_graph::DType::Bool);
        self
    }

    /// Records a constant under a name made from the layer or the operation.
    fn constant(&mut self, suffix: &str, array: Array) -> Result<String> {
        let base = match &self.scope {
            Some(scope) if !scope.is_empty() => {
                format!("{scope}.{}.{suffix}", self.node.op.to_lowercase())
            }
            _ => format!("{}.{suffix}", self.node.op.to_lowercase()),
        };
        let name = self.tracer.unique(base);
        self.tracer.initializer(&name, array, Some(&self.at))?;
        Ok(name)
    }
}

impl Tracer {
    /// The graph itself, which holds all initializers.
    fn top(&mut self) -> &mut Graph {
        &mut self.frames[0].graph
    }

    /// The graph or body that is being recorded.
    fn current(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn is_open(&self, frame: usize) -> bool {
        self.frames.iter().any(|f| f.id == frame)
    }

    /// Notes a value of the current frame with its type.
    fn define(&mut self, name: &Arc<str>, value_type: ValueType, scope: String) {
        let frame = self.current();
        frame.graph.types.insert(name.to_string(), value_type);
        let frame = frame.id;
        self.known.insert(name.clone(), Known { frame, scope });
    }

    /// The value called `name`.
    fn origin(&self, name: Arc<str>) -> Origin {
        Origin::Traced {
            trace: self.serial,
            name,
        }
    }

    fn unique(&mut self, base: String) -> String {
        let mut name = base.clone();
        let mut count = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base}.{count}");
            count += 1;
        }
        name
    }

    fn initializer(&mut self, name: &str, value: Array, at: Option<&str>) -> Result<()> {
        if self.top().initializer(name).is_some() {
            return Ok(());
        }
        if let Some(at) = at {
            self.constants.insert(name.into(), at.into());
        }
        self.names.insert(name.into());
        let shape = value.shape().iter().map(|&d| Dim::Fixed(d)).collect();
        let dtype = value.dtype();
        let graph = self.top();
        graph.types.insert(name.into(), ValueType { dtype, shape });
        graph.initializers.push(Initializer {
            name: name.into(),
            value,
        });
        Ok(())
    }
}

/// What a finished run leaves.
pub(crate) struct Recorded {
    pub graph: Graph,
    /// For each initializer made from a constant: where it was first used.
    pub constants: BTreeMap<String, String>,
}

/// A trace that is on until this is dropped, also by an error or a panic.
pub(crate) struct Recording {
    serial: u64,
}

impl Recording {
    /// Starts to record into `graph`, which holds the ports; `None` where a trace is on already.
    pub fn start(graph: Graph) -> Option<Self> {
        if is_on() {
            return None;
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Output names are given at the end and must be free until then.
        let names = graph
            .inputs
            .iter()
            .chain(&graph.outputs)
            .map(|port| port.name.clone())
            .collect();
        let known = |port: &Port| {
            let (frame, scope) = (0, String::new());
            (port.name.as_str().into(), Known { frame, scope })
        };
        TRACER.set(Some(Tracer {
            serial,
            known: graph.inputs.iter().map(known).collect(),
            frames: vec![Frame { id: 0, graph }],
            opened: 1,
            names,
            constants: BTreeMap::new(),
        }));
        Some(Self { serial })
    }

    /// Where the graph's input `name` comes from.
    pub fn input(&self, name: &str) -> Origin {
        Origin::Traced {
            trace: self.serial,
            name: name.into(),
        }
    }

    /// Whether a value comes from a node and is not an output yet.
    pub fn is_nameless(&self, origin: &Origin) -> bool {
        let Origin::Traced { trace, name } = origin else {
            return false;
        };
        let nameless = |graph: &Graph| {
            let is = |output: &String| **output == **name;
            graph.nodes.iter().any(|node| node.outputs.iter().any(is))
                && !graph.outputs.iter().any(|port| is(&port.name))
        };
        *trace == self.serial
            && TRACER.with_borrow(|t| t.as_ref().is_some_and(|t| nameless(&t.frames[0].graph)))
    }

    /// Calls a node's result by an output's name.
    pub fn name(&self, origin: &Origin, to: &str) {
        let Origin::Traced { name: from, .. } = origin else {
            return;
        };
        TRACER.with_borrow_mut(|tracer| {
            let Some(tracer) = tracer else { return };
            let graph = tracer.top();
            rename(graph, from, to);
            if let Some(value_type) = graph.types.remove(&**from) {
                graph.types.insert(to.into(), value_type);
            }
        });
    }

    /// Ends the trace.
    pub fn finish(self) -> Option<Recorded> {
        let mut tracer = TRACER.take()?;
        Some(Recorded {
            graph: std::mem::take(tracer.top()),
            constants: tracer.constants,
        })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        TRACER.set(None);
    }
}

/// Calls the value `from` by `to` wherever it is read or produced, in bodies too.
fn rename(graph: &mut Graph, from: &str, to: &str) {
    for node in &mut graph.nodes {
        let names = node.inputs.iter_mut().chain(&mut node.outputs);
        for name in names.filter(|name| *name == from) {
            *name = to.into();
        }
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(body) = attribute {
                rename(body, from, to);
            }
        }
    }
}

/// Whether a graph is being recorded on this thread.
pub(crate) fn is_on() -> bool {
    TRACER.with_borrow(Option::is_some)
}

/// Runs `f` without recording: for what is recorded as one node, whatever it is computed by.
pub(crate) fn paused<T>(f: impl FnOnce() -> T) -> T {
    /// Goes on, also after a panic.
    struct Resume(Option<Tracer>);
    impl Drop for Resume {
        fn drop(&mut self) {
            TRACER.set(self.0.take());
        }
    }
    let _resume = Resume(TRACER.take());
    f()
}

/// Records a node with these results; a trace must be on.
pub(crate) fn record(
    op: &'static str,
    location: &Location<'_>,
    results: &[&Tensor],
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Vec<Origin>> {
    with_tracer(|tracer| {
        let (node, at) = (
            Node {
                op: op.into(),
                ..Node::default()
            },
            here(location),
        );
        let mut builder = NodeBuilder {
            tracer,
            node,
            scope: None,
            at,
            dtype: None,
        };
        describe(&mut builder)?;
        let NodeBuilder {
            mut node,
            scope,
            at,
            dtype,
            ..
        } = builder;

        // A layer's own operation is called like the layer, what follows it like the layer and the operation.
        let weighted = node
            .inputs
            .iter()
            .any(|i| scope.as_deref().is_some_and(|s| is_param_of(tracer, i, s)));
        let base = match scope.as_deref() {
            Some(scope) if weighted && !scope.is_empty() => scope.to_string(),
            Some(scope) if !scope.is_empty() => format!("{scope}.{}", op.to_lowercase()),
            _ => op.to_lowercase(),
        };
        let name = tracer.unique(base);
        node.name.clone_from(&name);
        node.origin = Some(at);
        let mut origins = Vec::with_capacity(results.len());
        for (i, result) in results.iter().enumerate() {
            let output: Arc<str> = match i {
                0 => name.as_str().into(),
                _ => tracer.unique(format!("{name}.{i}")).into(),
            };
            node.outputs.push(output.to_string());
            let value_type = type_of(result, dtype)?;
            let scope = scope.clone().unwrap_or_default();
            tracer.define(&output, value_type, scope);
            origins.push(tracer.origin(output));
        }
        tracer.current().graph.nodes.push(node);
        Ok(origins)
    })
}

/// Begins a body of the trace that is on, whose ports have these names and the types of these tensors; gives where each comes from.
///
/// A port whose elements are truth values says so, since candle has no type for them.
pub(crate) fn begin_body(name: &str, inputs: &[(&str, &Tensor, bool)]) -> Result<Vec<Origin>> {
    with_tracer(|tracer| {
        let graph = Graph {
            name: name.into(),
            ..Graph::default()
        };
        let id = tracer.opened;
        tracer.opened += 1;
        tracer.frames.push(Frame { id, graph });
        let mut fed = Vec::with_capacity(inputs.len());
        for (name, tensor, truth) in inputs {
            let name: Arc<str> = tracer.unique((*name).into()).into();
            let value_type = type_of(tensor, truth.then_some(zoo_graph::DType::Bool))?;
            let graph = &mut tracer.current().graph;
            graph.inputs.push(port(&name, &value_type));
            tracer.define(&name, value_type, String::new());
            fed.push(tracer.origin(name));
        }
        Ok(fed)
    })
}

/// Whether a node of the body that is being recorded produces this value.
pub(crate) fn is_of_body(origin: &Origin) -> bool {
    let Origin::Traced { name, .. } = origin else {
        return false;
    };
    let produced = with_tracer(|tracer| {
        let nodes = &tracer.current().graph.nodes;
        Ok(nodes
            .iter()
            .any(|n| n.outputs.iter().any(|o| **o == **name)))
    });
    produced.unwrap_or(false)
}

/// Ends the body, which gives these values.
pub(crate) fn end_body(results: &[&Origin]) -> Result<Graph> {
    with_tracer(|tracer| {
        let mut graph = std::mem::take(&mut tracer.current().graph);
        tracer.frames.pop();
        for origin in results {
            let Origin::Traced { name, .. } = origin else {
                continue;
            };
            if let Some(value_type) = graph.types.get(&**name) {
                graph.outputs.push(port(name, value_type));
            }
        }
        Ok(graph)
    })
}

fn with_tracer<T>(f: impl FnOnce(&mut Tracer) -> Result<T>) -> Result<T> {
    TRACER.with_borrow_mut(|tracer| match tracer {
        Some(tracer) => f(tracer),
        None => Err(Error::input("no graph is being recorded")),
    })
}

fn port(name: &str, value_type: &ValueType) -> Port {
    Port::new(name, value_type.dtype, value_type.shape.clone())
}

fn type_of(tensor: &Tensor, dtype: Option<zoo_graph::DType>) -> Result<ValueType> {
    let dtype = dtype.map_or_else(|| graph_dtype(tensor.dtype()), Ok)?;
    let shape = tensor.dims().iter().map(|&d| Dim::Fixed(d)).collect();
    Ok(ValueType { dtype, shape })
}

fn is_param_of(tracer: &Tracer, input: &str, scope: &str) -> bool {
    let own = input
        .strip_prefix(scope)
        .and_then(|rest| rest.strip_prefix('.'));
    own.is_some_and(|rest| !rest.contains('.'))
        && !tracer.constants.contains_key(input)
        && tracer.frames[0].graph.initializer(input).is_some()
}

pub(crate) fn graph_dtype(dtype: DType) -> Result<zoo_graph::DType> {
    Ok(match dtype {
        DType::F32 => zoo_graph::DType::F32,
        DType::F64 => zoo_graph::DType::F64,
        DType::F16 => zoo_graph::DType::F16,
        DType::I64 => zoo_graph::DType::I64,
        DType::U8 => zoo_graph::DType::U8,
        other => {
            return Err(Error::input(format!(
                "values of type {other:?} have no place in a graph: use f32, i64 or u8"
            )));
        }
    })
}
