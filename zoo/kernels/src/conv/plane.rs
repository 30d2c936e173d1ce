//! Images padded with zeros and split by stride, so that every tap of a window is a constant offset.

use super::shape::Geometry;
use crate::simd::{Simd, simd_fn};

/// How the channels of one group are laid out for the tiles: `[channel][phase row][phase column][rows][cols]`.
///
/// Row `i` of vertical phase `a` is row `i * stride + a - padding` of the image. A window that moves by
/// the stride therefore moves by one in its phase. Rows and columns outside the image are zero.
#[derive(Debug)]
pub(crate) struct Planes {
    channels: usize,
    source: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    phases: [Vec<usize>; 2],
    pub rows: usize,
    pub cols: usize,
}

impl Planes {
    /// The input of a convolution, for its output and its weight gradient.
    pub fn input(g: &Geometry) -> Planes {
        let phases = [0, 1].map(|i| {
            let mut phases: Vec<usize> = (0..g.kernel[i])
                .map(|k| k * g.dilation[i] % g.stride[i])
                .collect();
            phases.sort_unstable();
            phases.dedup();
            phases
        });
        Planes {
            channels: g.in_group,
            source: g.input,
            stride: g.stride,
            padding: g.padding,
            phases,
            rows: g.out[0] + g.reach(0),
            cols: g.out[1] + g.reach(1),
        }
    }

    /// The output gradient of a convolution, for its input gradient.
    pub fn output(g: &Geometry) -> Planes {
        // The last window that a row or column of the input can belong to.
        let last = |i: usize| (g.padding[i] + g.input[i] - 1) / g.stride[i];
        Planes {
            channels: g.out_group,
            source: g.out,
            stride: [1, 1],
            padding: [g.reach(0), g.reach(1)],
            phases: [vec![0], vec![0]],
            rows: last(0) + g.reach(0) + 1,
            cols: last(1) + g.reach(1) + 1,
        }
    }

    /// Values of one image's planes.
    pub fn len(&self) -> usize {
        self.channel_len() * self.channels
    }

    /// Values of one channel's planes.
    pub fn channel_len(&self) -> usize {
        self.phases[0].len() * self.phases[1].len() * self.rows * self.cols
    }

    /// Where the tap at distance `tap` (in rows and columns of the image) from the first starts in a channel.
    pub fn tap(&self, tap: [usize; 2]) -> usize {
        let [a, b] = [0, 1].map(|i| {
            let phase = tap[i] % self.stride[i];
            self.phases[i].partition_point(|&p| p < phase)
        });
        let plane = (a * self.phases[1].len() + b) * self.rows * self.cols;
        plane + tap[0] / self.stride[0] * self.cols + tap[1] / self.stride[1]
    }

    /// Whether the planes are the image itself, byte for byte.
    pub fn is_source(&self) -> bool {
        self.stride == [1, 1] && self.padding == [0, 0] && self.source == [self.rows, self.cols]
    }

    /// Copies `image [channels, rows, cols]` into `planes`.
    pub fn fill(&self, simd: Simd, image: &[f32], planes: &mut [f32]) {
        if self.is_source() {
            planes[..image.len()].copy_from_slice(image);
            return;
        }
        let plane = self.rows * self.cols;
        let [height, width] = self.source;
        let mut out = planes[..self.len()].chunks_exact_mut(plane);
        for channel in image.chunks_exact(height * width) {
            for &a in &self.phases[0] {
                for &b in &self.phases[1] {
                    if let Some(out) = out.next() {
                        self.fill_phase(simd, channel, a, b, out);
                    }
                }
            }
        }
    }

    fn fill_phase(&self, simd: Simd, channel: &[f32], a: usize, b: usize, out: &mut [f32]) {
        let width = self.source[1];
        let rows = self.inside(0, a, self.rows);
        let cols = self.inside(1, b, self.cols);
        out.fill(0.0);
        if rows.is_empty() || cols.is_empty() {
            return;
        }
        let from = cols.start * self.stride[1] + b - self.padding[1];
        let first = rows.start * self.stride[0] + a - self.padding[0];
        copy_rows(
            simd,
            &channel[first * width + from..],
            self.stride[0] * width,
            self.stride[1],
            &mut out[rows.start * self.cols + cols.start..],
            self.cols,
            [rows.len(), cols.len()],
        );
    }

    /// The indices of a phase that lie inside the image.
    fn inside(&self, axis: usize, phase: usize, len: usize) -> std::ops::Range<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let start = padding.saturating_sub(phase).div_ceil(stride);
        let end = (self.source[axis] + padding)
            .saturating_sub(phase)
            .div_ceil(stride);
        start..end.clamp(start, len.max(start))
    }
}

simd_fn! {
    /// Copies `rows x cols` values that are `step` apart in their rows.
    fn copy_rows(
        from: &[f32], from_row: usize, step: usize, to: &mut [f32], to_row: usize, size: [usize; 2],
    ) {
        let [rows, cols] = size;
        for row in 0..rows {
            let (from, to) = (&from[row * from_row..], &mut to[row * to_row..][..cols]);
            match step {
                1 => copy_row(&from[..cols], to),
                2 => {
                    let (pairs, last) = (from.chunks_exact(2), cols - cols.min(from.len() / 2));
                    for (to, pair) in to.iter_mut().zip(pairs) {
                        *to = pair[0];
                    }
                    if last > 0 {
                        to[cols - 1] = from[2 * (cols - 1)];
                    }
                }
                _ => {
                    for (to, from) in to.iter_mut().zip(from.iter().step_by(step)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// Copies a row of the same length. Rows of images are short: a call for each costs more than its values, so they are copied in a few
/// vectors that may overlap.
#[inline(always)]
fn copy_row(from: &[f32], to: &mut [f32]) {
    #[inline(always)]
    fn part<const N: usize>(from: &[f32], to: &mut [f32], at: usize) {
        to[at..at + N].copy_from_slice(&from[at..at + N]);
    }
    let n = to.len();
    match n {
        4..8 => {
            part::<4>(from, to, 0);
            part::<4>(from, to, n - 4);
        }
        8..16 => {
            part::<8>(from, to, 0);
            part::<8>(from, to, n - 8);
        }
        16..=32 => {
            part::<16>(from, to, 0);
            part::<16>(from, to, n - 16);
        }
        33..=64 => {
            part::<16>(from, to, 0);
            part::<16>(from, to, 16);
            part::<16>(from, to, n - 32);
            part::<16>(from, to, n - 16);
        }
        _ => to.copy_from_slice(from),
    }
}
