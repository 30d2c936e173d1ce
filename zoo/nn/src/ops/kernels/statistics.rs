//! Batch normalisation, by given statistics and by the batch's own.

use zoo_kernels::{BatchNormGrads, NormShape};

use super::{Result, check};
use crate::{
    memory::{Floats, Held},
    value::{Computed, Sink},
};

fn shape_of(x: &Computed) -> NormShape {
    NormShape {
        batch: x.dims()[0],
        channels: x.dims()[1],
        plane: x.dims()[2..].iter().product(),
    }
}

/// `scale (x - mean) / sqrt(variance + epsilon) + shift`, with `[C]` each; no gradient.
pub fn batch_norm(all: [&Computed; 5], epsilon: f64) -> Result<Computed> {
    let held: Vec<Held> = all
        .iter()
        .map(|v| v.held.contiguous())
        .collect::<Result<_>>()?;
    let read: Vec<_> = held.iter().map(Held::read).collect::<Result<_>>()?;
    let [x, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map(|i| &*read[i]);
    let normal = Held::fill(all[0].dims(), |out| {
        let (statistics, affine) = ((mean, variance), (scale, shift));
        zoo_kernels::batch_norm(
            x,
            &shape_of(all[0]),
            statistics,
            epsilon as f32,
            affine,
            out,
        )
    })?;
    Ok(Computed::untracked(normal))
}

/// `x [N,C,...]` normalised per channel, scaled and shifted by `[C]`; then the mean and biased variance `[C]`, without history.
pub fn batch_norm_train([x, scale, shift]: [&Computed; 3], epsilon: f64) -> Result<[Computed; 3]> {
    let (shape, epsilon) = (shape_of(x), epsilon as f32);
    let [held_x, held_scale, held_shift] =
        [x, scale, shift].map(|v| v.held.detached().contiguous());
    let (held_x, held_scale, held_shift) = (held_x?, held_scale?, held_shift?);
    let mut mean = Floats::stale(shape.channels);
    let mut variance = Floats::stale(shape.channels);
    let held = {
        let x_ = held_x.read()?;
        check(zoo_kernels::batch_statistics(
            &x_,
            &shape,
            &mut mean,
            &mut variance,
        ))?;
        let affine = (&*held_scale.read()?, &*held_shift.read()?);
        Held::fill(x.dims(), |out| {
            zoo_kernels::batch_norm(&x_, &shape, (&mean, &variance), epsilon, affine, out)
        })?
    };
    let vector =
        |values: &[f32]| Held::new(Floats::copy(values), shape.channels).map(Computed::untracked);
    let moments = (vector(&mean)?, vector(&variance)?);
    let normal = Computed::fused(held, &[x, scale, shift], |_| {
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let (x, scale) = (held_x.read()?, held_scale.read()?);
            let mut of_x = Floats::stale(x.len());
            let mut of_scale = Floats::stale(shape.channels);
            let mut of_shift = Floats::stale(shape.channels);
            let grads = BatchNormGrads {
                x: &mut of_x,
                weight: &mut of_scale,
                bias: &mut of_shift,
            };
            check(zoo_kernels::batch_norm_grad(
                &x,
                &gradient,
                &shape,
                (&mean, &variance),
                epsilon,
                &scale,
                grads,
            ))?;
            sink.give(0, of_x)?;
            sink.give(1, of_scale)?;
            sink.give(2, of_shift)
        }
    });
    Ok([normal, moments.0, moments.1])
}
