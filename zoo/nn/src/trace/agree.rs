//! Holding the runs against each other.

use std::collections::BTreeMap;

use zoo_graph::{Array, Attribute, BATCH, Dim, Graph, Node};

use super::{BATCHES, frozen};
use crate::Result;

/// Checks that two runs recorded the same nodes, attributes and constants.
pub(super) fn agree(
    name: &str,
    a: &Graph,
    b: &Graph,
    batch: usize,
    constants: &BTreeMap<String, String>,
) -> Result<()> {
    agree_nodes(name, a, b, batch)?;
    for (x, y) in a.initializers.iter().zip(&b.initializers) {
        if x != y {
            let at = constants.get(&y.name).map_or("?", String::as_str);
            let message = format!(
                "constant {:?} at {at} differs between two runs ({:?} and {:?}): it was computed from the data or the batch. \
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

fn agree_nodes(name: &str, a: &Graph, b: &Graph, batch: usize) -> Result<()> {
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        if bare(x) != bare(y) {
            let at = x.origin.as_deref().unwrap_or("?");
            let message = format!(
                "{} ({}) at {at} differs between batches of {} and {batch}: sizes written into an operation must not depend on the batch",
                x.name, x.op, BATCHES[0]
            );
            return Err(frozen(name, message));
        }
        for (x, y) in x.bodies().zip(y.bodies()) {
            agree_nodes(name, x, y, batch)?;
        }
    }
    if a.nodes.len() != b.nodes.len() {
        let message = format!(
            "{} operations with a batch of {}, {} with {batch}: a loop or branch depends on the batch",
            a.nodes.len(),
            BATCHES[0],
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

/// Gives every value the shape that it has for all batches: `graph` was recorded with the first of `BATCHES`, `others` with the rest.
pub(super) fn generalise(name: &str, graph: &mut Graph, others: &[&Graph]) -> Result<()> {
    let values: Vec<String> = graph.types.keys().cloned().collect();
    for value in values {
        let sizes: Vec<Vec<usize>> = std::iter::once(&*graph)
            .chain(others.iter().copied())
            .map(|g| fixed(g, &value))
            .collect();
        let shape = symbolic(&sizes).ok_or_else(|| {
            let message = format!("{} has shapes {sizes:?} for batches of {BATCHES:?}: neither fixed nor a multiple of the batch", place(graph, &value));
            frozen(name, message)
        })?;
        if let Some(value_type) = graph.types.get_mut(&value) {
            value_type.shape = shape;
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
            generalise(name, body, &others)?;
            let types = &body.types;
            for port in body.inputs.iter_mut().chain(&mut body.outputs) {
                if let Some(value_type) = types.get(&port.name) {
                    port.shape.clone_from(&value_type.shape);
                }
            }
        }
    }
    Ok(())
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

/// The shape that gives `sizes[i]` for a batch of `BATCHES[i]`.
fn symbolic(sizes: &[Vec<usize>]) -> Option<Vec<Dim>> {
    let rank = sizes[0].len();
    if sizes.iter().any(|s| s.len() != rank) {
        return None;
    }
    (0..rank)
        .map(|axis| {
            let (factor, rest) = (sizes[0][axis] / BATCHES[0], sizes[0][axis] % BATCHES[0]);
            if sizes.iter().all(|s| s[axis] == sizes[0][axis]) {
                Some(Dim::Fixed(sizes[0][axis]))
            } else if rest == 0
                && sizes
                    .iter()
                    .zip(BATCHES)
                    .all(|(s, n)| s[axis] == factor * n)
            {
                Some(Dim::Scaled {
                    symbol: BATCH.into(),
                    factor,
                })
            } else {
                None
            }
        })
        .collect()
}
