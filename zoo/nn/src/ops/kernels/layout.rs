//! Shapes: nothing here changes an element.

use candle_core::{Shape, Tensor};
use zoo_kernels::View;

use super::{Result, broadcast_back, check, ours};
use crate::{
    memory::{Floats, Held},
    ops::by_candle,
    value::{Computed, Pull, Sink},
};

/// The same elements in another shape.
pub fn reshape(x: &Computed, shape: &[usize]) -> Result<Computed> {
    let pull = |p: &mut Pull<'_>| p.give(0, |p| p.g().shaped(p.x(0).dims()));
    if !ours(&[x]) {
        let held = by_candle(&[x], |t| t[0].reshape(shape))?;
        return Ok(Computed::tracked(held, &[x], pull));
    }
    let held = x.held.detached().contiguous()?.view(|t| t.reshape(shape))?;
    Ok(Computed::by_kernel(held, &[x], pull, |_| {
        |gradient: Floats, sink: &mut Sink<'_>| sink.give(0, gradient)
    }))
}

/// Dimensions in another order; contiguous, because candle's matmul is wrong on some permuted inputs.
pub fn permute(x: &Computed, order: &[usize]) -> Result<Computed> {
    let permuted = |t: &Tensor| t.permute(order);
    // candle has checked that it is an order.
    let held = if ours(&[x]) {
        x.held.detached().view(permuted)?.contiguous()?
    } else {
        by_candle(&[x], |t| permuted(&t[0])?.contiguous())?
    };
    let mut back = vec![0; order.len()];
    for (i, &from) in order.iter().enumerate() {
        back[from] = i;
    }
    let inverse = back.clone();
    let pull = move |p: &mut Pull<'_>| p.give(0, |p| p.g().permute(&inverse));
    if !ours(&[x]) {
        return Ok(Computed::tracked(held, &[x], pull));
    }
    Ok(Computed::by_kernel(held, &[x], pull, |y| {
        let shape = y.peek().shape().clone();
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let turned = Held::new(gradient, shape.clone())?
                .view(|t| t.permute(back.as_slice()))?
                .contiguous()?;
            sink.give(0, turned.into_floats()?)
        }
    }))
}

/// `count` places along `axis` from `start` on.
pub fn slice(x: &Computed, axis: usize, start: usize, count: usize) -> Result<Computed> {
    let pull = move |p: &mut Pull<'_>| {
        p.give(0, |p| {
            let after = p.x(0).dims()[axis] - start - count;
            p.g().between_zeros(axis, start, after)
        });
    };
    if !ours(&[x]) {
        let held = by_candle(&[x], |t| t[0].narrow(axis, start, count))?;
        return Ok(Computed::tracked(held, &[x], pull));
    }
    let held = x.held.detached().view(|t| t.narrow(axis, start, count))?;
    Ok(Computed::by_kernel(held, &[x], pull, |y| {
        let [inner, all] = [y.dims(), x.dims()].map(|d| d[axis..].iter().product::<usize>());
        let at = start * x.dims()[axis + 1..].iter().product::<usize>();
        move |gradient: Floats, sink: &mut Sink<'_>| {
            if let (Some(sum), true) = (sink.sum(0)?, inner > 0) {
                for (sum, gradient) in sum.chunks_exact_mut(all).zip(gradient.chunks_exact(inner)) {
                    check(zoo_kernels::add_assign(&mut sum[at..at + inner], gradient))?;
                }
            }
            Ok(())
        }
    }))
}

/// Dimensions of size 1 repeated.
pub fn expand(x: &Computed, shape: &Shape) -> Result<Computed> {
    let pull = |p: &mut Pull<'_>| p.give(0, |p| p.g().clone());
    if !ours(&[x]) {
        let held = by_candle(&[x], |t| t[0].broadcast_as(shape))?;
        return Ok(Computed::tracked(held, &[x], pull));
    }
    let held = x.held.detached().view(|t| t.broadcast_as(shape))?;
    Ok(Computed::by_kernel(held, &[x], pull, |_| {
        let (small, shape) = (x.held.peek().shape().clone(), shape.clone());
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let gradient = Held::new(gradient, shape.clone())?;
            sink.give(0, broadcast_back(&gradient, &small, 1.0)?)
        }
    }))
}

/// Values one after the other along `axis`.
pub fn concat(values: &[&Computed], axis: usize) -> Result<Computed> {
    let pull = move |p: &mut Pull<'_>| {
        let mut at = 0;
        for i in 0..p.inputs() {
            let size = p.x(i).dims()[axis];
            p.give(i, |p| p.g().slice(axis as i64, at, at + size));
            at += size;
        }
    };
    let first = values[0];
    let fits = |v: &&Computed| {
        v.dims().len() == first.dims().len()
            && (0..v.dims().len()).all(|i| i == axis || v.dims()[i] == first.dims()[i])
    };
    // candle words the refusal.
    if !ours(values) || !values.iter().all(fits) {
        let held = by_candle(values, |t| Tensor::cat(t, axis))?;
        return Ok(Computed::tracked(held, values, pull));
    }
    let mut shape = first.dims().to_vec();
    shape[axis] = values.iter().map(|v| v.dims()[axis]).sum();
    let outer: usize = shape[..axis].iter().product();
    let inner = |dims: &[usize]| dims[axis..].iter().product::<usize>();
    let (all, mut at) = (inner(&shape), 0);
    let mut places = Vec::with_capacity(values.len());
    let mut floats = Floats::stale(shape.iter().product());
    for value in values {
        let part = inner(value.dims());
        places.push((at, part));
        if part > 0 {
            let x = value.held.contiguous()?;
            let x = x.read()?;
            for i in 0..outer {
                let view = View {
                    values: &x[i * part..],
                    strides: &[1],
                };
                let out = &mut floats[i * all + at..][..part];
                check(zoo_kernels::copy(&[part], view, 1.0, out))?;
            }
        }
        at += part;
    }
    let held = Held::new(floats, shape)?;
    Ok(Computed::by_kernel(held, values, pull, |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            for (i, &(at, part)) in places.iter().enumerate() {
                if !sink.wants(i) || part == 0 {
                    continue;
                }
                let mut own = Floats::stale(outer * part);
                for (own, gradient) in own.chunks_exact_mut(part).zip(gradient.chunks_exact(all)) {
                    own.copy_from_slice(&gradient[at..at + part]);
                }
                sink.give(i, own)?;
            }
            Ok(())
        }
    }))
}
