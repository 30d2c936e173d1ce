//! GroupNormalization, and InstanceNormalization, whose groups are of one channel.

use super::{batch_normalization::infer, layer_normalization::standardise, prelude::*};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        // Read, and taken apart by the lowering; the checker refuses it in a file.
        since: Some(18),
        lower: |cx| {
            let groups = usize::try_from(cx.args.int("num_groups", 0)).unwrap_or(0);
            lower(cx, Some(groups))
        },
        runs: missing,
        #[cfg(test)]
        reference: |of| reference(of, of.args.int("num_groups", 0) as usize),
        ..Operator::new(
            OpKind::GroupNormalization,
            (3, 3),
            &[("epsilon", Float), ("num_groups", Int)],
            infer,
        )
    },
    Operator {
        lower: |cx| lower(cx, None),
        runs: missing,
        #[cfg(test)]
        reference: |of| reference(of, of.x().shape[1]),
        ..Operator::new(
            OpKind::InstanceNormalization,
            (3, 3),
            &[("epsilon", Float)],
            infer,
        )
    },
];

/// Over the positions of each image and group of channels, of which there are as many as channels where not said otherwise.
fn lower(cx: &mut Rewrite<'_>, groups: Option<usize>) -> Result<(), Failure> {
    let x = cx.input(0)?;
    let shape = cx.args.shape(0)?;
    let sizes = cx.fixed(shape.get(1..).unwrap_or_default())?;
    let channels = *sizes.first().ok_or("its input has no channels")?;
    let groups = groups.unwrap_or(channels);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!("{channels} channels cannot be divided into {groups} groups").into());
    }
    let target = cx.list("groups", &[0, groups as i64, -1])?;
    let grouped = cx.emit("grouped", OpKind::Reshape, &[x, &target])?;
    let normal = standardise(cx, &grouped, &[2])?;
    let sizes = sizes.iter().map(|&s| s as i64);
    let back: Vec<i64> = std::iter::once(0).chain(sizes).collect();
    let back = cx.list("shape", &back)?;
    let normal = cx.emit("ungrouped", OpKind::Reshape, &[&normal, &back])?;
    let scale = per_channel(cx, 1, "scale", shape)?;
    let bias = per_channel(cx, 2, "bias", shape)?;
    let scaled = cx.emit("scaled", OpKind::Mul, &[&normal, &scale])?;
    cx.finish(OpKind::Add, &[&scaled, &bias]);
    Ok(())
}

/// Input `i` as `[C,1,..]`; a constant becomes so when constants are folded.
fn per_channel(
    cx: &mut Rewrite<'_>,
    i: usize,
    name: &str,
    shape: &[Dim],
) -> Result<String, String> {
    let input = cx.input(i)?;
    let mut target = vec![1; shape.len() - 1];
    target[0] = -1;
    let target = cx.list("column", &target)?;
    cx.emit(name, OpKind::Reshape, &[input, &target])
}

#[cfg(test)]
fn reference(of: &Operands<'_>, groups: usize) -> Vec<Element> {
    let (scale, shift) = (of.get(1), of.get(2));
    let size = of.x().shape[1] / groups;
    of.standardised(
        move |i, j| i[0] == j[0] && i[1] / size == j[1] / size,
        move |i| (scale.values[i[1]], shift.values[i[1]]),
    )
}
