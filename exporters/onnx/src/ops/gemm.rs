//! Gemm.

use super::{constants::scalar, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::Gemm,
        (2, 3),
        &[
            ("alpha", Float),
            ("beta", Float),
            ("transA", Int),
            ("transB", Int),
        ],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let dtype = args.float(0)?.dtype;
    args.same_dtype(0)?;
    let side = |i: usize, name: &str| -> Result<(Dim, Dim), String> {
        let [rows, columns] = args.shape(i)? else {
            return Err(format!("input {i} must have 2 dimensions"));
        };
        Ok(match args.int(name, 0) {
            0 => (rows.clone(), columns.clone()),
            _ => (columns.clone(), rows.clone()),
        })
    };
    let ((m, k), (l, n)) = (side(0, "transA")?, side(1, "transB")?);
    if k != l {
        return Err(format!("the inner sizes {k} and {l} differ"));
    }
    let shape = vec![Some(m), Some(n)];
    if args.has(2) && broadcast(&shape, args.shape(2)?)? != shape {
        return Err("input 2 does not fit the product".into());
    }
    Inferred::one(dtype, shape)
}

/// Gemm always has C, and its first operand is not transposed: candle-onnx lacks both.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let (mut a, b) = (cx.input(0)?.to_string(), cx.input(1)?);
    let mut kept = cx.node.attributes.clone();
    let turned = kept.remove("transA");
    if turned.is_some_and(|v| v != Attribute::Int(0)) {
        let swap = attributes([("perm", ints(&[1, 0]))]);
        a = cx.emit_with("turned", OpKind::Transpose, &[&a], swap)?;
    }
    kept.retain(|name, value| match (name.as_str(), value) {
        ("alpha" | "beta", Attribute::Float(v)) => *v != 1.0,
        (_, Attribute::Int(v)) => *v != 0,
        _ => true,
    });
    let c = match cx.input(2) {
        Ok(c) => c.to_string(),
        Err(_) => {
            let zero = scalar(cx.args.ty(0)?.dtype, 0.0)?;
            cx.add("zero", zero.reshaped([1]).map_err(|e| e.to_string())?)
        }
    };
    cx.finish_with(OpKind::Gemm, &[&a, b, &c], kept);
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (a, b, c) = (of.x(), of.get(1), of.operand(2));
    let on = |name: &str| of.args.int(name, 0) != 0;
    let (turn_a, turn_b) = (on("transA"), on("transB"));
    let (alpha, beta) = (of.float("alpha", 1.0), of.float("beta", 1.0));
    vec![Box::new(move |i| {
        let inner = a.shape[usize::from(!turn_a)];
        let left = |k| a.at(&if turn_a { [k, i[0]] } else { [i[0], k] });
        let right = |k| b.at(&if turn_b { [i[1], k] } else { [k, i[1]] });
        let bias = c.as_ref().map_or(0.0, |c| c.broadcast(i));
        alpha * (0..inner).map(|k| left(k) * right(k)).sum::<f64>() + beta * bias
    })]
}
