//! Less work for the same values: what is constant is folded, what does nothing or is not needed goes.

mod constants;
mod fold;
mod simplify;

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::{Array, Attribute, DType, Graph, Initializer, Node, ValueType};

use crate::{Result, scope::Scope};

/// Simplifies a graph until nothing changes.
///
/// BatchNormalization is folded into the convolution or Gemm before it, zero pads into the convolution after them, sums into
/// the Gemm before them; slices that cut a value into parts become a Split; nodes over constants become constants;
/// identities, dead nodes and unread initializers go; equal small constants are shared. Weights keep their parameter names,
/// folded ones too. Ports and the values of all outputs stay.
pub fn optimize(graph: &Graph) -> Result<Graph> {
    graph.validate()?;
    let mut graph = graph.clone();
    optimize_in(&mut graph, None);
    graph.validate()?;
    Ok(graph)
}

fn optimize_in(graph: &mut Graph, outer: Option<&Scope<'_>>) {
    // Every change removes a node or moves an input to an earlier value, so this ends.
    loop {
        let mut changed = simplify::identities(graph, outer);
        changed |= simplify::chains(graph);
        changed |= fold::pads(graph);
        changed |= fold::normalizations(graph);
        changed |= fold::addends(graph, outer);
        changed |= constants::fold(graph, outer);
        bodies(graph, outer);
        changed |= sweep(graph);
        // Only when all constants are folded, slices of constants among them.
        if !changed && !simplify::cuts(graph, outer) {
            break;
        }
    }
    share(graph);
}

fn bodies(graph: &mut Graph, outer: Option<&Scope<'_>>) {
    let mut nodes = std::mem::take(&mut graph.nodes);
    let scope = Scope::new(graph, outer);
    for attribute in nodes.iter_mut().flat_map(|n| n.attributes.values_mut()) {
        if let Attribute::Graph(body) = attribute {
            optimize_in(body, Some(&scope));
        }
    }
    graph.nodes = nodes;
}

/// How often each value is read, by nodes, by those of bodies, and as an output.
fn uses(graph: &Graph) -> BTreeMap<String, usize> {
    fn count(graph: &Graph, uses: &mut BTreeMap<String, usize>) {
        for name in graph
            .nodes
            .iter()
            .flat_map(|n| &n.inputs)
            .chain(graph.outputs.iter().map(|p| &p.name))
        {
            *uses.entry(name.clone()).or_default() += 1;
        }
        for body in graph.nodes.iter().flat_map(Node::bodies) {
            count(body, uses);
        }
    }
    let mut all = BTreeMap::new();
    count(graph, &mut all);
    all
}

/// Lets everything that reads `from` read `to`.
pub(crate) fn redirect(nodes: &mut [Node], from: &str, to: &str) {
    for node in nodes {
        for input in node.inputs.iter_mut().filter(|i| *i == from) {
            *input = to.into();
        }
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(body) = attribute {
                redirect(&mut body.nodes, from, to);
            }
        }
    }
}

/// The node that produces a value.
fn producer(graph: &Graph, value: &str) -> Option<usize> {
    graph
        .nodes
        .iter()
        .position(|node| node.outputs.iter().any(|o| o == value))
}

fn is_output(graph: &Graph, value: &str) -> bool {
    graph.outputs.iter().any(|port| port.name == value)
}

/// Adds an initializer or replaces the one of this name.
fn set(graph: &mut Graph, name: &str, value: Array) {
    let shape = value.shape().iter().map(|&d| d.into()).collect();
    let ty = ValueType {
        dtype: value.dtype(),
        shape,
    };
    graph.types.insert(name.into(), ty);
    match graph.initializers.iter_mut().find(|i| i.name == name) {
        Some(initializer) => initializer.value = value,
        None => graph.initializers.push(Initializer {
            name: name.into(),
            value,
        }),
    }
}

/// A name that nothing in the graph has, `stem` itself if it is free.
fn fresh(graph: &Graph, stem: &str) -> String {
    fn taken(graph: &Graph, name: &str) -> bool {
        graph.types.contains_key(name)
            || graph
                .nodes
                .iter()
                .flat_map(Node::bodies)
                .any(|body| taken(body, name))
    }
    let mut name = stem.to_string();
    let mut k = 2;
    while taken(graph, &name) {
        name = format!("{stem}_{k}");
        k += 1;
    }
    name
}

/// Removes what no output needs.
fn sweep(graph: &mut Graph) -> bool {
    let mut live: BTreeSet<String> = graph.outputs.iter().map(|port| port.name.clone()).collect();
    let before = (graph.nodes.len(), graph.initializers.len());
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if node.outputs.iter().any(|o| live.contains(o)) {
            live.extend(node.inputs.iter().cloned());
            for body in node.bodies() {
                live.extend(uses(body).into_keys());
            }
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    graph.initializers.retain(|i| live.contains(&i.name));
    let mut defined: BTreeSet<&String> = graph.nodes.iter().flat_map(|n| &n.outputs).collect();
    defined.extend(graph.inputs.iter().map(|p| &p.name));
    defined.extend(graph.initializers.iter().map(|i| &i.name));
    graph.types.retain(|name, _| defined.contains(name));
    before != (graph.nodes.len(), graph.initializers.len())
}

/// One initializer for equal constants. Parameters, which are floats with dimensions, stay apart even where equal.
fn share(graph: &mut Graph) {
    type Key = (DType, Vec<usize>, Vec<u8>);
    let mut first: BTreeMap<Key, String> = BTreeMap::new();
    let mut moved = Vec::new();
    graph.initializers.retain(|i| {
        let (dtype, shape) = (i.value.dtype(), i.value.shape());
        // A slash marks names that the lowering made.
        let constant =
            shape.is_empty() || matches!(dtype, DType::I64 | DType::Bool) || i.name.contains('/');
        if !constant {
            return true;
        }
        let key = (dtype, shape.to_vec(), i.value.to_le_bytes());
        match first.get(&key) {
            Some(kept) => {
                moved.push((i.name.clone(), kept.clone()));
                false
            }
            None => {
                first.insert(key, i.name.clone());
                true
            }
        }
    });
    for (from, to) in moved {
        redirect(&mut graph.nodes, &from, &to);
        graph.types.remove(&from);
    }
}

#[cfg(test)]
mod tests;
