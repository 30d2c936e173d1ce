//! Element by element.

use candle_core::{DType, Tensor};

use zoo_kernels::Activation;

use super::kernels::{self, activation};
use crate::{Error, Result, Value, value::record};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident, $op:literal, $compute:expr;)*) => {
        impl Value {$(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(&self) -> Result<Self> {
                let compute: fn(&Tensor) -> candle_core::Result<Tensor> = $compute;
                record(compute(self.tensor()), $op, |node| node.input(self).map(|_| ()))
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
    log, "Log", Tensor::log;
    /// Square root.
    sqrt, "Sqrt", Tensor::sqrt;
    /// |x|
    abs, "Abs", Tensor::abs;
    /// -x
    neg, "Neg", Tensor::neg;
    /// Largest integer not above x; no gradient.
    floor, "Floor", Tensor::floor;
    /// Sine.
    sin, "Sin", Tensor::sin;
    /// Cosine.
    cos, "Cos", Tensor::cos;
    /// The error function.
    erf, "Erf", Tensor::erf;
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
        let computed = activation(self.tensor(), Activation::LeakyRelu(slope as f32), leaky);
        record(computed, "LeakyRelu", |node| {
            node.input(self)
                .map(|node| node.float("alpha", slope))
                .map(|_| ())
        })
    }

    /// x where positive, else alpha (e^x - 1) (Clevert et al., 2015).
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Result<Self> {
        let computed = activation(self.tensor(), Activation::Elu(alpha as f32), |x| {
            x.elu(alpha)
        });
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
        match kernels::bce_rows(self.tensor(), targets.tensor()) {
            Some(fused) if !crate::trace::is_on() => record(fused, "bce_rows", |_| Ok(())),
            _ => self.softplus()?.sub(&self.mul(targets)?)?.sum(&[1], false),
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
        record(self.tensor().clamp(low, high), "Clip", |node| {
            node.input(self)?
                .scalar("min", low)?
                .scalar("max", high)
                .map(|_| ())
        })
    }

    /// x + c
    #[track_caller]
    pub fn add_scalar(&self, c: f64) -> Result<Self> {
        record(self.tensor() + c, "Add", |node| {
            node.input(self)?.scalar("c", c).map(|_| ())
        })
    }

    /// x * c
    #[track_caller]
    pub fn mul_scalar(&self, c: f64) -> Result<Self> {
        record(self.tensor() * c, "Mul", |node| {
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
        record(self.tensor().to_dtype(dtype), "Cast", |node| {
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
                let compute: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> = $compute;
                record(compute(self.tensor(), other.tensor()), $op, |node| {
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
    add, "Add", Tensor::broadcast_add, false;
    /// x - y, broadcasting.
    sub, "Sub", Tensor::broadcast_sub, false;
    /// x * y, broadcasting.
    mul, "Mul", Tensor::broadcast_mul, false;
    /// x / y, broadcasting.
    div, "Div", Tensor::broadcast_div, false;
    /// The larger of x and y, broadcasting.
    maximum, "Max", Tensor::broadcast_maximum, false;
    /// The smaller of x and y, broadcasting.
    minimum, "Min", Tensor::broadcast_minimum, false;
    /// Where x > y, as truth values.
    greater, "Greater", Tensor::broadcast_gt, true;
    /// Where x < y, as truth values.
    less, "Less", Tensor::broadcast_lt, true;
    /// Where x = y, as truth values.
    equal, "Equal", Tensor::broadcast_eq, true;
    /// Where both truth values hold.
    and, "And", Tensor::broadcast_minimum, true;
    /// Where either truth value holds.
    or, "Or", Tensor::broadcast_maximum, true;
}

impl Value {
    /// Where the truth value does not hold.
    #[track_caller]
    pub fn not(&self) -> Result<Self> {
        record(self.tensor().eq(0u8), "Not", |node| {
            node.input(self).map(|node| node.truth()).map(|_| ())
        })
    }

    /// Where x > c, as truth values.
    #[track_caller]
    pub fn greater_scalar(&self, c: f64) -> Result<Self> {
        record(self.tensor().gt(c), "Greater", |node| {
            node.input(self)?
                .scalar("c", c)
                .map(|node| node.truth())
                .map(|_| ())
        })
    }

    /// Where x < c, as truth values.
    #[track_caller]
    pub fn less_scalar(&self, c: f64) -> Result<Self> {
        record(self.tensor().lt(c), "Less", |node| {
            node.input(self)?
                .scalar("c", c)
                .map(|node| node.truth())
                .map(|_| ())
        })
    }

    /// `yes` where this truth value holds, else `no`; all of one shape after broadcasting.
    #[track_caller]
    pub fn choose(&self, yes: &Self, no: &Self) -> Result<Self> {
        let computed = (|| {
            let shape = self
                .tensor()
                .shape()
                .broadcast_shape_binary_op(yes.tensor().shape(), "where")?;
            let shape = shape.broadcast_shape_binary_op(no.tensor().shape(), "where")?;
            let (condition, yes, no) = (
                self.tensor().broadcast_as(&shape)?,
                yes.tensor().broadcast_as(&shape)?,
                no.tensor().broadcast_as(&shape)?,
            );
            condition.where_cond(&yes, &no)
        })();
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
