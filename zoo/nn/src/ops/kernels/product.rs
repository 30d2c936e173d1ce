//! Convolutions, linear layers and matrix products: a product of two operands, plus a bias.

use candle_core::Tensor;
use zoo_kernels::{Conv2dShape, ConvGrads, ConvTranspose2dShape, KernelError, MatmulShape, Taps};

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    ops::conv::channels,
    tape::{Sink, by_candle},
};

/// Where windows lie: rows, then columns.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    /// Transposed convolutions only.
    pub output_padding: usize,
    /// Convolutions only.
    pub groups: usize,
}

impl Windows {
    /// At every place, with zeros around the image; of one group.
    pub fn padded(padding: [usize; 2]) -> Self {
        Self {
            stride: [1; 2],
            padding,
            output_padding: 0,
            groups: 1,
        }
    }
}

/// Cross-correlation of `x [N,C,H,W]` with `w [O,C/groups,KH,KW]` and `bias [O]`.
pub fn conv2d(x: &Value, w: &Value, bias: Option<&Value>, windows: Windows) -> Result<Value> {
    let Windows {
        stride,
        padding,
        groups,
        ..
    } = windows;
    if !ours(&[x, w]) || bias.is_some_and(|b| !ours(&[b])) {
        return with_bias(x, w, bias, |x, w| {
            if stride[0] != stride[1] {
                candle_core::bail!("candle has no convolution with strides {stride:?}");
            }
            if padding[0] == padding[1] {
                return x.conv2d(w, padding[0], stride[0], 1, groups);
            }
            x.pad_with_zeros(2, padding[0], padding[0])?
                .pad_with_zeros(3, padding[1], padding[1])?
                .conv2d(w, 0, stride[0], 1, groups)
        });
    }
    product(x, w, bias, Conv(conv_shape(x, w, windows)?, Taps::all()))
}

/// [`conv2d`] with weights under a mask of zeros and ones, `[1 or O, 1 or C, KH, KW]`: taps that the mask hides everywhere are not computed.
/// `None` where our kernel does not take them.
pub fn masked_conv2d(
    x: &Value,
    w: &Value,
    mask: &Value,
    bias: Option<&Value>,
    windows: Windows,
) -> Option<Result<Value>> {
    let fits = ours(&[x, w, mask]) && bias.is_none_or(|b| ours(&[b])) && mask.rank() == 4;
    // Where weights of a live tap are hidden for some channels, they are multiplied.
    let by_tap = mask.dims().get(..2) == Some(&[1, 1]);
    (fits && by_tap && mask.dims()[2..] == w.dims()[2..]).then(|| {
        let live: Vec<bool> = mask
            .held()
            .contiguous()?
            .read()?
            .iter()
            .map(|&m| m != 0.0)
            .collect();
        let shape = conv_shape(x, w, windows)?;
        product(x, w, bias, Conv(shape, Taps::live(&live)))
    })
}

fn conv_shape(x: &Value, w: &Value, windows: Windows) -> Result<Conv2dShape> {
    let (n, c, height, width) = x.held().peek().dims4()?;
    let (o, _, kh, kw) = w.held().peek().dims4()?;
    Ok(Conv2dShape {
        batch: n,
        in_channels: c,
        out_channels: o,
        height,
        width,
        kernel: [kh, kw],
        stride: windows.stride,
        padding: windows.padding,
        dilation: [1; 2],
        groups: windows.groups,
    })
}

/// Transposed convolution of `x [N,C,H,W]` with `w [C,O,K,K]` and `bias [O]`.
pub fn conv_transpose2d(
    x: &Value,
    w: &Value,
    bias: Option<&Value>,
    windows: Windows,
) -> Result<Value> {
    let Windows {
        stride: [stride, _],
        padding: [padding, _],
        output_padding,
        ..
    } = windows;
    if !ours(&[x, w]) || bias.is_some_and(|b| !ours(&[b])) {
        return with_bias(x, w, bias, |x, w| {
            x.conv_transpose2d(w, padding, output_padding, stride, 1)
        });
    }
    let (n, c, height, width) = x.held().peek().dims4()?;
    let (_, o, kh, kw) = w.held().peek().dims4()?;
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
    product(x, w, bias, ConvTranspose(shape))
}

/// `x [N,I] w^T + bias` with `w [O,I]`.
pub fn linear(x: &Value, w: &Value, bias: Option<&Value>) -> Result<Value> {
    if !ours(&[x, w]) || bias.is_some_and(|b| !ours(&[b])) {
        return with_bias(x, w, bias, |x, w| x.contiguous()?.matmul(&w.t()?));
    }
    let ((rows, inputs), (outputs, _)) = (x.held().peek().dims2()?, w.held().peek().dims2()?);
    let linear = Linear {
        rows,
        inputs,
        outputs,
    };
    product(x, w, bias, linear)
}

/// `[..., M, K] x [..., K, P]`, broadcasting over the leading dimensions.
pub fn matmul(a: &Value, b: &Value) -> Result<Value> {
    let (of_a, of_b) = (a.dims(), b.dims());
    let (rank, alike) = (of_a.len(), of_a.len() == of_b.len() && of_a.len() >= 2);
    let fits = alike && of_a[..rank - 2] == of_b[..rank - 2] && of_a[rank - 1] == of_b[rank - 2];
    if !ours(&[a, b]) || !fits {
        // Contiguous: candle folds leading dimensions without checking their strides.
        return by_candle(&[a, b], |t| {
            t[0].contiguous()?.broadcast_matmul(&t[1].contiguous()?)
        });
    }
    let product_of = Batched(MatmulShape {
        batch: of_a[..rank - 2].iter().product(),
        m: of_a[rank - 2],
        n: of_b[rank - 1],
        k: of_a[rank - 1],
        a_transposed: false,
        b_transposed: false,
    });
    let mut shape = of_a.to_vec();
    shape[rank - 1] = of_b[rank - 1];
    let flat = product(a, b, None, product_of)?;
    super::reshape(&flat, &shape)
}

/// candle's product of x and w, plus bias.
fn with_bias(
    x: &Value,
    w: &Value,
    bias: Option<&Value>,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Value> {
    let inputs: Vec<&Value> = [x, w].into_iter().chain(bias).collect();
    by_candle(&inputs, |t| {
        let y = f(&t[0], &t[1])?;
        match t.get(2) {
            Some(bias) => y.broadcast_add(&channels(bias, y.rank())?),
            None => Ok(y),
        }
    })
}

/// A product of x and weights plus bias, and its gradients.
trait Product: Send + Sync + 'static {
    fn output(&self) -> Result<Vec<usize>, KernelError>;
    fn forward(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError>;
    fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        grad: &[f32],
        grads: ConvGrads<'_>,
    ) -> Result<(), KernelError>;
}

fn product(x: &Value, w: &Value, bias: Option<&Value>, by: impl Product) -> Result<Value> {
    let held_x = x.held().detached().contiguous()?;
    let held_w = w.held().detached().contiguous()?;
    let shape = by.output().map_err(candle_core::Error::wrap)?;
    let held = {
        let held_bias = bias.map(|b| b.held().contiguous()).transpose()?;
        let (x, w) = (held_x.read()?, held_w.read()?);
        let bias = held_bias.as_ref().map(Held::read).transpose()?;
        Held::fill(&shape, |out| by.forward(&x, &w, bias.as_deref(), out))?
    };
    let inputs: Vec<&Value> = [x, w].into_iter().chain(bias).collect();
    Ok(Value::computed(held, &inputs, |_| {
        // What the way back needs only if it goes there.
        let (wants_x, wants_w) = (x.node().is_some(), w.node().is_some());
        let kept_x = wants_w.then_some(held_x);
        let kept_w = wants_x.then_some(held_w);
        let (len_x, len_w) = (x.held().peek().elem_count(), w.held().peek().elem_count());
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let wanted = |i: usize, len: usize| sink.wants(i).then(|| Floats::stale(len));
            let [mut of_x, mut of_w] = [wanted(0, len_x), wanted(1, len_w)];
            let mut of_bias = wanted(2, shape[1]);
            {
                // A gradient that is wanted now was wanted when its operand was kept.
                let x = kept_x.as_ref().map(Held::read).transpose()?;
                let w = kept_w.as_ref().map(Held::read).transpose()?;
                let (x, w) = (x.as_deref().unwrap_or(&[]), w.as_deref().unwrap_or(&[]));
                let grads = ConvGrads {
                    x: of_x.as_deref_mut(),
                    w: of_w.as_deref_mut(),
                    bias: of_bias.as_deref_mut(),
                };
                check(by.backward(x, w, &gradient, grads))?;
            }
            drop(gradient);
            for (i, gradient) in [of_x, of_w, of_bias].into_iter().enumerate() {
                if let Some(gradient) = gradient {
                    sink.give(i, gradient)?;
                }
            }
            Ok(())
        }
    }))
}

struct Conv(Conv2dShape, Taps);

impl Product for Conv {
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
        zoo_kernels::masked_conv2d(x, w, bias, &self.0, &self.1, out)
    }

    fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        grad: &[f32],
        grads: ConvGrads<'_>,
    ) -> Result<(), KernelError> {
        zoo_kernels::masked_conv2d_backward(x, w, grad, &self.0, &self.1, grads)
    }
}

struct ConvTranspose(ConvTranspose2dShape);

impl Product for ConvTranspose {
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

    fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        grad: &[f32],
        grads: ConvGrads<'_>,
    ) -> Result<(), KernelError> {
        zoo_kernels::conv_transpose2d_backward(x, w, grad, &self.0, grads)
    }
}

struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
}

/// One product of matrices; `transposed` says which operands are stored so.
fn matrices([m, n, k]: [usize; 3], transposed: [bool; 2]) -> MatmulShape {
    MatmulShape {
        batch: 1,
        m,
        n,
        k,
        a_transposed: transposed[0],
        b_transposed: transposed[1],
    }
}

impl Product for Linear {
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
        let shape = matrices([self.rows, self.outputs, self.inputs], [false, true]);
        zoo_kernels::matmul(x, w, &shape, bias.is_some(), out)
    }

    fn backward(
        &self,
        x: &[f32],
        w: &[f32],
        grad: &[f32],
        grads: ConvGrads<'_>,
    ) -> Result<(), KernelError> {
        if let Some(bias) = grads.bias {
            zoo_kernels::bias_grad(grad, self.rows, self.outputs, 1, bias)?;
        }
        if let Some(of_x) = grads.x {
            let shape = matrices([self.rows, self.inputs, self.outputs], [false, false]);
            zoo_kernels::matmul(grad, w, &shape, false, of_x)?;
        }
        if let Some(of_w) = grads.w {
            let shape = matrices([self.outputs, self.inputs, self.rows], [true, false]);
            zoo_kernels::matmul(grad, x, &shape, false, of_w)?;
        }
        Ok(())
    }
}

/// Products of matrices side by side.
struct Batched(MatmulShape);

impl Product for Batched {
    fn output(&self) -> Result<Vec<usize>, KernelError> {
        Ok(vec![self.0.batch, self.0.m, self.0.n])
    }

    fn forward(
        &self,
        a: &[f32],
        b: &[f32],
        _: Option<&[f32]>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        zoo_kernels::matmul(a, b, &self.0, false, out)
    }

    fn backward(
        &self,
        a: &[f32],
        b: &[f32],
        grad: &[f32],
        grads: ConvGrads<'_>,
    ) -> Result<(), KernelError> {
        let MatmulShape { m, n, k, .. } = self.0;
        if let Some(of_a) = grads.x {
            let shape = MatmulShape {
                n: k,
                k: n,
                b_transposed: true,
                ..self.0
            };
            zoo_kernels::matmul(grad, b, &shape, false, of_a)?;
        }
        if let Some(of_b) = grads.w {
            let shape = MatmulShape {
                m: k,
                k: m,
                a_transposed: true,
                ..self.0
            };
            zoo_kernels::matmul(a, grad, &shape, false, of_b)?;
        }
        Ok(())
    }
}
