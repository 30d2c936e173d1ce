//! ScatterND.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    #[cfg(test)]
    reference,
    ..Operator::new(OpKind::ScatterND, (3, 3), &[("reduction", Text)], infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let x = &ty.shape;
    let (index, updates) = (args.ty(1)?, args.ty(2)?);
    if index.dtype != DType::I64 || updates.dtype != ty.dtype {
        return Err("its indices must be i64, its updates of the data's type".into());
    }
    let depth = index.shape.last().and_then(Dim::fixed);
    let depth = depth.filter(|d| *d <= x.len());
    let depth =
        depth.ok_or("the last size of its indices must be fixed and at most the data's rank")?;
    let expected = [&index.shape[..index.shape.len() - 1], &x[depth..]].concat();
    match expected == updates.shape {
        true => Inferred::same(ty),
        false => Err("its updates do not fit its indices".into()),
    }
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (x, index, updates) = (of.x(), of.get(1), of.get(2));
    let depth = index.shape[index.shape.len() - 1];
    vec![Box::new(move |i| {
        let rows = indices(&index.shape[..index.shape.len() - 1]);
        let hits = |row: &Vec<usize>| {
            (0..depth).all(|d| index.at(&[&row[..], &[d]].concat()) as usize == i[d])
        };
        match rows.iter().rfind(|row| hits(row)) {
            Some(row) => updates.at(&[&row[..], &i[depth..]].concat()),
            None => x.at(i),
        }
    })]
}
