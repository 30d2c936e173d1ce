//! Functions of one element, gates, and the Bernoulli likelihood: one pass forward and one back.

use candle_core::Tensor;
use zoo_kernels::Activation;

use super::{Result, check, ours};
use crate::{
    memory::{Floats, Held},
    ops::by_candle,
    value::{Computed, Outcome, Pull, Sink},
};

/// f(x) by our kernel.
pub fn activation(
    x: &Computed,
    f: Activation,
    pull: impl Fn(&mut Pull<'_>) + Send + Sync + 'static,
) -> Result<Computed> {
    let from = x.held.detached().contiguous()?;
    let values = from.read()?;
    let held = Held::fill(x.dims(), |out| zoo_kernels::activation(f, &values, out))?;
    drop(values);
    Ok(Computed::by_kernel(held, &[x], pull, |y| {
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

/// f(x), by our kernel or by candle.
pub fn activation_or(
    x: &Computed,
    f: Activation,
    candle: impl Fn(&Tensor) -> Result<Tensor>,
    pull: impl Fn(&mut Pull<'_>) + Send + Sync + 'static,
) -> Outcome {
    if ours(&[x]) {
        return Ok(activation(x, f, pull)?);
    }
    let held = by_candle(&[x], |t| candle(&t[0]))?;
    Ok(Computed::tracked(held, &[x], pull))
}

/// Binary cross-entropy of targets under `logits`, both `[N,D]`, summed over each row: `[N]`.
pub fn bce_rows(logits: &Computed, targets: &Computed) -> Result<Computed> {
    let (x, t) = (
        logits.held.detached().contiguous()?,
        targets.held.detached().contiguous()?,
    );
    let held = {
        let (x, t) = (x.read()?, t.read()?);
        Held::fill(&logits.dims()[..1], |out| {
            zoo_kernels::bce_with_logits(&x, &t, out)
        })?
    };
    Ok(Computed::fused(held, &[logits], |_| {
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

/// tanh(a) sigmoid(b) of the halves of dimension 1, which is even.
pub fn gated_tanh(x: &Computed) -> Result<Computed> {
    let mut shape = x.dims().to_vec();
    shape[1] /= 2;
    let half: usize = shape[1..].iter().product();
    let from = x.held.detached().contiguous()?;
    let held = {
        let from = from.read()?;
        Held::fill(&shape, |out| zoo_kernels::gated_tanh(&from, half, out))?
    };
    Ok(Computed::fused(held, &[x], |_| {
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
