//! Recording a graph while a network computes.
//!
//! A network is run three times, with different batch sizes and different inputs. What agrees is the graph; sizes that scale
//! with the batch become multiples of N; whatever else differs would freeze something of the recorded run into the file and is refused, with
//! the author's line.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{DType, Device, Tensor};
use zoo_graph::{
    Array, Attribute, BATCH, Dim, Distribution, Graph, Initializer, Node, Port, ValueType,
};
use zoo_sdk::Stream;

use crate::{
    Error, Result, Value,
    error::here,
    params::{array_of, tensor_of},
    value::Origin,
};

/// Batch sizes of the three runs: primes that networks rarely use as sizes.
const BATCHES: [usize; 3] = [3, 5, 7];

thread_local! {
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
}

/// Tells values of one run from those of another; never shows in a graph.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// One recorded run.
struct Tracer {
    serial: u64,
    graph: Graph,
    /// Path of the layer that each value belongs to.
    scopes: BTreeMap<Arc<str>, String>,
    /// Names in use.
    names: BTreeSet<String>,
    /// For each initializer made from a constant: where it was first used.
    constants: BTreeMap<String, String>,
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
    /// Adds an input.
    pub fn input(&mut self, value: &Value) -> Result<&mut Self> {
        let name = match value.origin() {
            Origin::Traced { trace, name } if *trace == self.tracer.serial => {
                if let Some(scope) = self.tracer.scopes.get(name) {
                    self.scope.get_or_insert_with(|| scope.clone());
                }
                name.to_string()
            }
            Origin::Param(path) => {
                let layer = path.rsplit_once('.').map_or("", |(layer, _)| layer);
                self.scope = Some(layer.to_string());
                self.tracer
                    .initializer(path, array_of(value.tensor())?, None)?;
                path.to_string()
            }
            Origin::Constant => {
                let array = array_of(value.tensor())?;
                self.constant("const", array)?
            }
            Origin::Traced { .. } | Origin::Unknown => {
                let message = "an input was computed outside the graph being recorded. Make it a graph input, compute it \
                               inside the function, or declare it with Value::constant";
                return Err(Error::Usage {
                    op: "trace",
                    at: self.at.clone(),
                    message: message.into(),
                });
            }
        };
        self.node.inputs.push(name);
        Ok(self)
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
        let values = values.iter().map(|&v| v as i64).collect();
        self.node
            .attributes
            .insert(key.into(), Attribute::Ints(values));
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
        if self.graph.initializer(name).is_some() {
            return Ok(());
        }
        if let Some(at) = at {
            self.constants.insert(name.into(), at.into());
        }
        self.names.insert(name.into());
        let shape = value.shape().iter().map(|&d| Dim::Fixed(d)).collect();
        self.graph.types.insert(
            name.into(),
            ValueType {
                dtype: value.dtype(),
                shape,
            },
        );
        self.graph.initializers.push(Initializer {
            name: name.into(),
            value,
        });
        Ok(())
    }
}

/// Whether a graph is being recorded on this thread.
pub(crate) fn is_on() -> bool {
    TRACER.with_borrow(Option::is_some)
}

/// Records a node whose result is `tensor`; `None` where no trace is on.
pub(crate) fn record(
    op: &'static str,
    location: &Location<'_>,
    tensor: &Tensor,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Option<Origin>> {
    TRACER.with_borrow_mut(|tracer| {
        let Some(tracer) = tracer else {
            return Ok(None);
        };
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
        node.outputs = vec![name.clone()];
        node.origin = Some(at);
        let dtype = dtype.map_or_else(|| graph_dtype(tensor.dtype()), Ok)?;
        let shape = tensor.dims().iter().map(|&d| Dim::Fixed(d)).collect();
        tracer
            .graph
            .types
            .insert(name.clone(), ValueType { dtype, shape });
        tracer.graph.nodes.push(node);
        let name: Arc<str> = name.into();
        tracer
            .scopes
            .insert(name.clone(), scope.unwrap_or_default());
        Ok(Some(Origin::Traced {
            trace: tracer.serial,
            name,
        }))
    })
}

fn is_param_of(tracer: &Tracer, input: &str, scope: &str) -> bool {
    let own = input
        .strip_prefix(scope)
        .and_then(|rest| rest.strip_prefix('.'));
    own.is_some_and(|rest| !rest.contains('.'))
        && !tracer.constants.contains_key(input)
        && tracer.graph.initializer(input).is_some()
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

/// Records the graph that `run` computes from `inputs` to `outputs`, valid for every batch size N.
///
/// # Errors
/// Where a size, an attribute or a constant depends on the recorded batch or data other than by scaling with N, where a value computed
/// outside is read, or where a result does not have the shape that `outputs` declares. Each names the author's line.
pub fn trace(
    name: &str,
    inputs: &[Port],
    outputs: &[Port],
    device: &Device,
    run: impl Fn(&[Value]) -> Result<Vec<Value>>,
) -> Result<Graph> {
    let first = record_run(name, inputs, outputs, device, BATCHES[0], &run)?;
    let mut runs = Vec::new();
    for batch in &BATCHES[1..] {
        let run = record_run(name, inputs, outputs, device, *batch, &run).map_err(|error| match error {
            Error::Trace { .. } => error,
            other => frozen(name, format!("with a batch of {} it works, with {batch} it fails: {other}. Write 0 (keep) or -1 (infer) instead of a size", BATCHES[0])),
        })?;
        runs.push((*batch, run));
    }
    let mut graph = first.graph;
    for (batch, run) in &runs {
        agree(name, &graph, &run.graph, *batch, &run.constants)?;
    }
    let names: Vec<String> = graph.types.keys().cloned().collect();
    for value in names {
        let sizes: Vec<Vec<usize>> = std::iter::once(&graph)
            .chain(runs.iter().map(|(_, run)| &run.graph))
            .map(|g| fixed(g, &value))
            .collect();
        let shape = symbolic(&sizes).ok_or_else(|| {
            let message = format!("{} has shapes {sizes:?} for batches of {BATCHES:?}: neither fixed nor a multiple of the batch", place(&graph, &value));
            frozen(name, message)
        })?;
        if let Some(value_type) = graph.types.get_mut(&value) {
            value_type.shape = shape;
        }
    }
    for port in outputs {
        let found = graph
            .types
            .get(&port.name)
            .map(ToString::to_string)
            .unwrap_or_default();
        if found != port.value_type().to_string() {
            return Err(frozen(
                name,
                format!(
                    "output {:?} is declared {} but computed {found}",
                    port.name,
                    port.value_type()
                ),
            ));
        }
    }
    graph.validate()?;
    Ok(graph)
}

fn frozen(graph: &str, message: String) -> Error {
    Error::Trace {
        graph: graph.into(),
        message,
    }
}

/// One run with a trace on.
fn record_run(
    name: &str,
    inputs: &[Port],
    outputs: &[Port],
    device: &Device,
    batch: usize,
    run: &impl Fn(&[Value]) -> Result<Vec<Value>>,
) -> Result<Tracer> {
    let mut graph = Graph {
        name: name.into(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        ..Graph::default()
    };
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut values = Vec::new();
    let mut names = BTreeSet::new();
    for port in inputs {
        let array = probe(port, batch)?;
        let shape = array.shape().iter().map(|&d| Dim::Fixed(d)).collect();
        graph.types.insert(
            port.name.clone(),
            ValueType {
                dtype: port.dtype,
                shape,
            },
        );
        names.insert(port.name.clone());
        let origin = Origin::Traced {
            trace: serial,
            name: port.name.as_str().into(),
        };
        values.push(Value::with_origin(tensor_of(&array, device)?, origin));
    }
    // Output names are set at the end and must be free until then.
    names.extend(outputs.iter().map(|port| port.name.clone()));

    let tracer = Tracer {
        serial,
        graph,
        scopes: BTreeMap::new(),
        names,
        constants: BTreeMap::new(),
    };
    if is_on() {
        return Err(frozen(
            name,
            "another graph is being recorded on this thread".into(),
        ));
    }
    TRACER.set(Some(tracer));
    let computed = run(&values).and_then(|results| bind_outputs(name, outputs, results));
    let tracer = TRACER
        .take()
        .ok_or_else(|| frozen(name, "the recording was lost".into()))?;
    computed?;
    Ok(tracer)
}

/// Gives the results their port names.
fn bind_outputs(name: &str, outputs: &[Port], results: Vec<Value>) -> Result<()> {
    if results.len() != outputs.len() {
        return Err(frozen(
            name,
            format!(
                "{} outputs are declared, {} computed",
                outputs.len(),
                results.len()
            ),
        ));
    }
    for (port, value) in outputs.iter().zip(results) {
        // A value that is an input, a parameter or another output already keeps that name: only a copy may be called otherwise.
        let own = TRACER.with_borrow(|tracer| match (value.origin(), tracer) {
            (Origin::Traced { name, .. }, Some(t)) => {
                t.graph.nodes.iter().any(|n| n.outputs[0] == **name)
                    && !outputs.iter().any(|o| o.name == **name)
            }
            _ => false,
        });
        let value = if own {
            value
        } else {
            crate::value::record(Ok(value.tensor().clone()), "Identity", |node| {
                node.input(&value).map(|_| ())
            })?
        };
        let Origin::Traced { name: from, .. } = value.origin() else {
            continue;
        };
        TRACER.with_borrow_mut(|tracer| {
            if let Some(tracer) = tracer {
                rename(&mut tracer.graph, from, &port.name);
            }
        });
    }
    Ok(())
}

fn rename(graph: &mut Graph, from: &str, to: &str) {
    for node in &mut graph.nodes {
        for value in node
            .inputs
            .iter_mut()
            .chain(&mut node.outputs)
            .filter(|v| *v == from)
        {
            *value = to.into();
        }
    }
    if let Some(value_type) = graph.types.remove(from) {
        graph.types.insert(to.into(), value_type);
    }
}

/// Inputs to record with: other elements in every run, so that what depends on them shows.
fn probe(port: &Port, batch: usize) -> Result<Array> {
    let stream = Stream::new(batch as u64).named(&port.name);
    let shape = port
        .shape_at(batch)
        .ok_or_else(|| Error::input(format!("port {:?} is too large", port.name)))?;
    let count = shape.iter().product();
    Ok(match (port.dtype, port.distribution) {
        (zoo_graph::DType::I64, _) => {
            let below = port.range.map_or(1, |[_, high]| high as u64 + 1);
            Array::i64(shape, stream.integers(count, below))?
        }
        (zoo_graph::DType::F32, Some(Distribution::Normal)) => {
            Array::f32(shape, stream.normal(count))?
        }
        (zoo_graph::DType::F32, _) => Array::f32(shape, stream.uniform(count))?,
        (other, _) => {
            return Err(Error::input(format!(
                "port {:?}: graphs take f32 or i64, not {other}",
                port.name
            )));
        }
    })
}

/// Checks that two runs recorded the same nodes, attributes and constants.
fn agree(
    name: &str,
    a: &Graph,
    b: &Graph,
    batch: usize,
    constants: &BTreeMap<String, String>,
) -> Result<()> {
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        if x != y {
            let at = x.origin.as_deref().unwrap_or("?");
            let message = format!(
                "{} ({}) at {at} differs between batches of {} and {batch}: sizes written into an operation must not depend on the batch",
                x.name, x.op, BATCHES[0]
            );
            return Err(frozen(name, message));
        }
    }
    if a.nodes.len() != b.nodes.len() {
        let message = format!(
            "{} operations with a batch of {}, {} with {batch}: a loop or branch depends on the batch",
            a.nodes.len(),
            BATCHES[0],
            b.nodes.len()
        );
        return Err(frozen(name, message));
    }
    for (x, y) in a.initializers.iter().zip(&b.initializers) {
        if x != y {
            let at = constants.get(&y.name).map_or("?", String::as_str);
            let message = format!(
                "constant {:?} at {at} differs between two runs ({:?} and {:?}): it was computed from the data or the batch. \
                 In a reshape write 0 (keep) or -1 (infer) instead of a size",
                x.name,
                preview(&x.value),
                preview(&y.value)
            );
            return Err(frozen(name, message));
        }
    }
    Ok(())
}

fn preview(array: &Array) -> Vec<f64> {
    array.to_f64().into_iter().take(4).collect()
}

fn place(graph: &Graph, value: &str) -> String {
    let node = graph
        .nodes
        .iter()
        .find(|n| n.outputs.iter().any(|o| o == value));
    match node {
        Some(node) => format!(
            "{value} ({}) at {}",
            node.op,
            node.origin.as_deref().unwrap_or("?")
        ),
        None => value.into(),
    }
}

fn fixed(graph: &Graph, value: &str) -> Vec<usize> {
    graph
        .types
        .get(value)
        .map(|t| t.shape.iter().filter_map(Dim::fixed).collect())
        .unwrap_or_default()
}

/// The shape that gives `sizes[i]` for a batch of `BATCHES[i]`.
fn symbolic(sizes: &[Vec<usize>]) -> Option<Vec<Dim>> {
    let rank = sizes[0].len();
    if sizes.iter().any(|s| s.len() != rank) {
        return None;
    }
    (0..rank)
        .map(|axis| {
            let (factor, rest) = (sizes[0][axis] / BATCHES[0], sizes[0][axis] % BATCHES[0]);
            if sizes.iter().all(|s| s[axis] == sizes[0][axis]) {
                Some(Dim::Fixed(sizes[0][axis]))
            } else if rest == 0
                && sizes
                    .iter()
                    .zip(BATCHES)
                    .all(|(s, n)| s[axis] == factor * n)
            {
                Some(Dim::Scaled {
                    symbol: BATCH.into(),
                    factor,
                })
            } else {
                None
            }
        })
        .collect()
}
