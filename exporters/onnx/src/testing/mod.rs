//! What the tests build graphs with, and a slow reference that runs them.

mod reference;
mod rows;

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, DType, Graph, Initializer, Node, Port, trial_sizes};

use crate::{
    edit::type_of,
    ops::{Args, Scope, conforms, infer},
};
pub(crate) use reference::run;
pub(crate) use rows::{Operand, Row};

/// A graph under construction; types follow from the nodes.
pub(crate) struct Net {
    pub graph: Graph,
    outer: Vec<Port>,
}

impl Net {
    pub fn new(name: &str) -> Self {
        Self {
            graph: Graph {
                name: name.into(),
                ..Graph::default()
            },
            outer: Vec::new(),
        }
    }

    /// A body that sees these values.
    pub fn inside(name: &str, outer: &[Port]) -> Self {
        let mut net = Self::new(name);
        net.graph.types = outer
            .iter()
            .map(|port| (port.name.clone(), port.value_type()))
            .collect();
        net.outer = outer.to_vec();
        net
    }

    pub fn input(&mut self, port: Port) -> String {
        self.graph
            .types
            .insert(port.name.clone(), port.value_type());
        self.graph.inputs.push(port.clone());
        port.name
    }

    pub fn constant(&mut self, name: &str, value: Array) -> String {
        self.graph.types.insert(name.into(), type_of(&value));
        self.graph.initializers.push(Initializer {
            name: name.into(),
            value,
        });
        name.into()
    }

    /// Adds a node `name` with that one output.
    pub fn node(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> String {
        self.nodes(&[name], op, inputs, attributes);
        name.into()
    }

    pub fn nodes(
        &mut self,
        outputs: &[&str],
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let node = Node {
            name: outputs[0].into(),
            op: op.into(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: outputs.iter().map(|o| o.to_string()).collect(),
            attributes: attributes
                .iter()
                .map(|(k, v)| (k.to_string(), v.clone()))
                .collect::<BTreeMap<_, _>>(),
            origin: Some("net.rs:1".into()),
        };
        conforms(&node).unwrap_or_else(|e| panic!("{op}: {e}"));
        let types = infer(&Args::of(&node, &Scope::new(&self.graph, None)))
            .unwrap_or_else(|e| panic!("{op}: {e}"));
        for (name, ty) in outputs.iter().zip(types) {
            self.graph
                .types
                .insert(name.to_string(), ty.complete().unwrap());
        }
        self.graph.nodes.push(node);
    }

    /// The graph with these outputs.
    pub fn outputs(mut self, names: &[&str]) -> Graph {
        for name in names {
            let ty = &self.graph.types[*name];
            self.graph
                .outputs
                .push(Port::new(*name, ty.dtype, ty.shape.clone()));
        }
        for port in &self.outer {
            self.graph.types.remove(&port.name);
        }
        if self.outer.is_empty() {
            self.graph.validate().unwrap();
        }
        self.graph
    }
}

/// A graph of one node over `x`, with further constant inputs.
pub(crate) fn single(
    op: &str,
    shape: &[usize],
    constants: Vec<Array>,
    attributes: &[(&str, Attribute)],
) -> Graph {
    let mut net = Net::new("op");
    net.input(Port::batched("x", shape));
    let mut inputs = vec!["x".to_string()];
    for (i, value) in constants.into_iter().enumerate() {
        inputs.push(net.constant(&format!("c{i}"), value));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    net.node("y", op, &inputs, attributes);
    net.outputs(&["y"])
}

/// Numbers in [-2, 2) that follow from a seed.
pub(crate) fn random(shape: &[usize], seed: u64) -> Array {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    let count = shape.iter().product();
    Array::f32(shape, (0..count).map(|_| next()).collect::<Vec<_>>()).unwrap()
}

pub(crate) fn positive(shape: &[usize], seed: u64) -> Array {
    let values: Vec<f32> = random(shape, seed)
        .as_f32()
        .unwrap()
        .iter()
        .map(|v| v.abs() + 0.1)
        .collect();
    Array::f32(shape, values).unwrap()
}

/// Random inputs of a graph at batch `n`.
pub(crate) fn feed(graph: &Graph, n: usize) -> Vec<(String, Array)> {
    let sizes = trial_sizes(&graph.inputs, n);
    let value = |(i, port): (usize, &Port)| {
        let shape = port.shape_at(&sizes).unwrap();
        let value = match port.dtype {
            DType::F32 => random(&shape, i as u64 + 1),
            DType::I64 if shape.is_empty() => {
                let most = port.range.map_or(1.0, |range| range[1]);
                Array::i64([], [most as i64]).unwrap()
            }
            DType::I64 => {
                let count: usize = shape.iter().product();
                Array::i64(shape, (0..count as i64).map(|k| k % 2).collect::<Vec<_>>()).unwrap()
            }
            DType::Bool => {
                let count: usize = shape.iter().product();
                Array::bool(
                    shape,
                    (0..count).map(|k| (k % 3 == 0).into()).collect::<Vec<_>>(),
                )
                .unwrap()
            }
            other => panic!("no inputs of {other}"),
        };
        (port.name.clone(), value)
    };
    graph.inputs.iter().enumerate().map(value).collect()
}

/// Asserts that two graphs give the same at batch 1 and 3.
pub(crate) fn assert_same(a: &Graph, b: &Graph, what: &str) {
    for n in [1, 3] {
        let inputs = feed(a, n);
        let (x, y) = (run(a, &inputs), run(b, &inputs));
        for ((x, y), port) in x.iter().zip(&y).zip(&a.outputs) {
            assert_eq!(x.shape(), y.shape(), "{what} at batch {n}");
            for (x, y) in x.to_f64().iter().zip(y.to_f64()) {
                assert!(
                    (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-5 + 1e-5 * x.abs(),
                    "{what}: {} at batch {n}: {x} against {y}",
                    port.name
                );
            }
        }
    }
}

/// The operators of a graph in order.
pub(crate) fn ops(graph: &Graph) -> String {
    graph
        .nodes
        .iter()
        .map(|n| n.op.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}
