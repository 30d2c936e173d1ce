//! Graphs in the form that a target computes, by the exact rewrite of each operator.
//!
//! A node that needs none is copied with its attributes and axes written out. What a target lacks, and has no exact rewrite,
//! is an error that names the node, the target and the author's line.

use zoo_graph::Graph;

use crate::{
    Error, Result, Target,
    ops::{self, Failure, Output, Rewrite, Scope, Values},
};

/// Rewrites `graph` so that every runtime of `target` computes it.
pub fn lower(graph: &Graph, target: Target) -> Result<Graph> {
    graph.validate()?;
    lower_in(graph, None, target)
}

fn lower_in(graph: &Graph, outer: Option<&dyn Values>, target: Target) -> Result<Graph> {
    let scope = Scope::new(graph, outer);
    let body = |body: &Graph| lower_in(body, Some(&scope), target);
    let mut out = Output::of(graph);
    for node in &graph.nodes {
        let error = |reason: String| Error::Lower {
            node: node.name.clone(),
            op: node.op.clone(),
            target: target.to_string(),
            origin: node.origin.clone(),
            reason,
        };
        let op = ops::conforms(node).map_err(error)?;
        let before = out.graph.nodes.len();
        let mut cx = Rewrite::new(&scope, node, target, &mut out, &body);
        (op.lower)(&mut cx).map_err(|failure| match failure {
            Failure::Reason(reason) => error(reason),
            Failure::Body(error) => error,
        })?;
        for written in &out.graph.nodes[before..] {
            ops::runs(target, written).map_err(error)?;
        }
    }
    Ok(out.graph)
}

#[cfg(test)]
mod tests;
