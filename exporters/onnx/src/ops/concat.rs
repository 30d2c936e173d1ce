//! Concat.

use super::{gather::explicit_axis, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |args, _| args.node.inputs.len() == 1,
    evaluate,
    lower: explicit_axis,
    ..Operator::new(OpKind::Concat, (1, MANY), AXIS, infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let dtype = args.same_dtype(0)?;
    let first = args.shape(0)?;
    let axis = axis(args.node.int("axis").ok_or("axis is missing")?, first.len())?;
    let others = |shape: &[Dim]| {
        let beside = shape.iter().enumerate().filter(|(k, _)| *k != axis);
        beside.map(|(_, d)| d.clone()).collect::<Vec<_>>()
    };
    let mut shape = known(first);
    for i in 1..args.types.len() {
        let next = args.shape(i)?;
        if next.len() != first.len() || others(next) != others(first) {
            return Err(format!("input {i} does not fit input 0 beside axis {axis}"));
        }
        shape[axis] = match &shape[axis] {
            Some(dim) => plus(dim, &next[axis])?,
            None => None,
        };
    }
    Inferred::one(dtype, shape)
}

fn evaluate(of: &Constants<'_>) -> Option<Array> {
    let axis = of.args.axis(0).ok()?;
    let outer: usize = of.shape[..axis].iter().product();
    let mut bytes = Vec::new();
    let parts: Vec<Vec<u8>> = of.inputs.iter().map(|a| a.to_le_bytes()).collect();
    for row in 0..outer {
        for part in &parts {
            let width = part.len() / outer;
            bytes.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    Array::from_le_bytes(of.dtype, of.shape.clone(), &bytes).ok()
}
