//! Arithmetic with broadcasting, copies of views, and sums over any dimensions.

use crate::error::{KernelError, expect_len, product};
use crate::reduce::{PIECE, sum};
use crate::simd::{Simd, simd_fn};
use rayon::prelude::*;

/// An operation on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
}

/// Values seen through strides: element `[i, j, ...]` is `values[i * strides[0] + j * strides[1] + ...]`. A stride of 0 repeats.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The values, from element `[0, 0, ...]` on.
    pub values: &'a [f32],
    /// One for each dimension.
    pub strides: &'a [usize],
}

impl View<'_> {
    /// Refuses strides that leave the values.
    fn check(
        &self,
        op: &'static str,
        what: &'static str,
        dims: &[usize],
    ) -> Result<(), KernelError> {
        expect_len(op, what, self.strides.len(), dims.len())?;
        if dims.contains(&0) {
            return Ok(());
        }
        let last = dims
            .iter()
            .zip(self.strides)
            .try_fold(0usize, |last, (&n, &stride)| {
                last.checked_add(stride.checked_mul(n - 1)?)
            });
        if last.is_some_and(|last| last < self.values.len()) {
            return Ok(());
        }
        Err(KernelError::Shape {
            op,
            what: format!(
                "`{what}` has {} values, too few for {dims:?} with strides {:?}",
                self.values.len(),
                self.strides
            ),
        })
    }
}

/// One loop over both operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loop {
    size: usize,
    a: usize,
    b: usize,
}

/// As few loops as possible: dimensions of size 1 go, neighbours that both operands pass without a jump become one. At least one.
fn loops(dims: &[usize], a: &[usize], b: &[usize]) -> Vec<Loop> {
    let mut loops: Vec<Loop> = Vec::with_capacity(dims.len());
    for ((&size, &a), &b) in dims.iter().zip(a).zip(b) {
        if size == 1 {
            continue;
        }
        match loops.last_mut() {
            Some(outer) if outer.a == a * size && outer.b == b * size => {
                *outer = Loop {
                    size: outer.size * size,
                    a,
                    b,
                };
            }
            _ => loops.push(Loop { size, a, b }),
        }
    }
    if loops.is_empty() {
        loops.push(Loop {
            size: 1,
            a: 1,
            b: 1,
        });
    }
    loops
}

/// Calls `row(values of out, where a's start, where b's start, length)` for every innermost loop, in parallel over pieces of `out`.
fn rows(loops: &[Loop], out: &mut [f32], row: impl Fn(&mut [f32], usize, usize) + Sync) {
    let (inner, outer) = match loops.split_last() {
        Some((inner, outer)) => (*inner, outer),
        None => return,
    };
    let piece = if outer.is_empty() {
        PIECE
    } else {
        inner.size * (PIECE / inner.size).max(1)
    };
    let run = |first: usize, out: &mut [f32]| {
        let (mut index, within) = (first / inner.size, first % inner.size);
        for out in out.chunks_mut(inner.size) {
            let (mut rest, mut a, mut b) = (index, within * inner.a, within * inner.b);
            for outer in outer.iter().rev() {
                let at = rest % outer.size;
                rest /= outer.size;
                a += at * outer.a;
                b += at * outer.b;
            }
            row(out, a, b);
            index += 1;
        }
    };
    if out.len() <= piece {
        run(0, out); // waking the pool would take longer
        return;
    }
    out.par_chunks_mut(piece)
        .enumerate()
        .for_each(|(i, out)| run(i * piece, out));
}

/// `out = a op b`, element by element over `dims`; `out` is contiguous.
pub fn combine(
    op: Arithmetic,
    dims: &[usize],
    a: View<'_>,
    b: View<'_>,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let name = "combine";
    expect_len(name, "out", out.len(), product(name, "out", dims)?)?;
    a.check(name, "a", dims)?;
    b.check(name, "b", dims)?;
    if out.is_empty() {
        return Ok(());
    }
    let (simd, loops) = (Simd::detect(), loops(dims, a.strides, b.strides));
    let steps = loops.last().map_or([1, 1], |inner| [inner.a, inner.b]);
    rows(&loops, out, |out, at_a, at_b| {
        combine_row(simd, op, &a.values[at_a..], &b.values[at_b..], steps, out);
    });
    Ok(())
}

macro_rules! rows_of {
    ($a:ident, $b:ident, $steps:ident, $out:ident, |$x:ident, $y:ident| $value:expr) => {
        match $steps {
            [1, 1] => {
                for ((out, &$x), &$y) in $out.iter_mut().zip($a).zip($b) {
                    *out = $value;
                }
            }
            [1, 0] => {
                let $y = $b[0];
                for (out, &$x) in $out.iter_mut().zip($a) {
                    *out = $value;
                }
            }
            [0, 1] => {
                let $x = $a[0];
                for (out, &$y) in $out.iter_mut().zip($b) {
                    *out = $value;
                }
            }
            [a, b] => {
                for (i, out) in $out.iter_mut().enumerate() {
                    let ($x, $y) = ($a[i * a], $b[i * b]);
                    *out = $value;
                }
            }
        }
    };
}

simd_fn! {
    fn combine_row(op: Arithmetic, a: &[f32], b: &[f32], steps: [usize; 2], out: &mut [f32]) {
        match op {
            Arithmetic::Add => rows_of!(a, b, steps, out, |x, y| x + y),
            Arithmetic::Sub => rows_of!(a, b, steps, out, |x, y| x - y),
            Arithmetic::Mul => rows_of!(a, b, steps, out, |x, y| x * y),
            Arithmetic::Div => rows_of!(a, b, steps, out, |x, y| x / y),
        }
    }
}

/// `out = scale * x`, contiguous.
pub fn copy(dims: &[usize], x: View<'_>, scale: f32, out: &mut [f32]) -> Result<(), KernelError> {
    let name = "copy";
    expect_len(name, "out", out.len(), product(name, "out", dims)?)?;
    x.check(name, "x", dims)?;
    if out.is_empty() {
        return Ok(());
    }
    let (simd, loops) = (Simd::detect(), loops(dims, x.strides, x.strides));
    let step = loops.last().map_or(1, |inner| inner.a);
    rows(&loops, out, |out, at, _| {
        copy_row(simd, &x.values[at..], step, scale, out);
    });
    Ok(())
}

simd_fn! {
    fn copy_row(x: &[f32], step: usize, scale: f32, out: &mut [f32]) {
        match step {
            0 => out.fill(scale * x[0]),
            1 if scale == 1.0 => out.copy_from_slice(&x[..out.len()]),
            1 => {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = scale * x;
                }
            }
            _ => {
                for (out, x) in out.iter_mut().zip(x.iter().step_by(step)) {
                    *out = scale * x;
                }
            }
        }
    }
}

/// `a += b`.
pub fn add_assign(a: &mut [f32], b: &[f32]) -> Result<(), KernelError> {
    expect_len("add_assign", "b", b.len(), a.len())?;
    let simd = Simd::detect();
    if a.len() <= PIECE {
        add_row(simd, a, b);
        return Ok(());
    }
    a.par_chunks_mut(PIECE)
        .zip(b.par_chunks(PIECE))
        .for_each(|(a, b)| add_row(simd, a, b));
    Ok(())
}

simd_fn! {
    fn add_row(a: &mut [f32], b: &[f32]) {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}

/// `out = scale * (x summed over the dimensions that are not kept)`; `x` and `out` are contiguous. Sums are taken in f64.
pub fn sum_to(
    dims: &[usize],
    keep: &[bool],
    x: &[f32],
    scale: f64,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let name = "sum_to";
    expect_len(name, "x", x.len(), product(name, "x", dims)?)?;
    expect_len(name, "keep", keep.len(), dims.len())?;
    let kept: Vec<usize> = dims
        .iter()
        .zip(keep)
        .filter(|(_, k)| **k)
        .map(|(&d, _)| d)
        .collect();
    expect_len(name, "out", out.len(), product(name, "out", &kept)?)?;
    if x.is_empty() {
        out.fill(0.0);
        return Ok(());
    }
    // Neighbours of one kind become one: kinds alternate.
    let mut parts: Vec<(usize, bool)> = Vec::new();
    for (&size, &keep) in dims.iter().zip(keep).filter(|(size, _)| **size != 1) {
        match parts.last_mut() {
            Some((last, kind)) if *kind == keep => *last *= size,
            _ => parts.push((size, keep)),
        }
    }
    let simd = Simd::detect();
    match parts[..] {
        [] | [(_, true)] => copy(
            &[x.len()],
            View {
                values: x,
                strides: &[1],
            },
            scale as f32,
            out,
        )?,
        [(_, false)] => out[0] = (scale * sum_all(simd, x)) as f32,
        [(_, true), (columns, false)] => {
            let some = (PIECE / columns).max(1);
            out.par_chunks_mut(some)
                .zip(x.par_chunks(some * columns))
                .for_each(|(out, x)| {
                    for (out, x) in out.iter_mut().zip(x.chunks_exact(columns)) {
                        *out = (scale * sum(simd, x)) as f32;
                    }
                });
        }
        // The outermost dimension is kept: its parts are independent.
        [(count, true), ref rest @ ..] => {
            let (from, to) = (x.len() / count, out.len() / count);
            out.par_chunks_mut(to)
                .zip(x.par_chunks(from))
                .for_each(|(out, x)| add_up(simd, rest, x, scale, out));
        }
        _ => add_up(simd, &parts, x, scale, out),
    }
    Ok(())
}

/// The sum of everything, in pieces whose number depends on the length alone.
fn sum_all(simd: Simd, x: &[f32]) -> f64 {
    if x.len() <= PIECE {
        return sum(simd, x);
    }
    let pieces: Vec<f64> = x.par_chunks(PIECE).map(|x| sum(simd, x)).collect();
    pieces.iter().sum()
}

/// [`sum_to`] on one thread, for alternating parts.
fn add_up(simd: Simd, parts: &[(usize, bool)], x: &[f32], scale: f64, out: &mut [f32]) {
    let mut totals = vec![0f64; out.len()];
    add_part(simd, parts, x, &mut totals);
    for (out, total) in out.iter_mut().zip(totals) {
        *out = (scale * total) as f32;
    }
}

fn add_part(simd: Simd, parts: &[(usize, bool)], x: &[f32], totals: &mut [f64]) {
    match parts {
        [] => totals[0] += f64::from(x[0]),
        [(_, true)] => add_values(simd, x, totals),
        [(_, false)] => totals[0] += sum(simd, x),
        [(count, keep), rest @ ..] => {
            let (from, to) = (x.len() / count, totals.len() / count);
            for (i, x) in x.chunks_exact(from).enumerate() {
                let totals = if *keep {
                    &mut totals[i * to..][..to]
                } else {
                    &mut *totals
                };
                add_part(simd, rest, x, totals);
            }
        }
    }
}

simd_fn! {
    fn add_values(x: &[f32], totals: &mut [f64]) {
        for (total, &x) in totals.iter_mut().zip(x) {
            *total += f64::from(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.1)
            .collect()
    }

    /// Every index of `dims`, in order.
    fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
        let mut all = vec![vec![]];
        for &d in dims {
            all = all
                .into_iter()
                .flat_map(|i: Vec<usize>| (0..d).map(move |j| [&i[..], &[j]].concat()))
                .collect();
        }
        all
    }

    fn at(index: &[usize], strides: &[usize]) -> usize {
        index.iter().zip(strides).map(|(i, s)| i * s).sum()
    }

    type Case = (&'static [usize], &'static [usize], &'static [usize]);
    const CASES: [Case; 11] = [
        (&[2, 3], &[3, 1], &[3, 1]),
        (&[2, 3], &[3, 1], &[0, 1]),
        (&[2, 3], &[1, 2], &[3, 1]),
        (&[2, 3, 4, 5], &[60, 20, 5, 1], &[0, 1, 0, 0]),
        (&[2, 3, 4, 5], &[60, 20, 5, 1], &[20, 0, 5, 1]),
        (&[4, 1, 3], &[3, 3, 1], &[1, 1, 0]),
        (&[3, 2], &[0, 0], &[2, 1]),
        (&[], &[], &[]),
        (&[0, 3], &[3, 1], &[3, 1]),
        (&[70_001], &[1], &[0]),
        (&[41, 1009, 2], &[2018, 2, 1], &[0, 1, 0]),
    ];

    #[test]
    fn combines_and_copies_views() {
        let x = values(100_000);
        for (dims, a, b) in CASES {
            let (view_a, view_b) = (
                View {
                    values: &x,
                    strides: a,
                },
                View {
                    values: &x[7..],
                    strides: b,
                },
            );
            let mut out = vec![f32::NAN; dims.iter().product()];
            for (op, f) in [
                (Arithmetic::Add, (|x, y| x + y) as fn(f32, f32) -> f32),
                (Arithmetic::Sub, |x, y| x - y),
                (Arithmetic::Mul, |x, y| x * y),
                (Arithmetic::Div, |x, y| x / y),
            ] {
                combine(op, dims, view_a, view_b, &mut out).unwrap();
                for (index, out) in indices(dims).iter().zip(&out) {
                    assert_eq!(
                        *out,
                        f(x[at(index, a)], x[7 + at(index, b)]),
                        "{dims:?} {index:?}"
                    );
                }
            }
            copy(dims, view_b, 2.0, &mut out).unwrap();
            for (index, out) in indices(dims).iter().zip(&out) {
                assert_eq!(*out, 2.0 * x[7 + at(index, b)], "{dims:?} {index:?}");
            }
        }
    }

    #[test]
    fn sums_over_any_dimensions() {
        let x = values(60_000);
        let cases: [(&[usize], &[bool]); 10] = [
            (&[3, 5], &[true, false]),
            (&[3, 5], &[false, true]),
            (&[3, 5], &[false, false]),
            (&[3, 5], &[true, true]),
            (&[4, 5, 6], &[false, true, false]),
            (&[4, 5, 6], &[true, false, true]),
            (&[2, 3, 4, 5], &[false, true, false, true]),
            (&[1, 1], &[false, false]),
            (&[0, 4], &[false, true]),
            (&[60_000], &[false]),
        ];
        for (dims, keep) in cases {
            let len: usize = dims.iter().product();
            let mut strides = vec![0; dims.len()];
            let mut out_len = 1;
            for i in (0..dims.len()).rev() {
                if keep[i] {
                    strides[i] = out_len;
                    out_len *= dims[i];
                }
            }
            let mut expected = vec![0f64; out_len];
            for (i, index) in indices(dims).iter().enumerate() {
                expected[at(index, &strides)] += 0.5 * f64::from(x[i]);
            }
            let mut out = vec![f32::NAN; out_len];
            sum_to(dims, keep, &x[..len], 0.5, &mut out).unwrap();
            for (out, expected) in out.iter().zip(&expected) {
                assert!(
                    (f64::from(*out) - expected).abs() < 1e-4 + 1e-6 * expected.abs(),
                    "{dims:?} {keep:?}: {out} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn adds_in_place() {
        let (mut a, b) = (values(70_000), values(70_000));
        add_assign(&mut a, &b).unwrap();
        assert!(a.iter().zip(&b).all(|(a, b)| *a == 2.0 * b));
        assert!(add_assign(&mut a, &b[1..]).is_err());
    }

    #[test]
    fn same_bits_for_every_number_of_threads() {
        let x = values(200_000);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (mut all, mut rows, mut columns) = ([0.0], vec![0.0; 400], vec![0.0; 500]);
            pool.install(|| {
                sum_to(&[200_000], &[false], &x, 1.0, &mut all).unwrap();
                sum_to(&[400, 500], &[true, false], &x, 1.0, &mut rows).unwrap();
                sum_to(&[400, 500], &[false, true], &x, 1.0, &mut columns).unwrap();
            });
            all.iter()
                .chain(&rows)
                .chain(&columns)
                .map(|v| v.to_bits())
                .collect::<Vec<_>>()
        };
        assert!((2..5).all(|threads| run(threads) == run(1)));
    }

    #[test]
    fn views_that_leave_their_values_are_refused() {
        let x = [0.0; 5];
        let view = View {
            values: &x,
            strides: &[3, 1],
        };
        let e = copy(&[2, 3], view, 1.0, &mut [0.0; 6]).unwrap_err();
        assert!(
            e.to_string()
                .contains("`x` has 5 values, too few for [2, 3]"),
            "{e}"
        );
        assert!(copy(&[2, 2], view, 1.0, &mut [0.0; 3]).is_err());
        let far = View {
            values: &x,
            strides: &[usize::MAX, 1],
        };
        assert!(combine(Arithmetic::Add, &[3, 1], far, view, &mut [0.0; 3]).is_err());
        assert!(sum_to(&[2, 3], &[true, false], &x, 1.0, &mut [0.0; 2]).is_err());
        assert!(sum_to(&[5], &[true, false], &x, 1.0, &mut [0.0; 5]).is_err());
    }
}
