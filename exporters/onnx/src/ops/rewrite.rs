//! What a rewrite works with: the node, what is known of its inputs, and the graph that grows.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, Dim, Graph, Initializer, Node, ValueType};

use super::Target;
use crate::{
    scope::Scope,
    shape::{self, Args},
};

pub(super) type Attributes = BTreeMap<String, Attribute>;

/// Attributes from pairs.
pub(super) fn attributes<const K: usize>(pairs: [(&str, Attribute); K]) -> Attributes {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
}

pub(super) fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// One rewrite.
pub(super) struct Cx<'a> {
    scope: &'a Scope<'a>,
    pub node: &'a Node,
    pub args: Args<'a>,
    pub target: Target,
    out: &'a mut Graph,
}

impl<'a> Cx<'a> {
    pub fn new(scope: &'a Scope<'a>, node: &'a Node, target: Target, out: &'a mut Graph) -> Self {
        Self {
            scope,
            node,
            args: scope.args(node),
            target,
            out,
        }
    }

    /// The name of input `i`.
    pub fn input(&self, i: usize) -> Result<&'a str, String> {
        match self.node.inputs.get(i) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(format!("input {i} is missing")),
        }
    }

    /// The node's constant input `i`.
    pub fn constant(&self, i: usize) -> Option<&'a Array> {
        self.args.constants.get(i).copied().flatten()
    }

    /// The type recorded for output `i`.
    pub fn result(&self, i: usize) -> Result<&'a ValueType, String> {
        let name = self.node.outputs.get(i).ok_or("an output is missing")?;
        self.scope
            .ty(name)
            .ok_or_else(|| format!("the type of {name:?} is not recorded"))
    }

    pub fn ty(&self, name: &str) -> Option<&ValueType> {
        self.out.types.get(name).or_else(|| self.scope.ty(name))
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
        self.out.types.insert(name.clone(), ty);
        name
    }

    /// Adds a constant named after the node; gives its name.
    pub fn add(&mut self, suffix: &str, value: Array) -> String {
        let name = self.fresh(suffix);
        self.add_named(name, value)
    }

    /// Adds a constant under a name that nothing has yet.
    pub fn add_named(&mut self, name: String, value: Array) -> String {
        let shape = value.shape().iter().map(|&d| d.into()).collect();
        let ty = ValueType {
            dtype: value.dtype(),
            shape,
        };
        self.out.types.insert(name.clone(), ty);
        self.out.initializers.push(Initializer {
            name: name.clone(),
            value,
        });
        name
    }

    /// A scalar of the element type of value `like`.
    pub fn scalar(&mut self, suffix: &str, value: f64, like: &str) -> Result<String, String> {
        let dtype = self.ty(like).ok_or("an operand has no type")?.dtype;
        let array = crate::eval::scalar(dtype, value)?;
        Ok(self.add(suffix, array))
    }

    /// A list of integers.
    pub fn list(&mut self, suffix: &str, values: &[i64]) -> Result<String, String> {
        let array = Array::i64([values.len()], values).map_err(|e| e.to_string())?;
        Ok(self.add(suffix, array))
    }

    /// Appends a node with one new output, whose type follows from its inputs; gives the output's name.
    pub fn emit(
        &mut self,
        suffix: &str,
        op: &str,
        inputs: &[&str],
        attributes: Attributes,
    ) -> Result<String, String> {
        let output = self.fresh(suffix);
        let tail = output.strip_prefix(&self.node.outputs[0]).unwrap_or(suffix);
        let node = Node {
            name: format!("{}{tail}", self.node.name),
            op: op.into(),
            inputs: inputs.iter().map(|i| i.to_string()).collect(),
            outputs: vec![output.clone()],
            attributes,
            origin: self.node.origin.clone(),
        };
        let constant = |name: &str| {
            self.out
                .initializer(name)
                .or_else(|| self.scope.constant(name))
        };
        let args = Args {
            node: &node,
            types: node.inputs.iter().map(|i| self.ty(i)).collect(),
            constants: node.inputs.iter().map(|i| constant(i)).collect(),
        };
        let inferred = shape::infer(&args)?;
        let ty = inferred.first().and_then(shape::Inferred::complete);
        let ty = ty.ok_or_else(|| format!("the shape of its {op} cannot be stated"))?;
        self.out.types.insert(output.clone(), ty);
        self.out.nodes.push(node);
        Ok(output)
    }

    /// Appends the node that computes the original's only output.
    pub fn finish(&mut self, op: &str, inputs: &[&str], attributes: Attributes) {
        self.copy(Node {
            name: self.node.name.clone(),
            op: op.into(),
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
        self.out.nodes.push(node);
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
