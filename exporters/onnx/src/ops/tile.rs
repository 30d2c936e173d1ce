//! Tile.

use super::{expand::sizes, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, same| same,
    #[cfg(test)]
    reference: |of| {
        let x = of.x();
        vec![Box::new(move |i| {
            let from = i.iter().zip(&x.shape).map(|(i, size)| i % size);
            x.at(&from.collect::<Vec<_>>())
        })]
    },
    ..Operator::new(OpKind::Tile, TWO, &[], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let repeats = sizes(&args.ints(1)?)?;
    if repeats.len() != ty.shape.len() {
        return Err(format!(
            "it needs {} repeats, not {}",
            ty.shape.len(),
            repeats.len()
        ));
    }
    let pairs = ty.shape.iter().zip(&repeats);
    let shape = pairs.map(|(dim, r)| times(dim, r.fixed().unwrap_or(0)));
    Inferred::one(ty.dtype, shape.collect::<Result<_, _>>()?)
}
