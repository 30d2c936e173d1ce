//! What one run writes down.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{DType, Tensor};
use zoo_graph::{Array, Attribute, Dim, Graph, Initializer, Node, ValueType};

use crate::{Error, Result, Value, error::here, params::array_of, value::Origin};

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
                    .initializer(path, array_of(value.held().peek())?, None)?;
                path.to_string()
            }
            Origin::Constant => {
                let array = array_of(value.held().peek())?;
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

/// What a finished run leaves.
pub(super) struct Recorded {
    pub graph: Graph,
    /// For each initializer made from a constant: where it was first used.
    pub constants: BTreeMap<String, String>,
}

/// A trace that is on until this is dropped, also by an error or a panic.
pub(super) struct Recording {
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
        TRACER.set(Some(Tracer {
            serial,
            graph,
            scopes: BTreeMap::new(),
            names,
            constants: BTreeMap::new(),
        }));
        Some(Self { serial })
    }

    /// The graph's input `name`.
    pub fn input(&self, name: &str, tensor: Tensor) -> Value {
        Value::with_origin(
            tensor,
            Origin::Traced {
                trace: self.serial,
                name: name.into(),
            },
        )
    }

    /// Whether `value` comes from a node and is not an output yet.
    pub fn is_nameless(&self, value: &Value) -> bool {
        let Origin::Traced { trace, name } = value.origin() else {
            return false;
        };
        let from_node = |t: &Tracer| t.graph.nodes.iter().any(|node| node.outputs[0] == **name);
        let is_output = |t: &Tracer| t.graph.outputs.iter().any(|port| port.name == **name);
        *trace == self.serial
            && TRACER.with_borrow(|t| t.as_ref().is_some_and(|t| from_node(t) && !is_output(t)))
    }

    /// Calls a node's result by an output's name.
    pub fn name(&self, value: &Value, to: &str) {
        let Origin::Traced { name: from, .. } = value.origin() else {
            return;
        };
        TRACER.with_borrow_mut(|tracer| {
            let Some(Tracer { graph, .. }) = tracer else {
                return;
            };
            for node in &mut graph.nodes {
                for value in node
                    .inputs
                    .iter_mut()
                    .chain(&mut node.outputs)
                    .filter(|v| **v == **from)
                {
                    *value = to.into();
                }
            }
            if let Some(value_type) = graph.types.remove(&**from) {
                graph.types.insert(to.into(), value_type);
            }
        });
    }

    /// Ends the trace.
    pub fn finish(self) -> Option<Recorded> {
        TRACER.take().map(
            |Tracer {
                 graph, constants, ..
             }| Recorded { graph, constants },
        )
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        TRACER.set(None);
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
