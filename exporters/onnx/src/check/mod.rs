//! The checker that every file passes before any runtime sees it. Stricter than ONNX's own: what it cannot prove, it refuses.

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::{Array, BATCH, DType, Dim, Graph, Node, Port, ValueType};

use crate::{
    Error, IR_VERSION, Model, OPSET, Result, decode, edit,
    ops::{self, Args, Values},
};

/// Elements of one value at batch 1, at most.
const MAX_ELEMENTS: usize = 1 << 30;

/// What a checked file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What the caller feeds.
    pub inputs: Vec<Port>,
    /// What the caller gets.
    pub outputs: Vec<Port>,
    /// Nodes, those of bodies included.
    pub nodes: usize,
    /// Floating-point weights and constants, in elements.
    pub parameters: usize,
    /// The version of the operator set.
    pub opset: i64,
    /// `metadata_props`, in the file's order.
    pub metadata: Vec<(String, String)>,
}

/// Checks a file of ours: everything that [`check_foreign`] checks, opset and IR exactly ours, and the first dimension
/// of every port that has any is the batch N. One without is the same for all images, such as the number of a loop's steps.
pub fn check(bytes: &[u8]) -> Result<Summary> {
    let model = decode(bytes)?;
    if (model.ir_version, model.opset) != (IR_VERSION, OPSET) {
        return Err(Error::Model(format!(
            "it is of IR {} and opset {}, files of the zoo are of IR {IR_VERSION} and opset {OPSET}",
            model.ir_version, model.opset
        )));
    }
    let ports = model.graph.inputs.iter().chain(&model.graph.outputs);
    let mut stated = ports.filter(|port| !port.shape.is_empty());
    if let Some(port) = stated.find(|port| !is_batched(port)) {
        return Err(Error::value(
            &port.name,
            format!(
                "the first dimension of a port must be the batch {BATCH}, the port is {}",
                port.value_type()
            ),
        ));
    }
    summarise(model)
}

/// Whether the first dimension of a port is the batch.
pub(crate) fn is_batched(port: &Port) -> bool {
    port.shape.first().is_some_and(Dim::is_batch)
}

/// Checks a file from anywhere: structure, known operators with their attributes, single assignment, types and shapes
/// of all values (stated ones must agree with inferred ones), sizes of initializers, and that no data lie outside.
pub fn check_foreign(bytes: &[u8]) -> Result<Summary> {
    let model = decode(bytes)?;
    if !(3..=10).contains(&model.ir_version) || !(13..=OPSET).contains(&model.opset) {
        return Err(Error::Model(format!(
            "it is of IR {} and opset {}; IR 3 to 10 and opset 13 to {OPSET} are understood",
            model.ir_version, model.opset
        )));
    }
    summarise(model)
}

fn summarise(model: Model) -> Result<Summary> {
    let mut walk = Walk::default();
    walk.graph(&model.graph, true)?;
    let (nodes, parameters) = (walk.nodes, walk.parameters);
    Ok(Summary {
        inputs: model.graph.inputs,
        outputs: model.graph.outputs,
        nodes,
        parameters,
        opset: model.opset,
        metadata: model.metadata,
    })
}

/// What is visible at a point of the file.
#[derive(Default)]
struct Walk<'a> {
    types: BTreeMap<&'a str, ValueType>,
    constants: BTreeMap<&'a str, &'a Array>,
    nodes: usize,
    parameters: usize,
}

impl Values for Walk<'_> {
    fn ty(&self, name: &str) -> Option<&ValueType> {
        self.types.get(name)
    }

    fn constant(&self, name: &str) -> Option<&Array> {
        self.constants.get(name).copied()
    }
}

impl<'a> Walk<'a> {
    fn define(&mut self, name: &'a str, ty: ValueType, own: &mut Vec<&'a str>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::Model("a value has no name".into()));
        }
        let elements = ty
            .shape
            .iter()
            .try_fold(1usize, |n, dim| n.checked_mul(dim.content().0));
        if elements.is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Error::value(name, format!("{ty} is too large")));
        }
        if self.types.insert(name, ty).is_some() {
            return Err(Error::value(name, "it is defined twice"));
        }
        own.push(name);
        Ok(())
    }

    fn graph(&mut self, graph: &'a Graph, top: bool) -> Result<()> {
        let mut own = Vec::new();
        for port in &graph.inputs {
            self.define(&port.name, port.value_type(), &mut own)?;
        }
        for initializer in &graph.initializers {
            let value = &initializer.value;
            self.define(&initializer.name, edit::type_of(value), &mut own)?;
            self.constants.insert(&initializer.name, value);
            if matches!(value.dtype(), DType::F32 | DType::F64 | DType::F16) {
                self.parameters += value.len();
            }
        }
        let (mut names, mut produced) = (BTreeSet::new(), BTreeSet::new());
        for node in &graph.nodes {
            if !node.name.is_empty() && !names.insert(&node.name) {
                return Err(Error::node(node, "another node has its name"));
            }
            let types = self.node(node, graph)?;
            for (name, ty) in node.outputs.iter().zip(types) {
                if !name.is_empty() {
                    self.define(name, ty, &mut own)?;
                    produced.insert(name.as_str());
                }
            }
        }
        let known: BTreeSet<&str> = own.iter().copied().collect();
        let mut outputs = BTreeSet::new();
        for port in &graph.outputs {
            let name = port.name.as_str();
            if !outputs.insert(name) {
                return Err(Error::value(name, "two outputs have this name"));
            }
            if !produced.contains(name) && (top || !known.contains(name)) {
                return Err(Error::value(name, "no node produces this output"));
            }
            let ty = &self.types[name];
            if *ty != port.value_type() {
                return Err(Error::value(
                    name,
                    format!(
                        "the output is stated as {}, but it is {ty}",
                        port.value_type()
                    ),
                ));
            }
        }
        if let Some(name) = graph
            .types
            .keys()
            .find(|name| !known.contains(name.as_str()))
        {
            return Err(Error::value(
                name,
                "a type is stated for it, but nothing defines it",
            ));
        }
        for name in own {
            self.types.remove(name);
            self.constants.remove(name);
        }
        Ok(())
    }

    /// The types of a node's outputs.
    fn node(&mut self, node: &'a Node, graph: &'a Graph) -> Result<Vec<ValueType>> {
        self.nodes += 1;
        let op = ops::conforms(node).map_err(|reason| Error::node(node, reason))?;
        for input in node.inputs.iter().filter(|i| !i.is_empty()) {
            if !self.types.contains_key(input.as_str()) {
                return Err(Error::node(
                    node,
                    format!("input {input:?} is produced by nothing before it"),
                ));
            }
        }
        if op.since.is_some_and(|since| since > OPSET) {
            return Err(Error::node(
                node,
                format!("the operator is not part of opset {OPSET}"),
            ));
        }
        for body in node.bodies() {
            self.graph(body, false)?;
        }
        let inferred =
            (op.infer)(&Args::of(node, self)).map_err(|reason| Error::node(node, reason))?;
        if inferred.len() != node.outputs.len() {
            return Err(Error::node(
                node,
                format!(
                    "it has {} outputs, not {}",
                    inferred.len(),
                    node.outputs.len()
                ),
            ));
        }
        let mut types = Vec::with_capacity(inferred.len());
        for (name, inferred) in node.outputs.iter().zip(&inferred) {
            types.push(match (graph.types.get(name), inferred.complete()) {
                (Some(stated), _) if inferred.admits(stated) => stated.clone(),
                (Some(stated), _) => {
                    return Err(Error::node(
                        node,
                        format!("{name:?} is stated as {stated}, but it is {inferred}"),
                    ));
                }
                (None, Some(ty)) => ty,
                (None, None) => {
                    return Err(Error::node(
                        node,
                        format!(
                            "the type of {name:?} is not stated, and all that follows is {inferred}"
                        ),
                    ));
                }
            });
        }
        Ok(types)
    }
}

#[cfg(test)]
mod tests;
