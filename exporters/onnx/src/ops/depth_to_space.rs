//! DepthToSpace.

use super::{prelude::*, window::spatial};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    runs: missing,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::DepthToSpace,
        ONE,
        &[("blocksize", Int), ("mode", Text)],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    let x = &ty.shape;
    let block = usize::try_from(args.int("blocksize", 0)).ok();
    let block = block.filter(|b| *b > 0 && *b < 1 << 16);
    let block = block.ok_or("blocksize must be at least 1")?;
    let channels = x[1].fixed().filter(|c| c % (block * block) == 0);
    let (Some(channels), 4) = (channels, x.len()) else {
        return Err(format!(
            "{} channels cannot be divided into blocks of {block} x {block}",
            x[1]
        ));
    };
    let shape = vec![
        Some(x[0].clone()),
        Some(Dim::Fixed(channels / (block * block))),
        times(&x[2], block)?,
        times(&x[3], block)?,
    ];
    Inferred::one(ty.dtype, shape)
}

/// Reshape, Transpose, Reshape: candle-onnx has no DepthToSpace.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let block = cx.args.int("blocksize", 1);
    let columns_first = cx.args.text("mode", "DCR") == "CRD";
    let x = cx.input(0)?.to_string();
    let [_, channels, height, width] = cx.args.shape(0)? else {
        return Err("its input must be [N,C,H,W]".into());
    };
    let channels = channels.fixed().ok_or("its channels must be fixed")? as i64;
    let depth = channels / (block * block);
    let (Some(height), Some(width)) = (height.fixed(), width.fixed()) else {
        return Ok(open(cx, x, depth, block, columns_first)?);
    };
    let [height, width] = [height as i64, width as i64];
    let (parts, perm) = match columns_first {
        true => ([0, depth, block, block, height, width], [0, 1, 4, 2, 5, 3]),
        false => ([0, block, block, depth, height, width], [0, 3, 4, 1, 5, 2]),
    };
    let target = [0, depth, height * block, width * block];
    interleave(cx, &x, &parts, &perm, &target, true)?;
    Ok(())
}

/// The same where height and width are open: a Reshape can infer one size alone, so they grow one after the other, each as the last but one
/// dimension beside the channels.
fn open(
    cx: &mut Rewrite<'_>,
    mut x: String,
    depth: i64,
    block: i64,
    columns_first: bool,
) -> Result<(), String> {
    if columns_first {
        // Channel (c, r, s) to the place of (r, s, c).
        let place = |i: i64| (i % depth) * block * block + i / depth;
        let order: Vec<i64> = (0..depth * block * block).map(place).collect();
        let order = cx.list("order", &order)?;
        x = cx.emit_with("ordered", OpKind::Gather, &[&x, &order], along(1))?;
    }
    let turn = |perm: &[usize]| attributes([("perm", ints(perm))]);
    // [N,(r,s,c),H,W] -> [N,W,H,(r,s,c)] -> [N,W,rH,(s,c)] -> [N,rH,W,(s,c)] -> [N,rH,sW,c] -> [N,c,rH,sW]
    x = cx.emit_with("columns", OpKind::Transpose, &[&x], turn(&[0, 3, 2, 1]))?;
    let rows = cx.list("taller", &[0, 0, -1, block * depth])?;
    x = cx.emit("tall", OpKind::Reshape, &[&x, &rows])?;
    x = cx.emit_with("rows", OpKind::Transpose, &[&x], turn(&[0, 2, 1, 3]))?;
    let columns = cx.list("wider", &[0, 0, -1, depth])?;
    x = cx.emit("wide", OpKind::Reshape, &[&x, &columns])?;
    cx.finish_with(OpKind::Transpose, &[&x], turn(&[0, 3, 1, 2]));
    Ok(())
}

/// Reshape to `parts`, Transpose by `perm`, Reshape to `target`; the last one is the node's result where `last`.
pub(super) fn interleave(
    cx: &mut Rewrite<'_>,
    x: &str,
    parts: &[i64],
    perm: &[usize],
    target: &[i64],
    last: bool,
) -> Result<String, String> {
    let parts = cx.list("parts", parts)?;
    let apart = cx.emit("apart", OpKind::Reshape, &[x, &parts])?;
    let perm = attributes([("perm", ints(perm))]);
    let turned = cx.emit_with("turned", OpKind::Transpose, &[&apart], perm)?;
    let target = cx.list("shape", target)?;
    if last {
        cx.finish(OpKind::Reshape, &[&turned, &target]);
        return Ok(cx.node.outputs[0].clone());
    }
    cx.emit("joined", OpKind::Reshape, &[&turned, &target])
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let x = of.x();
    let block = of.args.int("blocksize", 1) as usize;
    let depth = x.shape[1] / block / block;
    let columns_first = of.args.text("mode", "DCR") == "CRD";
    vec![Box::new(move |i| {
        let (r, c) = (i[2] % block, i[3] % block);
        let channel = match columns_first {
            true => (i[1] * block + r) * block + c,
            false => (r * block + c) * depth + i[1],
        };
        x.at(&[i[0], channel, i[2] / block, i[3] / block])
    })]
}
