//! Split.

use super::prelude::*;

pub(super) const OPERATORS: &[Operator] = &[Operator {
    outputs: (1, MANY),
    lower,
    #[cfg(test)]
    reference,
    ..Operator::new(OpKind::Split, (1, 2), AXIS, infer)
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = args.ty(0)?;
    let axis = args.axis(0)?;
    let parts = args.node.outputs.len();
    let size = ty.shape[axis].fixed();
    let sizes: Vec<usize> = match (args.has(1), size) {
        (true, _) => {
            let given = args.ints(1)?;
            let given: Option<Vec<usize>> =
                given.iter().map(|&v| usize::try_from(v).ok()).collect();
            given.ok_or("a part has a negative size")?
        }
        (false, Some(size)) if size % parts == 0 => vec![size / parts; parts],
        _ => {
            return Err(format!(
                "axis {axis} cannot be divided into {parts} equal parts"
            ));
        }
    };
    let total = sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s));
    if sizes.len() != parts || total.is_none() || total != size {
        return Err(format!(
            "the parts {sizes:?} do not make up axis {axis} in {parts} outputs"
        ));
    }
    let part = |size: usize| {
        let mut part = Inferred::of(ty);
        part.shape[axis] = Some(Dim::Fixed(size));
        part
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// Sizes as an input.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let axis = cx.args.axis(0)?;
    let size = |i: usize| {
        let size = cx.result(i)?.shape[axis].fixed();
        size.map(|s| s as i64)
            .ok_or("a part has no fixed size".to_string())
    };
    let sizes = (0..cx.node.outputs.len()).map(size);
    let sizes = sizes.collect::<Result<Vec<i64>, String>>()?;
    let sizes = cx.list("sizes", &sizes)?;
    cx.copy(Node {
        inputs: vec![cx.input(0)?.into(), sizes],
        attributes: along(axis),
        ..cx.node.clone()
    });
    Ok(())
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let axis = of.args.axis(0).unwrap();
    let mut start = 0;
    let part = |shape: &Vec<usize>| -> Element {
        let (x, from) = (of.x(), start);
        start += shape[axis];
        Box::new(move |i| {
            let mut i = i.to_vec();
            i[axis] += from;
            x.at(&i)
        })
    };
    of.shapes.iter().map(part).collect()
}
