//! Scans taken apart, and what their forms are written with.

use zoo_graph::{DType, Dim, Graph, Node, ValueType};

use super::super::{OpKind, args, rewrite::Attributes};

/// A `Scan` taken apart.
pub(crate) struct Parts<'a> {
    pub body: &'a Graph,
    /// Number of states.
    pub states: usize,
    /// Number of steps: the length of what is scanned.
    pub length: Dim,
    /// The axis along which each scanned input is cut.
    pub input_axes: Vec<usize>,
    /// The axis along which each output is stacked.
    pub output_axes: Vec<usize>,
}

impl<'a> Parts<'a> {
    /// `ty` tells the types of the node's inputs.
    pub fn of(node: &'a Node, ty: impl Fn(&str) -> Option<ValueType>) -> Result<Self, String> {
        let body = node.bodies().next().ok_or("it has no body")?;
        let forward = |name: &str| node.ints(name).is_none_or(|d| d.iter().all(|&d| d == 0));
        if !forward("scan_input_directions") || !forward("scan_output_directions") {
            return Err("scans that run backwards are not written".into());
        }
        let scanned = node.int("num_scan_inputs").unwrap_or(0);
        let scanned = usize::try_from(scanned).map_err(|_| "num_scan_inputs is negative")?;
        let states = node.inputs.len().checked_sub(scanned);
        let states = states.ok_or("num_scan_inputs is too large")?;
        let axes = |name: &str, ranks: Vec<usize>| -> Result<Vec<usize>, String> {
            let listed = node.ints(name).map(<[i64]>::to_vec);
            let listed = listed.unwrap_or_else(|| vec![0; ranks.len()]);
            let pairs = listed.into_iter().zip(ranks);
            pairs.map(|(axis, rank)| args::axis(axis, rank)).collect()
        };
        let types: Option<Vec<ValueType>> = node.inputs[states..].iter().map(|i| ty(i)).collect();
        let types = types.ok_or("the type of an input is not recorded")?;
        let input_axes = axes(
            "scan_input_axes",
            types.iter().map(|t| t.shape.len()).collect(),
        )?;
        let outputs = body.outputs.iter().skip(states);
        let output_axes = axes(
            "scan_output_axes",
            outputs.map(|port| port.shape.len() + 1).collect(),
        )?;
        let length = types.first().map(|t| t.shape[input_axes[0]].clone());
        let length = length.ok_or("it scans nothing")?;
        Ok(Self {
            body,
            states,
            length,
            input_axes,
            output_axes,
        })
    }

    /// The number of steps, where it must be known.
    pub fn steps(&self) -> Result<usize, String> {
        let steps = self.length.fixed();
        steps.ok_or_else(|| format!("it has {} steps; their number must be fixed", self.length))
    }
}

pub(super) fn error(e: zoo_graph::Error) -> String {
    e.to_string()
}

pub(super) fn node(
    name: &str,
    op: OpKind,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Attributes,
    of: &Node,
) -> Node {
    Node {
        name: name.into(),
        op: op.name().into(),
        inputs: inputs.iter().map(|i| i.to_string()).collect(),
        outputs: outputs.iter().map(|o| o.to_string()).collect(),
        attributes,
        origin: of.origin.clone(),
    }
}

pub(super) fn fixed(dtype: DType, shape: &[usize]) -> ValueType {
    let shape = shape.iter().map(|&d| d.into()).collect();
    ValueType { dtype, shape }
}
