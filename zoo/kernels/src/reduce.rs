//! Sums in a fixed order, the same for every number of threads and every instruction set.

use crate::error::{KernelError, expect_len, product};
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// Values summed in f32 before they are added up in f64.
pub(crate) const BLOCK: usize = 512;
/// Values of one parallel piece.
pub(crate) const PIECE: usize = 1 << 15;

/// The sum of at most `BLOCK` values: 16 sums side by side in f32, their sum in f64.
#[inline(always)]
pub(crate) fn sum_block(block: &[f32]) -> f64 {
    let mut lanes = [0f32; 16];
    let mut rows = block.chunks_exact(16);
    for row in &mut rows {
        for (lane, v) in lanes.iter_mut().zip(row) {
            *lane += v;
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rows.remainder()) {
        *lane += v;
    }
    lanes.iter().map(|&l| f64::from(l)).sum()
}

/// Sums an expression over pairs of values. First it fills a block, then it adds the block up: compilers
/// vectorise either loop, but not a long term within a sum.
macro_rules! sum_pairs {
    ($a:expr, $b:expr, |$x:ident, $y:ident| $term:expr) => {{
        let (mut total, mut terms) = (0.0, [0f32; $crate::reduce::BLOCK]);
        let blocks = $a.chunks(terms.len()).zip($b.chunks(terms.len()));
        for (a, b) in blocks {
            let terms = &mut terms[..a.len()];
            for ((to, &$x), &$y) in terms.iter_mut().zip(a).zip(b) {
                *to = $term;
            }
            total += $crate::reduce::sum_block(terms);
        }
        total
    }};
}
pub(crate) use sum_pairs;

simd_fn! {
    /// The sum of a slice.
    pub(crate) fn sum(x: &[f32]) -> f64 {
        // A loop: what an iterator's closure does is not compiled for the instruction set.
        let mut total = 0.0;
        for block in x.chunks(BLOCK) {
            total += sum_block(block);
        }
        total
    }
}

simd_fn! {
    fn sum_squares(x: &[f32]) -> f64 {
        let mut total = 0.0;
        for block in x.chunks(BLOCK) {
            let mut lanes = [0f64; 8];
            let mut eights = block.chunks_exact(8);
            for eight in &mut eights {
                for (lane, &v) in lanes.iter_mut().zip(eight) {
                    *lane += f64::from(v) * f64::from(v);
                }
            }
            for (lane, &v) in lanes.iter_mut().zip(eights.remainder()) {
                *lane += f64::from(v) * f64::from(v);
            }
            total += lanes.iter().sum::<f64>();
        }
        total
    }
}

/// The sum of the squares of `x`, in f64 throughout (no overflow for large gradients).
pub fn squared_norm(x: &[f32]) -> f64 {
    let simd = Simd::detect();
    if x.len() <= PIECE {
        return sum_squares(simd, x);
    }
    let pieces: Vec<f64> = x
        .par_chunks(PIECE)
        .map(|piece| sum_squares(simd, piece))
        .collect();
    pieces.iter().sum()
}

/// `out[c] = Σ grad[n, c, p]` for `grad [batch, channels, plane]`: the gradient of a bias per channel.
/// With `plane` 1 it sums the columns of a matrix.
pub fn bias_grad(
    grad: &[f32],
    batch: usize,
    channels: usize,
    plane: usize,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let op = "bias_grad";
    let expected = product(op, "grad", &[batch, channels, plane])?;
    expect_len(op, "grad", grad.len(), expected)?;
    expect_len(op, "out", out.len(), channels)?;
    if grad.is_empty() {
        out.fill(0.0);
        return Ok(());
    }
    let simd = Simd::detect();
    if plane == 1 {
        let width = 256;
        out.par_chunks_mut(width).enumerate().for_each(|(i, out)| {
            sum_columns(simd, grad, channels, i * width, out);
        });
        return Ok(());
    }
    out.par_iter_mut().enumerate().for_each(|(c, out)| {
        let mut total = 0.0;
        for image in grad.chunks_exact(channels * plane) {
            total += sum(simd, &image[c * plane..(c + 1) * plane]);
        }
        *out = total as f32;
    });
    Ok(())
}

simd_fn! {
    /// Sums the columns `first..` of a matrix into `out` (at most 256 of them).
    fn sum_columns(x: &[f32], columns: usize, first: usize, out: &mut [f32]) {
        let mut sums = [0f64; 256];
        let sums = &mut sums[..out.len()];
        for row in x.chunks_exact(columns) {
            for (sum, &v) in sums.iter_mut().zip(&row[first..]) {
                *sum += f64::from(v);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = *sum as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0)
            .collect()
    }

    #[test]
    fn bias_grad_sums_channels() {
        for (batch, channels, plane) in [(3, 5, 49), (2, 300, 1), (4, 1, 600), (0, 2, 3), (2, 3, 0)]
        {
            let grad = values(batch * channels * plane);
            let mut out = vec![f32::NAN; channels];
            bias_grad(&grad, batch, channels, plane, &mut out).unwrap();
            for (c, out) in out.iter().enumerate() {
                let all = (0..batch)
                    .flat_map(|n| (0..plane).map(move |p| (n * channels + c) * plane + p));
                let sum: f64 = all.map(|i| f64::from(grad[i])).sum();
                assert!((f64::from(*out) - sum).abs() < 1e-4, "{out} is not {sum}");
            }
        }
        assert!(bias_grad(&[0.0; 3], 1, 2, 2, &mut [0.0; 2]).is_err());
        assert!(bias_grad(&[0.0; 4], 1, 2, 2, &mut [0.0; 3]).is_err());
    }

    #[test]
    fn norms_are_exact_enough_large_enough_and_alike_everywhere() {
        let x = values(100_003);
        let exact: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        assert!((squared_norm(&x) / exact - 1.0).abs() < 1e-12);
        assert_eq!(
            squared_norm(&[1e30; 2]),
            2.0 * f64::from(1e30f32) * f64::from(1e30f32)
        );
        assert_eq!(squared_norm(&[]), 0.0);
        assert!(squared_norm(&[f32::NAN, 1.0]).is_nan());
        for simd in Simd::available() {
            assert_eq!(
                sum_squares(simd, &x[..999]),
                sum_squares(Simd::Portable, &x[..999])
            );
            assert_eq!(sum(simd, &x[..999]), sum(Simd::Portable, &x[..999]));
        }
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| squared_norm(&x)).to_bits()
        };
        assert!((2..5).all(|threads| run(threads) == run(1)));
    }
}
