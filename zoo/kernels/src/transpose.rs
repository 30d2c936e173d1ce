//! Turns a matrix around, in blocks of 8 x 8 where the CPU has 256-bit vectors.

use crate::simd::Simd;

/// `to[c * to_stride + r] = from[r * from_stride + c] + bias[c]` for `rows x cols` values.
pub(crate) fn transpose(
    simd: Simd,
    [rows, cols]: [usize; 2],
    (from, from_stride): (&[f32], usize),
    bias: Option<&[f32]>,
    (to, to_stride): (&mut [f32], usize),
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(from.len() >= (rows - 1) * from_stride + cols);
    assert!(to.len() >= (cols - 1) * to_stride + rows);
    assert!(bias.is_none_or(|b| b.len() >= cols));
    let mut whole = [0, 0]; // rows and columns that are done in blocks
    if simd != Simd::Portable {
        whole = [rows / 8 * 8, cols / 8 * 8];
        #[cfg(target_arch = "x86_64")]
        for r in (0..whole[0]).step_by(8) {
            for c in (0..whole[1]).step_by(8) {
                // SAFETY: the other sets have AVX; the asserts bound all the blocks.
                unsafe {
                    block(
                        (from.as_ptr().add(r * from_stride + c), from_stride),
                        bias.map(|b| b.as_ptr().add(c)),
                        (to.as_mut_ptr().add(c * to_stride + r), to_stride),
                    );
                }
            }
        }
    }
    let mut one = |r: usize, c: usize| {
        to[c * to_stride + r] = from[r * from_stride + c] + bias.map_or(0.0, |b| b[c]);
    };
    for c in 0..cols {
        let first = if c < whole[1] { whole[0] } else { 0 };
        for r in first..rows {
            one(r, c);
        }
    }
}

/// Turns 8 x 8 values.
///
/// # Safety
/// The CPU has AVX; 8 floats can be read at 8 rows of `from` and at `bias`, and written at 8 rows of `to`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn block(
    (from, from_stride): (*const f32, usize),
    bias: Option<*const f32>,
    (to, to_stride): (*mut f32, usize),
) {
    use std::arch::x86_64::*;
    // SAFETY: the caller vouches for the memory.
    let rows: [__m256; 8] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_ps(from.add(i * from_stride)) });
    // Interleave pairs of rows, then pairs of pairs, then the halves.
    let pairs: [__m256; 8] = std::array::from_fn(|i| {
        let (a, b) = (rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
        if i % 2 == 0 {
            _mm256_unpacklo_ps(a, b)
        } else {
            _mm256_unpackhi_ps(a, b)
        }
    });
    let fours: [__m256; 8] = std::array::from_fn(|i| {
        let (a, b) = (
            pairs[i / 4 * 4 + i % 4 / 2],
            pairs[i / 4 * 4 + i % 4 / 2 + 2],
        );
        if i % 2 == 0 {
            _mm256_shuffle_ps::<0x44>(a, b)
        } else {
            _mm256_shuffle_ps::<0xEE>(a, b)
        }
    });
    for i in 0..8 {
        let (a, b) = (fours[i % 4], fours[i % 4 + 4]);
        let mut turned = if i < 4 {
            _mm256_permute2f128_ps::<0x20>(a, b)
        } else {
            _mm256_permute2f128_ps::<0x31>(a, b)
        };
        // SAFETY: the caller vouches for the memory.
        unsafe {
            if let Some(bias) = bias {
                turned = _mm256_add_ps(turned, _mm256_set1_ps(*bias.add(i)));
            }
            _mm256_storeu_ps(to.add(i * to_stride), turned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sizes_on_all_instruction_sets() {
        for (rows, cols) in [
            (1, 1),
            (8, 8),
            (7, 9),
            (16, 24),
            (23, 17),
            (3, 40),
            (0, 4),
            (4, 0),
        ] {
            let (from_stride, to_stride) = (cols + 3, rows + 2);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let bias: Vec<f32> = (0..cols).map(|i| i as f32 * 0.5).collect();
            for simd in Simd::available() {
                let mut to = vec![-1.0; cols * to_stride];
                transpose(
                    simd,
                    [rows, cols],
                    (&from, from_stride),
                    Some(&bias),
                    (&mut to, to_stride),
                );
                for (i, &to) in to.iter().enumerate() {
                    let (c, r) = (i / to_stride, i % to_stride);
                    let expected = if r < rows {
                        from[r * from_stride + c] + bias[c]
                    } else {
                        -1.0
                    };
                    assert_eq!(to, expected, "{rows} x {cols}, {simd:?}, ({r}, {c})");
                }
            }
        }
    }
}
