//! Operators in the form that a target computes: exact rewrites, one file for each family of operators.
//!
//! A node that needs none is copied with its attributes and axes written out. What a target lacks, and has no exact rewrite,
//! is an error that names the node, the target and the author's line.

mod activations;
mod context;
mod convolution;
mod movement;
mod normalization;
mod padding;
mod reduction;
mod scan;
mod target;

use zoo_graph::{Attribute, Graph, Node};

use crate::{Error, Result, scope::Scope};
use context::Cx;
pub(crate) use scan::Parts;
pub use target::Target;

/// Rewrites `graph` so that every runtime of `target` computes it.
pub fn lower(graph: &Graph, target: Target) -> Result<Graph> {
    graph.validate()?;
    lower_in(graph, None, target)
}

fn lower_in(graph: &Graph, outer: Option<&Scope<'_>>, target: Target) -> Result<Graph> {
    let scope = Scope::new(graph, outer);
    let mut out = Graph {
        nodes: Vec::with_capacity(graph.nodes.len()),
        ..graph.clone()
    };
    for node in &graph.nodes {
        let error = |reason: String| Error::Lower {
            node: node.name.clone(),
            op: node.op.clone(),
            target: target.to_string(),
            origin: node.origin.clone(),
            reason,
        };
        crate::ops::conforms(node).map_err(error)?;
        let before = out.nodes.len();
        let mut cx = Cx::new(&scope, node, target, &mut out);
        let finish = |body: Graph| lower_in(&body, Some(&scope), target);
        match (node.op.as_str(), target) {
            ("Scan", Target::Ort) => scan::to_loop(&mut cx, finish).map_err(error)??,
            ("Scan", Target::Tract) => scan::flatten(&mut cx, &scope, finish).map_err(error)??,
            _ if node.bodies().next().is_some() => cx.copy(with_bodies(node, &scope, target)?),
            _ => rewrite(&mut cx).map_err(error)?,
        }
        for written in &out.nodes[before..] {
            target.runs(written).map_err(error)?;
        }
    }
    Ok(out)
}

/// A condition or loop with its bodies lowered.
fn with_bodies(node: &Node, scope: &Scope<'_>, target: Target) -> Result<Node> {
    let mut node = node.clone();
    for attribute in node.attributes.values_mut() {
        if let Attribute::Graph(body) = attribute {
            **body = lower_in(body, Some(scope), target)?;
        }
    }
    Ok(node)
}

fn rewrite(cx: &mut Cx<'_>) -> Result<(), String> {
    match cx.node.op.as_str() {
        "Elu" => activations::elu(cx),
        "Softplus" => activations::softplus(cx),
        "Max" => activations::max(cx),
        "Min" => activations::min(cx),
        "Pow" => activations::pow(cx),
        "Cast" => activations::cast(cx),
        "Softmax" | "LogSoftmax" => reduction::softmax(cx),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => reduction::reduce(cx),
        "ArgMax" | "ArgMin" => reduction::arg(cx),
        "CumSum" => reduction::cumsum(cx),
        "GlobalAveragePool" => reduction::global_average(cx),
        "Gemm" => convolution::gemm(cx),
        "Conv" => convolution::conv(cx),
        "ConvTranspose" => convolution::transposed(cx),
        "MaxPool" | "AveragePool" => padding::pool(cx),
        "Pad" => padding::pad(cx),
        "BatchNormalization" => normalization::batch(cx),
        "LayerNormalization" => normalization::layer(cx),
        "InstanceNormalization" | "GroupNormalization" => normalization::group(cx),
        "Transpose" => movement::transpose(cx),
        "Concat" | "Gather" | "GatherElements" => movement::axis(cx),
        "Slice" => movement::slice(cx),
        "Split" => movement::split(cx),
        "Squeeze" => movement::squeeze(cx),
        "Unsqueeze" => movement::unsqueeze(cx),
        "DepthToSpace" => movement::depth_to_space(cx),
        _ => {
            cx.copy(cx.node.clone());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
