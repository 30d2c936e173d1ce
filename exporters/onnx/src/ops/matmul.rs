//! MatMul.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    #[cfg(test)]
    reference,
    ..Operator::new(OpKind::MatMul, TWO, &[], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let dtype = args.number(0)?.dtype;
    args.same_dtype(0)?;
    let (a, b) = (args.shape(0)?, args.shape(1)?);
    if a.is_empty() || b.is_empty() {
        return Err("a scalar cannot be multiplied as a matrix".into());
    }
    let inner = if b.len() == 1 { &b[0] } else { &b[b.len() - 2] };
    if a[a.len() - 1] != *inner {
        return Err(format!(
            "the inner sizes {} and {inner} differ",
            a[a.len() - 1]
        ));
    }
    let batch = |s: &[Dim]| s[..s.len().saturating_sub(2)].to_vec();
    let mut shape = broadcast(&known(&batch(a)), &batch(b))?;
    if a.len() > 1 {
        shape.push(Some(a[a.len() - 2].clone()));
    }
    if b.len() > 1 {
        shape.push(Some(b[b.len() - 1].clone()));
    }
    Inferred::one(dtype, shape)
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (a, b) = (of.x(), of.get(1));
    vec![Box::new(move |i| {
        let (head, [r, c]) = i.split_at(i.len() - 2) else {
            panic!("matrices")
        };
        let (skip_a, skip_b) = (i.len() - a.shape.len(), i.len() - b.shape.len());
        let left = |k| a.at(&[&head[skip_a..], &[*r, k]].concat());
        let right = |k| b.at(&[&head[skip_b..], &[k, *c]].concat());
        let inner = 0..a.shape[a.shape.len() - 1];
        inner.map(|k| left(k) * right(k)).sum()
    })]
}
