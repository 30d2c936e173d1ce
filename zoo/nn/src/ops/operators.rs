//! `+ - * /` between values and numbers, by reference or not.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::Value;

macro_rules! between_values {
    ($($trait:ident, $method:ident;)*) => {$(
        between_values! { @ $trait, $method, Value, Value }
        between_values! { @ $trait, $method, Value, &Value }
        between_values! { @ $trait, $method, &Value, Value }
        between_values! { @ $trait, $method, &Value, &Value }
    )*};
    (@ $trait:ident, $method:ident, $left:ty, $right:ty) => {
        impl $trait<$right> for $left {
            type Output = Value;

            #[track_caller]
            fn $method(self, other: $right) -> Value {
                Value::$method(&self, &other)
            }
        }
    };
}

between_values! {
    Add, add;
    Sub, sub;
    Mul, mul;
    Div, div;
}

macro_rules! with_numbers {
    ($($trait:ident, $method:ident, $right:expr, $left:expr;)*) => {$(
        with_numbers! { @ $trait, $method, Value, $right, $left }
        with_numbers! { @ $trait, $method, &Value, $right, $left }
    )*};
    (@ $trait:ident, $method:ident, $value:ty, $right:expr, $left:expr) => {
        impl $trait<f64> for $value {
            type Output = Value;

            #[track_caller]
            fn $method(self, c: f64) -> Value {
                let apply: fn(&Value, f64) -> Value = $right;
                apply(&self, c)
            }
        }

        impl $trait<$value> for f64 {
            type Output = Value;

            #[track_caller]
            fn $method(self, x: $value) -> Value {
                let apply: fn(&Value, f64) -> Value = $left;
                apply(&x, self)
            }
        }
    };
}

with_numbers! {
    Add, add, Value::add_scalar, Value::add_scalar;
    Sub, sub, Value::sub_scalar, Value::scalar_sub;
    Mul, mul, Value::mul_scalar, Value::mul_scalar;
    Div, div, Value::div_scalar, Value::scalar_div;
}

impl Neg for &Value {
    type Output = Value;

    #[track_caller]
    fn neg(self) -> Value {
        Value::neg(self)
    }
}

impl Neg for Value {
    type Output = Value;

    #[track_caller]
    fn neg(self) -> Value {
        Value::neg(&self)
    }
}
