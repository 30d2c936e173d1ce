//! Sums over dimensions, and softmax.

use candle_core::Tensor;
use zoo_kernels::View;

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    ops::by_candle,
    value::{Computed, Pull, Sink},
};

/// The sum over `axes`, or the mean. `keep` leaves them with size 1.
pub fn sum(x: &Computed, axes: &[usize], keep: bool, mean: bool) -> Result<Computed> {
    let dims = x.dims().to_vec();
    let kept: Vec<bool> = (0..dims.len()).map(|i| !axes.contains(&i)).collect();
    let count: usize = axes.iter().map(|&axis| dims[axis]).product();
    let scale = if mean { 1.0 / count as f64 } else { 1.0 };
    let with_ones: Vec<usize> = (0..dims.len())
        .map(|i| if kept[i] { dims[i] } else { 1 })
        .collect();
    let spread = with_ones.clone();
    let pull = move |p: &mut Pull<'_>| {
        p.give(0, |p| {
            // Repeated along what was summed.
            let g = p.g().shaped(&spread).expand(p.x(0).dims());
            if scale == 1.0 { g } else { g * scale }
        });
    };
    if !ours(&[x]) {
        let held = by_candle(&[x], |t| {
            let summed = t[0].sum_keepdim(axes)?;
            let summed = if mean { (summed * scale)? } else { summed };
            if keep {
                return Ok(summed);
            }
            // From the last, so that the ones before keep their places.
            axes.iter()
                .rev()
                .try_fold(summed, |t, &axis| t.squeeze(axis))
        })?;
        return Ok(Computed::tracked(held, &[x], pull));
    }
    let shape: Vec<usize> = (0..dims.len())
        .filter(|&i| keep || kept[i])
        .map(|i| with_ones[i])
        .collect();
    let from = x.held.contiguous()?;
    let values = from.read()?;
    let held = Held::fill(&shape, |out| {
        zoo_kernels::sum_to(&dims, &kept, &values, scale, out)
    })?;
    Ok(Computed::by_kernel(held, &[x], pull, |_| {
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

/// e^x over its sum along `axis`, or the logarithm of that.
pub fn softmax(x: &Computed, axis: usize, log: bool) -> Result<Computed> {
    let pull = move |p: &mut Pull<'_>| {
        p.give(0, |p| {
            let total = |g: Value| g.sum(&[axis as i64], true);
            if log {
                p.g() - p.y().exp() * total(p.g().clone())
            } else {
                p.y() * (p.g() - total(p.g() * p.y()))
            }
        });
    };
    let columns = x.dims()[axis];
    if !ours(&[x]) || axis + 1 != x.rank() || columns == 0 {
        let held = by_candle(&[x], |t: &[Tensor]| {
            let shifted = t[0].broadcast_sub(&t[0].max_keepdim(axis)?)?;
            let exp = shifted.exp()?;
            let sum = exp.sum_keepdim(axis)?;
            if log {
                shifted.broadcast_sub(&sum.log()?)
            } else {
                exp.broadcast_div(&sum)
            }
        })?;
        return Ok(Computed::tracked(held, &[x], pull));
    }
    let from = x.held.contiguous()?;
    let values = from.read()?;
    let held = Held::fill(x.dims(), |out| {
        zoo_kernels::softmax(&values, columns, log, out)
    })?;
    Ok(Computed::by_kernel(held, &[x], pull, |y| {
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

/// -log p of each row's class under `logits [N,K]`, K at least 1: `[N]`.
pub fn cross_entropy(logits: &Computed, classes: &Computed) -> Result<Computed> {
    let columns = logits.dims()[1];
    let classes: Vec<i64> = classes
        .held
        .peek()
        .to_dtype(candle_core::DType::I64)
        .and_then(|t| t.to_vec1())?;
    let x = logits.held.detached().contiguous()?;
    let held = {
        let x = x.read()?;
        Held::fill(&logits.dims()[..1], |out| {
            zoo_kernels::cross_entropy(&x, columns, &classes, out)
        })?
    };
    Ok(Computed::fused(held, &[logits], |_| {
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
