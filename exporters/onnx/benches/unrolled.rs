//! How long networks without loops take to export: `cargo bench -p zoo-onnx -- 2000 20000`, with numbers of nodes.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use zoo_graph::{Array, Attribute, DType, Dim, Graph, Initializer, Node, Port, ValueType};
use zoo_onnx::{Options, export};

const WIDTH: usize = 8;

/// A network under construction.
#[derive(Default)]
struct Net {
    graph: Graph,
}

impl Net {
    fn constant(&mut self, name: &str, value: Array) -> String {
        let shape: Vec<Dim> = value.shape().iter().map(|&d| d.into()).collect();
        let dtype = value.dtype();
        let ty = ValueType { dtype, shape };
        self.graph.types.insert(name.into(), ty);
        let name = name.to_owned();
        self.graph.initializers.push(Initializer {
            name: name.clone(),
            value,
        });
        name
    }

    fn weight(&mut self, name: &str, shape: &[usize]) -> String {
        let count: usize = shape.iter().product();
        let seed = self.graph.initializers.len();
        let values = (0..count).map(|i| 0.5 + ((i * 7 + seed) % 11) as f32 / 11.0);
        self.constant(name, Array::f32(shape, values.collect::<Vec<_>>()).unwrap())
    }

    fn node(&mut self, op: &str, inputs: &[&str], dims: &[usize], int: &[(&str, i64)]) -> String {
        let name = format!("v{}", self.graph.nodes.len());
        let shape: Vec<Dim> = std::iter::once(Dim::batch())
            .chain(dims.iter().map(|&d| d.into()))
            .collect();
        let dtype = DType::F32;
        let ty = ValueType { dtype, shape };
        self.graph.types.insert(name.clone(), ty);
        let attributes = int.iter();
        self.graph.nodes.push(Node {
            name: name.clone(),
            op: op.into(),
            inputs: inputs.iter().map(|&i| i.into()).collect(),
            outputs: vec![name.clone()],
            attributes: attributes
                .map(|&(k, v)| (k.into(), Attribute::Int(v)))
                .collect(),
            origin: None,
        });
        name
    }

    fn list(&mut self, value: i64) -> String {
        let name = format!("c{}", self.graph.initializers.len());
        self.constant(&name, Array::i64([1], [value]).unwrap())
    }

    /// Elements `from..to` along an axis.
    fn slice(&mut self, x: &str, axis: i64, from: i64, to: i64, dims: &[usize]) -> String {
        let (from, to, axis) = (self.list(from), self.list(to), self.list(axis));
        self.node("Slice", &[x, &from, &to, &axis], dims, &[])
    }
}

/// About `nodes` nodes: half of them a gated recurrence, unrolled, with the same weights in each step; half of them residual
/// layers with weights of their own.
fn unrolled(nodes: usize) -> Graph {
    let (steps, layers) = (nodes / 2 / 10, nodes / 2 / 4);
    let mut net = Net::default();
    net.graph.name = "unrolled".into();
    let port = Port::batched("x", &[steps, WIDTH]);
    net.graph.types.insert("x".into(), port.value_type());
    net.graph.inputs.push(port);
    let weight = net.weight("cell.weight", &[2 * WIDTH, 2 * WIDTH]);
    let bias = net.weight("cell.bias", &[2 * WIDTH]);
    let first = net.slice("x", 1, 0, 1, &[1, WIDTH]);
    let one = net.list(1);
    let mut h = net.node("Squeeze", &[&first, &one], &[WIDTH], &[]);
    for t in 0..steps as i64 {
        let axis = net.list(1);
        let now = net.slice("x", 1, t, t + 1, &[1, WIDTH]);
        let now = net.node("Squeeze", &[&now, &axis], &[WIDTH], &[]);
        let both = net.node("Concat", &[&h, &now], &[2 * WIDTH], &[("axis", 1)]);
        let transposed = [("transB", 1)];
        let gates = net.node("Gemm", &[&both, &weight, &bias], &[2 * WIDTH], &transposed);
        let gate = net.slice(&gates, 1, 0, WIDTH as i64, &[WIDTH]);
        let new = net.slice(&gates, 1, WIDTH as i64, 2 * WIDTH as i64, &[WIDTH]);
        let gate = net.node("Sigmoid", &[&gate], &[WIDTH], &[]);
        let new = net.node("Elu", &[&new], &[WIDTH], &[]);
        let new = net.node("Mul", &[&gate, &new], &[WIDTH], &[]);
        h = net.node("Add", &[&h, &new], &[WIDTH], &[]);
    }
    for k in 0..layers {
        let parameter = |part: &str| format!("layers.{k}.{part}");
        let weight = net.weight(&parameter("weight"), &[WIDTH, WIDTH]);
        let norm = ["norm.scale", "norm.bias", "norm.mean", "norm.var"];
        let norm = norm.map(|part| net.weight(&parameter(part), &[WIDTH]));
        let zero = net.weight(&parameter("bias"), &[WIDTH]);
        let y = net.node("Gemm", &[&h, &weight, &zero], &[WIDTH], &[]);
        let [scale, shift, mean, variance] = &norm;
        let inputs = [&y, scale, shift, mean, variance].map(String::as_str);
        let y = net.node("BatchNormalization", &inputs, &[WIDTH], &[]);
        let y = net.node("Softplus", &[&y], &[WIDTH], &[]);
        h = net.node("Add", &[&h, &y], &[WIDTH], &[]);
    }
    net.graph.outputs.push(Port::batched(h, &[WIDTH]));
    net.graph
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let numbers = match numbers.is_empty() {
        true => vec![500, 2_000, 20_000],
        false => numbers,
    };
    for nodes in numbers {
        let graph = unrolled(nodes);
        let start = Instant::now();
        let variants = export(&graph, &Options::default()).unwrap();
        let bytes: usize = variants
            .iter()
            .flat_map(|v| v.content.onnx())
            .map(<[u8]>::len)
            .sum();
        let (nodes, seconds) = (graph.nodes.len(), start.elapsed().as_secs_f64());
        println!(
            "{nodes} nodes: {seconds:.2} s, {} files, {bytes} bytes",
            variants.len()
        );
    }
}
