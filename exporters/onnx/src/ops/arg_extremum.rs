//! ArgMax and ArgMin.

use super::{prelude::*, reduce::reduced};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        #[cfg(test)]
        reference: |of| reference(of, |a, b| a > b),
        ..of(OpKind::ArgMax)
    },
    Operator {
        #[cfg(test)]
        reference: |of| reference(of, |a, b| a < b),
        ..of(OpKind::ArgMin)
    },
];

const fn of(kind: OpKind) -> Operator {
    let attributes = &[("axis", Int), ("keepdims", Int), ("select_last_index", Int)];
    Operator {
        lower,
        ..Operator::new(kind, ONE, attributes, infer)
    }
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let axis = args.axis(0)?;
    let shape = reduced(args.shape(0)?, &[axis], args.int("keepdims", 1) != 0);
    Inferred::one(DType::I64, shape)
}

/// Explicit axis; of equal elements the first, as every runtime does.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    if cx.args.int("select_last_index", 0) != 0 {
        return Err(
            "select_last_index is missing in candle-onnx; reverse the input instead".into(),
        );
    }
    let axis = cx.args.axis(0)?;
    cx.rewritten(attributes([
        ("axis", Attribute::Int(axis as i64)),
        ("keepdims", Attribute::Int(cx.args.int("keepdims", 1))),
    ]));
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>, better: fn(f64, f64) -> bool) -> Vec<Element> {
    let x = of.x();
    let axis = of.args.axis(0).unwrap();
    let keep = of.args.int("keepdims", 1) != 0;
    vec![Box::new(move |i| {
        let mut j = i.to_vec();
        match keep {
            true => j[axis] = 0,
            false => j.insert(axis, 0),
        }
        let mut at = |k| {
            j[axis] = k;
            x.at(&j)
        };
        let all: Vec<f64> = (0..x.shape[axis]).map(&mut at).collect();
        let best = |first: usize, k: usize| if better(all[k], all[first]) { k } else { first };
        (0..all.len()).fold(0, best) as f64
    })]
}
