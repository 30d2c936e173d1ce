//! Discretised mixtures of logistics: the likelihood of 8-bit pixels under PixelCNN++ (Salimans et al., 2017, eq. 1 to 3).
//!
//! With x in [-1, 1] and h = 1/255 half the width of a level, component k gives a level the mass s(a) - s(b), where s is the sigmoid,
//! a = (x - mean + h) / scale and b = (x - mean - h) / scale; the lowest level takes s(a), the highest 1 - s(b). Since
//! s(a) - s(b) = s(a) s(-b) (1 - e^(b - a)), its logarithm is -softplus(-a) - softplus(b) + log(1 - e^(-2h / scale)): no difference of two
//! sigmoids is taken, so that narrow scales and far tails need no approximation.

use crate::error::{KernelError, expect_len, product};
use crate::math::{bound, exp, ln, select, sigmoid, softplus, tanh};
use crate::reduce::sum_block;
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// Pixels that are looked at together.
const BLOCK: usize = 64;
/// Half the width of a level, with 256 levels from -1 to 1.
const HALF: f32 = 1.0 / 255.0;

/// Images, and the mixtures of their pixels.
///
/// Parameters are `[batch, rows, pixels]`: `components` rows of logits of the mixture, then for each colour `components` rows of means,
/// of logarithms of scales, and, for three colours, of coefficients (before tanh). Those of red move green by red, those of green
/// move blue by red, those of blue move blue by green: the order of the paper's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MixtureShape {
    /// Images.
    pub batch: usize,
    /// 1, or 3 whose means depend on the colours before.
    pub colours: usize,
    /// Logistics in each mixture.
    pub components: usize,
    /// Pixels of an image.
    pub pixels: usize,
}

impl MixtureShape {
    /// Logarithms of scales are kept within these bounds; outside there is no gradient. The lower is the paper's.
    pub const LOG_SCALES: [f32; 2] = [-7.0, 20.0];

    /// Parameters of a pixel.
    pub fn rows(&self) -> usize {
        self.components * (1 + self.colours * self.kinds())
    }

    /// Means, logarithms of scales, coefficients.
    fn kinds(&self) -> usize {
        if self.colours == 3 { 3 } else { 2 }
    }

    /// The row of parameters of this colour and component: means, logarithms of scales, coefficients.
    fn row(&self, colour: usize, kind: usize, component: usize) -> usize {
        (1 + colour * self.kinds() + kind) * self.components + component
    }

    fn check(&self, op: &'static str, x: usize, parameters: usize) -> Result<(), KernelError> {
        let problem = |what: String| Err(KernelError::Shape { op, what });
        if ![1, 3].contains(&self.colours) {
            return problem(format!("{} colours: it takes 1 or 3", self.colours));
        }
        if self.components == 0 {
            return problem("a mixture needs a component".into());
        }
        let rows = product(op, "parameters", &[self.components, 10])?; // of three colours
        product(op, "parameters", &[self.batch, rows, self.pixels])?;
        let rows = self.rows();
        expect_len(op, "x", x, self.batch * self.colours * self.pixels)?;
        expect_len(
            op,
            "parameters",
            parameters,
            self.batch * rows * self.pixels,
        )
    }
}

/// `out[n] = -log p(x[n])` in nats, for images `x [batch, colours, pixels]` in [0, 1], rounded to 256 levels.
pub fn logistic_mixture(
    x: &[f32],
    parameters: &[f32],
    shape: &MixtureShape,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let op = "logistic_mixture";
    shape.check(op, x.len(), parameters.len())?;
    expect_len(op, "out", out.len(), shape.batch)?;
    if x.is_empty() {
        out.fill(0.0);
        return Ok(());
    }
    let simd = Simd::detect();
    let images = x
        .par_chunks(shape.colours * shape.pixels)
        .zip(parameters.par_chunks(shape.rows() * shape.pixels));
    out.par_iter_mut()
        .zip(images)
        .for_each_init(Vec::new, |joint, (out, (x, parameters))| {
            *out = image(simd, *shape, x, parameters, joint) as f32;
        });
    Ok(())
}

/// `grad_parameters` of [`logistic_mixture`], from the gradient of its result, one for each image.
pub fn logistic_mixture_grad(
    x: &[f32],
    parameters: &[f32],
    shape: &MixtureShape,
    grad: &[f32],
    grad_parameters: &mut [f32],
) -> Result<(), KernelError> {
    let op = "logistic_mixture_grad";
    shape.check(op, x.len(), parameters.len())?;
    expect_len(op, "grad", grad.len(), shape.batch)?;
    expect_len(
        op,
        "grad_parameters",
        grad_parameters.len(),
        parameters.len(),
    )?;
    if x.is_empty() {
        return Ok(());
    }
    let (simd, values) = (Simd::detect(), shape.rows() * shape.pixels);
    let images = x
        .par_chunks(shape.colours * shape.pixels)
        .zip(parameters.par_chunks(values));
    grad_parameters
        .par_chunks_mut(values)
        .zip(grad)
        .zip(images)
        .for_each_init(Vec::new, |joint, ((to, &grad), (x, parameters))| {
            image_grad(simd, *shape, x, parameters, grad, joint, to);
        });
    Ok(())
}

/// Some pixels of an image: their levels from -1 to 1, and 0 where a level is the lowest or the highest, else 1.
struct Pixels {
    value: [[f32; BLOCK]; 3],
    not_lowest: [[f32; BLOCK]; 3],
    not_highest: [[f32; BLOCK]; 3],
}

impl Pixels {
    #[inline(always)]
    fn read(shape: &MixtureShape, x: &[f32], at: usize, len: usize) -> Self {
        let mut pixels = Self {
            value: [[0.0; BLOCK]; 3],
            not_lowest: [[0.0; BLOCK]; 3],
            not_highest: [[0.0; BLOCK]; 3],
        };
        for colour in 0..shape.colours {
            let x = &x[colour * shape.pixels + at..][..len];
            let (value, low) = (&mut pixels.value[colour], &mut pixels.not_lowest[colour]);
            for (((&x, value), low), high) in x
                .iter()
                .zip(value)
                .zip(low)
                .zip(&mut pixels.not_highest[colour])
            {
                let level = bound((x * 255.0 + 0.5).floor(), 0.0, 255.0);
                *value = level * (2.0 / 255.0) - 1.0;
                *low = select(level > 0.5, 1.0, 0.0);
                *high = select(level < 254.5, 1.0, 0.0);
            }
        }
        pixels
    }

    /// The means of a component, moved by the colours before.
    #[inline(always)]
    fn means(
        &self,
        shape: &MixtureShape,
        colour: usize,
        component: usize,
        row: impl Fn(usize) -> usize,
        parameters: &[f32],
        len: usize,
    ) -> [f32; BLOCK] {
        let mut means = [0.0; BLOCK];
        means[..len].copy_from_slice(&parameters[row(shape.row(colour, 0, component))..][..len]);
        for &(by, with) in before(colour) {
            let coefficient = &parameters[row(shape.row(with, 2, component))..][..len];
            let pairs = coefficient.iter().zip(&self.value[by]);
            for (mean, (&c, &value)) in means.iter_mut().zip(pairs) {
                *mean += tanh(c) * value;
            }
        }
        means
    }
}

/// The colours that move the mean of this one, and the colour among whose parameters their coefficient stands.
#[inline(always)]
fn before(colour: usize) -> &'static [(usize, usize)] {
    match colour {
        1 => &[(0, 0)],
        2 => &[(0, 1), (1, 2)],
        _ => &[],
    }
}

/// Adds the log of each component's mass to `joint [components, len]`, which holds the logits of the mixture.
#[inline(always)]
fn add_masses(
    shape: &MixtureShape,
    pixels: &Pixels,
    parameters: &[f32],
    at: usize,
    len: usize,
    joint: &mut [f32],
) {
    let row = |row: usize| row * shape.pixels + at;
    for colour in 0..shape.colours {
        for (component, joint) in joint.chunks_exact_mut(len).enumerate() {
            let means = pixels.means(shape, colour, component, row, parameters, len);
            let log_scales = &parameters[row(shape.row(colour, 1, component))..][..len];
            let edges = pixels.not_lowest[colour]
                .iter()
                .zip(&pixels.not_highest[colour]);
            let places = means.iter().zip(&pixels.value[colour]).zip(edges);
            let [least, most] = MixtureShape::LOG_SCALES;
            for ((joint, &log_scale), ((mean, value), (low, high))) in
                joint.iter_mut().zip(log_scales).zip(places)
            {
                let inverse = exp(-bound(log_scale, least, most));
                let centred = value - mean;
                let (a, b) = (inverse * (centred + HALF), inverse * (centred - HALF));
                // 1 - e^-2u = 2 tanh(u) / (1 + tanh(u)), which keeps its digits for wide scales.
                let t = tanh(inverse * HALF);
                let within = ln(2.0 * t / (1.0 + t));
                *joint += low * high * within - (high * softplus(-a) + low * softplus(b));
            }
        }
    }
}

/// log Σ e^x over the rows of `x [components, len]`.
#[inline(always)]
fn log_sums(x: &[f32], len: usize) -> [f32; BLOCK] {
    let (mut largest, mut sums) = ([f32::NEG_INFINITY; BLOCK], [0.0; BLOCK]);
    for x in x.chunks_exact(len) {
        for (largest, &x) in largest.iter_mut().zip(x) {
            *largest = select(*largest >= x, *largest, x);
        }
    }
    for x in x.chunks_exact(len) {
        for ((sum, &largest), &x) in sums.iter_mut().zip(&largest).zip(x) {
            *sum += exp(x - largest);
        }
    }
    for (sum, &largest) in sums[..len].iter_mut().zip(&largest) {
        *sum = ln(*sum) + largest;
    }
    sums
}

/// Copies the logits of the mixture to `joint`; gives the logarithms of their sums.
#[inline(always)]
fn mixture(
    shape: &MixtureShape,
    parameters: &[f32],
    at: usize,
    len: usize,
    joint: &mut [f32],
) -> [f32; BLOCK] {
    for (k, joint) in joint.chunks_exact_mut(len).enumerate() {
        joint.copy_from_slice(&parameters[k * shape.pixels + at..][..len]);
    }
    log_sums(joint, len)
}

simd_fn! {
    /// -log p of one image.
    fn image(shape: MixtureShape, x: &[f32], parameters: &[f32], joint: &mut Vec<f32>) -> f64 {
        let mut total = 0.0;
        let mut at = 0;
        while at < shape.pixels {
            let len = BLOCK.min(shape.pixels - at);
            joint.resize(shape.components * len, 0.0);
            let pixels = Pixels::read(&shape, x, at, len);
            let mut prior = mixture(&shape, parameters, at, len, joint);
            add_masses(&shape, &pixels, parameters, at, len, joint);
            let all = log_sums(joint, len);
            for (prior, &all) in prior.iter_mut().zip(&all) {
                *prior -= all;
            }
            total += sum_block(&prior[..len]);
            at += len;
        }
        total
    }
}

simd_fn! {
    fn image_grad(
        shape: MixtureShape, x: &[f32], parameters: &[f32], grad: f32, joint: &mut Vec<f32>, to: &mut [f32],
    ) {
        let mut at = 0;
        while at < shape.pixels {
            let len = BLOCK.min(shape.pixels - at);
            joint.resize(shape.components * len, 0.0);
            let pixels = Pixels::read(&shape, x, at, len);
            let prior = mixture(&shape, parameters, at, len, joint);
            add_masses(&shape, &pixels, parameters, at, len, joint);
            let all = log_sums(joint, len);
            // The gradient of a component's log mass is its share of the pixel, which takes the place of `joint`.
            for (k, joint) in joint.chunks_exact_mut(len).enumerate() {
                let place = k * shape.pixels + at..k * shape.pixels + at + len;
                let logits = &parameters[place.clone()];
                let sums = prior.iter().zip(&all);
                for (((to, joint), &logit), (&prior, &all)) in
                    to[place].iter_mut().zip(joint).zip(logits).zip(sums)
                {
                    let share = grad * exp(*joint - all);
                    *to = grad * exp(logit - prior) - share;
                    *joint = -share;
                }
            }
            component_grads(&shape, &pixels, parameters, at, len, joint, to);
            at += len;
        }
    }
}

/// Gradients of means, scales and coefficients from those of the components' log masses, `shares [components, len]`.
#[inline(always)]
fn component_grads(
    shape: &MixtureShape,
    pixels: &Pixels,
    parameters: &[f32],
    at: usize,
    len: usize,
    shares: &[f32],
    to: &mut [f32],
) {
    let row = |row: usize| row * shape.pixels + at;
    for colour in 0..shape.colours {
        for (component, shares) in shares.chunks_exact(len).enumerate() {
            let means = pixels.means(shape, colour, component, row, parameters, len);
            let log_scales = &parameters[row(shape.row(colour, 1, component))..][..len];
            let edges = pixels.not_lowest[colour]
                .iter()
                .zip(&pixels.not_highest[colour]);
            let places = means.iter().zip(&pixels.value[colour]).zip(edges);
            let inputs = shares.iter().zip(log_scales).zip(places);
            let (mut of_mean, mut of_scale) = ([0.0; BLOCK], [0.0; BLOCK]);
            let [least, most] = MixtureShape::LOG_SCALES;
            for ((of_mean, of_scale), ((&share, &log_scale), ((mean, value), (low, high)))) in
                of_mean.iter_mut().zip(&mut of_scale).zip(inputs)
            {
                let inverse = exp(-bound(log_scale, least, most));
                let centred = value - mean;
                let (a, b) = (inverse * (centred + HALF), inverse * (centred - HALF));
                let (of_a, of_b) = (high * sigmoid(-a), -low * sigmoid(b));
                *of_mean = -share * inverse * (of_a + of_b);
                let u = inverse * HALF;
                let t = tanh(u);
                // The derivative of log(1 - e^-2u) by the logarithm of the scale.
                let within = -u * exp(-2.0 * u) * (1.0 + t) / t;
                let slope = low * high * within - (a * of_a + b * of_b);
                let free = select(log_scale < least, 0.0, select(log_scale > most, 0.0, 1.0));
                *of_scale = share * slope * free;
            }
            to[row(shape.row(colour, 0, component))..][..len].copy_from_slice(&of_mean[..len]);
            to[row(shape.row(colour, 1, component))..][..len].copy_from_slice(&of_scale[..len]);
            for &(by, with) in before(colour) {
                let place = row(shape.row(with, 2, component));
                let coefficients = &parameters[place..][..len];
                let pairs = coefficients.iter().zip(&pixels.value[by]);
                for ((to, &of_mean), (&c, &value)) in
                    to[place..][..len].iter_mut().zip(&of_mean).zip(pairs)
                {
                    let t = tanh(c);
                    *to = of_mean * value * (1.0 - t * t);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0)
            .collect()
    }

    /// The definition, in f64: differences of sigmoids.
    fn naive(shape: &MixtureShape, x: &[f64], parameters: &[f64]) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (k_, pixels) = (shape.components, shape.pixels);
        let kinds = if shape.colours == 3 { 3 } else { 2 };
        let p = |colour: usize, kind: usize, k: usize, i: usize| {
            parameters[(k_ + (colour * kinds + kind) * k_ + k) * pixels + i]
        };
        let mut total = 0.0;
        for i in 0..pixels {
            let level = |c: usize| (x[c * pixels + i] * 255.0).round();
            let v = |c: usize| level(c) * 2.0 / 255.0 - 1.0;
            let weights: Vec<f64> = (0..k_).map(|k| parameters[k * pixels + i].exp()).collect();
            let mut sum = 0.0;
            for (k, weight) in weights.iter().enumerate() {
                let mut mass = weight / weights.iter().sum::<f64>();
                for c in 0..shape.colours {
                    let mean = p(c, 0, k, i)
                        + match c {
                            1 => p(0, 2, k, i).tanh() * v(0),
                            2 => p(1, 2, k, i).tanh() * v(0) + p(2, 2, k, i).tanh() * v(1),
                            _ => 0.0,
                        };
                    let scale = p(c, 1, k, i).clamp(-7.0, 20.0).exp();
                    let up = sigmoid((v(c) - mean + 1.0 / 255.0) / scale);
                    let down = sigmoid((v(c) - mean - 1.0 / 255.0) / scale);
                    mass *= match level(c) as i64 {
                        0 => up,
                        255 => 1.0 - down,
                        _ => up - down,
                    };
                }
                sum += mass;
            }
            total -= sum.ln();
        }
        total
    }

    fn shapes() -> Vec<MixtureShape> {
        let of = |batch, colours, components, pixels| MixtureShape {
            batch,
            colours,
            components,
            pixels,
        };
        vec![
            of(2, 1, 1, 1),
            of(2, 1, 3, 70),
            of(1, 3, 2, 65),
            of(2, 3, 5, 9),
        ]
    }

    #[test]
    fn is_the_definition_and_so_are_its_gradients() {
        for shape in shapes() {
            let images = shape.colours * shape.pixels;
            let mut x: Vec<f32> = values(shape.batch * images, 1);
            x.iter_mut()
                .for_each(|x| *x = ((*x * 0.6 + 0.5) * 255.0).round().clamp(0.0, 255.0) / 255.0);
            let each = shape.rows() * shape.pixels;
            let parameters = values(shape.batch * each, 2);
            let mut out = vec![f32::NAN; shape.batch];
            logistic_mixture(&x, &parameters, &shape, &mut out).unwrap();
            let grad: Vec<f32> = (0..shape.batch).map(|n| 0.7 - n as f32).collect();
            let mut found = vec![f32::NAN; parameters.len()];
            logistic_mixture_grad(&x, &parameters, &shape, &grad, &mut found).unwrap();
            let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            for n in 0..shape.batch {
                let x = wide(&x[n * images..][..images]);
                let p = wide(&parameters[n * each..][..each]);
                let exact = naive(&shape, &x, &p);
                let off = (f64::from(out[n]) / exact - 1.0).abs();
                assert!(off < 1e-5, "{shape:?}: {} is not {exact}", out[n]);
                for i in (0..each).step_by(each / 40 + 1) {
                    let moved = |by: f64| {
                        let mut p = p.clone();
                        p[i] += by;
                        naive(&shape, &x, &p)
                    };
                    let slope = f64::from(grad[n]) * (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let found = f64::from(found[n * each + i]);
                    assert!(
                        (found - slope).abs() < 2e-4 * (1.0 + slope.abs()),
                        "{shape:?} parameter {i}: {found} is not {slope}"
                    );
                }
            }
        }
    }

    /// e^-nll of each of the 256 levels of a grey pixel, or of one colour of three where the others stay.
    fn masses(parameters: &[f32], components: usize) -> Vec<f64> {
        let shape = MixtureShape {
            batch: 1,
            colours: 1,
            components,
            pixels: 1,
        };
        let mass = |level: usize| {
            let mut out = [f32::NAN];
            logistic_mixture(&[level as f32 / 255.0], parameters, &shape, &mut out).unwrap();
            (-f64::from(out[0])).exp()
        };
        (0..256).map(mass).collect()
    }

    #[test]
    fn probabilities_of_all_levels_sum_to_one() {
        // A mean within, at an edge, far outside; scales from narrower than allowed to wider.
        for mean in [0.003f32, -1.0, 1.0, -0.4, 5.0, -30.0] {
            for log_scale in [-50.0f32, -7.0, -4.0, -1.0, 0.0, 3.0, 50.0] {
                let one = masses(&[0.3, mean, log_scale], 1);
                let sum: f64 = one.iter().sum();
                assert!((sum - 1.0).abs() < 3e-4, "{mean} {log_scale}: {sum}");
                let two = masses(&[0.3, -9.0, mean, 0.1, log_scale, -2.0], 2);
                let sum: f64 = two.iter().sum();
                assert!((sum - 1.0).abs() < 3e-4, "{mean} {log_scale}: {sum}");
            }
        }
    }

    #[test]
    fn far_from_every_mean_it_is_finite_and_has_a_gradient() {
        let shape = MixtureShape {
            batch: 3,
            colours: 1,
            components: 1,
            pixels: 1,
        };
        // A white, a grey and a black pixel under a narrow logistic far away: about (distance / scale) nats.
        let x = [1.0f32, 0.5, 0.0];
        let parameters = [0.0, -3.0, -7.0, 0.0, 3.0, -7.0, 0.0, 3.0, -7.0];
        let (mut out, mut grad) = ([f32::NAN; 3], [f32::NAN; 9]);
        logistic_mixture(&x, &parameters, &shape, &mut out).unwrap();
        logistic_mixture_grad(&x, &parameters, &shape, &[1.0; 3], &mut grad).unwrap();
        for (n, distance) in [
            4.0 - 1.0 / 255.0,
            3.0 - 128.0 * 2.0 / 255.0 + 1.0,
            4.0 - 1.0 / 255.0,
        ]
        .into_iter()
        .enumerate()
        {
            let expected = distance * 7f32.exp();
            assert!(
                (out[n] / expected - 1.0).abs() < 2e-3,
                "{} is not {expected}",
                out[n]
            );
            let of_mean = grad[3 * n + 1].abs();
            assert!((of_mean / 7f32.exp() - 1.0).abs() < 1e-3, "{of_mean}");
        }
    }

    #[test]
    fn every_instruction_set_and_number_of_threads_gives_the_same_bits() {
        let shape = MixtureShape {
            batch: 7,
            colours: 3,
            components: 4,
            pixels: 77,
        };
        let x: Vec<f32> = values(7 * 3 * 77, 1)
            .iter()
            .map(|v| v * 0.5 + 0.5)
            .collect();
        let parameters = values(7 * shape.rows() * 77, 2);
        let each = shape.rows() * 77;
        let run = |simd| {
            let (mut joint, mut to) = (Vec::new(), vec![0.0; each]);
            let (x, p) = (&x[..3 * 77], &parameters[..each]);
            let nll = image(simd, shape, x, p, &mut joint);
            image_grad(simd, shape, x, p, 0.3, &mut joint, &mut to);
            (nll.to_bits(), to)
        };
        for simd in Simd::available() {
            assert_eq!(run(simd), run(Simd::Portable), "{simd:?}");
        }
        let threads = |count| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
            let (mut out, mut to) = (vec![0.0; 7], vec![0.0; parameters.len()]);
            pool.unwrap().install(|| {
                logistic_mixture(&x, &parameters, &shape, &mut out).unwrap();
                logistic_mixture_grad(&x, &parameters, &shape, &out, &mut to).unwrap();
            });
            (out, to)
        };
        assert!((2..5).all(|count| threads(count) == threads(1)));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let shape = MixtureShape {
            batch: 1,
            colours: 2,
            components: 1,
            pixels: 1,
        };
        let e = logistic_mixture(&[0.0; 2], &[0.0; 5], &shape, &mut [0.0]).unwrap_err();
        assert_eq!(
            e.to_string(),
            "logistic_mixture: 2 colours: it takes 1 or 3"
        );
        let shape = MixtureShape {
            colours: 3,
            ..shape
        };
        let e = logistic_mixture(&[0.0; 3], &[0.0; 9], &shape, &mut [0.0]).unwrap_err();
        assert_eq!(
            e.to_string(),
            "logistic_mixture: `parameters` has 9 values, the shape needs 10"
        );
        let none = MixtureShape {
            components: 0,
            ..shape
        };
        assert!(logistic_mixture(&[0.0; 3], &[], &none, &mut [0.0]).is_err());
        let empty = MixtureShape { batch: 0, ..shape };
        assert!(logistic_mixture(&[], &[], &empty, &mut []).is_ok());
        let no_pixels = MixtureShape { pixels: 0, ..shape };
        let mut out = [1.0];
        logistic_mixture(&[], &[], &no_pixels, &mut out).unwrap();
        assert_eq!(out, [0.0]);
    }
}
