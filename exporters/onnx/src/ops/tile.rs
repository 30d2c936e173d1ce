//! Tile.

use super::{expand::sizes, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    idle: |_, same| same,
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
