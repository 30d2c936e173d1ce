//! Convolutions, linear layers and matrix products: a product of two operands, plus a bias.

use candle_core::Tensor;
use zoo_kernels::{Conv2dShape, ConvGrads, ConvTranspose2dShape, KernelError, MatmulShape, Taps};

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    ops::by_candle,
    value::{Computed, Outcome, Pull, Sink, op},
};

/// One sum of products of an image x `[N,C,H,W]`, weights w `[O,C/groups,KH,KW]` and an output y `[N,O,H',W']`: sum y (w * x). Each of the three is linear in the
/// others, and each one's gradient is another: a convolution of x and w, its transpose of y and w, and the gradient of the weights from x and y.
#[derive(Clone, Copy, Debug)]
pub struct Convolution(pub Conv2dShape);

/// Which of the three is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// y from x and w.
    Forward,
    /// x from y and w: a transposed convolution.
    Transposed,
    /// w from x and y.
    Weights,
}

impl Convolution {
    /// The convolution of `x` with `w`, plus `bias [O]`.
    pub fn forward(self, all: &[&Computed]) -> Result<Computed> {
        self.compute(Form::Forward, all)
    }

    /// The transposed convolution of `y` with `w`, plus `bias [C]`.
    pub fn transposed(self, all: &[&Computed]) -> Result<Computed> {
        self.compute(Form::Transposed, all)
    }

    /// [`Convolution::forward`] without bias, of which only the taps marked are computed: the others are 0 in `w`'s place.
    pub fn masked(self, all: &[&Computed], live: &[bool]) -> Result<Computed> {
        let by = Forward(self.0, Taps::live(live));
        product(all, &by, |held, all, backward| {
            Computed::fused(held, all, |_| backward)
        })
    }

    fn on_values(self, form: Form, a: &Value, b: &Value) -> Value {
        let name = match form {
            Form::Forward => "Conv",
            Form::Transposed => "ConvTranspose",
            Form::Weights => "gradient of a convolution's weights",
        };
        op(
            name,
            [a, b],
            |all| Ok(self.compute(form, &all)?),
            |_| {
                Err(crate::Error::input(
                    "gradients of convolutions are not exported",
                ))
            },
        )
    }

    fn compute(self, form: Form, all: &[&Computed]) -> Result<Computed> {
        let pull = move |p: &mut Pull<'_>| {
            // The two operands' gradients; u is that of the result.
            let (first, second) = match form {
                Form::Forward => (Form::Transposed, Form::Weights),
                Form::Transposed => (Form::Forward, Form::Weights),
                Form::Weights => (Form::Transposed, Form::Forward),
            };
            p.give(0, |p| match form {
                Form::Weights => self.on_values(first, p.x(1), p.g()),
                _ => self.on_values(first, p.g(), p.x(1)),
            });
            p.give(1, |p| match form {
                Form::Transposed => self.on_values(second, p.g(), p.x(0)),
                Form::Forward => self.on_values(second, p.x(0), p.g()),
                Form::Weights => self.on_values(second, p.x(0), p.g()),
            });
            p.give(2, |p| p.g().sum(&[0, 2, 3], false));
        };
        if !ours(all) {
            let held = by_candle(all, |t| {
                let y = self.by_candle(form, &t[0], &t[1])?;
                plus_bias(y, t.get(2))
            })?;
            return Ok(Computed::tracked(held, all, pull));
        }
        let tracked =
            |held, all: &[&Computed], backward| Computed::by_kernel(held, all, pull, |_| backward);
        match form {
            Form::Forward => product(all, &Forward(self.0, Taps::all()), tracked),
            Form::Transposed => {
                let shape = self.transposed_shape()?;
                product(all, &Transposed(shape), tracked)
            }
            Form::Weights => {
                let kept = [all[0].held.contiguous()?, all[1].held.contiguous()?];
                let Conv2dShape {
                    in_channels,
                    out_channels,
                    kernel,
                    groups,
                    ..
                } = self.0;
                let weights = [out_channels, in_channels / groups, kernel[0], kernel[1]];
                let held = {
                    let (x, y) = (kept[0].read()?, kept[1].read()?);
                    Held::fill(&weights, |out| {
                        zoo_kernels::conv2d_weight_grad(&x, &y, &self.0, out)
                    })?
                };
                Ok(Computed::tracked(held, all, pull))
            }
        }
    }

    /// The same as a transposed convolution, as PyTorch describes it.
    fn transposed_shape(self) -> Result<ConvTranspose2dShape> {
        let shape = self.0;
        let [rows, columns] = shape.output().map_err(candle_core::Error::wrap)?;
        // Rows and columns at the end that no window reaches.
        let rest = |axis: usize, size: usize| {
            (size + 2 * shape.padding[axis] - shape.kernel[axis]) % shape.stride[axis]
        };
        Ok(ConvTranspose2dShape {
            batch: shape.batch,
            in_channels: shape.out_channels,
            out_channels: shape.in_channels,
            height: rows,
            width: columns,
            kernel: shape.kernel,
            stride: shape.stride,
            padding: shape.padding,
            output_padding: [rest(0, shape.height), rest(1, shape.width)],
            dilation: shape.dilation,
            groups: shape.groups,
        })
    }

    fn by_candle(self, form: Form, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let Conv2dShape {
            height,
            width,
            kernel,
            stride: [stride, columns],
            padding,
            groups,
            ..
        } = self.0;
        if stride != columns {
            candle_core::bail!("candle has no convolution with strides {:?}", self.0.stride);
        }
        // Padded by hand, so that rows and columns may differ.
        let padded = |x: &Tensor| {
            x.pad_with_zeros(2, padding[0], padding[0])?
                .pad_with_zeros(3, padding[1], padding[1])
        };
        match form {
            Form::Forward => padded(a)?.conv2d(b, 0, stride, 1, groups),
            Form::Transposed => {
                let parts = by_group(groups, a, b, |y, w| y.conv_transpose2d(w, 0, 0, stride, 1))?;
                let x = Tensor::cat(&parts, 1)?;
                // What no window reaches is 0.
                let rest = |axis: usize, size: usize| {
                    (size + 2 * padding[axis - 2]).saturating_sub(x.dims()[axis])
                };
                x.pad_with_zeros(2, 0, rest(2, height))?
                    .pad_with_zeros(3, 0, rest(3, width))?
                    .narrow(2, padding[0], height)?
                    .narrow(3, padding[1], width)
            }
            Form::Weights => {
                let parts = by_channels(groups, &padded(a)?, b, |x, y| {
                    let x = x.transpose(0, 1)?.contiguous()?; // (C/g,N,H,W)
                    let y = y.transpose(0, 1)?.contiguous()?; // (O/g,N,H',W')
                    x.conv2d(&y, 0, 1, stride, 1)? // (C/g,O/g,KH..,KW..)
                        .narrow(2, 0, kernel[0])?
                        .narrow(3, 0, kernel[1])?
                        .transpose(0, 1)
                })?;
                Tensor::cat(&parts, 0)
            }
        }
    }
}

/// `f` of each group of y's channels and of the weights' outputs.
fn by_group(
    groups: usize,
    y: &Tensor,
    w: &Tensor,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let (of_y, of_w) = (y.chunk(groups, 1)?, w.chunk(groups, 0)?);
    of_y.iter()
        .zip(&of_w)
        .map(|(y, w)| f(&y.contiguous()?, &w.contiguous()?))
        .collect()
}

/// `f` of each group of x's and y's channels.
fn by_channels(
    groups: usize,
    x: &Tensor,
    y: &Tensor,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let (of_x, of_y) = (x.chunk(groups, 1)?, y.chunk(groups, 1)?);
    of_x.iter().zip(&of_y).map(|(x, y)| f(x, y)).collect()
}

fn plus_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(y) };
    let mut shape = vec![1; y.rank()];
    shape[1] = bias.elem_count();
    y.broadcast_add(&bias.reshape(shape)?)
}

/// `x [N,I] w^T + bias` with `w [O,I]`, of x, w and perhaps a bias.
pub fn linear(all: &[&Computed]) -> Outcome {
    let pull = |p: &mut Pull<'_>| {
        p.give(0, |p| p.g().matmul(p.x(1)));
        p.give(1, |p| p.g().permute(&[1, 0]).matmul(p.x(0)));
        p.give(2, |p| p.g().sum(&[0], false));
    };
    if !ours(all) {
        let held = by_candle(all, |t| {
            // candle's products on a GPU take no part of a weight's columns.
            let w = t[1].contiguous()?.t()?; // (I,O)
            plus_bias(t[0].contiguous()?.matmul(&w)?, t.get(2))
        })?;
        return Ok(Computed::tracked(held, all, pull));
    }
    let linear = Linear {
        rows: all[0].dims()[0],
        inputs: all[0].dims()[1],
        outputs: all[1].dims()[0],
    };
    Ok(product(all, &linear, |held, all, backward| {
        Computed::by_kernel(held, all, pull, |_| backward)
    })?)
}

/// `[..., M, K] x [..., K, P]`, broadcasting over the leading dimensions.
pub fn matmul(a: &Computed, b: &Computed) -> Outcome {
    let pull = |p: &mut Pull<'_>| {
        p.give(0, |p| p.g().matmul(&p.x(1).transposed()));
        p.give(1, |p| p.x(0).transposed().matmul(p.g()));
    };
    let (of_a, of_b) = (a.dims(), b.dims());
    let (rank, alike) = (of_a.len(), of_a.len() == of_b.len() && of_a.len() >= 2);
    let fits = alike && of_a[..rank - 2] == of_b[..rank - 2] && of_a[rank - 1] == of_b[rank - 2];
    if !ours(&[a, b]) || !fits {
        // Contiguous: candle folds leading dimensions without checking their strides.
        let held = by_candle(&[a, b], |t| {
            t[0].contiguous()?.broadcast_matmul(&t[1].contiguous()?)
        })?;
        return Ok(Computed::tracked(held, &[a, b], pull));
    }
    let mut shape = of_a.to_vec();
    shape[rank - 1] = of_b[rank - 1];
    let product_of = Batched(
        MatmulShape {
            batch: of_a[..rank - 2].iter().product(),
            m: of_a[rank - 2],
            n: of_b[rank - 1],
            k: of_a[rank - 1],
            a_transposed: false,
            b_transposed: false,
        },
        shape,
    );
    Ok(product(&[a, b], &product_of, |held, all, backward| {
        Computed::by_kernel(held, all, pull, |_| backward)
    })?)
}

/// A product of x and weights plus bias, and its gradients.
trait Product: Clone + Send + Sync + 'static {
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

/// The raw way back of a product.
type Back = Box<dyn Fn(Floats, &mut Sink<'_>) -> Result<()> + Send + Sync>;

/// A product of x, w and perhaps a bias. `finish` makes a value of it, given the way back.
fn product(
    all: &[&Computed],
    by: &impl Product,
    finish: impl FnOnce(Held, &[&Computed], Back) -> Computed,
) -> Result<Computed> {
    let (x, w, bias) = (all[0], all[1], all.get(2));
    let held_x = x.held.detached().contiguous()?;
    let held_w = w.held.detached().contiguous()?;
    let shape = by.output().map_err(candle_core::Error::wrap)?;
    let held = {
        let held_bias = bias.map(|b| b.held.contiguous()).transpose()?;
        let (x, w) = (held_x.read()?, held_w.read()?);
        let bias = held_bias.as_ref().map(Held::read).transpose()?;
        Held::fill(&shape, |out| by.forward(&x, &w, bias.as_deref(), out))?
    };
    // What the way back needs only if it goes there.
    let (wants_x, wants_w) = (x.node_of().is_some(), w.node_of().is_some());
    if !wants_x && !wants_w && bias.is_none_or(|b| b.node_of().is_none()) {
        return Ok(Computed::untracked(held));
    }
    let kept_x = wants_w.then_some(held_x);
    let kept_w = wants_x.then_some(held_w);
    let (len_x, len_w) = (x.held.peek().elem_count(), w.held.peek().elem_count());
    let len_bias = bias.map_or(0, |b| b.held.peek().elem_count());
    let by = by.clone();
    let backward: Back = Box::new(move |gradient, sink| {
        let wanted = |i: usize, len: usize| sink.wants(i).then(|| Floats::stale(len));
        let [mut of_x, mut of_w] = [wanted(0, len_x), wanted(1, len_w)];
        let mut of_bias = wanted(2, len_bias);
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
    });
    Ok(finish(held, all, backward))
}

#[derive(Clone)]
struct Forward(Conv2dShape, Taps);

impl Product for Forward {
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

#[derive(Clone)]
struct Transposed(ConvTranspose2dShape);

impl Product for Transposed {
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

#[derive(Clone)]
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

/// Products of matrices side by side, and the shape of the result.
#[derive(Clone)]
struct Batched(MatmulShape, Vec<usize>);

impl Product for Batched {
    fn output(&self) -> Result<Vec<usize>, KernelError> {
        Ok(self.1.clone())
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
