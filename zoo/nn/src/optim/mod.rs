//! Adam, AdamW, SOAP, and how the learning rate moves.

mod soap;

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

use self::soap::{Rotated, Side};
use crate::{
    Error, Gradients, Result,
    array::{array_of, tensor_of, with_f32},
};

/// Which optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma & Ba, 2015.
    #[default]
    Adam,
    /// Loshchilov & Hutter, 2019.
    AdamW,
    /// Adam in the eigenbasis of each weight matrix's gradients (Vyas et al., 2024, arXiv 2409.11321): fewer steps to the same loss, each a little dearer. The paper's
    /// `beta1` and `beta2` are 0.95. Sides over 512 keep their own basis; vectors are updated by AdamW.
    Soap,
}

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

/// Settings of Adam and its kin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Which of them.
    pub optimizer: Optimizer,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty (Adam) or decay apart from the gradient (AdamW, SOAP) of the weights.
    pub weight_decay: f64,
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
    /// Of matrices, for SOAP.
    Rotated(Rotated),
}

impl Adam {
    pub fn new(config: AdamConfig, vars: BTreeMap<String, Var>) -> Result<Self> {
        let ids = vars.values().map(|var| var.id()).collect();
        let mut slots = BTreeMap::new();
        for (name, var) in vars {
            let rotated = match config.optimizer {
                Optimizer::Soap => Rotated::new(var.dims(), var.device())?,
                Optimizer::Adam | Optimizer::AdamW => None,
            };
            let moments = match rotated {
                Some(rotated) => Moments::Rotated(rotated),
                None if var.device().is_cpu() => {
                    Moments::Host(vec![0.0; var.elem_count()], vec![0.0; var.elem_count()])
                }
                None => Moments::Device(var.zeros_like()?, var.zeros_like()?),
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
            optimizer,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        } = self.config;
        let decoupled = optimizer != Optimizer::Adam;
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
                Moments::Rotated(rotated) => {
                    let turned = soap::Step {
                        beta1,
                        beta2,
                        epsilon,
                    };
                    let g = (gradient * scale)?.detach();
                    if let Some(direction) = rotated.direction(&g, &turned)? {
                        let kept = (slot.var.as_detached_tensor()
                            * (1.0 - learning_rate * step.weight_decay))?;
                        slot.var.set(&(kept - (direction * learning_rate)?)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The moments, by `m.<path>` and `v.<path>`, and SOAP's covariances and bases, by `rows.<path>`, `rows_basis.<path>`, `columns.<path>` and
    /// `columns_basis.<path>`, with the number of their `updates.<path>`.
    pub fn save(&self, prefix: &str, into: &mut Tensors) -> Result<()> {
        for (name, slot) in &self.slots {
            let mut put = |which: &str, array: Array| {
                into.insert(format!("{prefix}{which}.{name}"), array);
            };
            match &slot.moments {
                Moments::Host(m, v) => {
                    let shape = slot.var.dims();
                    put("m", Array::f32(shape, m.clone())?);
                    put("v", Array::f32(shape, v.clone())?);
                }
                Moments::Device(m, v) => {
                    put("m", array_of(m)?);
                    put("v", array_of(v)?);
                }
                Moments::Rotated(Rotated {
                    m,
                    v,
                    sides,
                    updates,
                }) => {
                    put("m", array_of(m)?);
                    put("v", array_of(v)?);
                    put("updates", Array::i64([], [*updates as i64])?);
                    for (which, side) in SIDES.iter().zip(sides) {
                        if let Some(side) = side {
                            put(which, array_of(&side.covariance)?);
                            put(&format!("{which}_basis"), array_of(&side.basis)?);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes back what [`Adam::save`] gave.
    pub fn load(&mut self, prefix: &str, from: &Tensors, updates: u64) -> Result<()> {
        for (name, slot) in &mut self.slots {
            let take = |which: &str, shape: &[usize]| {
                let key = format!("{prefix}{which}.{name}");
                let array = from.get(&key).ok_or_else(|| Error::Param {
                    name: key.clone(),
                    message: "is missing from the optimiser's state".into(),
                })?;
                if array.shape() != shape {
                    return Err(Error::Param {
                        name: key,
                        message: format!("has shape {:?}, the parameter {shape:?}", array.shape(),),
                    });
                }
                Ok(array)
            };
            let (shape, device) = (slot.var.dims(), slot.var.device());
            match &mut slot.moments {
                Moments::Host(m, v) => {
                    *m = take("m", shape)?.as_f32()?.to_vec();
                    *v = take("v", shape)?.as_f32()?.to_vec();
                }
                Moments::Device(m, v) => {
                    *m = tensor_of(take("m", shape)?, device)?;
                    *v = tensor_of(take("v", shape)?, device)?;
                }
                Moments::Rotated(Rotated {
                    m,
                    v,
                    sides,
                    updates,
                }) => {
                    *updates = take("updates", &[])?.to_f64()[0] as u64;
                    let load = |which: &str, into: &mut Tensor| -> Result<()> {
                        *into = tensor_of(take(which, into.dims())?, device)?;
                        Ok(())
                    };
                    load("m", m)?;
                    load("v", v)?;
                    for (which, side) in SIDES.iter().zip(sides) {
                        if let Some(Side { covariance, basis }) = side {
                            load(which, covariance)?;
                            load(&format!("{which}_basis"), basis)?;
                        }
                    }
                }
            }
        }
        self.updates = updates;
        Ok(())
    }
}

/// Names of SOAP's covariances in an optimiser's state.
const SIDES: [&str; 2] = ["rows", "columns"];

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
    use candle_core::Device;
    use zoo_sdk::Stream;

    use super::*;
    use crate::Value;

    #[test]
    fn warm_up_then_schedule() {
        assert_eq!(Schedule::Constant.factor(0, 4, None), 0.25);
        assert_eq!(Schedule::Constant.factor(4, 4, None), 1.0);
        assert_eq!(Schedule::Cosine.factor(4, 4, Some(104)), 1.0);
        assert!((Schedule::Cosine.factor(54, 4, Some(104)) - 0.5).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(104, 4, Some(104)).abs() < 1e-12);
    }

    fn normal(name: &str, shape: &[usize]) -> Tensor {
        let values = Stream::new(3).named(name).normal(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Least squares in a matrix and a bias: what the gradient's entries share is as uneven as A and B, and lies along no axis.
    struct Problem {
        w: Var,
        bias: Var,
        adam: Adam,
    }

    impl Problem {
        fn new(optimizer: Optimizer) -> Self {
            let w = Var::from_tensor(&normal("w", &[6, 2, 2, 2])).unwrap();
            let bias = Var::from_tensor(&normal("bias", &[5])).unwrap();
            let config = AdamConfig {
                optimizer,
                beta1: 0.95,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.0,
            };
            let vars = [("w", w.clone()), ("bias", bias.clone())];
            let vars = vars.map(|(name, var)| (name.to_string(), var)).into();
            let adam = Adam::new(config, vars).unwrap();
            Self { w, bias, adam }
        }

        fn loss(&self) -> Value {
            let constant = |name: &str, shape: &[usize]| Value::constant(normal(name, shape));
            let w = Value::from(self.w.as_tensor().clone()).reshape(&[6, 8]);
            let bias = Value::from(self.bias.as_tensor().clone());
            let y = constant("a", &[7, 6]).matmul(&w); // (7,8)
            let y = y.matmul(&constant("b", &[8, 5])); // (7,5)
            let wrong = y + bias - constant("y", &[7, 5]);
            wrong.sqr().mean(&[0, 1], false)
        }

        fn updates(&mut self, updates: usize, learning_rate: f64) {
            for _ in 0..updates {
                let gradients = self.loss().backward().unwrap();
                self.adam.update(&gradients, learning_rate, 1.0).unwrap();
            }
        }

        /// What it ends at after updates whose size falls to 0.
        fn trained(optimizer: Optimizer, learning_rate: f64) -> f64 {
            let mut problem = Self::new(optimizer);
            for step in 0..100 {
                let factor = Schedule::Cosine.factor(step, 0, Some(100));
                problem.updates(1, learning_rate * factor);
            }
            problem.loss().scalar().unwrap()
        }
    }

    #[test]
    fn soap_gets_further_than_adam_where_nothing_lies_along_the_axes() {
        let best = |optimizer| {
            [0.01, 0.03, 0.1, 0.3]
                .map(|lr| Problem::trained(optimizer, lr))
                .into_iter()
                .fold(f64::INFINITY, f64::min)
        };
        let (adam, soap) = (best(Optimizer::Adam), best(Optimizer::Soap));
        assert!(soap < 0.75 * adam, "SOAP {soap}, Adam {adam}");
    }

    #[test]
    fn every_optimizer_goes_on_from_what_it_saved() {
        for optimizer in [Optimizer::Adam, Optimizer::AdamW, Optimizer::Soap] {
            let mut whole = Problem::new(optimizer);
            whole.updates(25, 0.03);

            let mut first = Problem::new(optimizer);
            first.updates(13, 0.03);
            let mut saved = Tensors::new();
            first.adam.save("p.", &mut saved).unwrap();
            let mut second = Problem::new(optimizer);
            second.w.set(&first.w.as_detached_tensor()).unwrap();
            second.bias.set(&first.bias.as_detached_tensor()).unwrap();
            second
                .adam
                .load("p.", &saved, first.adam.updates())
                .unwrap();
            second.updates(12, 0.03);

            let values = |var: &Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&second.w), values(&whole.w), "{optimizer:?}");
            assert_eq!(values(&second.bias), values(&whole.bias), "{optimizer:?}");

            let (name, _) = saved.pop_last().unwrap();
            let error = second.adam.load("p.", &saved, 13).unwrap_err();
            assert!(error.to_string().contains(&name), "{error}");
        }
    }

    #[test]
    fn gradients_are_scaled_and_weights_decay_apart_from_them() {
        for optimizer in [Optimizer::AdamW, Optimizer::Soap] {
            let [mut whole, mut halves] = [1.0, 0.5].map(|scale| (Problem::new(optimizer), scale));
            for (problem, scale) in [&mut whole, &mut halves] {
                for _ in 0..12 {
                    let loss = problem.loss() * (1.0 / *scale);
                    let gradients = loss.backward().unwrap();
                    problem.adam.update(&gradients, 0.03, *scale).unwrap();
                }
            }
            let values = |p: &Problem| p.w.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&whole.0), values(&halves.0), "{optimizer:?}");

            let mut problem = Problem::new(optimizer);
            problem.adam.config.weight_decay = 0.5;
            let before = values(&problem);
            // No gradient: nothing but the decay, which SOAP leaves out at its first update.
            for _ in 0..2 {
                let nothing = problem.loss() * 0.0;
                let gradients = nothing.backward().unwrap();
                problem.adam.update(&gradients, 0.1, 1.0).unwrap();
            }
            let kept: f32 = match optimizer {
                Optimizer::Soap => 0.95,
                _ => 0.95 * 0.95,
            };
            for (before, after) in before.iter().zip(values(&problem)) {
                assert!((before * kept - after).abs() < 1e-6, "{optimizer:?}");
            }
        }
    }

    #[test]
    fn soap_turns_matrices_only_and_spares_long_sides() {
        let turned = |shape: &[usize]| {
            let rotated = Rotated::new(shape, &Device::Cpu).unwrap();
            rotated.map(|r| r.sides.map(|side| side.is_some()))
        };
        assert_eq!(turned(&[8]), None);
        assert_eq!(turned(&[1, 8, 3, 3]), None);
        assert_eq!(turned(&[8, 1]), None);
        assert_eq!(turned(&[8, 4, 3, 3]), Some([true, true]));
        assert_eq!(turned(&[512, 513]), Some([true, false]));
        assert_eq!(turned(&[600, 600]), None);
    }
}
