//! What tract must not see. It moves work on constants and on slices alone out of a Scan, and gets some of it wrong.

use std::collections::{BTreeMap, BTreeSet};

use zoo_graph::Graph;

use super::{
    super::{
        OpKind,
        args::Values,
        find,
        prelude::{Attribute, DType, Dim, Rewrite, attributes, ints},
    },
    parts::node,
};
use crate::edit::redirect;

/// A bool outside of a scan that is false for every input, even one that is not finite, but is not known to be.
pub(super) struct Never(Option<String>);

impl Never {
    /// None is written before one is needed.
    pub fn new() -> Self {
        Self(None)
    }

    /// Its name, where the scan reads anything that is computed.
    pub fn name(&mut self, cx: &mut Rewrite<'_>) -> Result<Option<String>, String> {
        if self.0.is_none() {
            self.0 = never(cx)?;
        }
        Ok(self.0.clone())
    }
}

fn never(cx: &mut Rewrite<'_>) -> Result<Option<String>, String> {
    let computed = |name: &&String| {
        let float = cx.ty(name).is_some_and(|ty| ty.dtype == DType::F32);
        float && !cx.is_constant(name)
    };
    let Some(mut value) = cx.node.inputs.iter().find(computed).cloned() else {
        return Ok(None);
    };
    let shape = cx.ty(&value).map(|ty| ty.shape.clone()).unwrap_or_default();
    // One element of each axis of a known size will do.
    let known = shape.iter().enumerate();
    let known = known.filter(|(_, d)| matches!(d, Dim::Fixed(size) if *size > 1));
    let axes: Vec<i64> = known.map(|(axis, _)| axis as i64).collect();
    if !axes.is_empty() {
        let from = cx.list("from", &vec![0; axes.len()])?;
        let to = cx.list("to", &vec![1; axes.len()])?;
        let axes = cx.list("axes", &axes)?;
        value = cx.emit("some", OpKind::Slice, &[&value, &from, &to, &axes])?;
    }
    let axes: Vec<usize> = (0..shape.len()).collect();
    let over = attributes([("axes", ints(&axes)), ("keepdims", Attribute::Int(0))]);
    let value = cx.emit_with("one", OpKind::ReduceMax, &[&value], over)?;
    cx.emit("never", OpKind::Less, &[&value, &value]).map(Some)
}

/// The scan's inputs, with each list that is a constant made one that follows from what the scan reads. tract 0.23 puts a constant
/// whole where a step reads a slice of it: it stops, or, from 16 steps on, never does.
pub(super) fn lists(
    cx: &mut Rewrite<'_>,
    states: usize,
    never: &mut Never,
) -> Result<Vec<String>, String> {
    let mut inputs = cx.node.inputs.clone();
    for list in inputs.iter_mut().skip(states) {
        if cx.is_constant(list)
            && let Some(never) = never.name(cx)?
        {
            *list = cx.emit("list", OpKind::Where, &[&never, list, list])?;
        }
    }
    Ok(inputs)
}

/// Lets a body read slices, which stand behind the `states` among its inputs, through a choice that is known outside only, where
/// it broadcasts what follows from slices alone: tract 0.23 computes that for all steps at once, and lays the steps along an axis
/// that is not theirs.
pub(super) fn slices(
    cx: &mut Rewrite<'_>,
    body: &mut Graph,
    states: usize,
    never: &mut Never,
) -> Result<(), String> {
    let broadcast = broadcast(cx, body, states);
    if broadcast.is_empty() {
        return Ok(());
    }
    let Some(never) = never.name(cx)? else {
        return Ok(());
    };
    for name in broadcast {
        let hidden = format!("{name}/hidden");
        let Some(ty) = body.types.get(&name).cloned() else {
            continue;
        };
        redirect(&mut body.nodes, &name, &hidden);
        body.types.insert(hidden.clone(), ty);
        let inputs = [never.as_str(), &name, &name];
        let choice = node(
            &hidden,
            OpKind::Where,
            &inputs,
            &[&hidden],
            [].into(),
            cx.node,
        );
        body.nodes.insert(0, choice);
    }
    Ok(())
}

/// The slices from which alone values follow that the body broadcasts.
fn broadcast(cx: &Rewrite<'_>, body: &Graph, states: usize) -> BTreeSet<String> {
    let slices = body.inputs[states..].iter().map(|port| &port.name);
    let mut alone: BTreeMap<&String, BTreeSet<&String>> =
        slices.map(|name| (name, [name].into())).collect();
    let constant =
        |name: &String| body.initializer(name).is_some() || cx.scope.constant(name).is_some();
    let mut found = BTreeSet::new();
    for node in &body.nodes {
        let mut inputs = node.inputs.iter().filter(|i| !i.is_empty());
        if node.bodies().next().is_some() || !inputs.all(|i| alone.contains_key(i) || constant(i)) {
            continue;
        }
        let from = || node.inputs.iter().filter_map(|i| Some((i, alone.get(i)?)));
        let whole = body.types.get(&node.outputs[0]);
        if find(&node.op).is_some_and(|op| op.broadcasts) {
            for (input, slices) in from() {
                let ty = body.types.get(input);
                if ty.map(|t| &t.shape) != whole.map(|t| &t.shape) {
                    found.extend(slices.iter().map(|name| name.to_string()));
                }
            }
        }
        let all: BTreeSet<&String> = from()
            .flat_map(|(_, slices)| slices.iter().copied())
            .collect();
        if !all.is_empty() {
            alone.extend(node.outputs.iter().map(|output| (output, all.clone())));
        }
    }
    found
}
