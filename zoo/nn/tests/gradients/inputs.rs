//! What operations are tried on.

use candle_core::NdArray;
use zoo_nn::{DType, Device, Stream, Tensor, Value};

/// Numbers away from 0, where relu and its kin bend.
pub fn input(shape: &[usize], dtype: DType) -> Tensor {
    let away = |x: &f32| {
        if x.abs() < 0.05 {
            x + 0.1f32.copysign(*x)
        } else {
            *x
        }
    };
    let values: Vec<f32> = Stream::new(4)
        .normal(shape.iter().product())
        .iter()
        .map(away)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn device_of(like: &Value) -> &Device {
    like.tensor().unwrap().device()
}

/// The same numbers wherever the name is the same, like `like`.
pub fn fixed(shape: &[usize], like: &Value, name: &str) -> Value {
    let values = Stream::new(5).named(name).normal(shape.iter().product());
    Value::constant(
        Tensor::from_vec(values, shape, device_of(like))
            .unwrap()
            .to_dtype(like.dtype())
            .unwrap(),
    )
}

/// Numbers of classes or places, where `like` is.
pub fn index(numbers: impl NdArray, like: &Value) -> Value {
    Value::constant(Tensor::new(numbers, device_of(like)).unwrap())
}

/// A number that depends on every element of y in its own way.
pub fn weigh(y: &Value, name: &str) -> Value {
    let weights = Stream::new(6)
        .named(name)
        .uniform(y.dims().iter().product());
    let weights = Tensor::from_vec(weights, y.dims(), device_of(y))
        .unwrap()
        .to_dtype(y.dtype())
        .unwrap();
    (y * Value::constant(weights)).flatten(0).sum(&[0], false)
}

/// The mask of a 3 x 3 window that sees the rows above and what stands left.
pub fn rows_above(like: &Value) -> Value {
    let taps = [1f32, 1., 1., 1., 0., 0., 0., 0., 0.];
    let mask = Tensor::from_slice(&taps, (1, 1, 3, 3), device_of(like)).unwrap();
    Value::constant(mask.to_dtype(like.dtype()).unwrap())
}

/// Pixels of 256 levels, the lowest and the highest among them.
pub fn levels(shape: &[usize], like: &Value) -> Value {
    let x = fixed(shape, like, "pixels") * 0.7;
    let level = (x + 0.5).clip(0.0, 1.0) * 255.0;
    level.floor() * (1.0 / 255.0)
}
