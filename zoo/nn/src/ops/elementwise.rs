//! Element by element.

use candle_core::{DType, Tensor};

use zoo_kernels::{Activation, Arithmetic};

use super::{by_candle, kernels, may_fuse};
use crate::{
    Error, Value,
    value::{Computed, Outcome, Pull, op},
};

/// Runs a function of one element: by a kernel where there is one and it takes the value, else by candle.
#[track_caller]
fn unary(
    x: &Value,
    name: &'static str,
    kernel: Option<Activation>,
    candle: fn(&Tensor) -> candle_core::Result<Tensor>,
    pull: fn(&mut Pull<'_>),
) -> Value {
    op(
        name,
        [x],
        |[x]| match kernel {
            Some(f) if x.held.is_ours() => Ok(kernels::activation(x, f, pull)?),
            _ => Ok(Computed::tracked(
                by_candle(&[x], |t| candle(&t[0]))?,
                &[x],
                pull,
            )),
        },
        |_| Ok(()),
    )
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $kernel:expr, $candle:expr, $pull:expr;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> Self {
                unary(self, $op, $kernel, $candle, $pull)
            }
        )*}
    };
}

unary! {
    /// max(x, 0)
    relu, "Relu", Some(Activation::Relu), Tensor::relu,
        |p| p.give(0, |p| p.g() * p.x(0).is_positive());
    /// 1 / (1 + exp(-x))
    sigmoid, "Sigmoid", Some(Activation::Sigmoid), sigmoid,
        |p| p.give(0, |p| p.g() * p.y() * (1.0 - p.y()));
    /// Hyperbolic tangent.
    tanh, "Tanh", Some(Activation::Tanh), Tensor::tanh,
        |p| p.give(0, |p| p.g() * (1.0 - p.y().sqr()));
    /// log(1 + e^x), without overflow: max(x, 0) + log(1 + e^-|x|).
    softplus, "Softplus", Some(Activation::Softplus), softplus,
        |p| p.give(0, |p| p.g() * p.x(0).sigmoid());
    /// e^x
    exp, "Exp", Some(Activation::Exp), Tensor::exp,
        |p| p.give(0, |p| p.g() * p.y());
    /// Natural logarithm.
    log, "Log", Some(Activation::Log), Tensor::log,
        |p| p.give(0, |p| p.g() / p.x(0));
    /// Square root.
    sqrt, "Sqrt", Some(Activation::Sqrt), Tensor::sqrt,
        |p| p.give(0, |p| p.g() / p.y() * 0.5);
    /// |x|
    abs, "Abs", Some(Activation::Abs), Tensor::abs,
        |p| p.give(0, |p| p.g() * (p.x(0).is_positive() - p.x(0).neg().is_positive()));
    /// -x
    neg, "Neg", Some(Activation::Affine(-1.0, 0.0)), Tensor::neg,
        |p| p.give(0, |p| -p.g());
    /// Sine.
    sin, "Sin", None, Tensor::sin,
        |p| p.give(0, |p| p.g() * p.x(0).cos());
    /// Cosine.
    cos, "Cos", None, Tensor::cos,
        |p| p.give(0, |p| -(p.g() * p.x(0).sin()));
    /// The error function.
    erf, "Erf", None, Tensor::erf,
        // 2 / sqrt(pi) e^(-x^2)
        |p| p.give(0, |p| p.g() * (-p.x(0).sqr()).exp() * std::f64::consts::FRAC_2_SQRT_PI);
}

/// Stable for large |x|: tanh does not overflow.
fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    ((x * 0.5)?.tanh()? * 0.5)? + 0.5
}

/// Stable for large |x|.
fn softplus(x: &Tensor) -> candle_core::Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

impl Value {
    /// 1 where positive, else 0; no gradient.
    #[track_caller]
    fn is_positive(&self) -> Self {
        let x = self.detach();
        x.greater_scalar(0.0).cast(x.dtype())
    }

    /// Largest integer not above x; no gradient.
    #[track_caller]
    pub fn floor(&self) -> Self {
        op(
            "Floor",
            [self],
            |[x]| plain(&[x], |t| t[0].floor()),
            |_| Ok(()),
        )
    }

    /// x where positive, else `slope` x.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Self {
        let pull = move |p: &mut Pull<'_>| {
            p.give(0, |p| {
                p.g() * (p.x(0).is_positive() * (1.0 - slope) + slope)
            });
        };
        op(
            "LeakyRelu",
            [self],
            |[x]| {
                let leaky = |x: &Tensor| x.ge(0.0)?.where_cond(x, &(x * slope)?);
                kernels::activation_or(x, Activation::LeakyRelu(slope as f32), leaky, pull)
            },
            |node| node.float("alpha", slope).done(),
        )
    }

    /// x where positive, else alpha (e^x - 1) (Clevert et al., 2015).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Self {
        let pull = move |p: &mut Pull<'_>| {
            p.give(0, |p| {
                let positive = p.x(0).is_positive();
                p.g() * (&positive + (1.0 - &positive) * (p.y() + alpha))
            });
        };
        op(
            "Elu",
            [self],
            |[x]| kernels::activation_or(x, Activation::Elu(alpha as f32), |x| x.elu(alpha), pull),
            |node| node.float("alpha", alpha).done(),
        )
    }

    /// Binary cross-entropy of targets in [0, 1] under these logits, both `[N,D]`, summed over each row: `[N]`. Element by element it is
    /// softplus(l) - l x, which does not overflow.
    #[track_caller]
    pub fn bce_rows(&self, targets: &Self) -> Self {
        let fits = self.rank() == 2 && self.dims() == targets.dims();
        let fixed = targets.get().is_ok_and(|t| t.node_of().is_none());
        if fits && fixed && may_fuse(&[self, targets]) {
            let fused = |[x, t]: [&Computed; 2]| Ok(kernels::bce_rows(x, t)?);
            return op("bce_rows", [self, targets], fused, |_| Ok(()));
        }
        (self.softplus() - self * targets).sum(&[1], false)
    }

    /// tanh(a) sigmoid(b) of the two halves of dimension 1, `[N,2C,...] -> [N,C,...]`: the gate of PixelCNN and WaveNet (van den Oord et
    /// al., 2016).
    #[track_caller]
    pub fn gated_tanh(&self) -> Self {
        let even = self.dims().get(1).is_some_and(|c| c % 2 == 0);
        if even && may_fuse(&[self]) {
            return op(
                "gated_tanh",
                [self],
                |[x]| Ok(kernels::gated_tanh(x)?),
                |_| Ok(()),
            );
        }
        let [a, b] = self.halves(1);
        a.tanh() * b.sigmoid()
    }

    /// x sigmoid(x), also called swish.
    #[track_caller]
    pub fn silu(&self) -> Self {
        self * self.sigmoid()
    }

    /// x Phi(x) with the Gaussian cumulative distribution Phi, exact (Hendrycks & Gimpel, 2016).
    #[track_caller]
    pub fn gelu(&self) -> Self {
        self * ((self * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }

    /// x^2
    #[track_caller]
    pub fn sqr(&self) -> Self {
        self * self
    }

    /// min(max(x, low), high); no gradient outside.
    #[track_caller]
    pub fn clip(&self, low: f64, high: f64) -> Self {
        let pull = move |p: &mut Pull<'_>| {
            p.give(0, |p| {
                let outside = (low - p.x(0)).is_positive() + (p.x(0) - high).is_positive();
                p.g() * (1.0 - outside)
            });
        };
        op(
            "Clip",
            [self],
            |[x]| {
                let f = Activation::Clip(low as f32, high as f32);
                kernels::activation_or(x, f, |x| x.clamp(low, high), pull)
            },
            |node| node.scalar("min", low)?.scalar("max", high)?.done(),
        )
    }

    /// x + c
    #[track_caller]
    pub fn add_scalar(&self, c: f64) -> Self {
        op(
            "Add",
            [self],
            |[x]| {
                let f = Activation::Affine(1.0, c as f32);
                kernels::activation_or(x, f, |x| x + c, |p| p.give(0, |p| p.g().clone()))
            },
            |node| node.scalar("c", c)?.done(),
        )
    }

    /// x * c
    #[track_caller]
    pub fn mul_scalar(&self, c: f64) -> Self {
        op(
            "Mul",
            [self],
            |[x]| {
                let f = Activation::Affine(c as f32, 0.0);
                kernels::activation_or(x, f, |x| x * c, move |p| p.give(0, |p| p.g() * c))
            },
            |node| node.scalar("c", c)?.done(),
        )
    }

    /// x - c
    #[track_caller]
    pub(super) fn sub_scalar(&self, c: f64) -> Self {
        self.add_scalar(-c)
    }

    /// c - x
    #[track_caller]
    pub(super) fn scalar_sub(&self, c: f64) -> Self {
        self.number(c).sub(self)
    }

    /// `c` as a constant of this value's type.
    fn number(&self, c: f64) -> Self {
        let make = |x: &Computed| {
            let like = x.held.peek();
            Tensor::full(c, (), like.device())?.to_dtype(like.dtype())
        };
        match self.get() {
            Ok(x) => make(x).map(Self::constant).map_err(Error::from).into(),
            Err(error) => Self::failed(error),
        }
    }

    /// x / c
    #[track_caller]
    pub(super) fn div_scalar(&self, c: f64) -> Self {
        self.mul_scalar(1.0 / c)
    }

    /// c / x
    #[track_caller]
    pub(super) fn scalar_div(&self, c: f64) -> Self {
        self.number(c).div(self)
    }

    /// The elements as f32, f64, i64 or u8; towards zero. Graphs have no f64.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Self {
        op(
            "Cast",
            [self],
            |[x]| {
                let held = by_candle(&[x], |t| t[0].to_dtype(dtype))?;
                Ok(match dtype {
                    DType::F32 | DType::F64 => Computed::tracked(held, &[x], |p| {
                        p.give(0, |p| p.g().cast(p.x(0).dtype()));
                    }),
                    DType::I64 | DType::U8 => Computed::untracked(held),
                    other => {
                        let message = format!("cannot cast to {other:?}: use f32, i64 or u8");
                        return Err(message.into());
                    }
                })
            },
            |node| {
                // Numbers of ONNX's TensorProto.DataType.
                let to = match dtype {
                    DType::U8 => 2,
                    DType::I64 => 7,
                    DType::F64 => 11,
                    _ => 1,
                };
                node.int("to", to).done()
            },
        )
    }
}

/// What has no gradient, by candle.
fn plain(
    inputs: &[&Computed],
    compute: impl FnOnce(&[Tensor]) -> candle_core::Result<Tensor>,
) -> Outcome {
    Ok(Computed::untracked(by_candle(inputs, compute)?))
}

macro_rules! arithmetic {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $kernel:expr, $pull:expr;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: &Self) -> Self {
                let pull: fn(&mut Pull<'_>) = $pull;
                op($op, [self, other], |[x, y]| Ok(kernels::arithmetic($kernel, x, y, pull)?), |_| Ok(()))
            }
        )*}
    };
}

arithmetic! {
    /// x + y, broadcasting.
    add, "Add", Arithmetic::Add, |p| {
        p.give(0, |p| p.g().clone());
        p.give(1, |p| p.g().clone());
    };
    /// x - y, broadcasting.
    sub, "Sub", Arithmetic::Sub, |p| {
        p.give(0, |p| p.g().clone());
        p.give(1, |p| -p.g());
    };
    /// x * y, broadcasting.
    mul, "Mul", Arithmetic::Mul, |p| {
        p.give(0, |p| p.g() * p.x(1));
        p.give(1, |p| p.g() * p.x(0));
    };
    /// x / y, broadcasting.
    div, "Div", Arithmetic::Div, |p| {
        p.give(0, |p| p.g() / p.x(1));
        p.give(1, |p| -(p.g() * p.y() / p.x(1)));
    };
}

macro_rules! extreme {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $compute:expr, $sign:literal;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: &Self) -> Self {
                let compute: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> = $compute;
                op($op, [self, other], |[x, y]| {
                    let held = by_candle(&[x, y], |t| compute(&t[0], &t[1]))?;
                    Ok(Computed::tracked(held, &[x, y], |p| {
                        // Where both are equal, the second gets the gradient.
                        let first = |p: &Pull<'_>| ((p.x(0) - p.x(1)) * $sign).is_positive();
                        p.give(0, |p| p.g() * first(p));
                        p.give(1, |p| p.g() * (1.0 - first(p)));
                    }))
                }, |_| Ok(()))
            }
        )*}
    };
}

extreme! {
    /// The larger of x and y, broadcasting.
    maximum, "Max", |x, y| x.broadcast_maximum(y), 1.0;
    /// The smaller of x and y, broadcasting.
    minimum, "Min", |x, y| x.broadcast_minimum(y), -1.0;
}

macro_rules! truth {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $compute:expr;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: &Self) -> Self {
                let compute: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> = $compute;
                op(
                    $op,
                    [self, other],
                    |[x, y]| plain(&[x, y], |t| compute(&t[0], &t[1])),
                    |node| node.truth().done(),
                )
            }
        )*}
    };
}

truth! {
    /// Where x > y, as truth values.
    greater, "Greater", |x, y| x.broadcast_gt(y);
    /// Where x < y, as truth values.
    less, "Less", |x, y| x.broadcast_lt(y);
    /// Where x = y, as truth values.
    equal, "Equal", |x, y| x.broadcast_eq(y);
    /// Where both truth values hold.
    and, "And", |x, y| x.broadcast_minimum(y);
    /// Where either truth value holds.
    or, "Or", |x, y| x.broadcast_maximum(y);
}

impl Value {
    /// Where the truth value does not hold.
    #[track_caller]
    pub fn not(&self) -> Self {
        op(
            "Not",
            [self],
            |[x]| plain(&[x], |t| t[0].eq(0u8)),
            |node| node.truth().done(),
        )
    }

    /// Where x > c, as truth values.
    #[track_caller]
    pub fn greater_scalar(&self, c: f64) -> Self {
        op(
            "Greater",
            [self],
            |[x]| plain(&[x], |t| t[0].gt(c)),
            |node| node.scalar("c", c)?.truth().done(),
        )
    }

    /// Where x < c, as truth values.
    #[track_caller]
    pub fn less_scalar(&self, c: f64) -> Self {
        op(
            "Less",
            [self],
            |[x]| plain(&[x], |t| t[0].lt(c)),
            |node| node.scalar("c", c)?.truth().done(),
        )
    }

    /// `yes` where this truth value holds, else `no`; all of one shape after broadcasting.
    #[track_caller]
    pub fn choose(&self, yes: &Self, no: &Self) -> Self {
        op(
            "Where",
            [self, yes, no],
            |all| {
                let held = by_candle(&all, |t| {
                    let shape = t[0]
                        .shape()
                        .broadcast_shape_binary_op(t[1].shape(), "where")?;
                    let shape = shape.broadcast_shape_binary_op(t[2].shape(), "where")?;
                    let yes = t[1].broadcast_as(&shape)?;
                    t[0].broadcast_as(&shape)?
                        .where_cond(&yes, &t[2].broadcast_as(&shape)?)
                })?;
                Ok(Computed::tracked(held, &all, |p| {
                    let of = |p: &Pull<'_>| p.x(0).cast(p.g().dtype());
                    p.give(1, |p| p.g() * of(p));
                    p.give(2, |p| p.g() * (1.0 - of(p)));
                }))
            },
            |_| Ok(()),
        )
    }
}
