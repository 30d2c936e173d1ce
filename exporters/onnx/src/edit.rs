//! Small changes to graphs that several modules make.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, Node, ValueType};

/// Lets everything that reads `from` read `to`.
pub(crate) fn redirect(nodes: &mut [Node], from: &str, to: &str) {
    rename(nodes, &BTreeMap::from([(from.into(), to.into())]));
}

/// Lets nodes and their bodies read other values where `names` has any.
pub(crate) fn rename(nodes: &mut [Node], names: &BTreeMap<String, String>) {
    for node in nodes {
        for input in &mut node.inputs {
            if let Some(other) = names.get(input) {
                input.clone_from(other);
            }
        }
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(body) = attribute {
                rename(&mut body.nodes, names);
            }
        }
    }
}

/// The type of a constant.
pub(crate) fn type_of(value: &Array) -> ValueType {
    ValueType {
        dtype: value.dtype(),
        shape: value.shape().iter().map(|&d| d.into()).collect(),
    }
}
