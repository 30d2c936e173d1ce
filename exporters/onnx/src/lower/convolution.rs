//! Convolutions and Gemm.

use zoo_graph::{Array, Attribute};

use super::{
    Target,
    context::{Attributes, Cx, attributes, ints},
    movement::interleave,
};
use crate::shape::{Window, output_padding, transposed_size};

/// Gemm always has C, and its first operand is not transposed: candle-onnx lacks both.
pub(super) fn gemm(cx: &mut Cx<'_>) -> Result<(), String> {
    let (mut a, b) = (cx.input(0)?.to_string(), cx.input(1)?);
    let mut attributes = cx.node.attributes.clone();
    if attributes
        .remove("transA")
        .is_some_and(|v| v != Attribute::Int(0))
    {
        let swap = super::context::attributes([("perm", ints(&[1, 0]))]);
        a = cx.emit("turned", "Transpose", &[&a], swap)?;
    }
    attributes.retain(|name, value| match (name.as_str(), value) {
        ("alpha" | "beta", Attribute::Float(v)) => *v != 1.0,
        (_, Attribute::Int(v)) => *v != 0,
        _ => true,
    });
    let c = match cx.input(2) {
        Ok(c) => c.to_string(),
        Err(_) => {
            let zero = crate::eval::scalar(cx.args.ty(0)?.dtype, 0.0)?;
            cx.add("zero", zero.reshaped([1]).map_err(|e| e.to_string())?)
        }
    };
    cx.finish("Gemm", &[&a, b, &c], attributes);
    Ok(())
}

fn written_out(window: &Window) -> Attributes {
    attributes([
        ("dilations", ints(&window.dilations)),
        ("group", Attribute::Int(window.group as i64)),
        ("kernel_shape", ints(&window.kernel)),
        (
            "pads",
            ints(&[window.begin.as_slice(), &window.end].concat()),
        ),
        ("strides", ints(&window.strides)),
    ])
}

fn window(cx: &Cx<'_>) -> Result<Window, String> {
    let weights = cx.fixed(cx.args.shape(1)?)?;
    Window::of(
        cx.node,
        Some(
            weights
                .get(2..)
                .ok_or("its weights have no kernel")?
                .to_vec(),
        ),
    )
}

/// All attributes written out.
pub(super) fn conv(cx: &mut Cx<'_>) -> Result<(), String> {
    let attributes = written_out(&window(cx)?);
    cx.rewritten(attributes);
    Ok(())
}

/// All attributes written out; for candle-onnx, which has no ConvTranspose, in its sub-pixel form.
pub(super) fn transposed(cx: &mut Cx<'_>) -> Result<(), String> {
    let window = window(cx)?;
    let extra = output_padding(cx.node, &window)?;
    if cx.target == Target::CandleOnnx {
        return sub_pixel(cx, &window, &extra);
    }
    let mut attributes = written_out(&window);
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
    let output = transposed_size(window, extra, i, size)?;
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
fn sub_pixel(cx: &mut Cx<'_>, window: &Window, extra: &[usize]) -> Result<(), String> {
    let x = cx.input(0)?;
    let sizes = cx.fixed(&cx.args.shape(0)?[2..])?;
    let weights = cx
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
        cx.finish("Conv", &inputs, written_out(&conv));
        return Ok(());
    }
    let phases = cx.emit("phases", "Conv", &inputs, written_out(&conv))?;

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
        cx.finish(
            "Slice",
            &[&joined, &starts, &ends, &list, &steps],
            Attributes::new(),
        );
    }
    Ok(())
}

/// The convolution's weights `[C*phases, Cin/g, k..]` and bias from those of the transposed one, `[Cin, C/g, k..]`.
fn rearranged(
    cx: &mut Cx<'_>,
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
