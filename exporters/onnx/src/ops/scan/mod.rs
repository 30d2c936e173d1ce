//! Scan: its types are those that its body states, and the two must agree. It is written as Loops, or as one flat Scan.

mod flat;
mod loops;
mod opaque;

use zoo_graph::{Attribute, Dim, Graph, Node, Port, ValueType};

use super::{
    OpKind, Target,
    args::{Args, Inferred, axis, known},
    operator::{
        Kind::{self, Int, Ints},
        MANY, Operator,
    },
    rewrite::Attributes,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    outputs: (1, MANY),
    lower: |cx| match cx.target {
        Target::Ort => loops::to_loop(cx),
        Target::Tract => flat::flatten(cx),
        Target::CandleOnnx => super::repeat::lower_bodies(cx),
    },
    runs: super::repeat::runs,
    ..Operator::new(
        OpKind::Scan,
        (1, MANY),
        &[
            ("body", Kind::Graph),
            ("num_scan_inputs", Int),
            ("scan_input_axes", Ints),
            ("scan_input_directions", Ints),
            ("scan_output_axes", Ints),
            ("scan_output_directions", Ints),
        ],
        infer,
    )
}];

/// A body among a node's attributes.
pub(super) fn body<'a>(args: &Args<'a>, name: &str) -> Result<&'a Graph, String> {
    match args.node.attributes.get(name) {
        Some(Attribute::Graph(body)) => Ok(body),
        _ => Err(format!("{name} is missing")),
    }
}

/// A value fed to a body has the type that the body's port states.
pub(super) fn fits(port: &Port, ty: &ValueType) -> Result<(), String> {
    match port.value_type() == *ty {
        true => Ok(()),
        false => Err(format!(
            "the body's port {:?} is {}, it is fed {ty}",
            port.name,
            port.value_type()
        )),
    }
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let body = body(args, "body")?;
    let (inputs, outputs) = (args.types.len(), args.node.outputs.len());
    let scanned = args
        .node
        .int("num_scan_inputs")
        .and_then(|n| usize::try_from(n).ok());
    let scanned = scanned
        .filter(|n| *n >= 1 && *n <= inputs)
        .ok_or("num_scan_inputs is missing or out of range")?;
    let states = inputs - scanned;
    if body.inputs.len() != inputs || body.outputs.len() != outputs || outputs < states {
        return Err(format!(
            "its body must have {inputs} inputs and {outputs} outputs"
        ));
    }
    let axis_of = |name: &str, i: usize, rank: usize| -> Result<usize, String> {
        match args.node.ints(name) {
            None => Ok(0),
            Some(list) => axis(
                *list.get(i).ok_or_else(|| format!("{name} is too short"))?,
                rank,
            ),
        }
    };
    for i in 0..states {
        fits(&body.inputs[i], args.ty(i)?)?;
        fits(&body.inputs[i], &body.outputs[i].value_type())?;
    }
    let mut steps: Option<Dim> = None;
    for i in 0..scanned {
        let ty = args.ty(states + i)?;
        let along = axis_of("scan_input_axes", i, ty.shape.len())?;
        let mut shape = ty.shape.clone();
        let length = (!shape.is_empty())
            .then(|| shape.remove(along))
            .ok_or("a scalar cannot be scanned")?;
        if steps.as_ref().is_some_and(|s| *s != length) {
            return Err("its scanned inputs differ in length".into());
        }
        steps = Some(length);
        fits(
            &body.inputs[states + i],
            &ValueType {
                dtype: ty.dtype,
                shape,
            },
        )?;
    }
    (0..outputs)
        .map(|i| {
            let given = body.outputs[i].value_type();
            let mut shape = known(&given.shape);
            if i >= states {
                let along = axis_of("scan_output_axes", i - states, shape.len() + 1)?;
                shape.insert(along, steps.clone());
            }
            Ok(Inferred {
                dtype: given.dtype,
                shape,
            })
        })
        .collect()
}

/// A `Scan` taken apart.
pub(crate) struct Parts<'a> {
    pub body: &'a Graph,
    /// Number of states.
    pub states: usize,
    /// Number of steps.
    pub steps: usize,
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
            pairs
                .map(|(axis, rank)| super::args::axis(axis, rank))
                .collect()
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
        let length = types.first().map(|t| &t.shape[input_axes[0]]);
        let steps = length
            .and_then(Dim::fixed)
            .ok_or("the number of its steps must be fixed")?;
        Ok(Self {
            body,
            states,
            steps,
            input_axes,
            output_axes,
        })
    }
}

fn error(e: zoo_graph::Error) -> String {
    e.to_string()
}

fn node(
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

fn fixed(dtype: zoo_graph::DType, shape: &[usize]) -> ValueType {
    let shape = shape.iter().map(|&d| d.into()).collect();
    ValueType { dtype, shape }
}
