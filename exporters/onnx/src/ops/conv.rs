//! Conv.

use super::{
    prelude::*,
    window::{Window, bias, of_weights, spatial, weights},
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    // All attributes written out.
    lower: |cx| {
        let window = of_weights(cx)?;
        cx.rewritten(window.written_out());
        Ok(())
    },
    runs,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::Conv,
        (2, 3),
        &[
            ("auto_pad", Text),
            ("dilations", Ints),
            ("group", Int),
            ("kernel_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    let x = &ty.shape;
    let w = weights(args, x.len())?;
    let window = Window::of(args.node, Some(w[2..].to_vec()))?;
    let channels = w[1].checked_mul(window.group);
    if channels.is_none() || x[1].fixed() != channels || w[0] % window.group != 0 {
        return Err(format!(
            "the weights {w:?} in {} groups do not fit {} channels",
            window.group, x[1]
        ));
    }
    bias(args, w[0])?;
    let mut shape = vec![Some(x[0].clone()), Some(Dim::Fixed(w[0]))];
    for (i, dim) in x[2..].iter().enumerate() {
        shape.push(window.positions(i, dim)?);
    }
    Inferred::one(ty.dtype, shape)
}

fn runs(target: Target, node: &Node) -> Result<(), String> {
    let uneven = |name: &str| {
        node.ints(name)
            .is_some_and(|v| v.iter().any(|x| *x != v[0]))
    };
    match target == Target::CandleOnnx && (uneven("strides") || uneven("dilations")) {
        true => Err("strides and dilations must be equal in height and width".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (x, w, bias) = (of.x(), of.get(1), of.operand(2));
    let window = Window::of(of.args.node, Some(w.shape[2..].to_vec())).unwrap();
    let size = w.shape[0] / window.group;
    vec![Box::new(move |i| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b.values[i[1]]);
        for tap in indices(&w.shape[1..]) {
            let place = |k: usize| {
                (i[2 + k] * window.strides[k] + tap[1 + k] * window.dilations[k]) as i64
                    - window.begin[k] as i64
            };
            let channel = i[1] / size * w.shape[1] + tap[0];
            let from: Vec<i64> = [i[0] as i64, channel as i64]
                .into_iter()
                .chain((0..tap.len() - 1).map(place))
                .collect();
            sum += x.padded(&from).unwrap_or(0.0) * w.at(&[&[i[1]], &tap[..]].concat());
        }
        sum
    })]
}
