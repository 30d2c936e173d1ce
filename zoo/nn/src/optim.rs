//! Adam, AdamW, and how the learning rate moves.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, TensorId, Var};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_graph::Array;
use zoo_kernels::{AdamStep, KernelError};
use zoo_sdk::Tensors;

use crate::{
    Error, Gradients, Result,
    params::{array_of, tensor_of, with_f32},
};

/// How the learning rate moves after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// Half a cosine down to 0 at the last step (Loshchilov & Hutter, 2017).
    Cosine,
}

impl Schedule {
    /// The factor for the step after `step` steps: a linear warm-up, then this schedule over what remains of `steps`.
    pub fn factor(self, step: u64, warmup: u64, steps: Option<u64>) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        match (self, steps) {
            (Self::Cosine, Some(steps)) if steps > warmup => {
                let done = (step - warmup) as f64 / (steps - warmup) as f64;
                0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
            _ => 1.0,
        }
    }
}

/// Settings of Adam (Kingma & Ba, 2015) and AdamW (Loshchilov & Hutter, 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty (Adam) or decay (AdamW) of the weights.
    pub weight_decay: f64,
    /// Whether the decay is AdamW's, apart from the gradient.
    pub decoupled: bool,
}

/// One phase's optimiser: moments for each of its parameters.
#[derive(Debug)]
pub(crate) struct Adam {
    config: AdamConfig,
    updates: u64,
    slots: BTreeMap<String, Slot>,
    ids: HashSet<TensorId>,
}

#[derive(Debug)]
struct Slot {
    var: Var,
    moments: Moments,
}

#[derive(Debug)]
enum Moments {
    /// On the CPU, updated by one fused pass.
    Host(Vec<f32>, Vec<f32>),
    /// Elsewhere, by candle's operations.
    Device(Tensor, Tensor),
}

impl Adam {
    pub fn new(config: AdamConfig, vars: BTreeMap<String, Var>) -> Result<Self> {
        let ids = vars.values().map(|var| var.id()).collect();
        let mut slots = BTreeMap::new();
        for (name, var) in vars {
            let moments = if var.device().is_cpu() {
                Moments::Host(vec![0.0; var.elem_count()], vec![0.0; var.elem_count()])
            } else {
                Moments::Device(var.zeros_like()?, var.zeros_like()?)
            };
            slots.insert(name, Slot { var, moments });
        }
        Ok(Self {
            config,
            updates: 0,
            slots,
            ids,
        })
    }

    /// Whether it updates this parameter.
    pub fn trains(&self, parameter: TensorId) -> bool {
        self.ids.contains(&parameter)
    }

    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// L2 norm of all gradients. A norm that is not finite names the first parameter at fault.
    pub fn gradient_norm(&self, gradients: &Gradients) -> Result<f64> {
        let mut total = 0.0;
        for (name, slot) in &self.slots {
            let Some(gradient) = gradients.of(slot.var.as_tensor()) else {
                continue;
            };
            let gradient = gradient.peek().contiguous()?;
            let square = match with_f32(&gradient, zoo_kernels::squared_norm) {
                Some(square) => square,
                None => f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?),
            };
            if !square.is_finite() {
                return Err(Error::Diverged(format!(
                    "the gradient of parameter {name:?} is not finite"
                )));
            }
            total += square;
        }
        Ok(total.sqrt())
    }

    /// One update by `scale` times the gradients.
    pub fn update(&mut self, gradients: &Gradients, learning_rate: f64, scale: f64) -> Result<()> {
        self.updates += 1;
        let AdamConfig {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decoupled,
        } = self.config;
        let step = AdamStep {
            lr: learning_rate,
            beta1,
            beta2,
            eps: epsilon,
            weight_decay: if decoupled { weight_decay } else { 0.0 },
            correction1: 1.0 - beta1.powf(self.updates as f64),
            correction2: 1.0 - beta2.powf(self.updates as f64),
            scale,
        };
        let penalty = if decoupled { 0.0 } else { weight_decay };
        for slot in self.slots.values_mut() {
            let Some(gradient) = gradients.of(slot.var.as_tensor()) else {
                continue;
            };
            let mut gradient = gradient.peek().contiguous()?;
            if penalty > 0.0 {
                // The penalty's gradient is not clipped.
                gradient = (gradient + (slot.var.as_tensor() * (penalty / scale))?)?.detach();
            }
            match &mut slot.moments {
                Moments::Host(m, v) => {
                    // candle's in-place operations are shared references.
                    let moments = Mutex::new((m, v));
                    let update = Zip(|parameter: &mut [f32], gradient: &[f32]| {
                        let (m, v) = &mut *moments.lock().unwrap_or_else(PoisonError::into_inner);
                        zoo_kernels::adam(&step, gradient, m, v, parameter)
                    });
                    slot.var.inplace_op2(&gradient, &update)?;
                }
                Moments::Device(m, v) => {
                    let g = (gradient * scale)?;
                    *m = ((&*m * beta1)? + (&g * (1.0 - beta1))?)?.detach();
                    *v = ((&*v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?.detach();
                    let root = ((&*v / step.correction2)?.sqrt()? + epsilon)?;
                    let change = ((&*m / step.correction1)?.div(&root)? * learning_rate)?;
                    let kept = (slot.var.as_detached_tensor()
                        * (1.0 - learning_rate * step.weight_decay))?;
                    slot.var.set(&(kept - change)?)?;
                }
            }
        }
        Ok(())
    }

    /// The moments, by `m.<path>` and `v.<path>`.
    pub fn save(&self, prefix: &str, into: &mut Tensors) -> Result<()> {
        for (name, slot) in &self.slots {
            let (m, v) = match &slot.moments {
                Moments::Host(m, v) => {
                    let shape = slot.var.dims();
                    (Array::f32(shape, m.clone())?, Array::f32(shape, v.clone())?)
                }
                Moments::Device(m, v) => (array_of(m)?, array_of(v)?),
            };
            into.insert(format!("{prefix}m.{name}"), m);
            into.insert(format!("{prefix}v.{name}"), v);
        }
        Ok(())
    }

    /// Takes back what [`Adam::save`] gave.
    pub fn load(&mut self, prefix: &str, from: &Tensors, updates: u64) -> Result<()> {
        for (name, slot) in &mut self.slots {
            let take = |which: &str| {
                let key = format!("{prefix}{which}.{name}");
                let array = from.get(&key).ok_or_else(|| Error::Param {
                    name: key.clone(),
                    message: "is missing from the optimiser's state".into(),
                })?;
                if array.shape() != slot.var.dims() {
                    return Err(Error::Param {
                        name: key,
                        message: format!(
                            "has shape {:?}, the parameter {:?}",
                            array.shape(),
                            slot.var.dims()
                        ),
                    });
                }
                Ok(array)
            };
            let (m, v) = (take("m")?, take("v")?);
            slot.moments = match slot.moments {
                Moments::Host(..) => Moments::Host(m.as_f32()?.to_vec(), v.as_f32()?.to_vec()),
                Moments::Device(..) => Moments::Device(
                    tensor_of(m, slot.var.device())?,
                    tensor_of(v, slot.var.device())?,
                ),
            };
        }
        self.updates = updates;
        Ok(())
    }
}

/// Changes a contiguous f32 tensor on the CPU in place, by another of the same length.
pub(crate) struct Zip<F>(pub F);

impl<F: Fn(&mut [f32], &[f32]) -> std::result::Result<(), KernelError>> InplaceOp2 for Zip<F> {
    fn name(&self) -> &'static str {
        "zip"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        at: &Layout,
        source: &CpuStorage,
        from: &Layout,
    ) -> candle_core::Result<()> {
        let (CpuStorage::F32(target), CpuStorage::F32(source)) = (target, source) else {
            candle_core::bail!("parameters and gradients are f32");
        };
        let (Some((t0, t1)), Some((s0, s1))) = (at.contiguous_offsets(), from.contiguous_offsets())
        else {
            candle_core::bail!("parameters and gradients are contiguous");
        };
        (self.0)(&mut target[t0..t1], &source[s0..s1]).map_err(candle_core::Error::wrap)
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn warm_up_then_schedule() {
        assert_eq!(Schedule::Constant.factor(0, 4, None), 0.25);
        assert_eq!(Schedule::Constant.factor(4, 4, None), 1.0);
        assert_eq!(Schedule::Cosine.factor(4, 4, Some(104)), 1.0);
        assert!((Schedule::Cosine.factor(54, 4, Some(104)) - 0.5).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(104, 4, Some(104)).abs() < 1e-12);
    }
}
