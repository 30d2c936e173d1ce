//! The weight gradient: for every tap, the product of the inputs it met with the output gradients.

use super::plane::Planes;
use super::shape::Geometry;
use super::tile::{self, Tile};
use crate::reduce::PIECE;
use crate::scratch;
use crate::simd::{Simd, simd_fn};
use crate::transpose::transpose;
use rayon::prelude::*;
use std::ops::Range;

/// Positions of several small images are summed in one pass, so that sums are loaded and stored rarely.
const POSITIONS: usize = 192;
/// With no more output channels than these, the tiles' vectors over channels would be nearly empty.
const FEW: usize = 2;

/// Images whose sums are taken in one go. Their number depends on the shape alone.
pub(crate) fn images_per_chunk(simd: Simd, g: &Geometry) -> usize {
    let len = g.groups * g.in_group * g.live_taps().count() * lanes(simd, g);
    let most = (1usize << 20).checked_div(len).unwrap_or(2).clamp(2, 16);
    g.batch.div_ceil(most).max(1)
}

fn lanes(simd: Simd, g: &Geometry) -> usize {
    g.out_group.next_multiple_of(simd.width())
}

/// Sums `grad_w [groups * out, in, kh, kw]` over the batch.
///
/// The batch is cut into [chunks](images_per_chunk); their sums are added in order, so that the bits do not depend on the number of
/// threads. `also` is called for a few images of a chunk at a time, with its part of `parts`, while their gradients are in the cache.
pub(crate) fn weight_grad<P: Send>(
    simd: Simd,
    g: &Geometry,
    x: &[f32],
    grad: &[f32],
    grad_w: &mut [f32],
    parts: &mut [P],
    also: impl Fn(Range<usize>, &mut P) + Sync,
) {
    let planes = Planes::input(g);
    let lanes = lanes(simd, g);
    let live: Vec<usize> = g.live_taps().map(|(.., place)| place).collect();
    let taps = g.in_group * live.len();
    let len = g.groups * taps * lanes;
    let per_chunk = images_per_chunk(simd, g);
    let chunks = g.batch.div_ceil(per_chunk);
    let images = |i: usize| i * per_chunk..g.batch.min((i + 1) * per_chunk);
    if chunks == 0 || taps == 0 {
        grad_w.fill(0.0);
        let parts = parts.par_iter_mut().enumerate();
        parts.for_each(|(i, part)| also(images(i), part));
        return;
    }
    assert_eq!(parts.len(), chunks);
    scratch::with(chunks * len, |sums| {
        sums.par_chunks_mut(len)
            .zip(parts)
            .enumerate()
            .for_each(|(i, (sums, part))| {
                chunk(simd, g, &planes, images(i), x, grad, sums, |images| {
                    also(images, part);
                });
            });
        let (total, rest) = sums.split_at_mut(len);
        total
            .par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(i, total)| {
                for chunk in rest.chunks_exact(len) {
                    for (total, v) in total.iter_mut().zip(&chunk[i * PIECE..]) {
                        *total += v;
                    }
                }
            });
        // Sums are stored by groups and blocks of channels, [tap][lane] in each.
        let total = &*total;
        let widest = tile::max_vectors(simd) * simd.width();
        let all = g.in_group * g.taps();
        let groups = grad_w.par_chunks_mut(g.out_group * all);
        groups
            .zip(total.par_chunks(lanes * taps))
            .for_each(|(grad_w, total)| {
                for first in (0..g.out_group).step_by(widest) {
                    let channels = (g.out_group - first).min(widest);
                    let width = channels.next_multiple_of(simd.width());
                    let from = (&total[first * taps..][..taps * width], width);
                    let to = &mut grad_w[first * all..][..channels * all];
                    if taps == all {
                        transpose(simd, [taps, channels], from, None, (to, taps));
                        continue;
                    }
                    scratch::with(channels * taps, |turned| {
                        transpose(simd, [taps, channels], from, None, (turned, taps));
                        to.fill(0.0);
                        let inputs = turned.chunks_exact(live.len());
                        for (to, from) in to.chunks_exact_mut(g.taps()).zip(inputs) {
                            for (&place, &v) in live.iter().zip(from) {
                                to[place] = v;
                            }
                        }
                    });
                }
            });
    });
}

/// Sums the images of one chunk into `sums [group][block of channels][tap][lane]`; `done` hears of images that will not be read again.
#[allow(clippy::too_many_arguments)]
fn chunk(
    simd: Simd,
    g: &Geometry,
    planes: &Planes,
    images: Range<usize>,
    x: &[f32],
    grad: &[f32],
    sums: &mut [f32],
    mut done: impl FnMut(Range<usize>),
) {
    if g.out_group <= FEW && planes.cols == g.out[1] {
        return chunk_by_dots(simd, g, planes, images, x, grad, sums, done);
    }
    let (positions, taps) = (g.out_plane(), g.in_group * g.live_taps().count());
    let at_once = (POSITIONS / positions).clamp(1, images.len());
    let widest = tile::max_vectors(simd) * simd.width();
    let lanes = g.out_group.next_multiple_of(simd.width());
    let mut row_step = Vec::with_capacity(at_once * positions);
    for image in 0..at_once {
        for y in 0..g.out[0] {
            let row = image * planes.len() + y * planes.cols;
            row_step.extend(row..row + g.out[1]);
        }
    }
    let mut tap_at = Vec::with_capacity(taps);
    for c in 0..g.in_group {
        for (ky, kx, _) in g.live_taps() {
            let tap = planes.tap([ky * g.dilation[0], kx * g.dilation[1]]);
            tap_at.push(c * planes.channel_len() + tap);
        }
    }
    let (x_group, y_group) = (g.in_group * g.input_plane(), g.out_group * positions);
    let first_image = images.start;
    scratch::with(at_once * planes.len(), |buffer| {
        scratch::with(at_once * positions * widest, |turned| {
            for group in 0..g.groups {
                let sums = &mut sums[group * lanes * taps..][..lanes * taps];
                for start in images.clone().step_by(at_once) {
                    let count = at_once.min(images.end - start);
                    for i in 0..count {
                        let from = ((start + i) * g.groups + group) * x_group;
                        planes.fill(
                            simd,
                            &x[from..from + x_group],
                            &mut buffer[i * planes.len()..],
                        );
                    }
                    let starts: Vec<*const f32> =
                        tap_at.iter().map(|&at| buffer[at..].as_ptr()).collect();
                    for first in (0..g.out_group).step_by(widest) {
                        let channels = (g.out_group - first).min(widest);
                        let width = channels.next_multiple_of(simd.width());
                        for i in 0..count {
                            let from = ((start + i) * g.groups + group) * y_group;
                            let to = &mut turned[i * positions * width..][..positions * width];
                            for to in to.chunks_exact_mut(width) {
                                to[channels..].fill(0.0);
                            }
                            let grad = (&grad[from + first * positions..], positions);
                            transpose(simd, [channels, positions], grad, None, (to, width));
                        }
                        add_products(
                            simd,
                            &starts,
                            &row_step[..count * positions],
                            turned,
                            width,
                            &mut sums[first * taps..][..taps * width],
                            start > first_image,
                        );
                    }
                    if group + 1 == g.groups {
                        done(start..start + count);
                    }
                }
            }
        });
    });
}

/// [`chunk`] for few output channels and windows of one column, whose taps meet the positions of an image in one run of values: a dot product each.
#[allow(clippy::too_many_arguments)]
fn chunk_by_dots(
    simd: Simd,
    g: &Geometry,
    planes: &Planes,
    images: Range<usize>,
    x: &[f32],
    grad: &[f32],
    sums: &mut [f32],
    mut done: impl FnMut(Range<usize>),
) {
    let (positions, lanes) = (g.out_plane(), lanes(simd, g));
    let (x_group, y_group) = (g.in_group * g.input_plane(), g.out_group * positions);
    let taps_of_group = g.in_group * g.live_taps().count();
    sums.fill(0.0);
    scratch::with(planes.len(), |buffer| {
        for image in images {
            for group in 0..g.groups {
                let at = image * g.groups + group;
                let source = &x[at * x_group..][..x_group];
                let values = if planes.is_source() {
                    source
                } else {
                    planes.fill(simd, source, buffer);
                    &*buffer
                };
                let grads = &grad[at * y_group..][..y_group];
                let taps = (0..g.in_group).flat_map(|c| {
                    g.live_taps().map(move |(ky, kx, _)| {
                        let tap = planes.tap([ky * g.dilation[0], kx * g.dilation[1]]);
                        c * planes.channel_len() + tap
                    })
                });
                let of_group = sums.chunks_exact_mut(lanes).skip(group * taps_of_group);
                for (start, sums) in taps.zip(of_group) {
                    for (sum, grad) in sums.iter_mut().zip(grads.chunks_exact(positions)) {
                        *sum += dot(simd, &values[start..start + positions], grad);
                    }
                }
            }
            done(image..image + 1);
        }
    });
}

simd_fn! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        // As many sums side by side as keep the multipliers busy.
        let mut lanes = [0f32; 64];
        let (mut rows, mut others) = (a.chunks_exact(64), b.chunks_exact(64));
        for (a, b) in (&mut rows).zip(&mut others) {
            for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
                *lane += a * b;
            }
        }
        for ((lane, a), b) in lanes.iter_mut().zip(rows.remainder()).zip(others.remainder()) {
            *lane += a * b;
        }
        lanes.iter().sum()
    }
}

/// `sums[tap][lane] (+)= Σ_s starts[tap][row_step[s]] * turned[s][lane]`.
fn add_products(
    simd: Simd,
    starts: &[*const f32],
    row_step: &[usize],
    turned: &[f32],
    width: usize,
    sums: &mut [f32],
    accumulate: bool,
) {
    let vectors = width / simd.width();
    let steps = row_step.len();
    assert!(turned.len() >= steps * width && sums.len() == starts.len() * width);
    let vector_step: Vec<usize> = (0..steps).map(|s| s * width).collect();
    let rows = tile::max_rows(simd, vectors);
    for (starts, sums) in starts.chunks(rows).zip(sums.chunks_mut(rows * width)) {
        let tile = Tile {
            rows: starts,
            row_step,
            vector: turned.as_ptr(),
            vector_step: &vector_step,
            sums: sums.as_mut_ptr(),
            stride: width,
            accumulate,
        };
        // SAFETY: `simd` was detected. A tap's start plus a position is inside its image's planes by
        // their construction; the asserts bound the vectors and the sums.
        unsafe { tile::run(simd, vectors, &tile) };
    }
}
