//! The logits of a neural autoregressive distribution estimator.

use zoo_kernels::{NadeGrads, NadeShape};

use super::{Result, check};
use crate::{
    memory::{Floats, Held},
    value::{Computed, Sink},
};

/// `[N,D]` from `x [N,D]`, `w [D,H]`, `c [H]` and `v [D,H]`.
pub fn nade(all: [&Computed; 4], shape: NadeShape) -> Result<Computed> {
    let [x, w, c, v] = all.map(|value| value.held.detached().contiguous());
    let kept = [x?, w?, c?, v?];
    let held = {
        let [x, w, c, v] = &kept;
        let (x, w, c, v) = (x.read()?, w.read()?, c.read()?, v.read()?);
        Held::fill(&[shape.batch, shape.inputs], |out| {
            zoo_kernels::nade(&x, &w, &c, &v, &shape, out)
        })?
    };
    Ok(Computed::fused(held, &all, |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let [x, w, c, v] = &kept;
            let (x, w, c, v) = (x.read()?, w.read()?, c.read()?, v.read()?);
            let lengths = [x.len(), w.len(), c.len(), v.len()];
            let mut of: [Option<Floats>; 4] = std::array::from_fn(|i| {
                let wanted = sink.wants(i);
                wanted.then(|| Floats::stale(lengths[i]))
            });
            {
                let [x_, w_, c_, v_] = &mut of;
                let grads = NadeGrads {
                    x: x_.as_deref_mut(),
                    w: w_.as_deref_mut(),
                    c: c_.as_deref_mut(),
                    v: v_.as_deref_mut(),
                };
                check(zoo_kernels::nade_grad(
                    &x, &w, &c, &v, &gradient, &shape, grads,
                ))?;
            }
            for (i, gradient) in of.into_iter().enumerate() {
                if let Some(gradient) = gradient {
                    sink.give(i, gradient)?;
                }
            }
            Ok(())
        }
    }))
}
