//! A neural autoregressive distribution estimator's logits, forward and backward.
//!
//! Larochelle & Murray, 2011: the hidden units' sums grow by one input at a time, so all conditionals together cost as much as one matrix
//! product. Hidden units do not meet before the logits: work is cut into groups of them.

use crate::error::{KernelError, expect_len, product};
use crate::math::sigmoid;
use crate::scratch;
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// Hidden units of one group.
const GROUP: usize = 64;

/// What the estimator goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NadeShape {
    /// Rows; may be 0.
    pub batch: usize,
    /// Values of a row, each predicted from those before it.
    pub inputs: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl NadeShape {
    fn groups(&self) -> usize {
        self.hidden.div_ceil(GROUP)
    }

    fn check(
        &self,
        op: &'static str,
        x: &[f32],
        w: [&[f32]; 2],
        c: &[f32],
    ) -> Result<(), KernelError> {
        product(op, "sums", &[self.batch, self.inputs, self.groups()])?;
        product(op, "w", &[self.inputs, self.hidden, 2])?;
        expect_len(op, "x", x.len(), self.batch * self.inputs)?;
        expect_len(op, "w", w[0].len(), self.inputs * self.hidden)?;
        expect_len(op, "v", w[1].len(), self.inputs * self.hidden)?;
        expect_len(op, "c", c.len(), self.hidden)
    }

    /// Columns of a group, padded with zeros to [`GROUP`]: `[inputs, GROUP]`.
    fn pack(&self, from: &[f32], group: usize, to: &mut [f32]) {
        let columns = self.columns(group);
        for (to, from) in to
            .chunks_exact_mut(GROUP)
            .zip(from.chunks_exact(self.hidden))
        {
            to[columns.len()..].fill(0.0);
            to[..columns.len()].copy_from_slice(&from[columns.clone()]);
        }
    }

    fn columns(&self, group: usize) -> std::ops::Range<usize> {
        group * GROUP..self.hidden.min((group + 1) * GROUP)
    }
}

/// `out[n][i] = sum_h v[i][h] sigmoid(c[h] + sum_{j<i} x[n][j] w[j][h])`, with `x [batch, inputs]`, `w` and `v [inputs, hidden]`, `c [hidden]`.
pub fn nade(
    x: &[f32],
    w: &[f32],
    c: &[f32],
    v: &[f32],
    shape: &NadeShape,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let op = "nade";
    shape.check(op, x, [w, v], c)?;
    expect_len(op, "out", out.len(), x.len())?;
    out.fill(0.0);
    if x.is_empty() || shape.hidden == 0 {
        return Ok(());
    }
    let (simd, d) = (Simd::detect(), shape.inputs);
    let parts: Vec<Vec<f32>> = (0..shape.groups())
        .into_par_iter()
        .map(|group| {
            let mut part = vec![0.0; x.len()];
            scratch::with((2 * d + 1) * GROUP, |packed| {
                let (c_, packed) = packed.split_at_mut(GROUP);
                let (w_, v_) = packed.split_at_mut(d * GROUP);
                shape.pack(c, group, c_);
                shape.pack(w, group, w_);
                shape.pack(v, group, v_);
                for (x, part) in x.chunks_exact(d).zip(part.chunks_exact_mut(d)) {
                    row(simd, x, w_, c_, v_, part);
                }
            });
            part
        })
        .collect();
    for part in parts {
        out.iter_mut()
            .zip(part)
            .for_each(|(out, part)| *out += part);
    }
    Ok(())
}

/// Where the gradients of [`nade`] go; what is not wanted is `None`.
#[derive(Debug, Default)]
pub struct NadeGrads<'a> {
    /// `[batch, inputs]`
    pub x: Option<&'a mut [f32]>,
    /// `[inputs, hidden]`
    pub w: Option<&'a mut [f32]>,
    /// `[hidden]`
    pub c: Option<&'a mut [f32]>,
    /// `[inputs, hidden]`
    pub v: Option<&'a mut [f32]>,
}

/// The gradients of [`nade`] from that of its output, `grad [batch, inputs]`.
pub fn nade_grad(
    x: &[f32],
    w: &[f32],
    c: &[f32],
    v: &[f32],
    grad: &[f32],
    shape: &NadeShape,
    mut grads: NadeGrads<'_>,
) -> Result<(), KernelError> {
    let op = "nade_grad";
    shape.check(op, x, [w, v], c)?;
    expect_len(op, "grad", grad.len(), x.len())?;
    for (what, wanted, len) in [
        ("grad_x", &grads.x, x.len()),
        ("grad_w", &grads.w, w.len()),
        ("grad_c", &grads.c, c.len()),
        ("grad_v", &grads.v, v.len()),
    ] {
        expect_len(op, what, wanted.as_ref().map_or(len, |g| g.len()), len)?;
    }
    let all = [&mut grads.x, &mut grads.w, &mut grads.c, &mut grads.v];
    for wanted in all.into_iter().flatten() {
        wanted.fill(0.0);
    }
    if x.is_empty() || shape.hidden == 0 {
        return Ok(());
    }
    let (simd, d) = (Simd::detect(), shape.inputs);
    let parts: Vec<[Vec<f32>; 4]> = (0..shape.groups())
        .into_par_iter()
        .map(|group| {
            let mut part = [x.len(), d * GROUP, GROUP, d * GROUP].map(|len| vec![0.0; len]);
            scratch::with((3 * d + 1) * GROUP, |packed| {
                let (c_, packed) = packed.split_at_mut(GROUP);
                let (w_, packed) = packed.split_at_mut(d * GROUP);
                let (v_, h) = packed.split_at_mut(d * GROUP);
                shape.pack(c, group, c_);
                shape.pack(w, group, w_);
                shape.pack(v, group, v_);
                let [of_x, of_w, of_c, of_v] = &mut part;
                let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
                for ((x, grad), of_x) in rows.zip(of_x.chunks_exact_mut(d)) {
                    row_grad(simd, x, w_, c_, v_, grad, h, of_x, of_w, of_c, of_v);
                }
            });
            part
        })
        .collect();
    for (group, [of_x, of_w, of_c, of_v]) in parts.iter().enumerate() {
        if let Some(to) = &mut grads.x {
            to.iter_mut().zip(of_x).for_each(|(to, part)| *to += part);
        }
        let columns = shape.columns(group);
        for (to, part) in [
            (&mut grads.w, of_w),
            (&mut grads.c, of_c),
            (&mut grads.v, of_v),
        ] {
            if let Some(to) = to {
                let rows = to.chunks_exact_mut(shape.hidden);
                for (to, part) in rows.zip(part.chunks_exact(GROUP)) {
                    to[columns.clone()].copy_from_slice(&part[..columns.len()]);
                }
            }
        }
    }
    Ok(())
}

/// The group's row of `[inputs, GROUP]`. It has `GROUP` values: the caller packed it.
#[inline(always)]
fn at(packed: &[f32], i: usize) -> &[f32; GROUP] {
    packed.as_chunks::<GROUP>().0[i..]
        .first()
        .unwrap_or(&[0.0; GROUP])
}

simd_fn! {
    fn row(x: &[f32], w: &[f32], c: &[f32], v: &[f32], out: &mut [f32]) {
        let mut a = *at(c, 0);
        for (i, (out, &x)) in out.iter_mut().zip(x).enumerate() {
            let (w, v) = (at(w, i), at(v, i));
            let mut terms = [0f32; GROUP];
            for l in 0..GROUP {
                terms[l] = sigmoid(a[l]) * v[l];
            }
            *out = total(&terms);
            if x != 0.0 {
                for l in 0..GROUP {
                    a[l] += x * w[l];
                }
            }
        }
    }
}

/// Sixteen sums side by side, then their sum.
#[inline(always)]
fn total(terms: &[f32; GROUP]) -> f32 {
    let mut lanes = [0f32; 16];
    for l in 0..16 {
        lanes[l] = (terms[l] + terms[l + 16]) + (terms[l + 32] + terms[l + 48]);
    }
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}

simd_fn! {
    fn row_grad(
        x: &[f32], w: &[f32], c: &[f32], v: &[f32], grad: &[f32], h: &mut [f32],
        of_x: &mut [f32], of_w: &mut [f32], of_c: &mut [f32], of_v: &mut [f32],
    ) {
        let h = h.as_chunks_mut::<GROUP>().0;
        let of_w = of_w.as_chunks_mut::<GROUP>().0;
        let of_v = of_v.as_chunks_mut::<GROUP>().0;
        let mut a = *at(c, 0);
        for (i, (h, &x)) in h.iter_mut().zip(x).enumerate() {
            let w = at(w, i);
            for l in 0..GROUP {
                h[l] = sigmoid(a[l]);
            }
            if x != 0.0 {
                for l in 0..GROUP {
                    a[l] += x * w[l];
                }
            }
        }
        // From the last value to the first: `of_a` is what reaches the sums from all later values.
        let mut of_a = [0f32; GROUP];
        for i in (0..x.len()).rev() {
            let (x, grad, h, w, v) = (x[i], grad[i], &h[i], at(w, i), at(v, i));
            let mut terms = [0f32; GROUP];
            for l in 0..GROUP {
                terms[l] = of_a[l] * w[l];
            }
            of_x[i] = total(&terms);
            if x != 0.0 {
                let of_w = &mut of_w[i];
                for l in 0..GROUP {
                    of_w[l] += x * of_a[l];
                }
            }
            let of_v = &mut of_v[i];
            for l in 0..GROUP {
                of_v[l] += grad * h[l];
                of_a[l] += grad * v[l] * (h[l] * (1.0 - h[l]));
            }
        }
        for (to, of_a) in of_c.iter_mut().zip(of_a) {
            *to += of_a;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin()).collect()
    }

    /// In f64, as the formula says.
    fn exact(x: &[f64], w: &[f64], c: &[f64], v: &[f64], s: &NadeShape) -> Vec<f64> {
        let mut out = Vec::new();
        for x in x.chunks(s.inputs) {
            for i in 0..s.inputs {
                let unit = |h: usize| {
                    let before = (0..i).map(|j| x[j] * w[j * s.hidden + h]).sum::<f64>();
                    v[i * s.hidden + h] / (1.0 + (-(c[h] + before)).exp())
                };
                out.push((0..s.hidden).map(unit).sum());
            }
        }
        out
    }

    #[test]
    fn values_and_gradients() {
        for (batch, inputs, hidden) in [(3, 7, 5), (2, 5, GROUP), (1, 9, GROUP + 3), (2, 1, 1)] {
            let s = NadeShape {
                batch,
                inputs,
                hidden,
            };
            let mut x = wave(batch * inputs, 1.7);
            x[0] = 0.0;
            let all = [
                x,
                wave(inputs * hidden, 0.7),
                wave(hidden, 0.3),
                wave(inputs * hidden, 0.9),
            ];
            let [x, w, c, v] = &all;
            let mut out = vec![9.0; x.len()];
            nade(x, w, c, v, &s, &mut out).unwrap();
            let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            let all64: Vec<Vec<f64>> = all.iter().map(|v| wide(v)).collect();
            let value = |all: &[Vec<f64>]| exact(&all[0], &all[1], &all[2], &all[3], &s);
            for (got, expected) in out.iter().zip(value(&all64)) {
                assert!((f64::from(*got) - expected).abs() < 1e-5, "{s:?}");
            }
            let grad = wave(x.len(), 2.3);
            let mut of = all.clone().map(|v| vec![9.0; v.len()]);
            let [of_x, of_w, of_c, of_v] = &mut of;
            let grads = NadeGrads {
                x: Some(of_x),
                w: Some(of_w),
                c: Some(of_c),
                v: Some(of_v),
            };
            nade_grad(x, w, c, v, &grad, &s, grads).unwrap();
            let loss = |all: &[Vec<f64>]| -> f64 {
                let pairs = value(all).into_iter().zip(wide(&grad));
                pairs.map(|(out, grad)| out * grad).sum()
            };
            for (which, of) in of.iter().enumerate() {
                for i in 0..of.len() {
                    let moved = |h: f64| {
                        let mut all = all64.clone();
                        all[which][i] += h;
                        loss(&all)
                    };
                    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!((f64::from(of[i]) - slope).abs() < 1e-4, "{s:?} {which} {i}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (d, x) = (11, wave(11, 1.3));
        let [w, c, v] = [wave(d * GROUP, 0.7), wave(GROUP, 0.2), wave(d * GROUP, 0.9)];
        let outs: Vec<Vec<u32>> = Simd::available()
            .into_iter()
            .map(|simd| {
                let mut out = vec![0.0; d];
                row(simd, &x, &w, &c, &v, &mut out);
                out.iter().map(|v| v.to_bits()).collect()
            })
            .collect();
        assert!(outs.iter().all(|out| *out == outs[0]));
    }

    #[test]
    fn lengths_are_checked() {
        let s = NadeShape {
            batch: 2,
            inputs: 3,
            hidden: 4,
        };
        let (x, w, c) = (vec![0.0; 6], vec![0.0; 12], vec![0.0; 4]);
        let mut out = vec![0.0; 6];
        assert!(nade(&x, &w, &c, &w, &s, &mut out).is_ok());
        assert!(nade(&x[1..], &w, &c, &w, &s, &mut out).is_err());
        assert!(nade(&x, &w[1..], &c, &w, &s, &mut out).is_err());
        assert!(nade(&x, &w, &c, &w, &s, &mut out[1..]).is_err());
        let grads = NadeGrads {
            c: Some(&mut out),
            ..NadeGrads::default()
        };
        assert!(nade_grad(&x, &w, &c, &w, &x, &s, grads).is_err());
    }
}
