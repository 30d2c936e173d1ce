//! BatchNormalization with running statistics.

use super::{constants::numbers, prelude::*};

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

/// What the optimiser could not fold into a layer before: a product and a sum, whose constants are computed here. tract names nodes that it makes of a
/// BatchNormalization after it, and fails where a node is called so already.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    if cx.args.int("training_mode", 0) != 0 {
        return Err("it is in training mode; trace the network in evaluation mode".into());
    }
    let epsilon = cx.node.float("epsilon").unwrap_or(1e-5);
    let constants = [1, 2, 3, 4].map(|i| cx.args.constant(i).map(Array::to_f64));
    let [Some(scale), Some(shift), Some(mean), Some(variance)] = constants else {
        cx.rewritten(attributes([("epsilon", Attribute::Float(epsilon))]));
        return Ok(());
    };
    let ty = cx.args.ty(0)?;
    let mut shape = vec![1; ty.shape.len() - 1];
    shape[0] = scale.len();
    let factors = scale.iter().zip(&variance);
    let factors: Vec<f64> = factors
        .map(|(scale, variance)| scale / (variance + f64::from(epsilon)).sqrt())
        .collect();
    let offsets = shift.iter().zip(&mean).zip(&factors);
    let offsets: Vec<f64> = offsets
        .map(|((shift, mean), factor)| shift - mean * factor)
        .collect();
    let x = cx.input(0)?.to_string();
    let factors = numbers(ty.dtype, &shape, &factors)?;
    let factors = cx.add("factors", factors);
    let offsets = numbers(ty.dtype, &shape, &offsets)?;
    let offsets = cx.add("offsets", offsets);
    let scaled = cx.emit("scaled", OpKind::Mul, &[&x, &factors])?;
    cx.finish(OpKind::Add, &[&scaled, &offsets]);
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
