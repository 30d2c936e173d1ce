//! Convolutions and transposed convolutions with all their gradients.
//!
//! Nothing is unrolled into columns: images are copied once into zero-padded planes, split by stride
//! ([`plane`]), in which every tap of a window is a constant offset, and the tiles read them there. The
//! transposed convolution is the convolution's input gradient and the other way round.

mod engine;
mod plan;
mod plane;
mod run;
mod shape;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod weight;

pub use shape::{Conv2dShape, ConvTranspose2dShape, Taps};

use crate::error::{KernelError, expect_len};
use crate::reduce::bias_grad;
use crate::simd::Simd;
use plan::{Plan, gathering, scattering};
use run::{backward, product};
use shape::Geometry;

/// `out = conv(x, w) + bias`.
pub fn conv2d(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    shape: &Conv2dShape,
    out: &mut [f32],
) -> Result<(), KernelError> {
    masked_conv2d(x, w, bias, shape, &Taps::all(), out)
}

/// [`conv2d`] with some taps of the window only.
pub fn masked_conv2d(
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    shape: &Conv2dShape,
    taps: &Taps,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps)?;
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
    masked_conv2d_input_grad(w, grad, shape, &Taps::all(), grad_x)
}

/// [`conv2d_input_grad`] of [`masked_conv2d`].
pub fn masked_conv2d_input_grad(
    w: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    taps: &Taps,
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps)?;
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
    masked_conv2d_weight_grad(x, grad, shape, &Taps::all(), grad_w)
}

/// [`conv2d_weight_grad`] of [`masked_conv2d`]: zeros at the taps that were skipped.
pub fn masked_conv2d_weight_grad(
    x: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    taps: &Taps,
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps)?;
    let op = "conv2d_weight_grad";
    expect_len(op, "x", x.len(), g.input_len())?;
    expect_len(op, "grad", grad.len(), g.output_len())?;
    expect_len(op, "grad_w", grad_w.len(), g.weight_len())?;
    plain_weight_grad(Simd::detect(), &g, x, grad, grad_w);
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
    plain_weight_grad(Simd::detect(), &g, grad, x, grad_w);
    Ok(())
}

fn plain_weight_grad(simd: Simd, g: &Geometry, x: &[f32], grad: &[f32], grad_w: &mut [f32]) {
    let chunks = g.batch.div_ceil(weight::images_per_chunk(simd, g));
    weight::weight_grad(simd, g, x, grad, grad_w, &mut vec![(); chunks], |_, ()| {});
}

/// The convolution itself.
fn gather(simd: Simd, g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    product(simd, g.groups, &gathering(g), x, w, bias, y);
}

/// The adjoint of the convolution.
fn adjoint(simd: Simd, g: &Geometry, grad: &[f32], w: &[f32], bias: Option<&[f32]>, x: &mut [f32]) {
    product(simd, g.groups, &scattering(g), grad, w, bias, x);
}

/// The gradients that are wanted of a convolution.
#[derive(Debug, Default)]
pub struct ConvGrads<'a> {
    /// For the input.
    pub x: Option<&'a mut [f32]>,
    /// For the weights.
    pub w: Option<&'a mut [f32]>,
    /// For the bias.
    pub bias: Option<&'a mut [f32]>,
}

/// All gradients of [`masked_conv2d`] that are wanted, in one pass over the gradient of its output. `x` is read only for that of the
/// weights, `w` only for that of the input.
pub fn masked_conv2d_backward(
    x: &[f32],
    w: &[f32],
    grad: &[f32],
    shape: &Conv2dShape,
    taps: &Taps,
    grads: ConvGrads<'_>,
) -> Result<(), KernelError> {
    let g = shape.geometry()?.with(taps)?;
    expect_len("conv2d_backward", "grad", grad.len(), g.output_len())?;
    let input = (x, g.input_len());
    gradients(&g, scattering(&g), input, w, grad, [x, grad], grads)
}

/// All gradients of [`conv_transpose2d`] that are wanted; see [`masked_conv2d_backward`].
pub fn conv_transpose2d_backward(
    x: &[f32],
    w: &[f32],
    grad: &[f32],
    shape: &ConvTranspose2dShape,
    grads: ConvGrads<'_>,
) -> Result<(), KernelError> {
    let g = shape.geometry()?;
    expect_len(
        "conv_transpose2d_backward",
        "grad",
        grad.len(),
        g.input_len(),
    )?;
    let input = (x, g.output_len());
    gradients(&g, gathering(&g), input, w, grad, [grad, x], grads)
}

fn gradients(
    g: &Geometry,
    plan: Plan,
    (x, x_len): (&[f32], usize),
    w: &[f32],
    grad: &[f32],
    images: [&[f32]; 2],
    grads: ConvGrads<'_>,
) -> Result<(), KernelError> {
    let (op, simd) = ("convolution backward", Simd::detect());
    let channels = g.groups * plan.from.channels;
    if let Some(bias) = &grads.bias {
        expect_len(op, "grads.bias", bias.len(), channels)?;
    }
    if let Some(grad_x) = &grads.x {
        expect_len(op, "w", w.len(), g.weight_len())?;
        expect_len(op, "grads.x", grad_x.len(), x_len)?;
    }
    if let Some(grad_w) = grads.w {
        expect_len(op, "x", x.len(), x_len)?;
        expect_len(op, "grads.w", grad_w.len(), g.weight_len())?;
        // Nothing is packed where no gradient of the input is wanted.
        let w = if grads.x.is_some() { w } else { &[] };
        let others = [grads.x, grads.bias];
        backward(simd, g, &plan, w, grad, images, others, grad_w);
        return Ok(());
    }
    if let Some(bias) = grads.bias {
        bias_grad(grad, g.batch, channels, plan.from.plane, bias)?;
    }
    if let Some(grad_x) = grads.x {
        product(simd, g.groups, &plan, grad, w, None, grad_x);
    }
    Ok(())
}
