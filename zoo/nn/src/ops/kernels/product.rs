//! Convolutions and linear layers: a product of the input and weights, plus a bias.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};
use zoo_kernels::{Conv2dShape, ConvTranspose2dShape, KernelError, MatmulShape};

use super::{Result, computed, elements, ours};
use crate::ops::conv::channels;

/// The gradient of a bias: `grad [N,C,...]` summed over all but the channels.
fn bias_gradient(grad: &Tensor) -> Result<Tensor> {
    let (batch, channels) = (grad.dims()[0], grad.dims()[1]);
    let plane = grad.dims()[2..].iter().product();
    computed(grad, grad, &[channels], |grad, _, out| {
        zoo_kernels::bias_grad(grad, batch, channels, plane, out)
    })
}

/// Where windows lie.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub stride: usize,
    pub padding: usize,
    /// Transposed convolutions only.
    pub output_padding: usize,
    /// Convolutions only.
    pub groups: usize,
}

/// Cross-correlation of `x [N,C,H,W]` with `w [O,C/groups,K,K]` and `bias [O]`.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, windows: Windows) -> Result<Tensor> {
    let Windows {
        stride,
        padding,
        groups,
        ..
    } = windows;
    if !ours(x) {
        return add_bias(x.conv2d(w, padding, stride, 1, groups)?, bias);
    }
    let (n, c, height, width) = x.dims4()?;
    let (o, _, kh, kw) = w.dims4()?;
    let shape = Conv2dShape {
        batch: n,
        in_channels: c,
        out_channels: o,
        height,
        width,
        kernel: [kh, kw],
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [1; 2],
        groups,
    };
    apply(x, w, bias, Conv(shape))
}

/// Transposed convolution of `x [N,C,H,W]` with `w [C,O,K,K]` and `bias [O]`.
pub fn conv_transpose2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    windows: Windows,
) -> Result<Tensor> {
    let Windows {
        stride,
        padding,
        output_padding,
        ..
    } = windows;
    if !ours(x) {
        return add_bias(
            x.conv_transpose2d(w, padding, output_padding, stride, 1)?,
            bias,
        );
    }
    let (n, c, height, width) = x.dims4()?;
    let (_, o, kh, kw) = w.dims4()?;
    let shape = ConvTranspose2dShape {
        batch: n,
        in_channels: c,
        out_channels: o,
        height,
        width,
        kernel: [kh, kw],
        stride: [stride; 2],
        padding: [padding; 2],
        output_padding: [output_padding; 2],
        dilation: [1; 2],
        groups: 1,
    };
    apply(x, w, bias, ConvTranspose(shape))
}

/// `x [N,I] w^T + bias` with `w [O,I]`.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !ours(x) {
        return add_bias(x.matmul(&w.t()?)?, bias);
    }
    let ((rows, inputs), (outputs, _)) = (x.dims2()?, w.dims2()?);
    apply(
        x,
        w,
        bias,
        Linear {
            rows,
            inputs,
            outputs,
        },
    )
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => y.broadcast_add(&channels(bias, y.rank())?),
        None => Ok(y),
    }
}

/// A product of x and weights plus bias, and its gradients.
trait Product: Send + Sync + 'static {
    const NAME: &'static str;
    fn output(&self) -> Result<Vec<usize>, KernelError>;
    fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError>;
    fn input_grad(&self, w: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError>;
    fn weight_grad(&self, x: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError>;
}

fn apply(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, product: impl Product) -> Result<Tensor> {
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&w, &bias.contiguous()?, Op(product)),
        None => x.apply_op2(&w, Op(product)),
    }
}

/// A [`Product`] as candle sees it.
struct Op<P>(P);

impl<P: Product> Op<P> {
    fn run(&self, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Result<(CpuStorage, Shape)> {
        let shape = self.0.output().map_err(candle_core::Error::wrap)?;
        let mut out = vec![0.0; shape.iter().product()];
        self.0
            .forward(x, w, bias, &mut out)
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), shape.into()))
    }

    /// Gradients of x, where it is not data, and of the weights.
    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient_of_x = match x.track_op() {
            true => Some(computed(w, grad, x.dims(), |w, grad, out| {
                self.0.input_grad(w, grad, out)
            })?),
            false => None,
        };
        let gradient_of_w = match w.track_op() {
            true => Some(computed(x, grad, w.dims(), |x, grad, out| {
                self.0.weight_grad(x, grad, out)
            })?),
            false => None,
        };
        Ok((gradient_of_x, gradient_of_w))
    }
}

impl<P: Product> CustomOp2 for Op<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(elements(x, lx)?, elements(w, lw)?, None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, w, grad)
    }
}

impl<P: Product> CustomOp3 for Op<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(
            elements(x, lx)?,
            elements(w, lw)?,
            Some(elements(bias, lb)?),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (gradient_of_x, gradient_of_w) = self.gradients(x, w, grad)?;
        Ok((gradient_of_x, gradient_of_w, Some(bias_gradient(grad)?)))
    }
}

struct Conv(Conv2dShape);

impl Product for Conv {
    const NAME: &'static str = "conv2d";

    fn output(&self) -> Result<Vec<usize>, KernelError> {
        let [h, w] = self.0.output()?;
        Ok(vec![self.0.batch, self.0.out_channels, h, w])
    }

    fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        zoo_kernels::conv2d(x, w, bias, &self.0, out)
    }

    fn input_grad(&self, w: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::conv2d_input_grad(w, grad, &self.0, out)
    }

    fn weight_grad(&self, x: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::conv2d_weight_grad(x, grad, &self.0, out)
    }
}

struct ConvTranspose(ConvTranspose2dShape);

impl Product for ConvTranspose {
    const NAME: &'static str = "conv_transpose2d";

    fn output(&self) -> Result<Vec<usize>, KernelError> {
        let [h, w] = self.0.output()?;
        Ok(vec![self.0.batch, self.0.out_channels, h, w])
    }

    fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        zoo_kernels::conv_transpose2d(x, w, bias, &self.0, out)
    }

    fn input_grad(&self, w: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::conv_transpose2d_input_grad(w, grad, &self.0, out)
    }

    fn weight_grad(&self, x: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::conv_transpose2d_weight_grad(x, grad, &self.0, out)
    }
}

struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn product(
        &self,
        m: usize,
        n: usize,
        k: usize,
        a_transposed: bool,
        b_transposed: bool,
    ) -> MatmulShape {
        MatmulShape {
            batch: 1,
            m,
            n,
            k,
            a_transposed,
            b_transposed,
        }
    }
}

impl Product for Linear {
    const NAME: &'static str = "linear";

    fn output(&self) -> Result<Vec<usize>, KernelError> {
        Ok(vec![self.rows, self.outputs])
    }

    fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        if let Some(bias) = bias.filter(|bias| bias.len() == self.outputs && !bias.is_empty()) {
            out.chunks_exact_mut(self.outputs)
                .for_each(|row| row.copy_from_slice(bias));
        }
        let shape = self.product(self.rows, self.outputs, self.inputs, false, true);
        zoo_kernels::matmul(x, w, &shape, bias.is_some(), out)
    }

    fn input_grad(&self, w: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::matmul(
            grad,
            w,
            &self.product(self.rows, self.inputs, self.outputs, false, false),
            false,
            out,
        )
    }

    fn weight_grad(&self, x: &[f32], grad: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
        zoo_kernels::matmul(
            grad,
            x,
            &self.product(self.outputs, self.inputs, self.rows, true, false),
            false,
            out,
        )
    }
}
