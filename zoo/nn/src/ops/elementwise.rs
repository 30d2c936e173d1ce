//! Element by element.

use candle_core::{DType, Tensor};

use zoo_kernels::{Activation, Arithmetic};

use super::{
    fused,
    kernels::{self, activation, arithmetic},
};
use crate::{Error, Result, Value, tape::by_candle, value::record};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $compute:expr;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> Result<Self> {
                let compute: fn(&Value) -> candle_core::Result<Value> = $compute;
                record(compute(self), $op, |node| node.input(self).map(|_| ()))
            }
        )*}
    };
}

unary! {
    /// max(x, 0)
    relu, "Relu", |x| activation(x, Activation::Relu, Tensor::relu);
    /// 1 / (1 + exp(-x))
    sigmoid, "Sigmoid", |x| activation(x, Activation::Sigmoid, sigmoid);
    /// Hyperbolic tangent.
    tanh, "Tanh", |x| activation(x, Activation::Tanh, Tensor::tanh);
    /// log(1 + e^x), without overflow: max(x, 0) + log(1 + e^-|x|).
    softplus, "Softplus", |x| activation(x, Activation::Softplus, softplus);
    /// e^x
    exp, "Exp", |x| activation(x, Activation::Exp, Tensor::exp);
    /// Natural logarithm.
    log, "Log", |x| activation(x, Activation::Log, Tensor::log);
    /// Square root.
    sqrt, "Sqrt", |x| activation(x, Activation::Sqrt, Tensor::sqrt);
    /// |x|
    abs, "Abs", |x| activation(x, Activation::Abs, Tensor::abs);
    /// -x
    neg, "Neg", |x| activation(x, Activation::Affine(-1.0, 0.0), Tensor::neg);
    /// Largest integer not above x; no gradient.
    floor, "Floor", |x| by_candle(&[x], |t| t[0].floor());
    /// Sine.
    sin, "Sin", |x| by_candle(&[x], |t| t[0].sin());
    /// Cosine.
    cos, "Cos", |x| by_candle(&[x], |t| t[0].cos());
    /// The error function.
    erf, "Erf", |x| by_candle(&[x], |t| t[0].erf());
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
    /// x where positive, else `slope` x.
    #[track_caller]
    pub fn leaky_relu(&self, slope: f64) -> Result<Self> {
        let leaky = |x: &Tensor| x.ge(0.0)?.where_cond(x, &(x * slope)?);
        let computed = activation(self, Activation::LeakyRelu(slope as f32), leaky);
        record(computed, "LeakyRelu", |node| {
            node.input(self)
                .map(|node| node.float("alpha", slope))
                .map(|_| ())
        })
    }

    /// x where positive, else alpha (e^x - 1) (Clevert et al., 2015).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Result<Self> {
        let computed = activation(self, Activation::Elu(alpha as f32), |x| x.elu(alpha));
        record(computed, "Elu", |node| {
            node.input(self)
                .map(|node| node.float("alpha", alpha))
                .map(|_| ())
        })
    }

    /// Binary cross-entropy of targets in [0, 1] under these logits, both `[N,D]`, summed over each row: `[N]`. Element by element it is
    /// softplus(l) - l x, which does not overflow.
    #[track_caller]
    pub fn bce_rows(&self, targets: &Self) -> Result<Self> {
        // Fused only outside a trace, which needs the parts.
        match fused(|| kernels::bce_rows(self, targets)) {
            Some(fused) => record(fused, "bce_rows", |_| Ok(())),
            None => self.softplus()?.sub(&self.mul(targets)?)?.sum(&[1], false),
        }
    }

    /// tanh(a) sigmoid(b) of the two halves of dimension 1, `[N,2C,...] -> [N,C,...]`: the gate of PixelCNN and WaveNet (van den Oord et
    /// al., 2016).
    #[track_caller]
    pub fn gated_tanh(&self) -> Result<Self> {
        // Fused only outside a trace, which needs the parts.
        match fused(|| kernels::gated_tanh(self)) {
            Some(fused) => record(fused, "gated_tanh", |_| Ok(())),
            None => {
                let halves = self.chunk(2, 1)?;
                halves[0].tanh()?.mul(&halves[1].sigmoid()?)
            }
        }
    }

    /// x sigmoid(x), also called swish.
    #[track_caller]
    pub fn silu(&self) -> Result<Self> {
        self.mul(&self.sigmoid()?)
    }

    /// x Phi(x) with the Gaussian cumulative distribution Phi, exact (Hendrycks & Gimpel, 2016).
    #[track_caller]
    pub fn gelu(&self) -> Result<Self> {
        let phi = self
            .mul_scalar(std::f64::consts::FRAC_1_SQRT_2)?
            .erf()?
            .add_scalar(1.0)?
            .mul_scalar(0.5)?;
        self.mul(&phi)
    }

    /// x^2
    #[track_caller]
    pub fn sqr(&self) -> Result<Self> {
        self.mul(self)
    }

    /// min(max(x, low), high); no gradient outside.
    #[track_caller]
    pub fn clip(&self, low: f64, high: f64) -> Result<Self> {
        let f = Activation::Clip(low as f32, high as f32);
        let computed = activation(self, f, |x| x.clamp(low, high));
        record(computed, "Clip", |node| {
            node.input(self)?
                .scalar("min", low)?
                .scalar("max", high)
                .map(|_| ())
        })
    }

    /// x + c
    #[track_caller]
    pub fn add_scalar(&self, c: f64) -> Result<Self> {
        let f = Activation::Affine(1.0, c as f32);
        record(activation(self, f, |x| x + c), "Add", |node| {
            node.input(self)?.scalar("c", c).map(|_| ())
        })
    }

    /// x * c
    #[track_caller]
    pub fn mul_scalar(&self, c: f64) -> Result<Self> {
        let f = Activation::Affine(c as f32, 0.0);
        record(activation(self, f, |x| x * c), "Mul", |node| {
            node.input(self)?.scalar("c", c).map(|_| ())
        })
    }

    /// The elements as f32, i64 or u8; towards zero.
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        // Numbers of ONNX's TensorProto.DataType.
        let to = match dtype {
            DType::F32 => 1,
            DType::U8 => 2,
            DType::I64 => 7,
            other => {
                return Err(Error::usage(
                    "Cast",
                    format!("cannot cast to {other:?}: use f32, i64 or u8"),
                ));
            }
        };
        let computed = by_candle(&[self], |t| t[0].to_dtype(dtype));
        record(computed, "Cast", |node| {
            node.input(self).map(|node| node.int("to", to)).map(|_| ())
        })
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $compute:expr, $truth:literal;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self, other: &Self) -> Result<Self> {
                let compute: fn(&Value, &Value) -> candle_core::Result<Value> = $compute;
                record(compute(self, other), $op, |node| {
                    node.input(self)?.input(other)?;
                    if $truth {
                        node.truth();
                    }
                    Ok(())
                })
            }
        )*}
    };
}

binary! {
    /// x + y, broadcasting.
    add, "Add", |x, y| arithmetic(Arithmetic::Add, x, y), false;
    /// x - y, broadcasting.
    sub, "Sub", |x, y| arithmetic(Arithmetic::Sub, x, y), false;
    /// x * y, broadcasting.
    mul, "Mul", |x, y| arithmetic(Arithmetic::Mul, x, y), false;
    /// x / y, broadcasting.
    div, "Div", |x, y| arithmetic(Arithmetic::Div, x, y), false;
    /// The larger of x and y, broadcasting.
    maximum, "Max", |x, y| by_candle(&[x, y], |t| t[0].broadcast_maximum(&t[1])), false;
    /// The smaller of x and y, broadcasting.
    minimum, "Min", |x, y| by_candle(&[x, y], |t| t[0].broadcast_minimum(&t[1])), false;
    /// Where x > y, as truth values.
    greater, "Greater", |x, y| by_candle(&[x, y], |t| t[0].broadcast_gt(&t[1])), true;
    /// Where x < y, as truth values.
    less, "Less", |x, y| by_candle(&[x, y], |t| t[0].broadcast_lt(&t[1])), true;
    /// Where x = y, as truth values.
    equal, "Equal", |x, y| by_candle(&[x, y], |t| t[0].broadcast_eq(&t[1])), true;
    /// Where both truth values hold.
    and, "And", |x, y| by_candle(&[x, y], |t| t[0].broadcast_minimum(&t[1])), true;
    /// Where either truth value holds.
    or, "Or", |x, y| by_candle(&[x, y], |t| t[0].broadcast_maximum(&t[1])), true;
}

impl Value {
    /// Where the truth value does not hold.
    #[track_caller]
    pub fn not(&self) -> Result<Self> {
        let computed = by_candle(&[self], |t| t[0].eq(0u8));
        record(computed, "Not", |node| {
            node.input(self).map(|node| node.truth()).map(|_| ())
        })
    }

    /// Where x > c, as truth values.
    #[track_caller]
    pub fn greater_scalar(&self, c: f64) -> Result<Self> {
        let computed = by_candle(&[self], |t| t[0].gt(c));
        record(computed, "Greater", |node| {
            node.input(self)?
                .scalar("c", c)
                .map(|node| node.truth())
                .map(|_| ())
        })
    }

    /// Where x < c, as truth values.
    #[track_caller]
    pub fn less_scalar(&self, c: f64) -> Result<Self> {
        let computed = by_candle(&[self], |t| t[0].lt(c));
        record(computed, "Less", |node| {
            node.input(self)?
                .scalar("c", c)
                .map(|node| node.truth())
                .map(|_| ())
        })
    }

    /// `yes` where this truth value holds, else `no`; all of one shape after broadcasting.
    #[track_caller]
    pub fn choose(&self, yes: &Self, no: &Self) -> Result<Self> {
        let computed = by_candle(&[self, yes, no], |t| {
            let shape = t[0]
                .shape()
                .broadcast_shape_binary_op(t[1].shape(), "where")?;
            let shape = shape.broadcast_shape_binary_op(t[2].shape(), "where")?;
            t[0].broadcast_as(&shape)?
                .where_cond(&t[1].broadcast_as(&shape)?, &t[2].broadcast_as(&shape)?)
        });
        record(computed, "Where", |node| {
            node.input(self)?.input(yes)?.input(no).map(|_| ())
        })
    }
}

macro_rules! operator {
    ($($trait:ident, $method:ident, $scalar:expr;)*) => {$(
        impl std::ops::$trait<&Value> for &Value {
            type Output = Result<Value>;

            #[track_caller]
            fn $method(self, other: &Value) -> Result<Value> {
                Value::$method(self, other)
            }
        }

        impl std::ops::$trait<f64> for &Value {
            type Output = Result<Value>;

            #[track_caller]
            fn $method(self, c: f64) -> Result<Value> {
                let apply: fn(&Value, f64) -> Result<Value> = $scalar;
                apply(self, c)
            }
        }
    )*};
}

operator! {
    Add, add, Value::add_scalar;
    Sub, sub, |x, c| x.add_scalar(-c);
    Mul, mul, Value::mul_scalar;
    Div, div, |x, c| x.mul_scalar(1.0 / c);
}
