//! Nodes that do nothing, and chains of two that one does.

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::{Array, Attribute, Graph, Node};

use super::{fresh, is_output, producer, redirect, set, uses};
use crate::{scope::Scope, shape};

/// Whether a node's output is its first input, and every other input only says so.
fn does_nothing(node: &Node, scope: &Scope<'_>) -> bool {
    let (Some(x), Some(y)) = (node.inputs.first(), node.outputs.first()) else {
        return false;
    };
    let same_type = || scope.ty(x).is_some() && scope.ty(x) == scope.ty(y);
    match node.op.as_str() {
        "Identity" => true,
        "Concat" | "Max" | "Min" => node.inputs.len() == 1,
        "Reshape" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Cast" | "Pad" => same_type(),
        "Slice" => {
            same_type()
                && shape::ranges(&scope.args(node)).is_ok_and(|r| r.iter().all(|r| r.step > 0))
        }
        "Transpose" => {
            let perm = node.ints("perm").unwrap_or_default();
            !perm.is_empty() && perm.iter().enumerate().all(|(i, &p)| p == i as i64)
        }
        _ => false,
    }
}

/// Removes nodes that do nothing, save those that carry an input straight to an output, and in a body those that give an output
/// which others read under another name: not every runtime lets a body read its own outputs.
pub(super) fn identities(graph: &mut Graph, outer: Option<&Scope<'_>>) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        if !does_nothing(&graph.nodes[i], &Scope::new(graph, outer)) {
            i += 1;
            continue;
        }
        let (x, y) = (
            graph.nodes[i].inputs[0].clone(),
            graph.nodes[i].outputs[0].clone(),
        );
        if !is_output(graph, &y) {
            graph.nodes.remove(i);
            redirect(&mut graph.nodes, &y, &x);
            graph.types.remove(&y);
            changed = true;
        } else if let Some(source) = producer(graph, &x).filter(|_| !is_output(graph, &x))
            && !(outer.is_some() && uses(graph).get(&x).is_some_and(|&reads| reads > 1))
        {
            graph.nodes.remove(i);
            graph.types.remove(&x);
            redirect(&mut graph.nodes, &x, &y);
            for output in graph.nodes[source].outputs.iter_mut().filter(|o| **o == x) {
                *output = y.clone();
            }
            changed = true;
        } else {
            let node = &mut graph.nodes[i];
            if node.op != "Identity" {
                node.op = "Identity".into();
                node.inputs.truncate(1);
                node.attributes.clear();
                changed = true;
            }
            i += 1;
        }
    }
    changed
}

/// Operators that keep every value and their order.
const RESHAPING: [&str; 3] = ["Reshape", "Squeeze", "Unsqueeze"];

/// Reshapes of reshapes and transpositions of transpositions read the value before both, and are nothing where they give it back.
pub(super) fn chains(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let Some(before) = node
            .inputs
            .first()
            .and_then(|x| producer(graph, x))
            .map(|p| &graph.nodes[p])
        else {
            continue;
        };
        let source = before.inputs[0].clone();
        let reshaping = |node: &Node| RESHAPING.contains(&node.op.as_str());
        let ty = |name: &String| graph.types.get(name);
        if reshaping(before)
            && reshaping(node)
            && ty(&source).is_some_and(|t| Some(t) == ty(&node.outputs[0]))
        {
            let node = &mut graph.nodes[i];
            node.op = "Identity".into();
            node.inputs = vec![source];
            node.attributes.clear();
            changed = true;
            continue;
        }
        match (before.op.as_str(), node.op.as_str()) {
            (first, "Reshape") if RESHAPING.contains(&first) => {
                let Some(ty) = graph.types.get(&node.outputs[0]) else {
                    continue;
                };
                // The target is written anew, as its zeros refer to the value between.
                let sizes = ty.shape.iter().map(|d| d.fixed().map_or(-1, |s| s as i64));
                let target: Vec<i64> = sizes.collect();
                if target.iter().filter(|&&s| s == -1).count() > 1 || target.contains(&0) {
                    continue;
                }
                let name = fresh(graph, &format!("{}/shape", node.outputs[0]));
                let Ok(target) = Array::i64([target.len()], target) else {
                    continue;
                };
                set(graph, &name, target);
                graph.nodes[i].inputs = vec![source, name];
                changed = true;
            }
            ("Transpose", "Transpose") => {
                let (Some(first), Some(second)) = (before.ints("perm"), node.ints("perm")) else {
                    continue;
                };
                let perm: Option<Vec<i64>> = second
                    .iter()
                    .map(|&p| first.get(p as usize).copied())
                    .collect();
                let Some(perm) = perm else { continue };
                graph.nodes[i].inputs[0] = source;
                graph.nodes[i]
                    .attributes
                    .insert("perm".into(), Attribute::Ints(perm));
                changed = true;
            }
            _ => {}
        }
    }
    changed
}

/// Slices that together cut a value into parts, each element into one of them, are one Split.
pub(super) fn cuts(graph: &mut Graph, outer: Option<&Scope<'_>>) -> bool {
    let mut readers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        if node.op == "Slice" {
            readers.entry(node.inputs[0].clone()).or_default().push(i);
        }
    }
    let mut dead = BTreeSet::new();
    for (value, slices) in readers {
        let Some((axis, parts)) = parts(graph, outer, &slices) else {
            continue;
        };
        // After an own value: the one that is cut may be another graph's.
        let stem = &graph.nodes[slices[0]].outputs[0];
        let name = fresh(graph, &format!("{stem}/sizes"));
        let sizes: Vec<i64> = parts.iter().map(|&(size, _)| size).collect();
        let Ok(sizes) = Array::i64([sizes.len()], sizes) else {
            continue;
        };
        set(graph, &name, sizes);
        let outputs = |&(_, slice): &(i64, usize)| graph.nodes[slice].outputs[0].clone();
        let outputs = parts.iter().map(outputs).collect();
        let (first, others) = (slices[0], &slices[1..]);
        let node = &mut graph.nodes[first];
        node.op = "Split".into();
        node.inputs = vec![value, name];
        node.outputs = outputs;
        node.attributes = [("axis".to_string(), Attribute::Int(axis as i64))].into();
        dead.extend(others.iter().copied());
    }
    let mut at = 0..;
    graph
        .nodes
        .retain(|_| !at.next().is_some_and(|i| dead.contains(&i)));
    !dead.is_empty()
}

/// The axis along which slices of one value cut it, and each part's size and slice, in order.
fn parts(
    graph: &Graph,
    outer: Option<&Scope<'_>>,
    slices: &[usize],
) -> Option<(usize, Vec<(i64, usize)>)> {
    if slices.len() < 2 {
        return None;
    }
    let scope = Scope::new(graph, outer);
    let mut along = None;
    let mut ranges = Vec::new();
    for &slice in slices {
        let [range] = shape::ranges(&scope.args(&graph.nodes[slice]))
            .ok()?
            .try_into()
            .ok()?;
        if range.step != 1 || *along.get_or_insert(range.axis) != range.axis {
            return None;
        }
        ranges.push((range, slice));
    }
    let axis = along?;
    let ty = scope.ty(&graph.nodes[slices[0]].inputs[0])?;
    let size = ty.shape.get(axis)?.fixed()?;
    let mut cuts: Vec<(usize, usize, usize)> = ranges
        .iter()
        .map(|(range, slice)| {
            let (start, count) = range.within(size);
            (start, count, *slice)
        })
        .collect();
    cuts.sort_unstable();
    let mut end = 0;
    for &(start, count, _) in &cuts {
        if start != end || count == 0 {
            return None;
        }
        end += count;
    }
    let parts = cuts
        .into_iter()
        .map(|(_, count, slice)| (count as i64, slice));
    (end == size).then(|| (axis, parts.collect()))
}
