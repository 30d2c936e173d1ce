//! Nodes as lines of text, for tables.

use zoo_graph::{Array, Attribute, DType, Dim, Graph, Port};

use super::{Net, random};

/// What a node reads.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Input(Port),
    Constant(Array),
    LeftOut,
}

/// A node; `src/ops/table.txt` tells how it is written.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub op: String,
    pub outputs: usize,
    pub operands: Vec<Operand>,
    pub attributes: Vec<(String, Attribute)>,
}

impl Row {
    pub fn parse(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap();
        let (op, outputs) = name.split_once(':').unwrap_or((name, "1"));
        let mut row = Self {
            op: op.into(),
            outputs: outputs.parse().unwrap(),
            operands: Vec::new(),
            attributes: Vec::new(),
        };
        for word in words {
            match word.strip_prefix('{') {
                Some(list) => row.attributes = attributes(list.trim_end_matches('}')),
                None => row.operands.push(operand(word, row.operands.len())),
            }
        }
        row
    }

    /// The graph of the node alone.
    pub fn graph(&self) -> Graph {
        let mut net = Net::new("op");
        let named = self.operands.iter().enumerate();
        let inputs: Vec<String> = named
            .map(|(i, operand)| match operand {
                Operand::Input(port) => net.input(port.clone()),
                Operand::Constant(value) => net.constant(&format!("c{i}"), value.clone()),
                Operand::LeftOut => String::new(),
            })
            .collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let outputs: Vec<String> = (0..self.outputs).map(|k| format!("y{k}")).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let attributes = self.attributes.iter();
        let attributes: Vec<_> = attributes.map(|(k, v)| (k.as_str(), v.clone())).collect();
        net.nodes(&outputs, &self.op, &inputs, &attributes);
        net.outputs(&outputs)
    }
}

/// `f[2,1](0,1)`: the letter, the shape and the numbers, where they are given.
fn operand(word: &str, i: usize) -> Operand {
    let (kind, rest) = word.split_at(1);
    let (dims, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (dims, rest) = rest.split_once(']').unwrap();
            (Some(numbers::<Dim>(dims)), rest)
        }
        None => (None, rest),
    };
    let sizes = dims
        .iter()
        .flatten()
        .map(|dim| dim.at(&1.into()).unwrap_or(0));
    let sizes = dims.is_some().then(|| sizes.collect::<Vec<_>>());
    let shape = || {
        let batch = std::iter::once(Dim::batch());
        batch.chain(dims.clone().unwrap()).collect::<Vec<_>>()
    };
    let values = rest.strip_prefix('(').map(|v| v.trim_end_matches(')'));
    let listed = || vec![numbers::<i64>(values.unwrap()).len()];
    let constant = match kind.as_bytes() {
        b"_" => return Operand::LeftOut,
        b"x" => return Operand::Input(Port::new(format!("x{i}"), DType::F32, shape())),
        b"l" | b"t" => {
            let dtype = if kind == "l" { DType::I64 } else { DType::Bool };
            return Operand::Input(Port::new(format!("x{i}"), dtype, shape()));
        }
        b"f" => match values {
            Some(values) => Array::f32(sizes.unwrap_or_default(), numbers::<f32>(values)),
            None => Ok(random(&sizes.unwrap(), i as u64)),
        },
        b"i" => Array::i64(
            sizes.unwrap_or_else(listed),
            numbers::<i64>(values.unwrap()),
        ),
        b"b" => Array::bool(sizes.unwrap_or_else(listed), numbers::<u8>(values.unwrap())),
        _ => panic!("{word}"),
    };
    Operand::Constant(constant.unwrap())
}

fn attributes(list: &str) -> Vec<(String, Attribute)> {
    let mut all = Vec::new();
    let mut rest = list;
    while let Some((name, value)) = rest.split_once('=') {
        let end = match value.find(']') {
            Some(end) if value.starts_with('[') => end + 1,
            _ => value.find(',').unwrap_or(value.len()),
        };
        let (text, after) = value.split_at(end);
        let value = match (text.strip_prefix('['), text.parse(), text.parse()) {
            (Some(ints), ..) => Attribute::Ints(numbers(ints.trim_end_matches(']'))),
            (_, Ok(int), _) => Attribute::Int(int),
            (_, _, Ok(float)) => Attribute::Float(float),
            _ => Attribute::Text(text.into()),
        };
        all.push((name.into(), value));
        rest = after.trim_start_matches(',');
    }
    all
}

fn numbers<T: std::str::FromStr>(list: &str) -> Vec<T> {
    let parts = list.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse()
                .unwrap_or_else(|_| panic!("{part:?} in {list:?}"))
        })
        .collect()
}
