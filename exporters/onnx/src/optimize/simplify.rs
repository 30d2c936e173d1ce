//! Nodes that do nothing, and chains of two that one does.

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::{Array, Attribute, Node};

use super::network::Network;
use crate::ops::{self, OpKind, Values, slice};

/// Whether a node's output is its first input, and every other input only says so.
fn does_nothing(node: &Node, network: &Network<'_>) -> bool {
    let (Some(x), Some(y)) = (node.inputs.first(), node.outputs.first()) else {
        return false;
    };
    let same = network.ty(x).is_some() && network.ty(x) == network.ty(y);
    ops::find(&node.op).is_some_and(|op| (op.idle)(&network.args(node), same))
}

/// Makes a node the identity of a value.
fn pass(node: &mut Node, value: String) {
    node.op = OpKind::Identity.name().into();
    node.inputs = vec![value];
    node.attributes.clear();
}

/// Removes nodes that do nothing, save those that carry an input straight to an output, and in a body those that give an output
/// which others read under another name: not every runtime lets a body read its own outputs.
pub(super) fn identities(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        let Some(node) = network.node(at).filter(|n| does_nothing(n, network)) else {
            continue;
        };
        let (x, y) = (node.inputs[0].clone(), node.outputs[0].clone());
        let identity = ops::is(node, OpKind::Identity);
        if !network.is_output(&y) {
            network.take(at);
            network.redirect(&y, &x);
            network.forget(&y);
            changed = true;
        } else if let Some(source) = network.maker(&x).filter(|_| !network.is_output(&x))
            && !(network.is_body() && network.reads(&x) > 1)
        {
            network.take(at);
            network.forget(&x);
            network.redirect(&x, &y);
            network.edit(source, |node| {
                for output in node.outputs.iter_mut().filter(|o| **o == x) {
                    *output = y.clone();
                }
            });
            changed = true;
        } else if !identity {
            network.edit(at, |node| pass(node, x));
            changed = true;
        }
    }
    changed
}

/// Whether a node keeps every value and their order.
fn reshapes(node: &Node) -> bool {
    matches!(
        ops::kind(node),
        Some(OpKind::Reshape | OpKind::Squeeze | OpKind::Unsqueeze)
    )
}

/// Reshapes of reshapes and transpositions of transpositions read the value before both, and are nothing where they give it back.
pub(super) fn chains(network: &mut Network<'_>) -> bool {
    let mut changed = false;
    for at in network.places() {
        changed |= shorten(network, at).is_some();
    }
    changed
}

/// Lets a node read what the node before it reads; `None` where it cannot.
fn shorten(network: &mut Network<'_>, at: usize) -> Option<()> {
    let node = network.node(at)?;
    let before = network.made_by(node.inputs.first()?)?;
    let source = before.inputs.first()?.clone();
    let output = &node.outputs[0];
    let is = |node: &Node, kind| ops::is(node, kind);
    if reshapes(before) && reshapes(node) {
        let ty = network.own_type(output)?;
        if network.own_type(&source) == Some(ty) {
            network.edit(at, |node| pass(node, source));
            return Some(());
        }
        if !is(node, OpKind::Reshape) {
            return None;
        }
        // The target is written anew, as its zeros refer to the value between.
        let sizes = ty.shape.iter().map(|d| d.fixed().map_or(-1, |s| s as i64));
        let target: Vec<i64> = sizes.collect();
        if target.iter().filter(|&&s| s == -1).count() > 1 || target.contains(&0) {
            return None;
        }
        let name = network.fresh(&format!("{output}/shape"));
        network.set(&name, Array::i64([target.len()], target).ok()?);
        network.edit(at, |node| node.inputs = vec![source, name]);
        return Some(());
    }
    if is(before, OpKind::Transpose) && is(node, OpKind::Transpose) {
        let (first, second) = (before.ints("perm")?, node.ints("perm")?);
        let perm = second.iter().map(|&p| first.get(p as usize).copied());
        let perm = Attribute::Ints(perm.collect::<Option<_>>()?);
        network.edit(at, |node| {
            node.inputs[0] = source;
            node.attributes.insert("perm".into(), perm);
        });
        return Some(());
    }
    None
}

/// Slices that together cut a value into parts, each element into one of them, are one Split.
pub(super) fn cuts(network: &mut Network<'_>) -> bool {
    let mut readers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for at in network.places() {
        if let Some(node) = network.node(at).filter(|n| ops::is(n, OpKind::Slice)) {
            readers.entry(node.inputs[0].clone()).or_default().push(at);
        }
    }
    let mut dead = BTreeSet::new();
    for (value, slices) in readers {
        let Some((axis, parts)) = parts(network, &slices) else {
            continue;
        };
        let output = |slice: usize| network.node(slice).map(|node| node.outputs[0].clone());
        let outputs = parts.iter().map(|&(_, slice)| output(slice)).collect();
        let (Some(stem), Some(outputs)) = (output(slices[0]), outputs) else {
            continue;
        };
        // After an own value: the one that is cut may be another graph's.
        let name = network.fresh(&format!("{stem}/sizes"));
        let sizes: Vec<i64> = parts.iter().map(|&(size, _)| size).collect();
        let Ok(sizes) = Array::i64([sizes.len()], sizes) else {
            continue;
        };
        network.set(&name, sizes);
        network.edit(slices[0], |node| {
            node.op = OpKind::Split.name().into();
            node.inputs = vec![value, name];
            node.outputs = outputs;
            node.attributes = [("axis".to_string(), Attribute::Int(axis as i64))].into();
        });
        dead.extend(slices[1..].iter().copied());
    }
    for &at in &dead {
        network.take(at);
    }
    !dead.is_empty()
}

/// The axis along which slices of one value cut it, and each part's size and slice, in order.
fn parts(network: &Network<'_>, slices: &[usize]) -> Option<(usize, Vec<(i64, usize)>)> {
    if slices.len() < 2 {
        return None;
    }
    let mut along = None;
    let mut ranges = Vec::new();
    for &at in slices {
        let [range] = slice::ranges(&network.args(network.node(at)?))
            .ok()?
            .try_into()
            .ok()?;
        if range.step != 1 || *along.get_or_insert(range.axis) != range.axis {
            return None;
        }
        ranges.push((range, at));
    }
    let axis = along?;
    let ty = network.ty(&network.node(slices[0])?.inputs[0])?;
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
