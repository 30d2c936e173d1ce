//! AveragePool and MaxPool.

use super::{
    pad::surround,
    prelude::*,
    window::{Window, spatial},
};

pub(super) const OPERATORS: &[Operator] = &[
    Operator {
        lower: |cx| lower(cx, OpKind::AveragePool),
        runs,
        #[cfg(test)]
        reference: |of| {
            let counted = of.args.int("count_include_pad", 0) != 0;
            reference(of, move |seen, taps| {
                seen.iter().sum::<f64>() / if counted { taps } else { seen.len() } as f64
            })
        },
        ..Operator::new(
            OpKind::AveragePool,
            ONE,
            &[
                ("auto_pad", Text),
                ("ceil_mode", Int),
                ("count_include_pad", Int),
                ("kernel_shape", Ints),
                ("pads", Ints),
                ("strides", Ints),
            ],
            infer,
        )
    },
    Operator {
        lower: |cx| lower(cx, OpKind::MaxPool),
        runs,
        #[cfg(test)]
        reference: |of| reference(of, |seen, _| seen.iter().copied().fold(f64::MIN, f64::max)),
        ..Operator::new(
            OpKind::MaxPool,
            ONE,
            &[
                ("auto_pad", Text),
                ("ceil_mode", Int),
                ("dilations", Ints),
                ("kernel_shape", Ints),
                ("pads", Ints),
                ("storage_order", Int),
                ("strides", Ints),
            ],
            infer,
        )
    },
];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    if args.int("ceil_mode", 0) != 0 || args.int("storage_order", 0) != 0 {
        return Err("ceil_mode and storage_order are not supported".into());
    }
    let window = Window::of(args.node, None)?;
    if window.kernel.len() + 2 != ty.shape.len() {
        return Err("kernel_shape does not fit the input".into());
    }
    let mut shape = known(&ty.shape[..2]);
    for (i, dim) in ty.shape[2..].iter().enumerate() {
        shape.push(window.positions(i, dim)?);
    }
    Inferred::one(ty.dtype, shape)
}

/// Explicit attributes; pads outside of the pooling, as candle-onnx and some others take none.
fn lower(cx: &mut Rewrite<'_>, kind: OpKind) -> Result<(), Failure> {
    let mut x = cx.input(0)?.to_string();
    let window = Window::of(cx.node, None)?;
    let padded = window.begin.iter().chain(&window.end).any(|&p| p != 0);
    let counted = cx.args.int("count_include_pad", 0) != 0;
    let max = kind == OpKind::MaxPool;
    if window.dilations.iter().any(|&d| d != 1) {
        return Err("a dilated pooling window is missing in candle-onnx".into());
    }
    let inside = padded && !max && !counted;
    if inside && cx.target == Target::CandleOnnx {
        return Err(
            "an average that leaves pads out is missing there; set count_include_pad".into(),
        );
    }
    if padded && !inside {
        if cx.args.ty(0)?.dtype != DType::F32 {
            return Err("padded pooling is for f32".into());
        }
        let value = if max { f64::from(f32::MIN) } else { 0.0 };
        for i in 0..window.kernel.len() {
            if window.begin[i] + window.end[i] > 0 {
                x = surround(cx, &x, i + 2, window.begin[i], window.end[i], value)?;
            }
        }
    }
    let mut attributes = attributes([
        ("kernel_shape", ints(&window.kernel)),
        ("strides", ints(&window.strides)),
    ]);
    if inside {
        let pads = [window.begin, window.end].concat();
        attributes.insert("pads".into(), ints(&pads));
    }
    cx.finish_with(kind, &[&x], attributes);
    Ok(())
}

fn runs(target: Target, node: &Node) -> Result<(), String> {
    let padded = node.ints("pads").is_some_and(|v| v.iter().any(|&p| p != 0));
    let images = node.ints("kernel_shape").is_none_or(|k| k.len() == 2);
    match target {
        Target::CandleOnnx if padded => Err("pooling with pads is missing there".into()),
        Target::CandleOnnx if !images => Err("only images are pooled there".into()),
        _ => Ok(()),
    }
}

/// `pooled` of what is seen inside, and of how many taps the window has.
#[cfg(test)]
fn reference(of: &Operands<'_>, pooled: impl Fn(&[f64], usize) -> f64 + 'static) -> Vec<Element> {
    let x = of.x();
    let window = Window::of(of.args.node, None).unwrap();
    let taps = indices(&window.kernel);
    vec![Box::new(move |i| {
        let seen = taps.iter().filter_map(|tap| {
            let place =
                |k: usize| (i[2 + k] * window.strides[k] + tap[k]) as i64 - window.begin[k] as i64;
            let image = [i[0] as i64, i[1] as i64].into_iter();
            x.padded(&image.chain((0..tap.len()).map(place)).collect::<Vec<_>>())
        });
        pooled(&seen.collect::<Vec<_>>(), taps.len())
    })]
}
