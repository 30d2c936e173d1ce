//! Orthonormal columns, by Householder reflections.

use crate::error::{KernelError, expect_len};
use crate::simd::{Simd, simd_fn};

/// Replaces a matrix `[side, side]` in row-major order by the Q of its QR decomposition: orthonormal columns, of which the first k span what the first k columns
/// did. Of a singular matrix too. Computed in f64.
pub fn orthonormal(side: usize, matrix: &mut [f32]) -> Result<(), KernelError> {
    expect_len("orthonormal", "matrix", matrix.len(), side * side)?;
    let mut a: Vec<f64> = matrix.iter().map(|&v| f64::from(v)).collect();
    let mut q = vec![0.0; side * side];
    reflections(Simd::detect(), side, &mut a, &mut q);
    for (to, &from) in matrix.iter_mut().zip(&q) {
        *to = from as f32;
    }
    Ok(())
}

/// Far above where squares of f64 lose digits and quotients by them overflow, 2e-308.
const SMALLEST: f64 = 1e-280;

simd_fn! {
    /// Golub & Van Loan, Matrix Computations, algorithms 5.2.1 and 5.1.5 (backward accumulation).
    fn reflections(side: usize, a: &mut [f64], q: &mut [f64]) {
        let mut normals = Vec::with_capacity(side);
        let mut sums = vec![0.0; side];
        for k in 0..side {
            let mut normal: Vec<f64> = (k..side).map(|row| a[row * side + k]).collect();
            let norm = normal.iter().map(|v| v * v).sum::<f64>().sqrt();
            // Away from the reflected axis, so that nothing cancels.
            normal[0] += if normal[0] < 0.0 { -norm } else { norm };
            let square = normal.iter().map(|v| v * v).sum::<f64>();
            // So small a column is nothing but what rounding left, and has no direction to reflect along.
            let factor = if square > SMALLEST { 2.0 / square } else { 0.0 };
            reflect(side, k, &normal, factor, &mut sums, a);
            normals.push((normal, factor));
        }
        for k in 0..side {
            q[k * side + k] = 1.0;
        }
        for (k, (normal, factor)) in normals.iter().enumerate().rev() {
            reflect(side, k, normal, *factor, &mut sums, q);
        }
    }
}

/// Rows and columns of `a` from `k` on, less their part along `normal` twice.
#[inline(always)]
fn reflect(side: usize, k: usize, normal: &[f64], factor: f64, sums: &mut [f64], a: &mut [f64]) {
    let sums = &mut sums[k..];
    sums.fill(0.0);
    for (&n, row) in normal.iter().zip(a[k * side..].chunks_exact(side)) {
        for (sum, &v) in sums.iter_mut().zip(&row[k..]) {
            *sum += n * v;
        }
    }
    for (&n, row) in normal.iter().zip(a[k * side..].chunks_exact_mut(side)) {
        for (v, &sum) in row[k..].iter_mut().zip(&*sums) {
            *v -= factor * n * sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q'Q = I, and Q' A is upper triangular: the first columns span the same.
    fn check(side: usize, a: &[f32]) {
        let mut q = a.to_vec();
        orthonormal(side, &mut q).unwrap();
        let product = |x: &[f32], y: &[f32], i: usize, j: usize| -> f64 {
            (0..side)
                .map(|k| f64::from(x[k * side + i]) * f64::from(y[k * side + j]))
                .sum()
        };
        let size = a.iter().fold(1.0f64, |s, &v| s.max(f64::from(v.abs())));
        for i in 0..side {
            for j in 0..side {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!(
                    (product(&q, &q, i, j) - expected).abs() < 1e-5,
                    "{side}: {i}, {j}"
                );
                if i > j {
                    let below = product(&q, a, i, j);
                    assert!(
                        below.abs() < 1e-5 * size * side as f64,
                        "{side}: {i}, {j}: {below}"
                    );
                }
            }
        }
    }

    #[test]
    fn columns_are_orthonormal_and_span_the_same() {
        for side in [1, 2, 3, 16, 37] {
            let a: Vec<f32> = (0..side * side)
                .map(|i| ((i * i * 7 + i * 13) % 31) as f32 - 15.0)
                .collect();
            check(side, &a);
        }
    }

    #[test]
    fn columns_too_small_to_square_are_left() {
        // So small is what rounding leaves of a column that those before it nearly span, of matrices of low rank.
        for tiny in [1e-150, 1e-160, 1e-170, 5e-324] {
            let mut a = vec![tiny, tiny, tiny, tiny, -tiny, tiny, tiny, tiny, -tiny];
            let mut q = vec![0.0; 9];
            reflections(Simd::detect(), 3, &mut a, &mut q);
            for (i, j) in (0..9).map(|at| (at / 3, at % 3)) {
                let product: f64 = (0..3).map(|k| q[k * 3 + i] * q[k * 3 + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((product - expected).abs() < 1e-9, "{tiny}: {q:?}");
            }
        }
    }

    #[test]
    fn singular_matrices_too() {
        check(5, &[0.0; 25]);
        let mut a: Vec<f32> = (0..36).map(|i| (i % 7) as f32 - 3.0).collect();
        for row in 0..6 {
            a[row * 6 + 2] = 0.0;
            a[row * 6 + 4] = a[row * 6 + 1];
        }
        check(6, &a);
        let wrong = orthonormal(3, &mut [0.0; 8]).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "orthonormal: `matrix` has 8 values, the shape needs 9"
        );
    }
}
