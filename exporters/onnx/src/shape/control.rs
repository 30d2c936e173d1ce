//! Conditions and loops: their types are those that their bodies state, and the two must agree.

use zoo_graph::{Attribute, DType, Dim, Graph, Port, ValueType};

use super::{Args, Inferred, known};

pub(super) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    match args.node.op.as_str() {
        "If" => branch(args),
        "Loop" => repeat(args),
        _ => scan(args),
    }
}

fn body<'a>(args: &Args<'a>, name: &str) -> Result<&'a Graph, String> {
    match args.node.attributes.get(name) {
        Some(Attribute::Graph(body)) => Ok(body),
        _ => Err(format!("{name} is missing")),
    }
}

/// A value fed to a body has the type that the body's port states.
fn fits(port: &Port, ty: &ValueType) -> Result<(), String> {
    match port.value_type() == *ty {
        true => Ok(()),
        false => Err(format!(
            "the body's port {:?} is {}, it is fed {ty}",
            port.name,
            port.value_type()
        )),
    }
}

fn branch(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    if args.ty(0)?.dtype != DType::Bool {
        return Err("its condition must be bool".into());
    }
    let (yes, no) = (body(args, "then_branch")?, body(args, "else_branch")?);
    let n = args.node.outputs.len();
    if !yes.inputs.is_empty()
        || !no.inputs.is_empty()
        || yes.outputs.len() != n
        || no.outputs.len() != n
    {
        return Err(format!("its branches must have no inputs and {n} outputs"));
    }
    let pairs = yes.outputs.iter().zip(&no.outputs);
    pairs
        .map(|(a, b)| match a.value_type() == b.value_type() {
            true => Ok(Inferred::of(&a.value_type())),
            false => Err(format!(
                "its branches give {} and {} for {:?}",
                a.value_type(),
                b.value_type(),
                a.name
            )),
        })
        .collect()
}

fn repeat(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
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
    let steps = args.constants[0]
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
            Inferred::new(given.dtype, shape)
        });
    }
    Ok(types)
}

fn scan(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
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
            Some(list) => super::axis(
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
        let axis = axis_of("scan_input_axes", i, ty.shape.len())?;
        let mut shape = ty.shape.clone();
        let length = (!shape.is_empty())
            .then(|| shape.remove(axis))
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
                let axis = axis_of("scan_output_axes", i - states, shape.len() + 1)?;
                shape.insert(axis, steps.clone());
            }
            Ok(Inferred::new(given.dtype, shape))
        })
        .collect()
}
