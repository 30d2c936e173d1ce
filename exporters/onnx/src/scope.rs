//! What a node sees: the values of its graph and of the graphs around it.

use std::collections::BTreeMap;

use zoo_graph::{Array, Graph, Node, ValueType};

use crate::shape::Args;

/// A graph within the graphs around it.
pub(crate) struct Scope<'a> {
    graph: &'a Graph,
    constants: BTreeMap<&'a str, &'a Array>,
    outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub fn new(graph: &'a Graph, outer: Option<&'a Scope<'a>>) -> Self {
        let constants = graph
            .initializers
            .iter()
            .map(|i| (i.name.as_str(), &i.value));
        Self {
            graph,
            constants: constants.collect(),
            outer,
        }
    }

    /// The type of a value.
    pub fn ty(&self, name: &str) -> Option<&'a ValueType> {
        let own = self.graph.types.get(name);
        own.or_else(|| self.outer.and_then(|outer| outer.ty(name)))
    }

    /// The value of an initializer.
    pub fn constant(&self, name: &str) -> Option<&'a Array> {
        let own = self.constants.get(name).copied();
        own.or_else(|| self.outer.and_then(|outer| outer.constant(name)))
    }

    /// What is known of a node's inputs.
    pub fn args(&self, node: &'a Node) -> Args<'a> {
        let present = |name: &'a String| (!name.is_empty()).then_some(name.as_str());
        let inputs = || node.inputs.iter().map(present);
        Args {
            node,
            types: inputs().map(|name| self.ty(name?)).collect(),
            constants: inputs().map(|name| self.constant(name?)).collect(),
        }
    }
}
