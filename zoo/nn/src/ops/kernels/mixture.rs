//! The discretised mixture of logistics: one pass forward and one back.

use zoo_kernels::MixtureShape;

use super::{Result, check};
use crate::{
    memory::{Floats, Held},
    value::{Computed, Sink},
};

/// -log p of each image of `x` under `parameters`, both of `shape`: `[N]`.
pub fn logistic_mixture(
    parameters: &Computed,
    x: &Computed,
    shape: MixtureShape,
) -> Result<Computed> {
    let x = x.held.detached().contiguous()?;
    let from = parameters.held.detached().contiguous()?;
    let held = {
        let (x, from) = (x.read()?, from.read()?);
        Held::fill(&[shape.batch], |out| {
            zoo_kernels::logistic_mixture(&x, &from, &shape, out)
        })?
    };
    Ok(Computed::fused(held, &[parameters], |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let (x, from) = (x.read()?, from.read()?);
            let mut of_parameters = Floats::stale(from.len());
            check(zoo_kernels::logistic_mixture_grad(
                &x,
                &from,
                &shape,
                &gradient,
                &mut of_parameters,
            ))?;
            sink.give(0, of_parameters)
        }
    }))
}
