//! If: both branches state their types, and the two must agree.

use super::{
    bodies::{body, lower_bodies},
    operator::Kind::Graph,
    prelude::*,
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    outputs: (1, MANY),
    lower: lower_bodies,
    ..Operator::new(
        OpKind::If,
        ONE,
        &[("else_branch", Graph), ("then_branch", Graph)],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
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
