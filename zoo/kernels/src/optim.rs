//! Adam with decoupled weight decay, one pass over a parameter and its moments.

use crate::error::{KernelError, expect_len};
use crate::reduce::PIECE;
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// The constants of one step. They are f64: `1 - beta2` of an f32 0.999 is wrong by 1e-5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay (AdamW); 0 for plain Adam.
    pub weight_decay: f64,
    /// `1 - beta1^t` at step `t`, from 1.
    pub correction1: f64,
    /// `1 - beta2^t`.
    pub correction2: f64,
    /// Multiplies the gradient (clipping).
    pub scale: f64,
}

/// What the loop multiplies by, each rounded once.
#[derive(Clone, Copy)]
struct Factors {
    keep: f32,
    beta1: f32,
    new1: f32,
    beta2: f32,
    new2: f32,
    size: f32,
    root: f32,
    eps: f32,
    scale: f32,
}

impl From<&AdamStep> for Factors {
    fn from(step: &AdamStep) -> Self {
        Self {
            keep: (1.0 - step.lr * step.weight_decay) as f32,
            beta1: step.beta1 as f32,
            new1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            new2: (1.0 - step.beta2) as f32,
            size: (step.lr / step.correction1) as f32,
            root: (1.0 / step.correction2.sqrt()) as f32,
            eps: step.eps as f32,
            scale: step.scale as f32,
        }
    }
}

/// Updates the parameter `p` and its moments `m` and `v` with the gradient `grad`, as PyTorch's AdamW does.
pub fn adam(
    step: &AdamStep,
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    p: &mut [f32],
) -> Result<(), KernelError> {
    for (what, len) in [("m", m.len()), ("v", v.len()), ("p", p.len())] {
        expect_len("adam", what, len, grad.len())?;
    }
    let (simd, factors) = (Simd::detect(), Factors::from(step));
    if p.len() <= PIECE {
        update(simd, factors, grad, m, v, p); // a bias: waking the pool would take longer
        return Ok(());
    }
    let state = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
    p.par_chunks_mut(PIECE)
        .zip(grad.par_chunks(PIECE))
        .zip(state)
        .for_each(|((p, grad), (m, v))| update(simd, factors, grad, m, v, p));
    Ok(())
}

simd_fn! {
    fn update(by: Factors, grad: &[f32], m: &mut [f32], v: &mut [f32], p: &mut [f32]) {
        for (((p, &g), m), v) in p.iter_mut().zip(grad).zip(m).zip(v) {
            let g = g * by.scale;
            *m = by.beta1 * *m + by.new1 * g;
            *v = by.beta2 * *v + by.new2 * g * g;
            *p = *p * by.keep - by.size * *m / (v.sqrt() * by.root + by.eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_formula_over_several_steps() {
        let len = 1003;
        let mut p: Vec<f32> = (0..len).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
        let (mut m, mut v) = (vec![0.0f32; len], vec![0.0f32; len]);
        let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (mut p64, mut m64, mut v64) = (wide(&p), wide(&m), wide(&v));
        for t in 1..=5 {
            let grad: Vec<f32> = (0..len).map(|i| ((i * t) % 13) as f32 - 6.0).collect();
            let step = AdamStep {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                correction1: 1.0 - 0.9f64.powi(t as i32),
                correction2: 1.0 - 0.999f64.powi(t as i32),
                scale: 0.5,
            };
            adam(&step, &grad, &mut m, &mut v, &mut p).unwrap();
            for i in 0..len {
                let g = f64::from(grad[i]) * 0.5;
                m64[i] = 0.9 * m64[i] + 0.1 * g;
                v64[i] = 0.999 * v64[i] + 0.001 * g * g;
                let (m, v) = (
                    m64[i] / (1.0 - 0.9f64.powi(t as i32)),
                    v64[i] / (1.0 - 0.999f64.powi(t as i32)),
                );
                p64[i] -= 1e-3 * 0.01 * p64[i];
                p64[i] -= 1e-3 * m / (v.sqrt() + 1e-8);
                assert!(
                    (f64::from(p[i]) - p64[i]).abs() < 1e-6,
                    "{i}: {} {}",
                    p[i],
                    p64[i]
                );
            }
        }
        // A thousandth, which `1 - 0.999` in f32 misses by 1e-5.
        let first = AdamStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            correction1: 1.0 - 0.9,
            correction2: 1.0 - 0.999,
            scale: 1.0,
        };
        let (mut m, mut v, mut p) = ([0.0f32], [0.0f32], [0.0f32]);
        adam(&first, &[1.0], &mut m, &mut v, &mut p).unwrap();
        for (found, expected) in [(m[0], 0.1), (v[0], 1e-3), (p[0], -1e-3)] {
            assert!(
                (found / expected - 1.0).abs() < 3e-7,
                "{found} is not {expected}"
            );
        }
        let short = adam(
            &AdamStep {
                lr: 0.1,
                beta1: 0.9,
                beta2: 0.9,
                eps: 1e-8,
                weight_decay: 0.0,
                correction1: 1.0,
                correction2: 1.0,
                scale: 1.0,
            },
            &[0.0],
            &mut [0.0],
            &mut [],
            &mut [0.0],
        );
        assert_eq!(
            short.unwrap_err().to_string(),
            "adam: `v` has 0 values, the shape needs 1"
        );
    }
}
