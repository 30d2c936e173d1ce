//! Functions of one element, gates, and the Bernoulli likelihood: one pass forward and one back.

use candle_core::Tensor;
use zoo_kernels::Activation;

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    tape::{Sink, by_candle},
};

/// f(x), by our kernel or by `otherwise`.
pub fn activation(
    x: &Value,
    f: Activation,
    otherwise: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Value> {
    if !ours(&[x]) {
        return by_candle(&[x], |t| otherwise(&t[0]));
    }
    let from = x.held().detached().contiguous()?;
    let values = from.read()?;
    let held = Held::fill(x.dims(), |out| zoo_kernels::activation(f, &values, out))?;
    drop(values);
    Ok(Value::computed(held, &[x], |y| {
        let saved = if f.saves_output() { y.clone() } else { from };
        move |mut gradient: Floats, sink: &mut Sink<'_>| {
            check(zoo_kernels::activation_backward(
                f,
                &saved.read()?,
                &mut gradient,
            ))?;
            sink.give(0, gradient)
        }
    }))
}

/// Binary cross-entropy of targets under `logits`, both `[N,D]`, summed over each row: `[N]`. `None` where our kernel does not take them.
pub fn bce_rows(logits: &Value, targets: &Value) -> Option<Result<Value>> {
    let fits = ours(&[logits, targets])
        && logits.rank() == 2
        && logits.dims() == targets.dims()
        && targets.node().is_none();
    fits.then(|| fused_bce(logits, targets))
}

fn fused_bce(logits: &Value, targets: &Value) -> Result<Value> {
    let (x, t) = (
        logits.held().detached().contiguous()?,
        targets.held().detached().contiguous()?,
    );
    let held = {
        let (x, t) = (x.read()?, t.read()?);
        Held::fill(&logits.dims()[..1], |out| {
            zoo_kernels::bce_with_logits(&x, &t, out)
        })?
    };
    Ok(Value::computed(held, &[logits], |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let (x, t) = (x.read()?, t.read()?);
            let mut of_x = Floats::stale(x.len());
            check(zoo_kernels::bce_with_logits_grad(
                &x, &t, &gradient, &mut of_x,
            ))?;
            sink.give(0, of_x)
        }
    }))
}

/// tanh(a) sigmoid(b) of the halves of dimension 1. `None` where our kernel does not take it.
pub fn gated_tanh(x: &Value) -> Option<Result<Value>> {
    let even = x.dims().get(1).is_some_and(|c| c % 2 == 0);
    (ours(&[x]) && even).then(|| fused_gate(x))
}

fn fused_gate(x: &Value) -> Result<Value> {
    let mut shape = x.dims().to_vec();
    shape[1] /= 2;
    let half: usize = shape[1..].iter().product();
    let from = x.held().detached().contiguous()?;
    let held = {
        let from = from.read()?;
        Held::fill(&shape, |out| zoo_kernels::gated_tanh(&from, half, out))?
    };
    Ok(Value::computed(held, &[x], |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let from = from.read()?;
            let mut of_x = Floats::stale(from.len());
            check(zoo_kernels::gated_tanh_grad(
                &from, half, &gradient, &mut of_x,
            ))?;
            sink.give(0, of_x)
        }
    }))
}
