//! Binary cross-entropy from logits, per row of a batch.

use crate::error::{KernelError, expect_len};
use crate::math;
use crate::reduce::sum_pairs;
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// `out[row] = Σ_i -t log s(x) - (1 - t) log(1 - s(x))` over each of `out.len()` equal rows of logits `x`
/// and targets `t`, where s is the sigmoid. Stable for any logit.
pub fn bce_with_logits(x: &[f32], t: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    let op = "bce_with_logits";
    let len = row_len(op, x.len(), out.len())?;
    expect_len(op, "targets", t.len(), x.len())?;
    if len == 0 {
        out.fill(0.0);
        return Ok(());
    }
    let simd = Simd::detect();
    out.par_iter_mut()
        .zip(x.par_chunks(len).zip(t.par_chunks(len)))
        .for_each(|(out, (x, t))| *out = row(simd, x, t) as f32);
    Ok(())
}

/// `grad_x = grad[row] * (s(x) - t)`, the gradient of [`bce_with_logits`] for the logits.
pub fn bce_with_logits_grad(
    x: &[f32],
    t: &[f32],
    grad: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let op = "bce_with_logits_grad";
    let len = row_len(op, x.len(), grad.len())?;
    expect_len(op, "targets", t.len(), x.len())?;
    expect_len(op, "grad_x", grad_x.len(), x.len())?;
    if len == 0 {
        return Ok(());
    }
    let simd = Simd::detect();
    grad_x
        .par_chunks_mut(len)
        .zip(grad)
        .zip(x.par_chunks(len).zip(t.par_chunks(len)))
        .for_each(|((grad_x, &grad), (x, t))| row_grad(simd, x, t, grad, grad_x));
    Ok(())
}

fn row_len(op: &'static str, values: usize, rows: usize) -> Result<usize, KernelError> {
    match values.checked_rem(rows) {
        Some(0) => Ok(values / rows),
        None if values == 0 => Ok(0),
        _ => Err(KernelError::Shape {
            op,
            what: format!("{values} logits do not make {rows} equal rows"),
        }),
    }
}

simd_fn! {
    fn row(x: &[f32], t: &[f32]) -> f64 {
        // log(1 + e^-|x|) + max(x, 0) - t x: no term is infinite for a finite logit
        sum_pairs!(x, t, |x, t| math::softplus(-x.abs()) + (math::select(x < 0.0, 0.0, x) - x * t))
    }
}

simd_fn! {
    fn row_grad(x: &[f32], t: &[f32], grad: f32, to: &mut [f32]) {
        for ((to, &x), &t) in to.iter_mut().zip(x).zip(t) {
            *to = grad * (math::sigmoid(x) - t);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(x: f64, t: f64) -> f64 {
        x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
    }

    #[test]
    fn values_and_gradients() {
        let (rows, len) = (3, 777);
        let x: Vec<f32> = (0..rows * len)
            .map(|i| (i % 1000) as f32 * 0.04 - 20.0)
            .collect();
        let t: Vec<f32> = (0..rows * len).map(|i| (i % 5) as f32 * 0.25).collect();
        let mut out = vec![0.0; rows];
        bce_with_logits(&x, &t, &mut out).unwrap();
        let grad = [1.0, -0.5, 2.0];
        let mut dx = vec![0.0; x.len()];
        bce_with_logits_grad(&x, &t, &grad, &mut dx).unwrap();
        for r in 0..rows {
            let at = |i: usize| (f64::from(x[r * len + i]), f64::from(t[r * len + i]));
            let sum: f64 = (0..len).map(|i| exact(at(i).0, at(i).1)).sum();
            assert!((f64::from(out[r]) / sum - 1.0).abs() < 1e-6);
            for i in 0..len {
                let ((x, t), h) = (at(i), 1e-5);
                let slope = f64::from(grad[r]) * (exact(x + h, t) - exact(x - h, t)) / (2.0 * h);
                assert!((f64::from(dx[r * len + i]) - slope).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn extremes() {
        let mut out = [0.0; 4];
        bce_with_logits(
            &[20.0, -1e30, 1e30, f32::NAN],
            &[1.0, 0.0, 0.0, 0.0],
            &mut out,
        )
        .unwrap();
        // A confident, right answer keeps its digits.
        assert!((out[0] / 2.061_153_6e-9 - 1.0).abs() < 1e-5, "{}", out[0]);
        assert_eq!(out[1..3], [0.0, 1e30]);
        assert!(out[3].is_nan());
        assert!(bce_with_logits(&[0.0; 5], &[0.0; 5], &mut [0.0; 2]).is_err());
        assert!(bce_with_logits(&[0.0; 4], &[0.0; 5], &mut [0.0; 2]).is_err());
        assert!(bce_with_logits(&[], &[], &mut []).is_ok());
    }
}
