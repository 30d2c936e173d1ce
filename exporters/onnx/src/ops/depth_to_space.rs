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
    let sizes = cx.fixed(&cx.args.shape(0)?[1..])?;
    let [channels, height, width] = sizes[..] else {
        return Err("its input must be [N,C,H,W]".into());
    };
    let [channels, height, width] = [channels as i64, height as i64, width as i64];
    let depth = channels / (block * block);
    let (parts, perm) = match cx.args.text("mode", "DCR") {
        "CRD" => ([0, depth, block, block, height, width], [0, 1, 4, 2, 5, 3]),
        _ => ([0, block, block, depth, height, width], [0, 3, 4, 1, 5, 2]),
    };
    let x = cx.input(0)?.to_string();
    let target = [0, depth, height * block, width * block];
    interleave(cx, &x, &parts, &perm, &target, true)?;
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
