//! Shapes: nothing here changes an element.

use candle_core::{Shape, Tensor};
use zoo_kernels::View;

use super::{Result, broadcast_back, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    tape::{Sink, by_candle},
};

/// The same elements in another shape.
pub fn reshape(x: &Value, shape: &[usize]) -> Result<Value> {
    if !ours(&[x]) {
        return by_candle(&[x], |t| t[0].reshape(shape));
    }
    let held = x
        .held()
        .detached()
        .contiguous()?
        .view(|t| t.reshape(shape))?;
    Ok(Value::computed(held, &[x], |_| {
        |gradient: Floats, sink: &mut Sink<'_>| sink.give(0, gradient)
    }))
}

/// Dimensions in another order; contiguous, because candle's matmul is wrong on some permuted inputs.
pub fn permute(x: &Value, order: &[usize]) -> Result<Value> {
    let permuted = |t: &Tensor| t.permute(order);
    if !ours(&[x]) {
        return by_candle(&[x], |t| permuted(&t[0])?.contiguous());
    }
    let held = x.held().detached().view(permuted)?.contiguous()?;
    Ok(Value::computed(held, &[x], |y| {
        let shape = y.peek().shape().clone();
        let mut back = vec![0; order.len()];
        for (i, &from) in order.iter().enumerate() {
            back[from] = i;
        }
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let turned = Held::new(gradient, shape.clone())?
                .view(|t| t.permute(back.as_slice()))?
                .contiguous()?;
            sink.give(0, turned.into_floats()?)
        }
    }))
}

/// `count` places along `axis` from `start` on.
pub fn slice(x: &Value, axis: usize, start: usize, count: usize) -> Result<Value> {
    if !ours(&[x]) {
        return by_candle(&[x], |t| t[0].narrow(axis, start, count));
    }
    let held = x.held().detached().view(|t| t.narrow(axis, start, count))?;
    Ok(Value::computed(held, &[x], |y| {
        let [inner, all] = [y.dims(), x.dims()].map(|d| d[axis..].iter().product::<usize>());
        let at = start * x.dims()[axis + 1..].iter().product::<usize>();
        move |gradient: Floats, sink: &mut Sink<'_>| {
            if let (Some(sum), true) = (sink.sum(0), inner > 0) {
                for (sum, gradient) in sum.chunks_exact_mut(all).zip(gradient.chunks_exact(inner)) {
                    check(zoo_kernels::add_assign(&mut sum[at..at + inner], gradient))?;
                }
            }
            Ok(())
        }
    }))
}

/// Dimensions of size 1 repeated.
pub fn expand(x: &Value, shape: &Shape) -> Result<Value> {
    if !ours(&[x]) {
        return by_candle(&[x], |t| t[0].broadcast_as(shape));
    }
    let held = x.held().detached().view(|t| t.broadcast_as(shape))?;
    Ok(Value::computed(held, &[x], |_| {
        let (small, shape) = (x.held().peek().shape().clone(), shape.clone());
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let gradient = Held::new(gradient, shape.clone())?;
            sink.give(0, broadcast_back(&gradient, &small, 1.0)?)
        }
    }))
}

/// Values one after the other along `axis`.
pub fn concat(values: &[&Value], axis: usize) -> Result<Value> {
    let first = values[0];
    let fits = |v: &&Value| {
        v.dims().len() == first.dims().len()
            && (0..v.dims().len()).all(|i| i == axis || v.dims()[i] == first.dims()[i])
    };
    // candle words the refusal.
    if !ours(values) || !values.iter().all(fits) {
        return by_candle(values, |t| Tensor::cat(t, axis));
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
            let x = value.held().contiguous()?;
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
    Ok(Value::computed(held, values, |_| {
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
