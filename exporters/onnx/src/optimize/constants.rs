//! Nodes over constants become constants.

use super::network::Network;
use crate::ops;

/// Evaluates every node that reads constants only. The result takes the name of the weight that it comes from, where
/// nothing else reads that weight, and else its own.
pub(super) fn fold(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        let Some(node) = network.node(at) else {
            continue;
        };
        let single = node.outputs.len() == 1 && !network.is_output(&node.outputs[0]);
        if !single || ops::conforms(node).is_err() {
            continue;
        }
        let Some(value) = ops::evaluate(&network.args(node)) else {
            continue;
        };
        let Some(node) = network.take(at) else {
            continue;
        };
        let own = |name: &&String| {
            let array = network.own_constant(name);
            array.is_some_and(|a| a.dtype() == value.dtype() && !a.shape().is_empty())
        };
        let weights = node.inputs.iter().filter(own);
        let weights = weights.filter(|name| network.reads(name) == 0);
        // Of equal ones the first: a weight stands before its mask.
        let weight = weights
            .rev()
            .max_by_key(|name| network.own_constant(name).map_or(0, |a| a.len()))
            .cloned();
        let output = &node.outputs[0];
        if let Some(weight) = weight {
            network.redirect(output, &weight);
            network.forget(output);
            network.set(&weight, value);
        } else {
            network.set(output, value);
        }
        changed = true;
    }
    changed
}
