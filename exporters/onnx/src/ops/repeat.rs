//! Loop: its types are those that its body states, and the two must agree.

use zoo_graph::Port;

use super::{
    loops,
    operator::Kind::Graph,
    prelude::*,
    scan::{body, fits},
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    // Both the count and the condition may be left out.
    required: 0,
    outputs: (1, MANY),
    lower: lower_bodies,
    runs,
    ..Operator::new(OpKind::Loop, (2, MANY), &[("body", Graph)], infer)
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

/// The node with its bodies in the form of the target.
pub(super) fn lower_bodies(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let mut node = cx.node.clone();
    for attribute in node.attributes.values_mut() {
        if let Attribute::Graph(body) = attribute {
            **body = cx.body(body)?;
        }
    }
    cx.copy(node);
    Ok(())
}

/// Which loops a target has.
pub(super) fn runs(target: Target, node: &Node) -> Result<(), String> {
    let within = || node.bodies().any(|body| body.nodes.iter().any(loops));
    match target {
        Target::Ort => Ok(()),
        Target::Tract if super::is(node, OpKind::Scan) && !within() => Ok(()),
        Target::Tract => Err(
            "it runs a Scan without loops inside, and no Loop; drive the steps from the host"
                .into(),
        ),
        Target::CandleOnnx => Err("it has no loops; drive the steps from the host".into()),
    }
}
