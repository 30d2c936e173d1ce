//! Holding the runs against each other.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, Dim, Graph, Node};

use super::{
    fit::{Fit, fit},
    frozen,
    runs::Runs,
};
use crate::Result;

/// Checks that two runs with these sizes recorded the same nodes, attributes and constants.
pub(super) fn agree(
    name: &str,
    a: &Graph,
    b: &Graph,
    sizes: &[String; 2],
    constants: &BTreeMap<String, String>,
) -> Result<()> {
    agree_nodes(name, a, b, sizes)?;
    for (x, y) in a.initializers.iter().zip(&b.initializers) {
        if x != y {
            let at = constants.get(&y.name).map_or("?", String::as_str);
            let message = format!(
                "constant {:?} at {at} differs between two runs ({:?} and {:?}): it was computed from the data or their sizes. \
                 In a reshape write 0 (keep) or -1 (infer) instead of a size",
                x.name,
                preview(&x.value),
                preview(&y.value)
            );
            return Err(frozen(name, message));
        }
    }
    Ok(())
}

fn agree_nodes(name: &str, a: &Graph, b: &Graph, sizes: &[String; 2]) -> Result<()> {
    let [first, second] = sizes;
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        if bare(x) != bare(y) {
            let at = x.origin.as_deref().unwrap_or("?");
            let message = format!(
                "{} ({}) at {at} differs between {first} and {second}: sizes written into an operation must not depend on those of the inputs",
                x.name, x.op
            );
            return Err(frozen(name, message));
        }
        for (x, y) in x.bodies().zip(y.bodies()) {
            agree_nodes(name, x, y, sizes)?;
        }
    }
    if a.nodes.len() != b.nodes.len() {
        let message = format!(
            "{} operations with {first}, {} with {second}: a loop or branch depends on the sizes",
            a.nodes.len(),
            b.nodes.len()
        );
        return Err(frozen(name, message));
    }
    Ok(())
}

/// A node with its bodies left out: their types have the batch in them.
fn bare(node: &Node) -> Node {
    let mut node = node.clone();
    for attribute in node.attributes.values_mut() {
        if let Attribute::Graph(body) = attribute {
            **body = Graph::default();
        }
    }
    node
}

/// Gives every value the shape that it has for all sizes: `graph` was recorded with the first of `runs`, `others` with the rest.
///
/// The answer is 1, or the largest number by which sizes seem to be divided: then runs are missing that tell all remainders, and `graph` is not finished.
pub(super) fn generalise(
    name: &str,
    graph: &mut Graph,
    others: &[&Graph],
    runs: &Runs,
) -> Result<usize> {
    let mut divisor = 1;
    let values: Vec<String> = graph.types.keys().cloned().collect();
    for value in values {
        let sizes: Vec<Vec<usize>> = std::iter::once(&*graph)
            .chain(others.iter().copied())
            .map(|g| fixed(g, &value))
            .collect();
        match symbolic(&sizes, runs) {
            Some(Ok(shape)) => {
                if let Some(value_type) = graph.types.get_mut(&value) {
                    value_type.shape = shape;
                }
            }
            Some(Err(unclear)) => divisor = divisor.max(unclear),
            None => {
                let said: Vec<String> = (0..sizes.len()).map(|i| runs.said(i)).collect();
                let message = format!(
                    "{} has the shapes {sizes:?} with {}: neither fixed, nor a multiple of the batch, nor a sum of multiples of the other sizes",
                    place(graph, &value),
                    said.join(", ")
                );
                return Err(frozen(name, message));
            }
        }
    }
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        for (key, attribute) in &mut node.attributes {
            let Attribute::Graph(body) = attribute else {
                continue;
            };
            let same = others
                .iter()
                .filter_map(|other| match other.nodes[i].attributes.get(key) {
                    Some(Attribute::Graph(body)) => Some(&**body),
                    _ => None,
                });
            let others: Vec<&Graph> = same.collect();
            divisor = divisor.max(generalise(name, body, &others, runs)?);
            let types = &body.types;
            for port in body.inputs.iter_mut().chain(&mut body.outputs) {
                if let Some(value_type) = types.get(&port.name) {
                    port.shape.clone_from(&value_type.shape);
                }
            }
        }
    }
    Ok(divisor)
}

fn preview(array: &Array) -> Vec<f64> {
    array.to_f64().into_iter().take(4).collect()
}

fn place(graph: &Graph, value: &str) -> String {
    let node = graph
        .nodes
        .iter()
        .find(|n| n.outputs.iter().any(|o| o == value));
    match node {
        Some(node) => format!(
            "{value} ({}) at {}",
            node.op,
            node.origin.as_deref().unwrap_or("?")
        ),
        None => value.into(),
    }
}

fn fixed(graph: &Graph, value: &str) -> Vec<usize> {
    graph
        .types
        .get(value)
        .map(|t| t.shape.iter().filter_map(Dim::fixed).collect())
        .unwrap_or_default()
}

/// The shape that gives `sizes[i]` in run `i`, or what its sizes may be divided by.
fn symbolic(sizes: &[Vec<usize>], runs: &Runs) -> Option<Result<Vec<Dim>, usize>> {
    let rank = sizes[0].len();
    if sizes.iter().any(|s| s.len() != rank) {
        return None;
    }
    let mut shape = Vec::with_capacity(rank);
    for axis in 0..rank {
        let along: Vec<usize> = sizes.iter().map(|s| s[axis]).collect();
        match fit(&along, runs)? {
            Fit::Dim(dim) => shape.push(dim),
            Fit::DividedBy(divisor) => return Some(Err(divisor)),
        }
    }
    Some(Ok(shape))
}
