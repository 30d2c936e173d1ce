//! GlobalAveragePool.

use super::{prelude::*, window::spatial};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs: missing,
    #[cfg(test)]
    reference: |of| {
        let axes = (2..of.x().shape.len()).collect();
        of.over(axes, true, |peers| {
            peers.iter().sum::<f64>() / peers.len() as f64
        })
    },
    ..Operator::new(OpKind::GlobalAveragePool, ONE, &[], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    let mut shape = known(&ty.shape[..2]);
    shape.resize(ty.shape.len(), Some(Dim::Fixed(1)));
    Inferred::one(ty.dtype, shape)
}

/// ReduceMean over the spatial axes: candle-onnx has no GlobalAveragePool.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let axes: Vec<usize> = (2..cx.args.shape(0)?.len()).collect();
    let over = attributes([("axes", ints(&axes)), ("keepdims", Attribute::Int(1))]);
    cx.finish_with(OpKind::ReduceMean, &[cx.input(0)?], over);
    Ok(())
}
