//! Sums over dimensions, and softmax.

use candle_core::Tensor;
use zoo_kernels::View;

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    tape::{Sink, by_candle},
};

/// The sum over `axes`, or the mean. `keep` leaves them with size 1.
pub fn sum(x: &Value, axes: &[usize], keep: bool, mean: bool) -> Result<Value> {
    if !ours(&[x]) {
        return by_candle(&[x], |t| {
            let summed = if mean {
                t[0].mean_keepdim(axes)?
            } else {
                t[0].sum_keepdim(axes)?
            };
            if keep {
                return Ok(summed);
            }
            // From the last, so that the ones before keep their places.
            axes.iter()
                .rev()
                .try_fold(summed, |t, &axis| t.squeeze(axis))
        });
    }
    let dims = x.dims().to_vec();
    let kept: Vec<bool> = (0..dims.len()).map(|i| !axes.contains(&i)).collect();
    let count: usize = axes.iter().map(|&axis| dims[axis]).product();
    let scale = if mean { 1.0 / count as f64 } else { 1.0 };
    let shape: Vec<usize> = (0..dims.len())
        .filter(|&i| keep || kept[i])
        .map(|i| if kept[i] { dims[i] } else { 1 })
        .collect();
    let from = x.held().contiguous()?;
    let values = from.read()?;
    let held = Held::fill(&shape, |out| {
        zoo_kernels::sum_to(&dims, &kept, &values, scale, out)
    })?;
    Ok(Value::computed(held, &[x], |_| {
        // The gradient is repeated along what was summed.
        let (mut strides, mut next) = (vec![0; dims.len()], 1);
        for i in (0..dims.len()).rev().filter(|&i| kept[i]) {
            strides[i] = next;
            next *= dims[i];
        }
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let mut of_x = Floats::stale(dims.iter().product());
            let view = View {
                values: &gradient,
                strides: &strides,
            };
            check(zoo_kernels::copy(&dims, view, scale as f32, &mut of_x))?;
            sink.give(0, of_x)
        }
    }))
}

/// e^x over its sum along `axis`.
pub fn softmax(x: &Value, axis: usize) -> Result<Value> {
    rows(x, axis, false)
}

/// The logarithm of [`softmax`].
pub fn log_softmax(x: &Value, axis: usize) -> Result<Value> {
    rows(x, axis, true)
}

fn rows(x: &Value, axis: usize, log: bool) -> Result<Value> {
    let columns = x.dims()[axis];
    if !ours(&[x]) || axis + 1 != x.rank() || columns == 0 {
        return by_candle(&[x], |t| {
            let shifted = t[0].broadcast_sub(&t[0].max_keepdim(axis)?.detach())?;
            let exp = shifted.exp()?;
            let sum = exp.sum_keepdim(axis)?;
            if log {
                shifted.broadcast_sub(&sum.log()?)
            } else {
                exp.broadcast_div(&sum)
            }
        });
    }
    let from = x.held().contiguous()?;
    let values = from.read()?;
    let held = Held::fill(x.dims(), |out| {
        zoo_kernels::softmax(&values, columns, log, out)
    })?;
    Ok(Value::computed(held, &[x], |y| {
        let y = y.clone();
        move |mut gradient: Floats, sink: &mut Sink<'_>| {
            check(zoo_kernels::softmax_backward(
                &y.read()?,
                columns,
                log,
                &mut gradient,
            ))?;
            sink.give(0, gradient)
        }
    }))
}

/// -log p of each row's class under `logits [N,K]`: `[N]`. `None` where our kernel does not take them.
pub fn cross_entropy(logits: &Value, classes: &Value) -> Option<Result<Value>> {
    let fits = ours(&[logits]) && logits.rank() == 2 && logits.dims()[1] > 0;
    fits.then(|| fused_cross_entropy(logits, classes))
}

fn fused_cross_entropy(logits: &Value, classes: &Value) -> Result<Value> {
    let columns = logits.dims()[1];
    let classes: Vec<i64> = classes
        .held()
        .peek()
        .to_dtype(candle_core::DType::I64)
        .and_then(|t: Tensor| t.to_vec1())?;
    let x = logits.held().detached().contiguous()?;
    let held = {
        let x = x.read()?;
        Held::fill(&logits.dims()[..1], |out| {
            zoo_kernels::cross_entropy(&x, columns, &classes, out)
        })?
    };
    Ok(Value::computed(held, &[logits], |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let x = x.read()?;
            let mut of_x = Floats::stale(x.len());
            check(zoo_kernels::cross_entropy_grad(
                &x, columns, &classes, &gradient, &mut of_x,
            ))?;
            sink.give(0, of_x)
        }
    }))
}
