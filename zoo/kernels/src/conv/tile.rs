//! The inner loop of every convolution kernel: a small block of sums held in registers.

use crate::simd::{Lane, Quad, Simd};

/// Vectors in the widest tile.
pub(crate) fn max_vectors(simd: Simd) -> usize {
    match simd {
        Simd::Avx512 => 4,
        Simd::Avx2 | Simd::Portable => 2,
    }
}

/// Rows of the tallest tile that has `vectors` vectors: as many as fit the registers.
pub(crate) fn max_rows(simd: Simd, vectors: usize) -> usize {
    match (simd, vectors) {
        (Simd::Avx512, 4) => 6,
        (Simd::Avx512, _) => 8,
        (_, 2) => 6,
        _ => 8,
    }
}

/// What one tile sums: `sums[r][j] (+)= Σ_s rows[r][row_step[s]] * vector[vector_step[s] + j]`.
pub(crate) struct Tile<'a> {
    /// Where each row's scalars start.
    pub rows: &'a [*const f32],
    /// The scalar's offset from there in each step.
    pub row_step: &'a [usize],
    /// Where the vectors start.
    pub vector: *const f32,
    /// The vectors' offset from there in each step.
    pub vector_step: &'a [usize],
    /// The first row of sums.
    pub sums: *mut f32,
    /// From one row of sums to the next.
    pub stride: usize,
    /// Add to the sums that are there instead of replacing them.
    pub accumulate: bool,
}

/// Runs a tile of `tile.rows.len()` rows and `vectors` vectors.
///
/// # Safety
/// The CPU has `simd`. For every step, each row's scalar and the `vectors * simd.width()` floats of the
/// vector are readable; the same number of floats at every row of sums is readable and writable, and
/// aliases nothing else. Rows and vectors are within `max_rows` and `max_vectors`.
pub(crate) unsafe fn run(simd: Simd, vectors: usize, tile: &Tile<'_>) {
    debug_assert_eq!(tile.row_step.len(), tile.vector_step.len());
    // SAFETY: passed on to the caller.
    unsafe {
        match simd {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => avx512(vectors, tile),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => avx2(vectors, tile),
            _ => narrow::<Quad>(vectors, tile),
        }
    }
}

/// One tile whose size the compiler knows: `R * C` sums in registers.
///
/// # Safety
/// As for [`run`], with `R` rows and `C` vectors, inlined into a function compiled for `V`.
#[inline(always)]
unsafe fn block<V: Lane, const R: usize, const C: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller vouches for `R` rows, for the memory of every step, and for the instruction set.
    unsafe {
        let rows: [*const f32; R] = std::array::from_fn(|r| *tile.rows.get_unchecked(r));
        let mut sums = [[V::splat(0.0); C]; R];
        for (&at, &from) in tile.row_step.iter().zip(tile.vector_step) {
            let vector = tile.vector.add(from);
            let mut lanes = [V::splat(0.0); C];
            for (c, lane) in lanes.iter_mut().enumerate() {
                *lane = V::load(vector.add(c * V::WIDTH));
            }
            for r in 0..R {
                let scalar = V::splat(*rows[r].add(at));
                for c in 0..C {
                    sums[r][c] = sums[r][c].add_product(lanes[c], scalar);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (c, &sum) in row.iter().enumerate() {
                let to = tile.sums.add(r * tile.stride + c * V::WIDTH);
                let sum = if tile.accumulate {
                    sum.add_product(V::load(to), V::splat(1.0))
                } else {
                    sum
                };
                sum.store(to);
            }
        }
    }
}

/// Picks the block for a number of rows and vectors.
macro_rules! pick {
    ($lane:ty, $vectors:expr, $tile:expr, [$($c:literal: $($r:literal)+;)+]) => {
        match ($vectors, $tile.rows.len()) {
            $($(($c, $r) => block::<$lane, $r, $c>($tile),)+)+
            (c, r) => unreachable!("no tile of {r} rows and {c} vectors"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(vectors: usize, tile: &Tile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe {
        pick!(std::arch::x86_64::__m512, vectors, tile, [
            1: 1 2 3 4 5 6 7 8;
            2: 1 2 3 4 5 6 7 8;
            3: 1 2 3 4 5 6 7 8;
            4: 1 2 3 4 5 6;
        ])
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(vectors: usize, tile: &Tile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe { narrow::<std::arch::x86_64::__m256>(vectors, tile) }
}

/// The tiles for 16 registers.
#[inline(always)]
unsafe fn narrow<V: Lane>(vectors: usize, tile: &Tile<'_>) {
    // SAFETY: passed on to the caller.
    unsafe {
        pick!(V, vectors, tile, [
            1: 1 2 3 4 5 6 7 8;
            2: 1 2 3 4 5 6;
        ])
    }
}
