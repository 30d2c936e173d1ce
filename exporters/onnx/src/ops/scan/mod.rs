//! Scan: its types are those that its body states, and the two must agree. It is written as Loops, or as one flat Scan.

mod flat;
mod loops;
mod opaque;
mod parts;

use zoo_graph::ValueType;

use super::{
    bodies::{body, fits, lower_bodies, runs},
    operator::Kind,
    prelude::*,
};
pub(crate) use parts::Parts;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    outputs: (1, MANY),
    lower: |cx| match cx.target {
        Target::Ort => loops::to_loop(cx),
        Target::Tract => flat::flatten(cx),
        Target::CandleOnnx => lower_bodies(cx),
    },
    runs,
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
