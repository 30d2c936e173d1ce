//! Batch normalisation with the statistics of the batch, and its gradients.

use crate::error::{KernelError, expect_len, product};
use crate::reduce::{BLOCK, sum, sum_block, sum_pairs};
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// The layout of `x [batch, channels, plane]`; plane is the product of the dimensions after the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormShape {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Values of a channel in one image.
    pub plane: usize,
}

impl NormShape {
    fn check(&self, op: &'static str, x: usize) -> Result<(), KernelError> {
        let len = product(op, "x", &[self.batch, self.channels, self.plane])?;
        expect_len(op, "x", x, len)
    }

    fn count(&self) -> f64 {
        (self.batch * self.plane) as f64
    }

    /// Each image's values of channel `c`.
    fn channel<'a>(&self, x: &'a [f32], c: usize) -> impl Iterator<Item = &'a [f32]> {
        let (plane, image) = (self.plane, (self.channels * self.plane).max(1));
        x.chunks_exact(image)
            .map(move |x| &x[c * plane..(c + 1) * plane])
    }
}

/// Writes each channel's mean and biased variance (divided by `batch * plane`), in two passes.
///
/// Over no values at all both are 0.
pub fn batch_statistics(
    x: &[f32],
    shape: &NormShape,
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result<(), KernelError> {
    let op = "batch_statistics";
    shape.check(op, x.len())?;
    expect_len(op, "mean", mean.len(), shape.channels)?;
    expect_len(op, "variance", variance.len(), shape.channels)?;
    let (simd, count) = (Simd::detect(), shape.count().max(1.0));
    mean.par_iter_mut()
        .zip(variance)
        .enumerate()
        .for_each(|(c, (mean, variance))| {
            let total: f64 = shape.channel(x, c).map(|x| sum(simd, x)).sum();
            *mean = (total / count) as f32;
            let (mut rest, mut squares) = (0.0, 0.0);
            for x in shape.channel(x, c) {
                let (d, s) = deviations(simd, x, *mean);
                rest += d;
                squares += s;
            }
            // `mean` is rounded; what is left of the deviations corrects for it.
            *variance = ((squares - rest * rest / count) / count).max(0.0) as f32;
            if squares.is_nan() {
                *variance = f32::NAN; // `max` would hide it
            }
        });
    Ok(())
}

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, all per channel.
pub fn batch_norm(
    x: &[f32],
    shape: &NormShape,
    statistics: (&[f32], &[f32]),
    eps: f32,
    affine: (&[f32], &[f32]),
    y: &mut [f32],
) -> Result<(), KernelError> {
    let op = "batch_norm";
    shape.check(op, x.len())?;
    let ((mean, variance), (weight, bias)) = (statistics, affine);
    let vectors = [
        ("mean", mean),
        ("variance", variance),
        ("weight", weight),
        ("bias", bias),
    ];
    for (name, v) in vectors {
        expect_len(op, name, v.len(), shape.channels)?;
    }
    expect_len(op, "y", y.len(), x.len())?;
    let image = (shape.channels * shape.plane).max(1);
    let simd = Simd::detect();
    // Scale and shift once; around the mean, so that a large mean costs no digits.
    let scale: Vec<f32> = weight
        .iter()
        .zip(variance)
        .map(|(w, v)| w / (v + eps).sqrt())
        .collect();
    y.par_chunks_mut(image)
        .zip(x.par_chunks(image))
        .for_each(|(y, x)| {
            let channels = y
                .chunks_exact_mut(shape.plane)
                .zip(x.chunks_exact(shape.plane));
            for (c, (y, x)) in channels.enumerate() {
                normalise(simd, x, mean[c], scale[c], bias[c], y);
            }
        });
    Ok(())
}

/// The gradients of [`batch_norm`] with the batch's own statistics.
#[derive(Debug)]
pub struct BatchNormGrads<'a> {
    /// For the input.
    pub x: &'a mut [f32],
    /// For the weight.
    pub weight: &'a mut [f32],
    /// For the bias.
    pub bias: &'a mut [f32],
}

/// Differentiates `batch_norm(x, batch_statistics(x), ...)`, the statistics included.
pub fn batch_norm_grad(
    x: &[f32],
    grad: &[f32],
    shape: &NormShape,
    statistics: (&[f32], &[f32]),
    eps: f32,
    weight: &[f32],
    grads: BatchNormGrads<'_>,
) -> Result<(), KernelError> {
    let op = "batch_norm_grad";
    shape.check(op, x.len())?;
    let (mean, variance) = statistics;
    expect_len(op, "grad", grad.len(), x.len())?;
    expect_len(op, "grads.x", grads.x.len(), x.len())?;
    let vectors = [
        ("mean", mean.len()),
        ("variance", variance.len()),
        ("weight", weight.len()),
        ("grads.weight", grads.weight.len()),
        ("grads.bias", grads.bias.len()),
    ];
    for (name, len) in vectors {
        expect_len(op, name, len, shape.channels)?;
    }
    let simd = Simd::detect();
    let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    let sums: Vec<(f64, f64)> = (0..shape.channels)
        .into_par_iter()
        .map(|c| {
            let (mut plain, mut product) = (0.0, 0.0);
            for (x, grad) in shape.channel(x, c).zip(shape.channel(grad, c)) {
                let (g, gx) = products(simd, x, grad, mean[c]);
                plain += g;
                product += gx;
            }
            (plain, product * f64::from(inverse[c]))
        })
        .collect();
    for (c, (plain, product)) in sums.iter().enumerate() {
        grads.bias[c] = *plain as f32;
        grads.weight[c] = *product as f32;
    }
    let count = shape.count().max(1.0);
    let image = (shape.channels * shape.plane).max(1);
    grads
        .x
        .par_chunks_mut(image)
        .zip(x.par_chunks(image).zip(grad.par_chunks(image)))
        .for_each(|(to, (x, grad))| {
            let inputs = x
                .chunks_exact(shape.plane)
                .zip(grad.chunks_exact(shape.plane));
            for (c, (to, (x, grad))) in to.chunks_exact_mut(shape.plane).zip(inputs).enumerate() {
                let (plain, product) = sums[c];
                let factors = Factors {
                    mean: mean[c],
                    plain: (plain / count) as f32,
                    product: (product / count * f64::from(inverse[c])) as f32,
                    scale: weight[c] * inverse[c],
                };
                input_grad(simd, x, grad, factors, to);
            }
        });
    Ok(())
}

/// One channel's constants in the input gradient.
#[derive(Clone, Copy)]
struct Factors {
    mean: f32,
    plain: f32,
    product: f32,
    scale: f32,
}

simd_fn! {
    /// The sums of the deviations from `mean` and of their squares.
    fn deviations(x: &[f32], mean: f32) -> (f64, f64) {
        (
            sum_pairs!(x, x, |x, _y| x - mean),
            sum_pairs!(x, x, |x, y| (x - mean) * (y - mean)),
        )
    }
}

simd_fn! {
    fn normalise(x: &[f32], mean: f32, scale: f32, bias: f32, y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - mean) * scale + bias;
        }
    }
}

simd_fn! {
    fn products(x: &[f32], grad: &[f32], mean: f32) -> (f64, f64) {
        (
            grad.chunks(BLOCK).map(sum_block).sum(),
            sum_pairs!(x, grad, |x, g| g * (x - mean)),
        )
    }
}

simd_fn! {
    fn input_grad(x: &[f32], grad: &[f32], f: Factors, to: &mut [f32]) {
        for ((to, &x), &g) in to.iter_mut().zip(x).zip(grad) {
            *to = f.scale * (g - f.plain - (x - f.mean) * f.product);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPS: f32 = 1e-5;

    fn values(len: usize, step: usize, offset: f32) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * step) % 113) as f32 / 40.0 + offset)
            .collect()
    }

    /// The batch norm of f64 values, and the sum of its products with `grad`.
    fn loss(x: &[f64], grad: &[f32], shape: &NormShape, weight: &[f64], bias: &[f64]) -> f64 {
        let at = |c: usize| {
            let plane = shape.plane;
            let index =
                move |n: usize| (0..plane).map(move |p| (n * shape.channels + c) * plane + p);
            (0..shape.batch).flat_map(index)
        };
        (0..shape.channels)
            .map(|c| {
                let count = at(c).count() as f64;
                let mean = at(c).map(|i| x[i]).sum::<f64>() / count;
                let variance = at(c).map(|i| (x[i] - mean).powi(2)).sum::<f64>() / count;
                let scale = weight[c] / (variance + f64::from(EPS)).sqrt();
                at(c)
                    .map(|i| ((x[i] - mean) * scale + bias[c]) * f64::from(grad[i]))
                    .sum::<f64>()
            })
            .sum()
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (batch, channels, plane) in [(3, 4, 10), (6, 3, 1), (2, 2, 49)] {
            let shape = NormShape {
                batch,
                channels,
                plane,
            };
            let len = batch * channels * plane;
            let (x, grad) = (values(len, 37, -1.0), values(len, 29, -1.3));
            let (weight, bias) = (values(channels, 5, 0.5), values(channels, 3, -0.5));
            let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
            batch_statistics(&x, &shape, &mut mean, &mut variance).unwrap();
            let mut y = vec![0.0; len];
            batch_norm(
                &x,
                &shape,
                (&mean, &variance),
                EPS,
                (&weight, &bias),
                &mut y,
            )
            .unwrap();
            let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let (x64, w64, b64) = (wide(&x), wide(&weight), wide(&bias));
            let dot: f64 = y
                .iter()
                .zip(&grad)
                .map(|(y, g)| f64::from(*y) * f64::from(*g))
                .sum();
            assert!((dot - loss(&x64, &grad, &shape, &w64, &b64)).abs() < 1e-4);
            let (mut dx, mut dw, mut db) =
                (vec![0.0; len], vec![0.0; channels], vec![0.0; channels]);
            let grads = BatchNormGrads {
                x: &mut dx,
                weight: &mut dw,
                bias: &mut db,
            };
            batch_norm_grad(&x, &grad, &shape, (&mean, &variance), EPS, &weight, grads).unwrap();
            let check = |found: f32, change: &dyn Fn(f64) -> f64| {
                let slope = (change(1e-5) - change(-1e-5)) / 2e-5;
                assert!(
                    (f64::from(found) - slope).abs() < 1e-4 * (1.0 + slope.abs()),
                    "{found} {slope}"
                );
            };
            let nudged = |v: &[f64], i: usize, h: f64| {
                let mut v = v.to_vec();
                v[i] += h;
                v
            };
            for (i, &dx) in dx.iter().enumerate() {
                check(dx, &|h| {
                    loss(&nudged(&x64, i, h), &grad, &shape, &w64, &b64)
                });
            }
            for c in 0..channels {
                check(dw[c], &|h| {
                    loss(&x64, &grad, &shape, &nudged(&w64, c, h), &b64)
                });
                check(db[c], &|h| {
                    loss(&x64, &grad, &shape, &w64, &nudged(&b64, c, h))
                });
            }
        }
    }

    #[test]
    fn variance_survives_a_large_mean() {
        let shape = NormShape {
            batch: 4,
            channels: 1,
            plane: 250,
        };
        let x: Vec<f32> = (0..1000)
            .map(|i| 10_000.0 + (i % 2) as f32 * 0.0625)
            .collect();
        let (mut mean, mut variance) = ([0.0], [0.0]);
        batch_statistics(&x, &shape, &mut mean, &mut variance).unwrap();
        assert_eq!(mean[0], 10_000.031);
        assert!(
            (variance[0] / 9.765_625e-4 - 1.0).abs() < 1e-5,
            "{}",
            variance[0]
        );
        batch_statistics(&[f32::NAN; 1000], &shape, &mut mean, &mut variance).unwrap();
        assert!(mean[0].is_nan() && variance[0].is_nan());
    }

    #[test]
    fn same_bits_for_every_number_of_threads() {
        let shape = NormShape {
            batch: 5,
            channels: 7,
            plane: 700,
        };
        let (x, grad) = (values(24_500, 37, -1.0), values(24_500, 29, -1.3));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (mut mean, mut variance) = ([0.0; 7], [0.0; 7]);
            let (mut dx, mut dw, mut db) = (vec![0.0; 24_500], [0.0; 7], [0.0; 7]);
            pool.install(|| {
                batch_statistics(&x, &shape, &mut mean, &mut variance).unwrap();
                let grads = BatchNormGrads {
                    x: &mut dx,
                    weight: &mut dw,
                    bias: &mut db,
                };
                batch_norm_grad(&x, &grad, &shape, (&mean, &variance), EPS, &[1.5; 7], grads)
                    .unwrap();
            });
            let all = mean
                .iter()
                .chain(&variance)
                .chain(&dx)
                .chain(&dw)
                .chain(&db);
            all.map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert!((2..5).all(|threads| run(threads) == run(1)));
    }

    #[test]
    fn bad_lengths_and_empty_batches() {
        let shape = NormShape {
            batch: 0,
            channels: 2,
            plane: 3,
        };
        let (mut mean, mut variance) = ([1.0; 2], [1.0; 2]);
        batch_statistics(&[], &shape, &mut mean, &mut variance).unwrap();
        assert_eq!((mean, variance), ([0.0; 2], [0.0; 2]));
        let e = batch_statistics(&[0.0], &shape, &mut mean, &mut variance).unwrap_err();
        assert_eq!(
            e.to_string(),
            "batch_statistics: `x` has 1 values, the shape needs 0"
        );
        let one = NormShape { batch: 1, ..shape };
        let e = batch_norm(
            &[0.0; 6],
            &one,
            (&mean, &variance),
            EPS,
            (&[1.0], &[0.0; 2]),
            &mut [0.0; 6],
        );
        assert!(e.unwrap_err().to_string().contains("`weight` has 1 values"));
        let none = NormShape {
            batch: 2,
            channels: 2,
            plane: 0,
        };
        batch_norm(
            &[],
            &none,
            (&mean, &variance),
            EPS,
            (&[1.0; 2], &[0.0; 2]),
            &mut [],
        )
        .unwrap();
    }
}
