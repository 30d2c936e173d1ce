//! ConvTranspose, and its exact form as a convolution.

use super::{
    depth_to_space::interleave,
    prelude::*,
    window::{Window, bias, of_weights, spatial, weights},
};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    lower,
    #[cfg(test)]
    reference,
    ..Operator::new(
        OpKind::ConvTranspose,
        (2, 3),
        &[
            ("auto_pad", Text),
            ("dilations", Ints),
            ("group", Int),
            ("kernel_shape", Ints),
            ("output_padding", Ints),
            ("output_shape", Ints),
            ("pads", Ints),
            ("strides", Ints),
        ],
        infer,
    )
}];

/// The output size of a transposed convolution along axis `i`.
fn transposed_size(window: &Window, extra: usize, i: usize, size: &Dim) -> Derived {
    let taps = window.extent(i).saturating_add(extra) as i64;
    let cropped = window.begin[i].saturating_add(window.end[i]) as i64;
    let steps = size.moved(-1).and_then(|n| n.times(window.strides[i]));
    match steps.and_then(|n| n.moved(taps.checked_sub(cropped)?)) {
        None | Some(Dim::Fixed(0)) if size.fixed().is_some() => {
            Err("its output would be empty".into())
        }
        size => Ok(size),
    }
}

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    let x = &ty.shape;
    let w = weights(args, x.len())?;
    let window = Window::of(args.node, Some(w[2..].to_vec()))?;
    if args.node.attributes.contains_key("output_shape") {
        return Err("output_shape is not supported, write pads and output_padding out".into());
    }
    let channels = w[1].checked_mul(window.group);
    let Some(channels) =
        channels.filter(|_| x[1].fixed() == Some(w[0]) && w[0] % window.group == 0)
    else {
        return Err(format!(
            "the weights {w:?} in {} groups do not fit {} channels",
            window.group, x[1]
        ));
    };
    bias(args, channels)?;
    let extra = output_padding(args.node, &window)?;
    let mut shape = vec![Some(x[0].clone()), Some(Dim::Fixed(channels))];
    for (i, dim) in x[2..].iter().enumerate() {
        shape.push(transposed_size(&window, extra[i], i, dim)?);
    }
    Inferred::one(ty.dtype, shape)
}

/// The attribute `output_padding`, or zeros.
fn output_padding(node: &Node, window: &Window) -> Result<Vec<usize>, String> {
    let Some(values) = node.ints("output_padding") else {
        return Ok(vec![0; window.kernel.len()]);
    };
    let fits = |(i, &v): (usize, &i64)| {
        let limit = window.strides.get(i)?;
        usize::try_from(v).ok().filter(|v| v < limit)
    };
    let sizes: Option<Vec<usize>> = values.iter().enumerate().map(fits).collect();
    sizes
        .filter(|s| s.len() == window.kernel.len())
        .ok_or_else(|| {
            "output_padding must be smaller than the stride on each axis, or ONNX Runtime fails"
                .into()
        })
}

/// All attributes written out; for candle-onnx, which has no ConvTranspose, in its sub-pixel form.
fn lower(cx: &mut Rewrite<'_>) -> Result<(), Failure> {
    let window = of_weights(cx)?;
    let extra = output_padding(cx.node, &window)?;
    if cx.target == Target::CandleOnnx {
        return Ok(sub_pixel(cx, &window, &extra)?);
    }
    let mut attributes = window.written_out();
    if extra.iter().any(|&e| e != 0) {
        attributes.insert("output_padding".into(), ints(&extra));
    }
    cx.rewritten(attributes);
    Ok(())
}

/// One axis of the sub-pixel form.
///
/// Output `o` gets input `i` through tap `t` where `o = i*stride + t*dilation - pad`. With `o = stride*q + phase`, a tap
/// belongs to the phase `(t*dilation - pad) mod stride`, and there reads the input at `q + offset`, with `offset` the
/// negative of the rounded-down quotient. So each phase is a plain convolution, and all phases together are one, with
/// `stride` times the channels.
struct Axis {
    /// Phase and kernel position of each tap.
    taps: Vec<(usize, usize)>,
    kernel: usize,
    begin: usize,
    end: usize,
    /// Positions of each phase; `stride * count` covers the output.
    count: usize,
    output: usize,
}

fn axis(window: &Window, extra: usize, i: usize, size: usize) -> Result<Axis, String> {
    let output = transposed_size(window, extra, i, &size.into())?;
    let output = output
        .and_then(|dim| dim.fixed())
        .ok_or("its size is not known")?;
    let stride = window.strides[i] as i64;
    let shifts =
        (0..window.kernel[i]).map(|t| (t * window.dilations[i]) as i64 - window.begin[i] as i64);
    let taps: Vec<(usize, i64)> = shifts
        .map(|s| (s.rem_euclid(stride) as usize, -s.div_euclid(stride)))
        .collect();
    let count = output.div_ceil(window.strides[i]);
    // Zero taps where the pads of the convolution would be negative.
    let first = taps.iter().map(|t| t.1).min().unwrap_or(0).min(0);
    let last = taps
        .iter()
        .map(|t| t.1)
        .max()
        .unwrap_or(0)
        .max(size as i64 - count as i64);
    Ok(Axis {
        taps: taps
            .into_iter()
            .map(|(phase, offset)| (phase, (offset - first) as usize))
            .collect(),
        kernel: (last - first + 1) as usize,
        begin: -first as usize,
        end: (last + count as i64 - size as i64) as usize,
        count,
        output,
    })
}

/// A convolution to `stride` times the channels on each axis, whose phases are then interleaved: exact for every kernel,
/// stride, dilation, pad and group. A kernel of 4 with stride 2 and pad 1 becomes one of 3.
fn sub_pixel(cx: &mut Rewrite<'_>, window: &Window, extra: &[usize]) -> Result<(), String> {
    let x = cx.input(0)?;
    let sizes = cx.fixed(&cx.args.shape(0)?[2..])?;
    let weights = cx
        .args
        .constant(1)
        .ok_or("its weights must be constant to be rewritten")?;
    let axes = (0..sizes.len())
        .map(|i| axis(window, extra[i], i, sizes[i]))
        .collect::<Result<Vec<_>, _>>()?;
    let (kernel, bias) = rearranged(cx, window, &axes, weights)?;
    let conv = Window {
        kernel: axes.iter().map(|a| a.kernel).collect(),
        strides: vec![1; axes.len()],
        dilations: vec![1; axes.len()],
        begin: axes.iter().map(|a| a.begin).collect(),
        end: axes.iter().map(|a| a.end).collect(),
        group: window.group,
    };
    let inputs: Vec<&str> = [x, &kernel].into_iter().chain(bias.as_deref()).collect();
    if window.strides.iter().all(|&s| s == 1) {
        cx.finish_with(OpKind::Conv, &inputs, conv.written_out());
        return Ok(());
    }
    let phases = cx.emit_with("phases", OpKind::Conv, &inputs, conv.written_out())?;

    // [N, C*s1*s2, q1, q2] -> [N, C, s1, s2, q1, q2] -> [N, C, q1, s1, q2, s2] -> [N, C, q1*s1, q2*s2]
    let rank = axes.len();
    let channels = (weights.shape()[1] * window.group) as i64;
    let strides = window.strides.iter().map(|&s| s as i64);
    let counts = || axes.iter().map(|a| a.count as i64);
    let parts: Vec<i64> = [0, channels]
        .into_iter()
        .chain(strides.clone())
        .chain(counts())
        .collect();
    let perm: Vec<usize> = [0, 1]
        .into_iter()
        .chain((0..rank).flat_map(|i| [2 + rank + i, 2 + i]))
        .collect();
    let joined: Vec<i64> = [0, channels]
        .into_iter()
        .chain(counts().zip(strides).map(|(q, s)| q * s))
        .collect();
    let cut: Vec<usize> = (0..rank)
        .filter(|&i| axes[i].count * window.strides[i] != axes[i].output)
        .collect();
    let joined = interleave(cx, &phases, &parts, &perm, &joined, cut.is_empty())?;
    if !cut.is_empty() {
        let starts = cx.list("starts", &vec![0; cut.len()])?;
        let ends: Vec<i64> = cut.iter().map(|&i| axes[i].output as i64).collect();
        let ends = cx.list("ends", &ends)?;
        let list: Vec<i64> = cut.iter().map(|&i| 2 + i as i64).collect();
        let list = cx.list("axes", &list)?;
        let steps = cx.list("steps", &vec![1; cut.len()])?;
        cx.finish(OpKind::Slice, &[&joined, &starts, &ends, &list, &steps]);
    }
    Ok(())
}

/// The convolution's weights `[C*phases, Cin/g, k..]` and bias from those of the transposed one, `[Cin, C/g, k..]`.
fn rearranged(
    cx: &mut Rewrite<'_>,
    window: &Window,
    axes: &[Axis],
    weights: &Array,
) -> Result<(String, Option<String>), String> {
    let from = weights.as_f32().map_err(|e| e.to_string())?;
    let [inputs, outputs, kernel @ ..] = weights.shape() else {
        return Err("its weights have no kernel".into());
    };
    let (inputs, outputs) = (inputs / window.group, *outputs);
    let taps: usize = kernel.iter().product();
    let phases: usize = window.strides.iter().product();
    let area: usize = axes.iter().map(|a| a.kernel).product();
    let mut to = vec![0f32; window.group * outputs * phases * inputs * area];
    for tap in 0..taps {
        // The tap's place along each axis, then phase and kernel position as flat indices.
        let (mut phase, mut place, mut rest, mut below) = (0, 0, tap, taps);
        for (i, axis) in axes.iter().enumerate() {
            below /= kernel[i];
            let (p, k) = axis.taps[rest / below];
            rest %= below;
            phase = phase * window.strides[i] + p;
            place = place * axis.kernel + k;
        }
        for group in 0..window.group {
            for output in 0..outputs {
                for input in 0..inputs {
                    let source = ((group * inputs + input) * outputs + output) * taps + tap;
                    let channel = (group * outputs + output) * phases + phase;
                    to[(channel * inputs + input) * area + place] = from[source];
                }
            }
        }
    }
    let mut shape = vec![window.group * outputs * phases, inputs];
    shape.extend(axes.iter().map(|a| a.kernel));
    let kernel = Array::f32(shape, to).map_err(|e| e.to_string())?;
    let kernel = cx.add("kernel", kernel);
    let Ok(name) = cx.input(2) else {
        return Ok((kernel, None));
    };
    let bias = cx
        .args
        .constant(2)
        .ok_or_else(|| format!("its bias {name:?} must be constant to be rewritten"))?;
    let bias = bias.as_f32().map_err(|e| e.to_string())?;
    let repeated: Vec<f32> = bias
        .iter()
        .flat_map(|&b| std::iter::repeat_n(b, phases))
        .collect();
    let repeated = Array::f32([repeated.len()], repeated).map_err(|e| e.to_string())?;
    Ok((kernel, Some(cx.add("bias", repeated))))
}

#[cfg(test)]
fn reference(of: &Operands<'_>) -> Vec<Element> {
    let (x, w, bias) = (of.x(), of.get(1), of.operand(2));
    let window = Window::of(of.args.node, Some(w.shape[2..].to_vec())).unwrap();
    let (inputs, outputs) = (w.shape[0] / window.group, w.shape[1]);
    vec![Box::new(move |o| {
        let mut sum = bias.as_ref().map_or(0.0, |b| b.values[o[1]]);
        let group = o[1] / outputs;
        for tap in indices(&w.shape[2..]) {
            let place = |k: usize| {
                let at =
                    (o[2 + k] + window.begin[k]) as i64 - (tap[k] * window.dilations[k]) as i64;
                let stride = window.strides[k] as i64;
                if at % stride == 0 { at / stride } else { -1 }
            };
            let spots: Vec<i64> = (0..tap.len()).map(place).collect();
            for c in group * inputs..(group + 1) * inputs {
                let from = [&[o[0] as i64, c as i64], &spots[..]].concat();
                sum += x.padded(&from).unwrap_or(0.0)
                    * w.at(&[&[c, o[1] % outputs], &tap[..]].concat());
            }
        }
        sum
    })]
}
