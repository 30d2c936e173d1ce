//! Convolutions and transposed convolutions with all their gradients.
//!
//! Nothing is unrolled into columns: images are copied once into zero-padded planes, split by stride
//! ([`plane`]), in which every tap of a window is a constant offset, and the tiles read them there. The
//! transposed convolution is the convolution's input gradient and the other way round.

mod engine;
mod plane;
mod shape;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod weight;

pub use shape::{Conv2dShape, ConvTranspose2dShape, Taps};

use crate::error::{KernelError, expect_len};
use crate::scratch;
use crate::simd::Simd;
use engine::{Group, Windows};
use plane::Planes;
use rayon::prelude::*;
use shape::Geometry;

/// `out = conv(x, w) + bias`.
pub fn conv2d(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    shape: &Conv2dShape,
    out: &mut [f32],
) -> Result<(), KernelError> {
    masked_conv2d(x, w, bias, shape, Taps::all(), out)
}

/// [`conv2d`] with some taps of the window only.
pub fn masked_conv2d(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    shape: &Conv2dShape,
    taps: Taps,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps);
    let op = "conv2d";
    expect_len(op, "x", x.len(), g.input_len())?;
    expect_len(op, "w", w.len(), g.weight_len())?;
    expect_len(op, "out", out.len(), g.output_len())?;
    if let Some(bias) = bias {
        expect_len(op, "bias", bias.len(), shape.out_channels)?;
    }
    gather(Simd::detect(), &g, x, w, bias, out);
    Ok(())
}

/// `grad_x`: the gradient with respect to the input, from that of the output.
pub fn conv2d_input_grad(
    w: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    masked_conv2d_input_grad(w, grad, shape, Taps::all(), grad_x)
}

/// [`conv2d_input_grad`] of [`masked_conv2d`].
pub fn masked_conv2d_input_grad(
    w: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    taps: Taps,
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps);
    let op = "conv2d_input_grad";
    expect_len(op, "w", w.len(), g.weight_len())?;
    expect_len(op, "grad", grad.len(), g.output_len())?;
    expect_len(op, "grad_x", grad_x.len(), g.input_len())?;
    adjoint(Simd::detect(), &g, grad, w, None, grad_x);
    Ok(())
}

/// `grad_w`: the gradient with respect to the weights, summed over the batch.
pub fn conv2d_weight_grad(
    x: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    masked_conv2d_weight_grad(x, grad, shape, Taps::all(), grad_w)
}

/// [`conv2d_weight_grad`] of [`masked_conv2d`]: zeros at the taps that were skipped.
pub fn masked_conv2d_weight_grad(
    x: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    taps: Taps,
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps);
    let op = "conv2d_weight_grad";
    expect_len(op, "x", x.len(), g.input_len())?;
    expect_len(op, "grad", grad.len(), g.output_len())?;
    expect_len(op, "grad_w", grad_w.len(), g.weight_len())?;
    weight::weight_grad(Simd::detect(), &g, x, grad, grad_w);
    Ok(())
}

/// `out = conv_transpose(x, w) + bias`.
pub fn conv_transpose2d(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    shape: &ConvTranspose2dShape,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?;
    let op = "conv_transpose2d";
    expect_len(op, "x", x.len(), g.output_len())?;
    expect_len(op, "w", w.len(), g.weight_len())?;
    expect_len(op, "out", out.len(), g.input_len())?;
    if let Some(bias) = bias {
        expect_len(op, "bias", bias.len(), shape.out_channels)?;
    }
    adjoint(Simd::detect(), &g, x, w, bias, out);
    Ok(())
}

/// `grad_x`: the gradient with respect to the input, from that of the output.
pub fn conv_transpose2d_input_grad(
    w: &[f32],
    grad: &[f32],
    shape: &ConvTranspose2dShape,
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?;
    let op = "conv_transpose2d_input_grad";
    expect_len(op, "w", w.len(), g.weight_len())?;
    expect_len(op, "grad", grad.len(), g.input_len())?;
    expect_len(op, "grad_x", grad_x.len(), g.output_len())?;
    gather(Simd::detect(), &g, grad, w, None, grad_x);
    Ok(())
}

/// `grad_w`: the gradient with respect to the weights, summed over the batch.
pub fn conv_transpose2d_weight_grad(
    x: &[f32],
    grad: &[f32],
    shape: &ConvTranspose2dShape,
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?;
    let op = "conv_transpose2d_weight_grad";
    expect_len(op, "x", x.len(), g.output_len())?;
    expect_len(op, "grad", grad.len(), g.input_len())?;
    expect_len(op, "grad_w", grad_w.len(), g.weight_len())?;
    weight::weight_grad(Simd::detect(), &g, grad, x, grad_w);
    Ok(())
}

/// The convolution itself: each output gathers its window.
fn gather(simd: Simd, g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let planes = Planes::input(g);
    let mut steps = Vec::with_capacity(g.in_group * g.taps());
    let mut weights = Vec::with_capacity(steps.capacity());
    for c in 0..g.in_group {
        for (ky, kx, place) in g.live_taps() {
            let tap = planes.tap([ky * g.dilation[0], kx * g.dilation[1]]);
            steps.push(c * planes.channel_len() + tap);
            weights.push(c * g.taps() + place);
        }
    }
    let windows = Windows {
        weights,
        weight_stride: g.in_group * g.taps(),
        steps,
        rows: g.out[0],
        cols: g.out[1],
        start: 0,
        pitch: planes.cols,
        to: 0,
        to_row: g.out[1],
        to_col: 1,
    };
    let from = Images {
        channels: g.in_group,
        plane: g.input_plane(),
    };
    let to = Images {
        channels: g.out_group,
        plane: g.out_plane(),
    };
    let plan = Plan {
        planes,
        grids: vec![windows],
        from,
        to,
    };
    product(simd, g.groups, &plan, x, w, bias, y);
}

/// The adjoint of the convolution, one grid of windows for each phase of the stride: every input value is
/// written once, from the outputs whose windows it is in.
fn adjoint(simd: Simd, g: &Geometry, grad: &[f32], w: &[f32], bias: Option<&[f32]>, x: &mut [f32]) {
    let planes = Planes::output(g);
    let mut grids = Vec::new();
    for a in phase_grid(g, 0) {
        for b in phase_grid(g, 1) {
            let mut windows = Windows {
                steps: Vec::new(),
                weights: Vec::new(),
                weight_stride: g.taps(),
                rows: a.count,
                cols: b.count,
                start: a.first * planes.cols + b.first,
                pitch: planes.cols,
                to: a.to * g.input[1] + b.to,
                to_row: g.stride[0] * g.input[1],
                to_col: g.stride[1],
            };
            for o in 0..g.out_group {
                for &(ky, back_y) in &a.taps {
                    for &(kx, back_x) in &b.taps {
                        if !g.live.has(ky * g.kernel[1] + kx) {
                            continue;
                        }
                        let tap = back_y * planes.cols + back_x;
                        windows.steps.push(o * planes.channel_len() + tap);
                        windows
                            .weights
                            .push(o * g.in_group * g.taps() + ky * g.kernel[1] + kx);
                    }
                }
            }
            grids.push(windows);
        }
    }
    let from = Images {
        channels: g.out_group,
        plane: g.out_plane(),
    };
    let to = Images {
        channels: g.in_group,
        plane: g.input_plane(),
    };
    let plan = Plan {
        planes,
        grids,
        from,
        to,
    };
    product(simd, g.groups, &plan, grad, w, bias, x);
}

/// The rows (or columns) of the input in one phase of the stride.
struct Phase {
    /// The first window that such a row can belong to, as its first.
    first: usize,
    /// Rows of the phase.
    count: usize,
    /// The first of them.
    to: usize,
    /// The taps that meet this phase, and how far behind the reach their windows are.
    taps: Vec<(usize, usize)>,
}

fn phase_grid(g: &Geometry, axis: usize) -> Vec<Phase> {
    let (stride, padding, reach) = (g.stride[axis], g.padding[axis], g.reach(axis));
    let end = padding + g.input[axis]; // in padded rows
    (0..stride.min(end))
        .filter_map(|phase| {
            let first = padding.saturating_sub(phase).div_ceil(stride);
            let to = first * stride + phase;
            if to >= end {
                return None;
            }
            let taps = (0..g.kernel[axis])
                .map(|k| (k, k * g.dilation[axis]))
                .filter(|(_, at)| at % stride == phase)
                .map(|(k, at)| (k, reach - at / stride))
                .collect();
            Some(Phase {
                first,
                count: (end - to).div_ceil(stride),
                to: to - padding,
                taps,
            })
        })
        .collect()
}

/// The layout of one side of a convolution.
#[derive(Clone, Copy)]
struct Images {
    /// Channels per group.
    channels: usize,
    /// Values of one channel.
    plane: usize,
}

/// What to compute for each image and group.
struct Plan {
    planes: Planes,
    grids: Vec<Windows>,
    from: Images,
    to: Images,
}

/// Runs every grid of windows over every image and group, the images in parallel.
fn product(
    simd: Simd,
    groups: usize,
    plan: &Plan,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let Plan {
        planes,
        grids,
        from,
        to,
    } = plan;
    let packings: Vec<_> = grids
        .iter()
        .map(|grid| grid.packing(simd, to.channels))
        .collect();
    let packed_len: usize = packings.iter().map(|p| p.len()).sum();
    let reads = grids
        .iter()
        .zip(&packings)
        .map(|(grid, packing)| grid.reads(simd, packing))
        .fold(planes.len(), usize::max);
    let from_group = from.channels * from.plane;
    let to_group = to.channels * to.plane;
    let weights = w.len() / groups;
    scratch::with(packed_len * groups, |packed| {
        for (w, packed) in w
            .chunks_exact(weights)
            .zip(packed.chunks_exact_mut(packed_len.max(1)))
        {
            let mut at = 0;
            for (grid, packing) in grids.iter().zip(&packings) {
                grid.pack(simd, packing, w, &mut packed[at..]);
                at += packing.len();
            }
        }
        let packed = &*packed;
        y.par_chunks_mut(groups * to_group)
            .enumerate()
            .for_each(|(n, y)| {
                for group in 0..groups {
                    let bias = bias.map(|b| &b[group * to.channels..][..to.channels]);
                    let y = &mut y[group * to_group..][..to_group];
                    let x = &x[(n * groups + group) * from_group..];
                    let run = |planes: &[f32], y: &mut [f32]| {
                        let mut at = group * packed_len;
                        for (grid, packing) in grids.iter().zip(&packings) {
                            let group = Group {
                                packing,
                                packed: &packed[at..],
                                planes,
                                bias,
                                plane: to.plane,
                            };
                            grid.run(simd, &group, y);
                            at += packing.len();
                        }
                    };
                    // Tiles may read past the last image only in a copy.
                    if planes.is_source() && x.len() >= reads {
                        run(x, y);
                    } else {
                        scratch::with(reads, |buffer| {
                            planes.fill(simd, &x[..from_group], buffer);
                            run(buffer, y);
                        });
                    }
                }
            });
    });
}
