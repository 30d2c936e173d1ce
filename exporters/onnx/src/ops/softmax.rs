//! Softmax and LogSoftmax.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        lower,
        #[cfg(test)]
        reference: |of| {
            let softmax = reference(of).remove(0);
            vec![Box::new(move |i| softmax(i).ln())]
        },
        ..Operator::new(OpKind::LogSoftmax, ONE, AXIS, infer)
    },
    Operator {
        lower,
        #[cfg(test)]
        reference,
        ..Operator::new(OpKind::Softmax, ONE, AXIS, infer)
    },
];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.float(0)?;
    args.axis(-1)?;
    Inferred::same(ty)
}

/// Explicit axis.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let axis = cx.args.axis(-1)?;
    cx.rewritten(along(axis));
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let axis = of.args.axis(-1).unwrap();
    vec![Box::new(move |i| {
        let at = |k| {
            let mut j = i.to_vec();
            j[axis] = k;
            x.at(&j).exp()
        };
        x.at(i).exp() / (0..x.shape[axis]).map(at).sum::<f64>()
    })]
}
