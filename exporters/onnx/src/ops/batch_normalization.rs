//! BatchNormalization with running statistics.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::BatchNormalization,
        (5, 5),
        &[
            ("epsilon", Float),
            ("momentum", Float),
            ("training_mode", Int),
        ],
        infer,
    )
}];

/// The input's type; every other input has one element for each channel.
pub(super) fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.float(0)?;
    args.same_dtype(0)?;
    let channels = ty.shape.get(1).ok_or("its input has no channels")?;
    for i in 1..args.types.len() {
        if args.shape(i)? != std::slice::from_ref(channels) {
            return Err(format!(
                "input {i} must have one element for each of the {channels} channels"
            ));
        }
    }
    Inferred::same(ty)
}

/// What the optimiser could not fold; runtimes know it.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    if cx.args.int("training_mode", 0) != 0 {
        return Err("it is in training mode; trace the network in evaluation mode".into());
    }
    let epsilon = cx.node.float("epsilon").unwrap_or(1e-5);
    cx.rewritten(attributes([("epsilon", Attribute::Float(epsilon))]));
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let parameters: Vec<Vec<f64>> = (1..5).map(|i| of.get(i).values).collect();
    let epsilon = of.float("epsilon", 1e-5);
    vec![Box::new(move |i| {
        let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|k: usize| parameters[k][i[1]]);
        (x.at(i) - mean) / (variance + epsilon).sqrt() * scale + shift
    })]
}
