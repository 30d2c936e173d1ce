//! Batch normalisation, by given statistics and by the batch's own.

use candle_core::{Device, Tensor};
use zoo_kernels::{BatchNormGrads, NormShape};

use super::{Result, check, ours};
use crate::{
    Value,
    memory::{Floats, Held},
    ops::conv::channels,
    tape::{Sink, by_candle},
};

fn shape_of(x: &Value) -> NormShape {
    NormShape {
        batch: x.dims()[0],
        channels: x.dims()[1],
        plane: x.dims()[2..].iter().product(),
    }
}

/// `scale (x - mean) / sqrt(variance + epsilon) + shift`, with `[C]` each.
pub fn batch_norm(
    x: &Value,
    [scale, shift, mean, variance]: [&Value; 4],
    epsilon: f64,
) -> Result<Value> {
    let all = [x, scale, shift, mean, variance];
    if !ours(&all) || x.rank() < 2 || all.iter().any(|v| v.node().is_some()) {
        return by_candle(&all, |t| {
            let factor = (&t[1] / (&t[4] + epsilon)?.sqrt()?)?;
            let offset = (&t[2] - (&t[3] * &factor)?)?;
            t[0].broadcast_mul(&channels(&factor, t[0].rank())?)?
                .broadcast_add(&channels(&offset, t[0].rank())?)
        });
    }
    let held: Vec<Held> = all
        .iter()
        .map(|v| v.held().contiguous())
        .collect::<Result<_>>()?;
    let read: Vec<_> = held.iter().map(Held::read).collect::<Result<_>>()?;
    let [x_, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map(|i| &*read[i]);
    let normal = Held::fill(x.dims(), |out| {
        let (statistics, affine) = ((mean, variance), (scale, shift));
        zoo_kernels::batch_norm(x_, &shape_of(x), statistics, epsilon as f32, affine, out)
    })?;
    Ok(Value::untracked(normal))
}

/// `x [N,C,...]` normalised per channel, scaled and shifted by `[C]`; also the mean and biased variance `[C]`, detached.
pub fn batch_norm_train(
    x: &Value,
    scale: &Value,
    shift: &Value,
    epsilon: f64,
) -> Result<(Value, Tensor, Tensor)> {
    if !ours(&[x, scale, shift]) {
        let others: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
        let moments = |x: &Tensor| {
            let mean = x.mean_keepdim(others.as_slice())?; // [1,C,1,1]
            let centred = x.broadcast_sub(&mean)?;
            let variance = centred.sqr()?.mean_keepdim(others.as_slice())?; // [1,C,1,1]
            Ok::<_, candle_core::Error>((mean, centred, variance))
        };
        let normal = by_candle(&[x, scale, shift], |t| {
            let (_, centred, variance) = moments(&t[0])?;
            centred
                .broadcast_div(&(&variance + epsilon)?.sqrt()?)?
                .broadcast_mul(&channels(&t[1], t[0].rank())?)?
                .broadcast_add(&channels(&t[2], t[0].rank())?)
        })?;
        let (mean, _, variance) = moments(&x.tensor().detach())?;
        return Ok((normal, mean.flatten_all()?, variance.flatten_all()?));
    }
    let (shape, epsilon) = (shape_of(x), epsilon as f32);
    let [held_x, held_scale, held_shift] =
        [x, scale, shift].map(|v| v.held().detached().contiguous());
    let (held_x, held_scale, held_shift) = (held_x?, held_scale?, held_shift?);
    let (mut mean, mut variance) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
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
    let vector = |values: &[f32]| Tensor::from_slice(values, shape.channels, &Device::Cpu);
    let moments = (vector(&mean)?, vector(&variance)?);
    let normal = Value::computed(held, &[x, scale, shift], |_| {
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
    Ok((normal, moments.0, moments.1))
}
