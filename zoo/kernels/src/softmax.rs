//! Softmax over rows, its logarithm, and the cross-entropy of classes.

use crate::error::{KernelError, expect_len};
use crate::math::{exp, ln, select};
use crate::reduce::{BLOCK, PIECE, sum_block};
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// `y = e^x / Σ e^x` over each row of `columns` values, or its logarithm.
pub fn softmax(x: &[f32], columns: usize, log: bool, y: &mut [f32]) -> Result<(), KernelError> {
    let op = "softmax";
    rows_of(op, x.len(), columns)?;
    expect_len(op, "y", y.len(), x.len())?;
    let (simd, some) = (Simd::detect(), piece(columns));
    y.par_chunks_mut(some)
        .zip(x.par_chunks(some))
        .for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
                row(simd, x, log, y);
            }
        });
    Ok(())
}

/// The gradient for the input of [`softmax`] in place of that of its output `y`.
pub fn softmax_backward(
    y: &[f32],
    columns: usize,
    log: bool,
    grad: &mut [f32],
) -> Result<(), KernelError> {
    let op = "softmax_backward";
    rows_of(op, y.len(), columns)?;
    expect_len(op, "grad", grad.len(), y.len())?;
    let (simd, some) = (Simd::detect(), piece(columns));
    grad.par_chunks_mut(some)
        .zip(y.par_chunks(some))
        .for_each(|(grad, y)| {
            for (grad, y) in grad.chunks_exact_mut(columns).zip(y.chunks_exact(columns)) {
                row_back(simd, y, log, grad);
            }
        });
    Ok(())
}

/// `out[row] = -log softmax(x[row])[class]`.
pub fn cross_entropy(
    x: &[f32],
    columns: usize,
    classes: &[i64],
    out: &mut [f32],
) -> Result<(), KernelError> {
    let op = "cross_entropy";
    check_classes(op, x.len(), columns, classes)?;
    expect_len(op, "out", out.len(), classes.len())?;
    let (simd, some) = (Simd::detect(), piece(columns) / columns);
    out.par_chunks_mut(some)
        .zip(x.par_chunks(some * columns).zip(classes.par_chunks(some)))
        .for_each(|(out, (x, classes))| {
            for ((out, x), &class) in out.iter_mut().zip(x.chunks_exact(columns)).zip(classes) {
                let (largest, total) = exponentials(simd, x);
                *out = ((f64::from(largest) - f64::from(x[class as usize])) + total.ln()) as f32;
            }
        });
    Ok(())
}

/// `grad_x = grad[row] * (softmax(x[row]) - one_hot(class))`, the gradient of [`cross_entropy`] for the logits.
pub fn cross_entropy_grad(
    x: &[f32],
    columns: usize,
    classes: &[i64],
    grad: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let op = "cross_entropy_grad";
    check_classes(op, x.len(), columns, classes)?;
    expect_len(op, "grad", grad.len(), classes.len())?;
    expect_len(op, "grad_x", grad_x.len(), x.len())?;
    let (simd, some) = (Simd::detect(), piece(columns) / columns);
    let labels = classes.par_chunks(some).zip(grad.par_chunks(some));
    grad_x
        .par_chunks_mut(some * columns)
        .zip(x.par_chunks(some * columns))
        .zip(labels)
        .for_each(|((grad_x, x), (classes, grad))| {
            let rows = grad_x
                .chunks_exact_mut(columns)
                .zip(x.chunks_exact(columns));
            for ((to, x), (&class, &grad)) in rows.zip(classes.iter().zip(grad)) {
                let (largest, total) = exponentials(simd, x);
                scaled(simd, x, largest, (f64::from(grad) / total) as f32, to);
                to[class as usize] -= grad;
            }
        });
    Ok(())
}

/// Values of one parallel piece: whole rows.
fn piece(columns: usize) -> usize {
    columns * (PIECE / columns).max(1)
}

fn rows_of(op: &'static str, values: usize, columns: usize) -> Result<usize, KernelError> {
    match values.checked_rem(columns) {
        Some(0) => Ok(values / columns),
        _ => Err(KernelError::Shape {
            op,
            what: format!("{values} values do not make rows of {columns}"),
        }),
    }
}

fn check_classes(
    op: &'static str,
    values: usize,
    columns: usize,
    classes: &[i64],
) -> Result<(), KernelError> {
    let rows = rows_of(op, values, columns)?;
    expect_len(op, "classes", classes.len(), rows)?;
    match classes
        .iter()
        .find(|&&class| !(0..columns as i64).contains(&class))
    {
        Some(class) => Err(KernelError::Shape {
            op,
            what: format!("class {class} is outside 0 to {}", columns - 1),
        }),
        None => Ok(()),
    }
}

/// The largest of `x`; NaN if there is one.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut rows = x.chunks_exact(16);
    for row in &mut rows {
        for (lane, &v) in lanes.iter_mut().zip(row) {
            *lane = select(*lane >= v, *lane, v);
        }
    }
    for (lane, &v) in lanes.iter_mut().zip(rows.remainder()) {
        *lane = select(*lane >= v, *lane, v);
    }
    lanes
        .iter()
        .fold(f32::NEG_INFINITY, |m, &v| if m >= v { m } else { v })
}

/// Σ e^(x - largest)
#[inline(always)]
fn total(x: &[f32], largest: f32) -> f64 {
    let (mut total, mut terms) = (0.0, [0f32; BLOCK]);
    for x in x.chunks(terms.len()) {
        let terms = &mut terms[..x.len()];
        for (to, &x) in terms.iter_mut().zip(x) {
            *to = exp(x - largest);
        }
        total += sum_block(terms);
    }
    total
}

simd_fn! {
    /// The largest of `x`, and Σ e^(x - largest).
    fn exponentials(x: &[f32]) -> (f32, f64) {
        let largest = largest(x);
        (largest, total(x, largest))
    }
}

simd_fn! {
    fn scaled(x: &[f32], largest: f32, scale: f32, to: &mut [f32]) {
        for (to, &x) in to.iter_mut().zip(x) {
            *to = scale * exp(x - largest);
        }
    }
}

simd_fn! {
    fn row(x: &[f32], log: bool, y: &mut [f32]) {
        let largest = largest(x);
        if log {
            let offset = ln(total(x, largest) as f32);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - largest) - offset;
            }
            return;
        }
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exp(x - largest);
        }
        let mut total = 0.0;
        for block in y.chunks(BLOCK) {
            total += sum_block(block);
        }
        let scale = (1.0 / total) as f32;
        for y in y.iter_mut() {
            *y *= scale;
        }
    }
}

simd_fn! {
    fn row_back(y: &[f32], log: bool, grad: &mut [f32]) {
        if log {
            let mut total = 0.0;
            for block in grad.chunks(BLOCK) {
                total += sum_block(block);
            }
            let total = total as f32;
            for (grad, &y) in grad.iter_mut().zip(y) {
                *grad -= total * exp(y);
            }
            return;
        }
        let total = crate::reduce::sum_pairs!(y, grad, |y, g| y * g) as f32;
        for (grad, &y) in grad.iter_mut().zip(y) {
            *grad = y * (*grad - total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919) % 1009) as f32 / 60.0 - 9.0)
            .collect()
    }

    fn exact(x: &[f64], log: bool) -> Vec<f64> {
        let largest = x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
        let total: f64 = x.iter().map(|v| (v - largest).exp()).sum();
        let y = x.iter().map(|v| v - largest - total.ln());
        y.map(|y| if log { y } else { y.exp() }).collect()
    }

    #[test]
    fn softmax_and_its_way_back() {
        for (rows, columns) in [(3, 1), (2, 10), (5, 17), (1, 3000)] {
            let x = values(rows * columns);
            let weight: Vec<f32> = (0..x.len()).map(|i| (i % 7) as f32 * 0.3 - 0.8).collect();
            for log in [false, true] {
                let mut y = vec![f32::NAN; x.len()];
                softmax(&x, columns, log, &mut y).unwrap();
                let mut grad = weight.clone();
                softmax_backward(&y, columns, log, &mut grad).unwrap();
                for r in 0..rows {
                    let at = r * columns..(r + 1) * columns;
                    let wide: Vec<f64> = x[at.clone()].iter().map(|&v| f64::from(v)).collect();
                    let y64 = exact(&wide, log);
                    for (y, e) in y[at.clone()].iter().zip(&y64) {
                        assert!(
                            (f64::from(*y) - e).abs() <= 2e-6 * (1.0 + e.abs()),
                            "{y} is not {e}"
                        );
                    }
                    let loss = |x: &[f64]| -> f64 {
                        let y = exact(x, log);
                        y.iter()
                            .zip(&weight[at.clone()])
                            .map(|(y, &w)| y * f64::from(w))
                            .sum()
                    };
                    for c in (0..columns).step_by(columns / 8 + 1) {
                        let (mut up, mut down) = (wide.clone(), wide.clone());
                        up[c] += 1e-5;
                        down[c] -= 1e-5;
                        let slope = (loss(&up) - loss(&down)) / 2e-5;
                        let found = f64::from(grad[at.start + c]);
                        assert!(
                            (found - slope).abs() < 1e-4 * (1.0 + slope.abs()),
                            "{found} is not {slope}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn cross_entropy_is_the_log_softmax_of_the_class() {
        let (rows, columns) = (40, 257);
        let x = values(rows * columns);
        let classes: Vec<i64> = (0..rows as i64)
            .map(|r| (r * 31) % columns as i64)
            .collect();
        let (mut log, mut soft, mut out) =
            (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; rows]);
        softmax(&x, columns, true, &mut log).unwrap();
        softmax(&x, columns, false, &mut soft).unwrap();
        cross_entropy(&x, columns, &classes, &mut out).unwrap();
        let grad: Vec<f32> = (0..rows).map(|r| 1.0 - r as f32 * 0.1).collect();
        let mut grad_x = vec![f32::NAN; x.len()];
        cross_entropy_grad(&x, columns, &classes, &grad, &mut grad_x).unwrap();
        for r in 0..rows {
            let class = classes[r] as usize;
            assert!((out[r] + log[r * columns + class]).abs() < 1e-5);
            for c in 0..columns {
                let hot = if c == class { 1.0 } else { 0.0 };
                let expected = grad[r] * (soft[r * columns + c] - hot);
                assert!((grad_x[r * columns + c] - expected).abs() < 1e-6);
            }
        }
        let e = cross_entropy(&x, columns, &vec![257; rows], &mut out).unwrap_err();
        assert_eq!(
            e.to_string(),
            "cross_entropy: class 257 is outside 0 to 256"
        );
        assert!(cross_entropy(&x, columns, &vec![-1; rows], &mut out).is_err());
        assert!(cross_entropy(&x, columns, &classes[1..], &mut out).is_err());
        assert!(softmax(&x, 0, false, &mut grad_x).is_err());
    }

    #[test]
    fn extremes() {
        let mut y = [0.0; 3];
        softmax(&[1e30, 0.0, -1e30], 3, false, &mut y).unwrap();
        assert_eq!(y, [1.0, 0.0, 0.0]);
        softmax(&[f32::NAN, 0.0, 1.0], 3, true, &mut y).unwrap();
        assert!(y.iter().all(|v| v.is_nan()));
    }
}
