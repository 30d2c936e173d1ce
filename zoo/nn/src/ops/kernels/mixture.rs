//! The discretised mixture of logistics: one pass forward and one back.

use zoo_kernels::MixtureShape;

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    tape::Sink,
};

/// -log p of each image of `x` under `parameters`, both of `shape`: `[N]`. `None` where our kernel does not take them.
pub fn logistic_mixture(
    parameters: &Value,
    x: &Value,
    shape: MixtureShape,
) -> Option<Result<Value>> {
    ours(&[parameters, x]).then(|| fused(parameters, x, shape))
}

fn fused(parameters: &Value, x: &Value, shape: MixtureShape) -> Result<Value> {
    let x = x.held().detached().contiguous()?;
    let from = parameters.held().detached().contiguous()?;
    let held = {
        let (x, from) = (x.read()?, from.read()?);
        Held::fill(&[shape.batch], |out| {
            zoo_kernels::logistic_mixture(&x, &from, &shape, out)
        })?
    };
    Ok(Value::computed(held, &[parameters], |_| {
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
