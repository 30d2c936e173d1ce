//! Less work for the same values: what is constant is folded, what does nothing or is not needed goes.

mod constants;
mod fold;
mod network;
mod simplify;

use std::collections::BTreeMap;

use zoo_graph::{DType, Graph};

use crate::{Result, ops::Values};
use network::Network;

/// Simplifies a graph until nothing changes.
///
/// BatchNormalization is folded into the convolution or Gemm before it, zero pads into the convolution after them, sums into
/// the Gemm before them; slices that cut a value into parts become a Split; nodes over constants become constants;
/// identities, dead nodes and unread initializers go; equal small constants are shared. Weights keep their parameter names,
/// folded ones too. Ports and the values of all outputs stay.
pub fn optimize(graph: &Graph) -> Result<Graph> {
    graph.validate()?;
    let graph = optimize_in(graph.clone(), None);
    graph.validate()?;
    Ok(graph)
}

/// A change to the whole of a network; tells whether there was anything to change.
type Pass = fn(&mut Network<'_>) -> bool;

/// In each round these follow each other.
const PASSES: &[Pass] = &[
    simplify::identities,
    simplify::chains,
    fold::pads,
    fold::normalizations,
    fold::addends,
    constants::fold,
    bodies,
    |network| network.sweep(),
];

fn optimize_in(graph: Graph, outer: Option<&dyn Values>) -> Graph {
    let mut network = Network::of(graph, outer);
    // Every change removes a node or moves an input to an earlier value, so this ends.
    loop {
        let mut changed = false;
        for pass in PASSES {
            changed |= pass(&mut network);
        }
        // Only when all constants are folded, slices of constants among them.
        if !changed && !simplify::cuts(&mut network) {
            break;
        }
    }
    share(&mut network);
    network.into_graph()
}

/// What changes in a body is nothing to the graph around it until the next round.
fn bodies(network: &mut Network<'_>) -> bool {
    network.for_each_body(|body, outer| optimize_in(body, Some(outer)));
    false
}

/// One initializer for equal constants. Parameters, which are floats with dimensions, stay apart even where equal.
fn share(network: &mut Network<'_>) {
    type Key = (DType, Vec<usize>, Vec<u8>);
    let mut first: BTreeMap<Key, String> = BTreeMap::new();
    let mut moved = Vec::new();
    for i in network.constants() {
        let (dtype, shape) = (i.value.dtype(), i.value.shape());
        // A slash marks names that the lowering made.
        let constant =
            shape.is_empty() || matches!(dtype, DType::I64 | DType::Bool) || i.name.contains('/');
        if !constant {
            continue;
        }
        let key = (dtype, shape.to_vec(), i.value.to_le_bytes());
        match first.get(&key) {
            Some(kept) => moved.push((i.name.clone(), kept.clone())),
            None => {
                first.insert(key, i.name.clone());
            }
        }
    }
    for (from, to) in moved {
        network.redirect(&from, &to);
        network.unset(&from);
    }
}

#[cfg(test)]
mod tests;
