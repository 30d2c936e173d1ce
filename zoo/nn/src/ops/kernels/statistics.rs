//! Batch normalisation by the batch's own statistics.

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Shape, Tensor, bail};
use zoo_kernels::{BatchNormGrads, NormShape};

use super::{Result, computed, elements, ours};
use crate::{ops::conv::channels, params::with_f32};

/// `x [N,C,...]` normalised per channel, scaled and shifted by `[C]`; also the mean and biased variance `[C]`, detached.
pub fn batch_norm_train(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    if ours(x) {
        let shape = NormShape {
            batch: x.dims()[0],
            channels: x.dims()[1],
            plane: x.dims()[2..].iter().product(),
        };
        let mut variance = vec![0.0; shape.channels];
        let mean = computed(x, x, &[shape.channels], |x, _, mean| {
            zoo_kernels::batch_statistics(x, &shape, mean, &mut variance)
        })?;
        let variance = Tensor::from_vec(variance, shape.channels, &Device::Cpu)?;
        let op = BatchNorm {
            shape,
            mean: mean.to_vec1()?,
            variance: variance.to_vec1()?,
            epsilon: epsilon as f32,
        };
        return Ok((
            x.contiguous()?
                .apply_op3(&scale.contiguous()?, &shift.contiguous()?, op)?,
            mean,
            variance,
        ));
    }
    let rank = x.rank();
    let others: Vec<usize> = (0..rank).filter(|&axis| axis != 1).collect();
    let mean = x.mean_keepdim(others.as_slice())?; // [1,C,1,1]
    let centred = x.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim(others.as_slice())?; // [1,C,1,1]
    let normal = centred.broadcast_div(&(&variance + epsilon)?.sqrt()?)?;
    let scaled = normal
        .broadcast_mul(&channels(scale, rank)?)?
        .broadcast_add(&channels(shift, rank)?)?;
    Ok((
        scaled,
        mean.flatten_all()?.detach(),
        variance.flatten_all()?.detach(),
    ))
}

struct BatchNorm {
    shape: NormShape,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f32,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        scale: &CpuStorage,
        ls: &Layout,
        shift: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, lx)?;
        let mut y = vec![0.0; x.len()];
        let affine = (elements(scale, ls)?, elements(shift, lb)?);
        zoo_kernels::batch_norm(
            x,
            &self.shape,
            (&self.mean, &self.variance),
            self.epsilon,
            affine,
            &mut y,
        )
        .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let channels = self.shape.channels;
        let (mut of_scale, mut of_shift) = (vec![0.0; channels], vec![0.0; channels]);
        let scale = with_f32(&scale.contiguous()?, <[f32]>::to_vec);
        let Some(scale) = scale else {
            bail!("the kernel takes contiguous f32 values")
        };
        let of_x = computed(x, grad, x.dims(), |x, grad, out| {
            let grads = BatchNormGrads {
                x: out,
                weight: &mut of_scale,
                bias: &mut of_shift,
            };
            zoo_kernels::batch_norm_grad(
                x,
                grad,
                &self.shape,
                (&self.mean, &self.variance),
                self.epsilon,
                &scale,
                grads,
            )
        })?;
        let vector = |values| Tensor::from_vec(values, channels, &Device::Cpu).map(Some);
        Ok((Some(of_x), vector(of_scale)?, vector(of_shift)?))
    }
}
