//! Loop: its types are those that its body states, and the two must agree.

use std::collections::BTreeSet;

use zoo_graph::{Graph, Port};

use super::{
    bodies::{body, fits, lower_bodies, runs},
    is,
    operator::Kind,
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    // Both the count and the condition may be left out.
    required: 0,
    outputs: (1, MANY),
    lower,
    runs,
    ..Operator::new(OpKind::Loop, (2, MANY), &[("body", Kind::Graph)], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let body = body(args, "body")?;
    let carried = args.types.len() - 2;
    let outputs = args.node.outputs.len();
    if body.inputs.len() != carried + 2 || outputs < carried || body.outputs.len() != outputs + 1 {
        return Err(format!(
            "its body must have {} inputs and {} outputs",
            carried + 2,
            outputs + 1
        ));
    }
    let scalar = |port: &Port, dtype: DType| {
        port.dtype == dtype && port.shape.iter().all(|d| *d == Dim::Fixed(1))
    };
    if !scalar(&body.inputs[0], DType::I64)
        || !scalar(&body.inputs[1], DType::Bool)
        || !scalar(&body.outputs[0], DType::Bool)
    {
        return Err(
            "its body must take a step i64 and a condition bool, and give a condition bool first"
                .into(),
        );
    }
    let one = |i: usize, dtype: DType| {
        args.types[i]
            .is_none_or(|ty| ty.dtype == dtype && ty.shape.iter().all(|d| *d == Dim::Fixed(1)))
    };
    if !one(0, DType::I64) || !one(1, DType::Bool) {
        return Err("its count must be one i64, its condition one bool".into());
    }
    let steps = args
        .constant(0)
        .and_then(|c| c.as_i64().ok())
        .and_then(|v| v.first())
        .and_then(|&v| usize::try_from(v).ok());
    // The condition may end the loop early.
    let steps = steps.filter(|_| !args.has(1)).map(Dim::Fixed);
    let mut types = Vec::with_capacity(outputs);
    for i in 0..outputs {
        let given = body.outputs[i + 1].value_type();
        types.push(if i < carried {
            fits(&body.inputs[i + 2], args.ty(i + 2)?)?;
            fits(&body.inputs[i + 2], &given)?;
            Inferred::of(&given)
        } else {
            let mut shape = known(&given.shape);
            shape.insert(0, steps.clone());
            Inferred {
                dtype: given.dtype,
                shape,
            }
        });
    }
    Ok(types)
}

/// A Loop that runs a given number of times, taken apart.
pub(crate) struct Turns<'a> {
    /// The value that says how often.
    pub count: &'a str,
    /// What is carried starts from these.
    pub starts: &'a [String],
    /// What a turn computes, as a Scan has it: the states and the number of the turn go in, the next states and what is collected
    /// come out.
    pub body: Graph,
}

impl<'a> Turns<'a> {
    /// Refuses a loop whose condition may end it.
    pub fn of(node: &'a Node) -> Result<Self, String> {
        let body = node.bodies().next().ok_or("it has no body")?;
        let ([count, given, starts @ ..], [step, more, ..], [goes_on, ..]) =
            (&node.inputs[..], &body.inputs[..], &body.outputs[..])
        else {
            return Err("it has no count".into());
        };
        // From the condition that is given back to the one that came in, by identities alone.
        let mut condition = BTreeSet::from([goes_on.name.clone()]);
        let mut at = &goes_on.name;
        let carries = |n: &&Node, to: &String| is(n, OpKind::Identity) && n.outputs[0] == *to;
        while let Some(node) = body.nodes.iter().find(|n| carries(n, at)) {
            at = &node.inputs[0];
            condition.insert(at.clone());
        }
        let own = |n: &&Node| !condition.contains(&n.outputs[0]);
        let mut read = body.nodes.iter().filter(own).flat_map(|n| &n.inputs);
        let apart = *at == more.name && !read.any(|name| condition.contains(name));
        if count.is_empty() || !given.is_empty() || !apart {
            return Err(
                "its condition may end it; give it a number of steps alone, and pass the condition on"
                    .into(),
            );
        }
        let mut body = body.clone();
        body.inputs = [&body.inputs[2..], std::slice::from_ref(step)].concat();
        body.outputs.remove(0);
        body.nodes.retain(|n| !condition.contains(&n.outputs[0]));
        body.types.retain(|name, _| !condition.contains(name));
        Ok(Self {
            count,
            starts,
            body,
        })
    }
}

/// For tract, which has no Loop, as a Scan over the numbers of the turns, where these are known.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let steps = cx.args.constant(0).and_then(|c| c.as_i64().ok()?.first());
    let Some(&steps) = steps.filter(|_| cx.target == Target::Tract) else {
        return lower_bodies(cx);
    };
    let turns = Turns::of(cx.node)?;
    let numbers: Vec<i64> = (0..steps).collect();
    let mut scan = cx.node.clone();
    scan.op = OpKind::Scan.name().into();
    scan.inputs = [turns.starts, &[cx.list("numbers", &numbers)?]].concat();
    let body = Attribute::Graph(Box::new(turns.body));
    scan.attributes = attributes([("body", body), ("num_scan_inputs", Attribute::Int(1))]);
    cx.rewrite(&scan)
}
