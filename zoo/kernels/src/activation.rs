//! Activation functions and their gradients, element by element.

use crate::error::{KernelError, expect_len};
use crate::math::{bound, exp, ln, select, sigmoid, softplus, tanh};
use crate::reduce::PIECE;
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// A function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `max(x, 0)`
    Relu,
    /// `x` if positive, else this slope times `x`
    LeakyRelu(f32),
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `x` if positive, else this scale times `e^x - 1`
    Elu(f32),
    /// `x sigmoid(x)`
    Silu,
    /// `log(1 + e^x)`
    Softplus,
    /// `e^x`
    Exp,
    /// The natural logarithm
    Log,
    /// The square root
    Sqrt,
    /// `|x|`; no gradient at 0
    Abs,
    /// This factor times `x`, plus this offset
    Affine(f32, f32),
    /// `x` within these bounds; no gradient outside
    Clip(f32, f32),
}

impl Activation {
    /// Whether [`activation_backward`] works from the output, not the input.
    pub fn saves_output(self) -> bool {
        match self {
            // A slope that is not positive hides the sign of x.
            Self::LeakyRelu(slope) => slope > 0.0,
            Self::Elu(a) => a > 0.0,
            Self::Relu | Self::Sigmoid | Self::Tanh | Self::Exp | Self::Sqrt => true,
            _ => false,
        }
    }
}

/// `y = f(x)`.
pub fn activation(f: Activation, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    expect_len("activation", "y", y.len(), x.len())?;
    let simd = Simd::detect();
    if x.len() <= PIECE {
        forward(simd, f, x, y); // waking the pool would take longer
        return Ok(());
    }
    y.par_chunks_mut(PIECE)
        .zip(x.par_chunks(PIECE))
        .for_each(|(y, x)| forward(simd, f, x, y));
    Ok(())
}

/// `grad_x = grad * f'(x)`, from the input `x` and the output `y = f(x)`.
pub fn activation_grad(
    f: Activation,
    x: &[f32],
    y: &[f32],
    grad: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let op = "activation_grad";
    expect_len(op, "y", y.len(), x.len())?;
    expect_len(op, "grad", grad.len(), x.len())?;
    expect_len(op, "grad_x", grad_x.len(), x.len())?;
    let simd = Simd::detect();
    if x.len() <= PIECE {
        backward(simd, f, x, y, grad, grad_x);
        return Ok(());
    }
    let inputs = x.par_chunks(PIECE).zip(y.par_chunks(PIECE));
    grad_x
        .par_chunks_mut(PIECE)
        .zip(grad.par_chunks(PIECE))
        .zip(inputs)
        .for_each(|((grad_x, grad), (x, y))| backward(simd, f, x, y, grad, grad_x));
    Ok(())
}

/// `grad = grad * f'(x)` in place, from the output `f(x)` where [`Activation::saves_output`] says so, else from the input.
pub fn activation_backward(
    f: Activation,
    saved: &[f32],
    grad: &mut [f32],
) -> Result<(), KernelError> {
    expect_len("activation_backward", "saved", saved.len(), grad.len())?;
    let simd = Simd::detect();
    if grad.len() <= PIECE {
        backward_in_place(simd, f, saved, grad);
        return Ok(());
    }
    grad.par_chunks_mut(PIECE)
        .zip(saved.par_chunks(PIECE))
        .for_each(|(grad, saved)| backward_in_place(simd, f, saved, grad));
    Ok(())
}

/// A loop in place: the compiler need not inline a closure into every instruction set's copy.
macro_rules! each {
    ($to:ident <- $value:expr, $x:ident) => {
        for (to, &$x) in $to.iter_mut().zip($x) {
            *to = $value;
        }
    };
    ($to:ident <- $value:expr, $x:ident, $g:ident) => {
        for ((to, &$x), &$g) in $to.iter_mut().zip($x).zip($g) {
            *to = $value;
        }
    };
}

simd_fn! {
    fn forward(f: Activation, x: &[f32], y: &mut [f32]) {
        match f {
            Activation::Relu => each!(y <- select(x < 0.0, 0.0, x), x),
            Activation::LeakyRelu(slope) => each!(y <- select(x > 0.0, x, slope * x), x),
            Activation::Sigmoid => each!(y <- sigmoid(x), x),
            Activation::Tanh => each!(y <- tanh(x), x),
            Activation::Elu(a) => each!(y <- select(x > 0.0, x, a * expm1(x)), x),
            Activation::Silu => each!(y <- x * sigmoid(x), x),
            Activation::Softplus => each!(y <- softplus(x), x),
            Activation::Exp => each!(y <- exp(x), x),
            Activation::Log => each!(y <- ln(x), x),
            Activation::Sqrt => each!(y <- x.sqrt(), x),
            Activation::Abs => each!(y <- x.abs(), x),
            Activation::Affine(a, b) => each!(y <- a * x + b, x),
            Activation::Clip(low, high) => each!(y <- bound(x, low, high), x),
        }
    }
}

simd_fn! {
    fn backward(f: Activation, x: &[f32], y: &[f32], g: &[f32], to: &mut [f32]) {
        match f {
            Activation::Relu => each!(to <- select(x > 0.0, g, 0.0), x, g),
            Activation::LeakyRelu(slope) => each!(to <- select(x > 0.0, g, slope * g), x, g),
            Activation::Sigmoid => each!(to <- g * y * (1.0 - y), y, g),
            Activation::Tanh => each!(to <- g * (1.0 - y * y), y, g),
            Activation::Elu(a) => each!(to <- g * select(x > 0.0, 1.0, a * exp(x)), x, g),
            Activation::Silu => each!(to <- g * silu_slope(x), x, g),
            Activation::Softplus => each!(to <- g * sigmoid(x), x, g),
            Activation::Exp => each!(to <- g * y, y, g),
            Activation::Log => each!(to <- g / x, x, g),
            Activation::Sqrt => each!(to <- g * 0.5 / y, y, g),
            Activation::Abs => each!(to <- select(x < 0.0, -g, select(x > 0.0, g, 0.0)), x, g),
            Activation::Affine(a, _) => each!(to <- a * g, g),
            Activation::Clip(low, high) => each!(to <- select(x >= low && x <= high, g, 0.0), x, g),
        }
    }
}

/// Multiplies `$g` in place by a function of what was saved.
macro_rules! scale {
    ($g:ident, $s:ident, |$x:ident| $slope:expr) => {
        for (g, &$x) in $g.iter_mut().zip($s) {
            *g *= $slope;
        }
    };
}

simd_fn! {
    fn backward_in_place(f: Activation, s: &[f32], g: &mut [f32]) {
        let output = f.saves_output();
        match f {
            Activation::Relu => scale!(g, s, |y| select(y > 0.0, 1.0, 0.0)),
            Activation::LeakyRelu(slope) => scale!(g, s, |x| select(x > 0.0, 1.0, slope)),
            Activation::Sigmoid => scale!(g, s, |y| y * (1.0 - y)),
            Activation::Tanh => scale!(g, s, |y| 1.0 - y * y),
            Activation::Elu(a) if output => scale!(g, s, |y| select(y > 0.0, 1.0, y + a)),
            Activation::Elu(a) => scale!(g, s, |x| select(x > 0.0, 1.0, a * exp(x))),
            Activation::Silu => scale!(g, s, |x| silu_slope(x)),
            Activation::Softplus => scale!(g, s, |x| sigmoid(x)),
            Activation::Exp => scale!(g, s, |y| y),
            Activation::Log => scale!(g, s, |x| 1.0 / x),
            Activation::Sqrt => scale!(g, s, |y| 0.5 / y),
            Activation::Abs => scale!(g, s, |x| select(x < 0.0, -1.0, select(x > 0.0, 1.0, 0.0))),
            Activation::Affine(a, _) => scale!(g, s, |_x| a),
            Activation::Clip(low, high) => scale!(g, s, |x| select(x >= low && x <= high, 1.0, 0.0)),
        }
    }
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// `e^x - 1` for `x <= 0`, with the digits that `e^x` would round away.
#[inline(always)]
fn expm1(x: f32) -> f32 {
    // tanh(x/2) = (e^x - 1) / (e^x + 1)
    tanh(0.5 * x) * (exp(x) + 1.0)
}

/// `y [batch, half, plane] = tanh(x[:, ..half]) * sigmoid(x[:, half..])` for `x [batch, 2 half, plane]`,
/// the gate of PixelCNN and WaveNet; `half` counts channels times plane.
pub fn gated_tanh(x: &[f32], half: usize, y: &mut [f32]) -> Result<(), KernelError> {
    expect_gate("gated_tanh", x.len(), half, y.len())?;
    let simd = Simd::detect();
    y.par_chunks_mut(half.max(1))
        .zip(x.par_chunks((2 * half).max(1)))
        .for_each(|(y, x)| {
            let (a, b) = x.split_at(half);
            gate(simd, a, b, y);
        });
    Ok(())
}

/// `grad_x` of [`gated_tanh`], from its input and the gradient of its output.
pub fn gated_tanh_grad(
    x: &[f32],
    half: usize,
    grad: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    let op = "gated_tanh_grad";
    expect_gate(op, x.len(), half, grad.len())?;
    expect_len(op, "grad_x", grad_x.len(), x.len())?;
    let simd = Simd::detect();
    grad_x
        .par_chunks_mut((2 * half).max(1))
        .zip(x.par_chunks((2 * half).max(1)))
        .zip(grad.par_chunks(half.max(1)))
        .for_each(|((grad_x, x), grad)| {
            let (a, b) = x.split_at(half);
            let (to_a, to_b) = grad_x.split_at_mut(half);
            gate_grad(simd, a, b, grad, to_a, to_b);
        });
    Ok(())
}

fn expect_gate(op: &'static str, x: usize, half: usize, y: usize) -> Result<(), KernelError> {
    expect_len(op, "x", x, y.saturating_mul(2))?;
    if y.checked_rem(half).unwrap_or(y) == 0 {
        return Ok(());
    }
    Err(KernelError::Shape {
        op,
        what: format!("half {half} must divide the {y} outputs"),
    })
}

simd_fn! {
    fn gate(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            *y = tanh(a) * sigmoid(b);
        }
    }
}

simd_fn! {
    fn gate_grad(a: &[f32], b: &[f32], grad: &[f32], to_a: &mut [f32], to_b: &mut [f32]) {
        let inputs = a.iter().zip(b).zip(grad);
        for ((to_a, to_b), ((&a, &b), &g)) in to_a.iter_mut().zip(to_b).zip(inputs) {
            let (t, s) = (tanh(a), sigmoid(b));
            *to_a = g * s * (1.0 - t * t);
            *to_b = g * t * s * (1.0 - s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 13] = [
        Activation::Relu,
        Activation::LeakyRelu(0.2),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Elu(1.5),
        Activation::Silu,
        Activation::Softplus,
        Activation::Exp,
        Activation::Log,
        Activation::Sqrt,
        Activation::Abs,
        Activation::Affine(-1.5, 0.25),
        Activation::Clip(-3.0, 4.0),
    ];

    /// Where `f` is defined.
    fn domain(f: Activation, x: f64) -> bool {
        !matches!(f, Activation::Log | Activation::Sqrt) || x > 0.01
    }

    fn exact(f: Activation, x: f64) -> f64 {
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        match f {
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu(slope) => x.max(0.0) + f64::from(slope) * x.min(0.0),
            Activation::Sigmoid => sigmoid,
            Activation::Tanh => x.tanh(),
            Activation::Elu(a) => x.max(0.0) + f64::from(a) * x.min(0.0).exp_m1(),
            Activation::Silu => x * sigmoid,
            Activation::Softplus => x.exp().ln_1p(),
            Activation::Exp => x.exp(),
            Activation::Log => x.ln(),
            Activation::Sqrt => x.sqrt(),
            Activation::Abs => x.abs(),
            Activation::Affine(a, b) => f64::from(a) * x + f64::from(b),
            Activation::Clip(low, high) => x.clamp(f64::from(low), f64::from(high)),
        }
    }

    /// From -10 to 10, without 0 where some have a corner.
    fn points() -> Vec<f32> {
        (0..4001).map(|i| (i as f32 - 2000.3) * 0.005).collect()
    }

    #[test]
    fn values_and_slopes() {
        let x = points();
        for f in ALL {
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            activation(f, &x, &mut y).unwrap();
            activation_grad(f, &x, &y, &vec![2.0; x.len()], &mut dx).unwrap();
            let mut in_place = vec![2.0; x.len()];
            let saved = if f.saves_output() { &y } else { &x };
            activation_backward(f, saved, &mut in_place).unwrap();
            for i in (0..x.len()).filter(|&i| domain(f, f64::from(x[i]))) {
                let at = f64::from(x[i]);
                let (e, h) = (exact(f, at), 1e-5);
                assert!(
                    (in_place[i] - dx[i]).abs() <= 2e-6 * dx[i].abs() + 1e-6,
                    "{f:?}'({at}): {} in place, {} else",
                    in_place[i],
                    dx[i]
                );
                assert!(
                    (f64::from(y[i]) - e).abs() <= 1e-6 * e.abs() + 1e-6,
                    "{f:?}({at}): {}",
                    y[i]
                );
                let slope = (exact(f, at + h) - exact(f, at - h)) / h;
                let error = (f64::from(dx[i]) - slope).abs();
                assert!(
                    error <= 1e-5 * (0.2 + slope.abs()),
                    "{f:?}'({at}): {} {slope}",
                    dx[i]
                );
            }
        }
    }

    #[test]
    fn same_bits_on_every_instruction_set() {
        let mut x = points();
        x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40]);
        for f in ALL {
            let mut first: Option<Vec<u32>> = None;
            for simd in Simd::available() {
                let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                forward(simd, f, &x, &mut y);
                backward(simd, f, &x, &y, &vec![0.7; x.len()], &mut dx);
                let mut in_place = vec![0.7; x.len()];
                backward_in_place(
                    simd,
                    f,
                    if f.saves_output() { &y } else { &x },
                    &mut in_place,
                );
                dx.extend(in_place);
                let canonical = |v: &f32| if v.is_nan() { 1 } else { v.to_bits() };
                let bits: Vec<u32> = y.iter().chain(&dx).map(canonical).collect();
                assert!(
                    *first.get_or_insert_with(|| bits.clone()) == bits,
                    "{f:?} {simd:?}"
                );
            }
            let mut y = [0.0];
            activation(f, &[f32::NAN], &mut y).unwrap();
            assert!(y[0].is_nan(), "{f:?}(NaN) is {}", y[0]);
        }
    }

    #[test]
    fn gates() {
        let x: Vec<f32> = (0..48).map(|i| (i as f32 - 20.0) * 0.2).collect();
        let (half, mut y) = (8, vec![0.0; 24]);
        gated_tanh(&x, half, &mut y).unwrap();
        let grad: Vec<f32> = (0..24).map(|i| 1.0 - i as f32 * 0.05).collect();
        let mut dx = vec![0.0; 48];
        gated_tanh_grad(&x, half, &grad, &mut dx).unwrap();
        let value = |a: f64, b: f64| a.tanh() / (1.0 + (-b).exp());
        for (i, &y) in y.iter().enumerate() {
            let at = i / half * 2 * half + i % half;
            let (a, b) = (f64::from(x[at]), f64::from(x[at + half]));
            let (g, h) = (f64::from(grad[i]), 1e-5);
            assert!((f64::from(y) - value(a, b)).abs() < 1e-6);
            let da = g * (value(a + h, b) - value(a - h, b)) / (2.0 * h);
            let db = g * (value(a, b + h) - value(a, b - h)) / (2.0 * h);
            assert!((f64::from(dx[at]) - da).abs() < 1e-5);
            assert!((f64::from(dx[at + half]) - db).abs() < 1e-5);
        }
        assert!(gated_tanh(&x, 7, &mut y).is_err());
        assert!(gated_tanh(&x, 0, &mut y).is_err());
        assert!(gated_tanh(&[], 0, &mut []).is_ok());
        assert!(activation(Activation::Relu, &x, &mut y).is_err());
    }
}
