//! Activations and the Bernoulli likelihood, each one pass forward and one back.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use zoo_kernels::Activation;

use super::{Result, computed, elements, ours};
use crate::params::with_f32;

/// f(x), by our kernel or by `otherwise`.
pub fn activation(
    x: &Tensor,
    f: Activation,
    otherwise: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    if ours(x) {
        x.contiguous()?.apply_op1(Apply(f))
    } else {
        otherwise(x)
    }
}

struct Apply(Activation);

impl CustomOp1 for Apply {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = elements(x, layout)?;
        let mut y = vec![0.0; x.len()];
        zoo_kernels::activation(self.0, x, &mut y).map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let fill = |x: &[f32], y: &[f32], out: &mut [f32]| {
            let nothing = Ok(());
            with_f32(&grad, |grad| {
                zoo_kernels::activation_grad(self.0, x, y, grad, out)
            })
            .unwrap_or(nothing)
        };
        Ok(Some(computed(x, y, x.dims(), fill)?))
    }
}

/// Binary cross-entropy of targets under `logits`, both `[N,D]`, summed over each row: `[N]`. `None` where our kernel does not take them.
pub fn bce_rows(logits: &Tensor, targets: &Tensor) -> Option<Result<Tensor>> {
    let fits =
        ours(logits) && ours(targets) && logits.dims() == targets.dims() && !targets.track_op();
    fits.then(|| {
        logits
            .contiguous()?
            .apply_op2(&targets.contiguous()?, BceRows)
    })
}

struct BceRows;

impl CustomOp2 for BceRows {
    fn name(&self) -> &'static str {
        "bce-rows"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        ll: &Layout,
        targets: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let rows = ll.dims()[0];
        let mut out = vec![0.0; rows];
        zoo_kernels::bce_with_logits(elements(logits, ll)?, elements(targets, lt)?, &mut out)
            .map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(out), Shape::from(rows)))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let fill = |x: &[f32], t: &[f32], out: &mut [f32]| {
            let nothing = Ok(());
            with_f32(&grad, |grad| {
                zoo_kernels::bce_with_logits_grad(x, t, grad, out)
            })
            .unwrap_or(nothing)
        };
        Ok((Some(computed(logits, targets, logits.dims(), fill)?), None))
    }
}
