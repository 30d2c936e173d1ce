//! Nodes over constants become constants.

use zoo_graph::Graph;

use super::{is_output, redirect, set, uses};
use crate::{eval, ops, scope::Scope};

/// Evaluates every node that reads constants only. The result takes the name of the weight that it comes from, where
/// nothing else reads that weight, and else its own.
pub(super) fn fold(graph: &mut Graph, outer: Option<&Scope<'_>>) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        let node = &graph.nodes[i];
        let single = node.outputs.len() == 1 && !is_output(graph, &node.outputs[0]);
        let value = if single && ops::conforms(node).is_ok() {
            eval::evaluate(&Scope::new(graph, outer).args(node)).and_then(|mut values| values.pop())
        } else {
            None
        };
        let Some(value) = value else {
            i += 1;
            continue;
        };
        let node = graph.nodes.remove(i);
        let left = uses(graph);
        let own = |name: &&String| {
            graph
                .initializer(name)
                .is_some_and(|a| a.dtype() == value.dtype() && !a.shape().is_empty())
        };
        let weight = node
            .inputs
            .iter()
            .filter(own)
            .filter(|name| !left.contains_key(*name));
        // Of equal ones the first: a weight stands before its mask.
        let weight = weight
            .rev()
            .max_by_key(|name| graph.initializer(name).map_or(0, |a| a.len()))
            .cloned();
        let output = &node.outputs[0];
        if let Some(weight) = weight {
            redirect(&mut graph.nodes, output, &weight);
            graph.types.remove(output);
            set(graph, &weight, value);
        } else {
            set(graph, output, value);
        }
        changed = true;
    }
    changed
}
