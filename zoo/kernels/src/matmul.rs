//! Matrix products, single and batched, with either operand transposed.

use crate::error::{KernelError, expect_len, product};
use crate::scratch;
use crate::simd::Simd;
use crate::transpose::transpose;
use rayon::prelude::*;

/// `c [batch, m, n] = a [batch, m, k] x b [batch, k, n]`, all contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatmulShape {
    /// Products; may be 0.
    pub batch: usize,
    /// Rows of `a` and `c`.
    pub m: usize,
    /// Columns of `b` and `c`.
    pub n: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// `a` is stored `[batch, k, m]`.
    pub a_transposed: bool,
    /// `b` is stored `[batch, n, k]`.
    pub b_transposed: bool,
}

/// Multiplications in a piece of work that is not worth cutting.
const PIECE: usize = 4 << 20;

/// `c = a x b`, or `c += a x b` with `accumulate`.
///
/// Large products are cut into pieces whose number depends on the shape alone, so that the bits do not
/// depend on the number of threads.
pub fn matmul(
    a: &[f32],
    b: &[f32],
    shape: &MatmulShape,
    accumulate: bool,
    c: &mut [f32],
) -> Result<(), KernelError> {
    let op = "matmul";
    let MatmulShape { batch, m, n, k, .. } = *shape;
    expect_len(op, "a", a.len(), product(op, "a", &[batch, m, k])?)?;
    expect_len(op, "b", b.len(), product(op, "b", &[batch, k, n])?)?;
    expect_len(op, "c", c.len(), product(op, "c", &[batch, m, n])?)?;
    if c.is_empty() {
        return Ok(());
    }
    let cuts = m.saturating_mul(n).saturating_mul(k).div_ceil(PIECE).max(1);
    // Whole cache lines of columns, or a multiple of gemm's tile height of rows.
    let rows = if m >= n {
        m.div_ceil(cuts).next_multiple_of(48)
    } else {
        m
    };
    let cols = if m >= n {
        n
    } else {
        n.div_ceil(cuts).next_multiple_of(64)
    };
    if shape.b_transposed && rows < m {
        // Each piece would turn all of `b` around for itself, which takes longer than its product.
        return scratch::with(b.len(), |turned| {
            for (b, turned) in b
                .chunks_exact((n * k).max(1))
                .zip(turned.chunks_exact_mut((n * k).max(1)))
            {
                transpose(Simd::detect(), [n, k], (b, k), None, (turned, n));
            }
            let shape = MatmulShape {
                b_transposed: false,
                ..*shape
            };
            matmul(a, turned, &shape, accumulate, c)
        });
    }
    let mut jobs = Vec::new();
    for i in 0..batch {
        for row in (0..m).step_by(rows) {
            for col in (0..n).step_by(cols) {
                jobs.push((i, row, col));
            }
        }
    }
    let (a_row, a_col) = if shape.a_transposed { (1, m) } else { (k, 1) };
    let (b_row, b_col) = if shape.b_transposed { (1, k) } else { (n, 1) };
    let to = Shared(c.as_mut_ptr());
    let run = |(i, row, col): (usize, usize, usize)| {
        let (rows, cols) = (rows.min(m - row), cols.min(n - col));
        let (a, b) = (
            &a[i * m * k..(i + 1) * m * k],
            &b[i * k * n..(i + 1) * k * n],
        );
        // `k` may be 0, and the operands empty: nothing is read then.
        let a = a.as_ptr().wrapping_add(row * a_row);
        let b = b.as_ptr().wrapping_add(col * b_col);
        // SAFETY: the block lies inside the matrices, whose lengths were checked above; blocks of
        // different jobs do not overlap; gemm uses this thread only.
        unsafe {
            gemm::gemm(
                rows,
                cols,
                k,
                to.at((i * m + row) * n + col),
                1,
                n as isize,
                accumulate,
                a,
                a_col as isize,
                a_row as isize,
                b,
                b_col as isize,
                b_row as isize,
                1.0f32,
                1.0f32,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    };
    match jobs[..] {
        [job] => run(job), // waking the pool would take longer
        _ => jobs.into_par_iter().for_each(run),
    }
    Ok(())
}

/// A pointer that several threads write through, each to its own block.
struct Shared(*mut f32);

impl Shared {
    /// # Safety
    /// `offset` is inside the slice that the pointer came from.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: passed on to the caller.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: threads write disjoint blocks of a slice that is borrowed mutably for as long.
unsafe impl Sync for Shared {}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, step: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * step) % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        let sizes = [
            (1, 3, 4, 5),
            (2, 17, 33, 9),
            (1, 64, 400, 784),
            (3, 1, 1, 100),
            (1, 1, 70, 40),
            (1, 70, 1, 40),
            (2, 5, 6, 0),
            (0, 3, 3, 3),
            (1, 400, 200, 64),
            (1, 300, 130, 120),
        ];
        for (batch, m, n, k) in sizes {
            for (a_transposed, b_transposed) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let shape = MatmulShape {
                    batch,
                    m,
                    n,
                    k,
                    a_transposed,
                    b_transposed,
                };
                let (a, b) = (values(batch * m * k, 37), values(batch * k * n, 53));
                let mut c = vec![f32::NAN; batch * m * n];
                matmul(&a, &b, &shape, false, &mut c).unwrap();
                let once = c.clone();
                for (i, c) in c.iter().enumerate() {
                    let (p, row, col) = (i / (m * n), i / n % m, i % n);
                    let sum: f64 = (0..k)
                        .map(|j| {
                            let a = a[p * m * k
                                + if a_transposed {
                                    j * m + row
                                } else {
                                    row * k + j
                                }];
                            let b = b[p * k * n
                                + if b_transposed {
                                    col * k + j
                                } else {
                                    j * n + col
                                }];
                            f64::from(a) * f64::from(b)
                        })
                        .sum();
                    assert!(
                        (f64::from(*c) - sum).abs() < 2e-4,
                        "{shape:?} [{i}]: {c} is not {sum}"
                    );
                }
                matmul(&a, &b, &shape, true, &mut c).unwrap();
                assert!(c.iter().zip(&once).all(|(c, o)| (c - 2.0 * o).abs() < 2e-4));
            }
        }
    }

    #[test]
    fn same_bits_for_every_number_of_threads() {
        for (batch, m, n, k) in [
            (1, 64, 784, 400),
            (1, 784, 400, 64),
            (5, 33, 65, 130),
            (1, 1, 4000, 3000),
        ] {
            let shape = MatmulShape {
                batch,
                m,
                n,
                k,
                a_transposed: false,
                b_transposed: true,
            };
            let (a, b) = (values(batch * m * k, 37), values(batch * k * n, 53));
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let mut c = vec![0.0; batch * m * n];
                pool.install(|| matmul(&a, &b, &shape, false, &mut c))
                    .unwrap();
                c.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            let one = run(1);
            for threads in [2, 3, 4] {
                assert!(one == run(threads), "{shape:?}, {threads} threads");
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let shape = MatmulShape {
            batch: 1,
            m: 2,
            n: 3,
            k: 4,
            a_transposed: false,
            b_transposed: false,
        };
        let e = matmul(&[0.0; 7], &[0.0; 12], &shape, false, &mut [0.0; 6]).unwrap_err();
        assert_eq!(e.to_string(), "matmul: `a` has 7 values, the shape needs 8");
        let huge = MatmulShape {
            m: usize::MAX,
            ..shape
        };
        let e = matmul(&[], &[], &huge, false, &mut []).unwrap_err();
        assert!(e.to_string().contains("larger than memory"));
    }
}
