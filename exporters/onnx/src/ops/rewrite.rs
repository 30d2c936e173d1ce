//! What a rewrite works with: the node, what is known of its inputs, and the graph that grows.

use std::collections::{BTreeMap, HashMap};

use zoo_graph::{Array, Attribute, Dim, Graph, Initializer, Node, ValueType};

use super::{
    OpKind, Target,
    args::{Args, Inferred, Scope, Values},
    conforms, constants, infer,
};
use crate::Error;

pub(super) type Attributes = BTreeMap<String, Attribute>;

/// Attributes from pairs.
pub(super) fn attributes<const K: usize>(pairs: [(&str, Attribute); K]) -> Attributes {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

/// The attribute that says `axis`.
pub(super) fn along(axis: usize) -> Attributes {
    attributes([("axis", Attribute::Int(axis as i64))])
}

pub(super) fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// Why a node cannot be written for a target.
pub(crate) enum Failure {
    /// What is missing, and the way out.
    Reason(String),
    /// A node of its body cannot be written.
    Body(Error),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        Self::Reason(reason.into())
    }
}

/// A graph that is being written.
pub(crate) struct Output {
    pub graph: Graph,
    constants: HashMap<String, usize>,
}

impl Output {
    /// Ports, constants and types of `graph`, without its nodes.
    pub fn of(graph: &Graph) -> Self {
        let named = graph.initializers.iter().enumerate();
        Self {
            constants: named.map(|(i, c)| (c.name.clone(), i)).collect(),
            graph: Graph {
                name: graph.name.clone(),
                inputs: graph.inputs.clone(),
                outputs: graph.outputs.clone(),
                initializers: graph.initializers.clone(),
                nodes: Vec::with_capacity(graph.nodes.len()),
                types: graph.types.clone(),
            },
        }
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        let at = *self.constants.get(name)?;
        Some(&self.graph.initializers[at].value)
    }
}

/// What is written so far, and what it can see.
struct Visible<'a>(&'a Output, &'a Scope<'a>);

impl Values for Visible<'_> {
    fn ty(&self, name: &str) -> Option<&ValueType> {
        self.0.graph.types.get(name).or_else(|| self.1.ty(name))
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        self.0.constant(name).or_else(|| self.1.constant(name))
    }
}

/// Lowers a body, within the graph that its node stands in.
pub(crate) type LowerBody<'a> = &'a dyn Fn(&Graph) -> crate::Result<Graph>;

/// One rewrite.
pub(crate) struct Rewrite<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub node: &'a Node,
    pub args: Args<'a>,
    pub target: Target,
    out: &'a mut Output,
    body: LowerBody<'a>,
}

impl<'a> Rewrite<'a> {
    pub fn new(
        scope: &'a Scope<'a>,
        node: &'a Node,
        target: Target,
        out: &'a mut Output,
        body: LowerBody<'a>,
    ) -> Self {
        Self {
            scope,
            node,
            args: Args::of(node, scope),
            target,
            out,
            body,
        }
    }

    /// A body in the form of the target.
    pub fn body(&self, body: &Graph) -> Result<Graph, Failure> {
        (self.body)(body).map_err(Failure::Body)
    }

    /// Writes another node in the place of this one, by its own rewrite.
    pub fn rewrite(&mut self, node: &Node) -> Result<(), Failure> {
        let op = conforms(node)?;
        let mut cx = Rewrite::new(self.scope, node, self.target, self.out, self.body);
        (op.lower)(&mut cx)
    }

    /// Whether a value is known.
    pub fn is_constant(&self, name: &str) -> bool {
        self.out.constant(name).is_some() || self.scope.constant(name).is_some()
    }

    /// The name of input `i`.
    pub fn input(&self, i: usize) -> Result<&'a str, String> {
        match self.node.inputs.get(i) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(format!("input {i} is missing")),
        }
    }

    /// The type recorded for output `i`.
    pub fn result(&self, i: usize) -> Result<&'a ValueType, String> {
        let name = self.node.outputs.get(i).ok_or("an output is missing")?;
        self.scope
            .ty(name)
            .ok_or_else(|| format!("the type of {name:?} is not recorded"))
    }

    pub fn ty(&self, name: &str) -> Option<&ValueType> {
        let own = self.out.graph.types.get(name);
        own.or_else(|| self.scope.ty(name))
    }

    /// A name below the node's first output that nothing has yet.
    fn fresh(&self, suffix: &str) -> String {
        let stem = format!("{}/{suffix}", self.node.outputs[0]);
        let mut name = stem.clone();
        let mut k = 2;
        while self.ty(&name).is_some() {
            name = format!("{stem}_{k}");
            k += 1;
        }
        name
    }

    /// States the type of a value that a node written by hand gives; gives its name.
    pub fn define(&mut self, suffix: &str, ty: ValueType) -> String {
        let name = self.fresh(suffix);
        self.out.graph.types.insert(name.clone(), ty);
        name
    }

    /// Adds a constant named after the node; gives its name.
    pub fn add(&mut self, suffix: &str, value: Array) -> String {
        let name = self.fresh(suffix);
        let shape = value.shape().iter().map(|&d| d.into()).collect();
        let ty = ValueType {
            dtype: value.dtype(),
            shape,
        };
        self.out.graph.types.insert(name.clone(), ty);
        let initializers = &mut self.out.graph.initializers;
        self.out.constants.insert(name.clone(), initializers.len());
        initializers.push(Initializer {
            name: name.clone(),
            value,
        });
        name
    }

    /// A scalar of the element type of value `like`.
    pub fn scalar(&mut self, suffix: &str, value: f64, like: &str) -> Result<String, String> {
        let dtype = self.ty(like).ok_or("an operand has no type")?.dtype;
        let array = constants::scalar(dtype, value)?;
        Ok(self.add(suffix, array))
    }

    /// A list of integers.
    pub fn list(&mut self, suffix: &str, values: &[i64]) -> Result<String, String> {
        let array = Array::i64([values.len()], values).map_err(|e| e.to_string())?;
        Ok(self.add(suffix, array))
    }

    /// Appends a node with one new output, whose type follows from its inputs; gives the output's name.
    pub fn emit(&mut self, suffix: &str, op: OpKind, inputs: &[&str]) -> Result<String, String> {
        self.emit_with(suffix, op, inputs, Attributes::new())
    }

    /// [`emit`](Self::emit) with attributes.
    pub fn emit_with(
        &mut self,
        suffix: &str,
        op: OpKind,
        inputs: &[&str],
        attributes: Attributes,
    ) -> Result<String, String> {
        let output = self.fresh(suffix);
        let tail = output.strip_prefix(&self.node.outputs[0]).unwrap_or(suffix);
        let node = Node {
            name: format!("{}{tail}", self.node.name),
            op: op.name().into(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: vec![output.clone()],
            attributes,
            origin: self.node.origin.clone(),
        };
        let visible = Visible(self.out, self.scope);
        let inferred = infer(&Args::of(&node, &visible))?;
        let ty = inferred.first().and_then(Inferred::complete);
        let ty = ty.ok_or_else(|| format!("the shape of its {} cannot be stated", op.name()))?;
        self.out.graph.types.insert(output.clone(), ty);
        self.out.graph.nodes.push(node);
        Ok(output)
    }

    /// Appends the node that computes the original's only output.
    pub fn finish(&mut self, op: OpKind, inputs: &[&str]) {
        self.finish_with(op, inputs, Attributes::new());
    }

    /// [`finish`](Self::finish) with attributes.
    pub fn finish_with(&mut self, op: OpKind, inputs: &[&str], attributes: Attributes) {
        self.copy(Node {
            name: self.node.name.clone(),
            op: op.name().into(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: self.node.outputs[..1].to_vec(),
            attributes,
            origin: self.node.origin.clone(),
        });
    }

    /// The original with other attributes.
    pub fn rewritten(&mut self, attributes: Attributes) {
        self.copy(Node {
            attributes,
            ..self.node.clone()
        });
    }

    /// Appends a node whose outputs are the original's. Optional inputs left out at the end are dropped.
    pub fn copy(&mut self, mut node: Node) {
        while node.inputs.last().is_some_and(String::is_empty) {
            node.inputs.pop();
        }
        self.out.graph.nodes.push(node);
    }

    /// Appends the node that gives this value as the original's only output.
    pub fn pass(&mut self, value: &str) {
        self.finish(OpKind::Identity, &[value]);
    }

    /// The fixed sizes of a shape.
    pub fn fixed(&self, shape: &[Dim]) -> Result<Vec<usize>, String> {
        let sizes = shape.iter().map(|d| {
            d.fixed()
                .ok_or_else(|| format!("the size {d} must be fixed"))
        });
        sizes.collect()
    }
}
