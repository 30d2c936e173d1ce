//! Holding the runs against each other.

use std::collections::BTreeMap;

use zoo_graph::{Array, BATCH, Dim, Graph};

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
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        if x != y {
            let at = x.origin.as_deref().unwrap_or("?");
            let message = format!(
                "{} ({}) at {at} differs between batches of {} and {batch}: sizes written into an operation must not depend on the batch",
                x.name, x.op, BATCHES[0]
            );
            return Err(frozen(name, message));
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

fn preview(array: &Array) -> Vec<f64> {
    array.to_f64().into_iter().take(4).collect()
}

pub(super) fn place(graph: &Graph, value: &str) -> String {
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

pub(super) fn fixed(graph: &Graph, value: &str) -> Vec<usize> {
    graph
        .types
        .get(value)
        .map(|t| t.shape.iter().filter_map(Dim::fixed).collect())
        .unwrap_or_default()
}

/// The shape that gives `sizes[i]` for a batch of `BATCHES[i]`.
pub(super) fn symbolic(sizes: &[Vec<usize>]) -> Option<Vec<Dim>> {
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
