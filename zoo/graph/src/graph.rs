//! Nodes, values, ports.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Array, DType, Dim, Error, Result, Sizes};

/// A recorded network: nodes in execution order over named values.
///
/// Value names are unique across inputs, initializers and node outputs, also those of sub-graphs: an inner graph sees
/// the values of the graphs around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// What the graph computes: `encode`, `decode`, `sample`, ...
    pub name: String,
    /// What the caller feeds, in order.
    pub inputs: Vec<Port>,
    /// What the caller gets, in order.
    pub outputs: Vec<Port>,
    /// Weights under their parameter paths, and constants.
    pub initializers: Vec<Initializer>,
    /// Operations; each reads only what stands before it.
    pub nodes: Vec<Node>,
    /// Type of every input, initializer and node output.
    pub types: BTreeMap<String, ValueType>,
}

/// A named constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Initializer {
    /// A parameter's path, or a name made from the node that reads it.
    pub name: String,
    /// Its value.
    pub value: Array,
}

/// One operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Unique in its graph; error messages show it.
    pub name: String,
    /// An operator of ONNX opset 17.
    pub op: String,
    /// Names of the values read; an empty name is an optional input left out.
    pub inputs: Vec<String>,
    /// Names of the values produced.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
    /// `file:line` of the author's call, where known.
    pub origin: Option<String>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// `INT`
    Int(i64),
    /// `FLOAT`
    Float(f32),
    /// `STRING`
    Text(String),
    /// `INTS`
    Ints(Vec<i64>),
    /// `FLOATS`
    Floats(Vec<f32>),
    /// `TENSOR`
    Tensor(Array),
    /// `GRAPH`: the body of a loop or the branch of a condition.
    Graph(Box<Graph>),
}

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, possibly symbolic.
    pub shape: Vec<Dim>,
}

/// Where a port's random numbers come from. A graph never draws any itself, so that the same noise gives the same
/// image in every runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// Independent N(0, 1).
    Normal,
    /// Independent U[0, 1).
    Uniform,
}

/// An input or output of a graph, described so that a host without the model knows what to feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// One of the fixed port names: `x`, `z`, `noise`, `label`, ...
    pub name: String,
    /// Sizes; the first one is usually N.
    pub shape: Vec<Dim>,
    /// Element type.
    pub dtype: DType,
    /// Smallest and largest value, where bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// For noise: what to draw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// What the values mean, where the name does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Port {
    /// A port without bounds.
    pub fn new(name: impl Into<String>, dtype: DType, shape: impl Into<Vec<Dim>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            dtype,
            range: None,
            distribution: None,
            description: None,
        }
    }

    /// Images in [0, 1], `[N,C,H,W]`.
    pub fn image(name: impl Into<String>, [channels, height, width]: [usize; 3]) -> Self {
        let shape = [Dim::batch(), channels.into(), height.into(), width.into()];
        Self {
            range: Some([0.0, 1.0]),
            ..Self::new(name, DType::F32, shape)
        }
    }

    /// Images in [0, 1] of any size, `[N,C,H,W]`; `sides` are H and W, or what they must be a multiple of: `4*H`.
    pub fn images(name: impl Into<String>, channels: usize, [height, width]: [Dim; 2]) -> Self {
        Self {
            range: Some([0.0, 1.0]),
            ..Self::new(
                name,
                DType::F32,
                [Dim::batch(), channels.into(), height, width],
            )
        }
    }

    /// Standard normal noise, `[N, dims...]`.
    pub fn normal(name: impl Into<String>, dims: &[usize]) -> Self {
        Self {
            distribution: Some(Distribution::Normal),
            ..Self::batched(name, dims)
        }
    }

    /// Uniform noise in [0, 1), `[N, dims...]`.
    pub fn uniform(name: impl Into<String>, dims: &[usize]) -> Self {
        let port = Self::batched(name, dims);
        Self {
            distribution: Some(Distribution::Uniform),
            range: Some([0.0, 1.0]),
            ..port
        }
    }

    /// Class labels `0..classes`, i64 `[N]`.
    pub fn label(name: impl Into<String>, classes: usize) -> Self {
        let range = Some([0.0, classes.saturating_sub(1) as f64]);
        Self {
            range,
            ..Self::new(name, DType::I64, [Dim::batch()])
        }
    }

    /// How often a loop of the graph runs: one i64, without a dimension, of `least..=most`.
    pub fn count(name: impl Into<String>, least: usize, most: usize) -> Self {
        let range = Some([least as f64, most as f64]);
        Self {
            range,
            ..Self::new(name, DType::I64, [])
        }
    }

    /// Whether it is a [`count`](Self::count).
    pub fn is_count(&self) -> bool {
        self.dtype == DType::I64 && self.shape.is_empty()
    }

    /// Values of a caller's choice within `[least, most]`, f32 `[N, dims...]`: a time, a strength.
    pub fn bounded(name: impl Into<String>, dims: &[usize], range: [f64; 2]) -> Self {
        Self {
            range: Some(range),
            ..Self::batched(name, dims)
        }
    }

    /// The port, with a sentence on what its values mean.
    pub fn described(self, description: impl Into<String>) -> Self {
        Self {
            description: Some(description.into()),
            ..self
        }
    }

    /// Unbounded f32, `[N, dims...]`.
    pub fn batched(name: impl Into<String>, dims: &[usize]) -> Self {
        let shape: Vec<Dim> = std::iter::once(Dim::batch())
            .chain(dims.iter().map(|&d| d.into()))
            .collect();
        Self::new(name, DType::F32, shape)
    }

    /// The port's type.
    pub fn value_type(&self) -> ValueType {
        ValueType {
            dtype: self.dtype,
            shape: self.shape.clone(),
        }
    }

    /// The concrete shape when symbols stand for `sizes`, which may be the batch alone; `None` where one is missing and on overflow.
    pub fn shape_at(&self, sizes: impl Into<Sizes>) -> Option<Vec<usize>> {
        let sizes = sizes.into();
        self.shape.iter().map(|dim| dim.at(&sizes)).collect()
    }
}

/// What the symbols of a graph's inputs stand for where the inputs have these shapes: the first input that tells one decides.
pub fn sizes_of<'a>(inputs: &[Port], shape: impl Fn(&str) -> Option<&'a [usize]>) -> Sizes {
    let mut sizes = Sizes::default();
    for port in inputs {
        let given = shape(&port.name).unwrap_or_default();
        for (symbol, size) in port
            .shape
            .iter()
            .zip(given)
            .filter_map(|(d, &s)| d.solved(s))
        {
            if sizes.get(symbol).is_none() {
                sizes = sizes.with(symbol, size);
            }
        }
    }
    sizes
}

/// Sizes to try a graph with these inputs at: a batch of `n`, and small sides that differ from each other and from batch to batch.
pub fn trial_sizes(inputs: &[Port], n: usize) -> Sizes {
    with_sides(inputs, Sizes::batch(n), 8 + 2 * n.min(16), 5)
}

/// `sizes`, and for symbols of the inputs that they leave open: sides of so many pixels or a few more, each by so many longer than the one before.
pub fn with_sides(inputs: &[Port], mut sizes: Sizes, mut side: usize, longer: usize) -> Sizes {
    for dim in inputs.iter().flat_map(|port| &port.shape) {
        for symbol in dim.symbols() {
            if sizes.get(symbol).is_none() {
                let step = dim.grows_by(symbol).unwrap_or(1).max(1);
                sizes = sizes.with(symbol, side.div_ceil(step));
                side += longer;
            }
        }
    }
    sizes
}

impl Graph {
    /// The initializer called `name`.
    pub fn initializer(&self, name: &str) -> Option<&Array> {
        self.initializers
            .iter()
            .find(|i| i.name == name)
            .map(|i| &i.value)
    }

    /// Checks that every name is defined once and before its use, every value has a type, every output is produced.
    pub fn validate(&self) -> Result<()> {
        self.validate_in(&BTreeSet::new())
    }

    fn define<'a>(&self, name: &'a str, defined: &mut BTreeSet<&'a str>) -> Result<()> {
        if !self.types.contains_key(name) {
            return Err(Error::Untyped { value: name.into() });
        }
        if !defined.insert(name) {
            return Err(Error::Redefined { value: name.into() });
        }
        Ok(())
    }

    /// `outer`: what the graphs around this one define so far.
    fn validate_in<'a>(&'a self, outer: &BTreeSet<&'a str>) -> Result<()> {
        let mut defined = outer.clone();
        let ports = self.inputs.iter().map(|port| port.name.as_str());
        for name in ports.chain(self.initializers.iter().map(|i| i.name.as_str())) {
            self.define(name, &mut defined)?;
        }
        for node in &self.nodes {
            for input in node.inputs.iter().filter(|i| !i.is_empty()) {
                if !defined.contains(input.as_str()) {
                    let (node, op) = (node.name.clone(), node.op.clone());
                    return Err(Error::Undefined {
                        node,
                        op,
                        value: input.clone(),
                    });
                }
            }
            for body in node.bodies() {
                body.validate_in(&defined)?;
            }
            for output in node.outputs.iter().filter(|o| !o.is_empty()) {
                self.define(output, &mut defined)?;
            }
        }
        match self
            .outputs
            .iter()
            .find(|o| !defined.contains(o.name.as_str()))
        {
            Some(port) => Err(Error::Output(port.name.clone())),
            None => Ok(()),
        }
    }
}

impl Node {
    /// The sub-graphs among the attributes.
    pub fn bodies(&self) -> impl Iterator<Item = &Graph> {
        self.attributes
            .values()
            .filter_map(|attribute| match attribute {
                Attribute::Graph(graph) => Some(&**graph),
                _ => None,
            })
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    /// An integer-list attribute.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }
}
