//! The product behind forward and input gradient: sums over the taps of windows in prepared planes.
//!
//! Both are `y[channel, position] = Σ_s planes[position + step[s]] * w[s, channel]`. Vectors run along the
//! channels (no lane is wasted for 16, 32, 64... channels) or, where there are few channels or few steps,
//! along the positions of whole rows.

use super::tile::{self, Tile};
use crate::scratch;
use crate::simd::{Simd, simd_fn};
use crate::transpose::transpose;

/// Steps whose weights stay in the first-level cache while all positions pass by.
const STEPS: usize = 64;

/// Positions on a grid, the steps each of them sums over, and where the sums go.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// Offset in the planes of each step.
    pub steps: Vec<usize>,
    /// Index in the weights of each step, for channel 0.
    pub weights: Vec<usize>,
    /// From a channel to the next in the weights.
    pub weight_stride: usize,
    /// Rows and columns of the grid.
    pub rows: usize,
    pub cols: usize,
    /// The planes' index of the first position, and the length of their rows.
    pub start: usize,
    pub pitch: usize,
    /// The destination's index of the first position, and its distance to the next row and column.
    pub to: usize,
    pub to_row: usize,
    pub to_col: usize,
}

/// The weights of one group, packed for [`Windows::run`].
#[derive(Debug)]
pub(crate) struct Packing {
    along_channels: bool,
    channels: usize,
    len: usize,
}

/// What one run works on: an image's planes and weights of one group.
pub(crate) struct Group<'a> {
    pub packing: &'a Packing,
    /// The packed weights.
    pub packed: &'a [f32],
    /// At least [`Windows::reads`] values.
    pub planes: &'a [f32],
    /// A value for each of the group's channels.
    pub bias: Option<&'a [f32]>,
    /// Values of one channel of the destination.
    pub plane: usize,
}

impl Windows {
    /// Chooses along what to vectorise.
    pub fn packing(&self, simd: Simd, channels: usize) -> Packing {
        let width = simd.width();
        let fill = |n: usize| n as f64 / n.next_multiple_of(width).max(1) as f64;
        let used = self.rows * self.cols;
        let by_position = fill(self.span()) * used as f64 / self.span().max(1) as f64;
        // Turning the sums into planes costs about as much as 24 steps more than copying rows.
        let steps = self.steps.len() as f64;
        let along_channels = steps / fill(channels) + 24.0 < steps / by_position;
        let lanes = if along_channels {
            channels.next_multiple_of(width)
        } else {
            channels
        };
        Packing {
            along_channels,
            channels,
            len: lanes * self.steps.len(),
        }
    }

    /// Positions from the first to the last, with those between the rows.
    fn span(&self) -> usize {
        match self.rows {
            0 => 0,
            rows => (rows - 1) * self.pitch + self.cols,
        }
    }

    /// Grids of some of the rows each, at most `count`; their sums go to planes of their own.
    pub fn bands(&self, count: usize) -> Vec<Windows> {
        let height = self.rows.div_ceil(count.max(1)).max(1);
        (0..self.rows)
            .step_by(height)
            .map(|first| Windows {
                rows: height.min(self.rows - first),
                start: self.start + first * self.pitch,
                to: 0,
                to_row: self.cols,
                to_col: 1,
                ..self.clone()
            })
            .collect()
    }

    /// Copies the sums of a band, whose first row is `first`, to where they belong.
    pub fn place(&self, band: &Windows, first: usize, sums: &[f32], to: &mut [f32], plane: usize) {
        let size = band.rows * band.cols;
        for (to, sums) in to.chunks_exact_mut(plane).zip(sums.chunks_exact(size)) {
            for (row, sums) in sums.chunks_exact(band.cols).enumerate() {
                let at = self.to + (first + row) * self.to_row;
                let to = to[at..].iter_mut().step_by(self.to_col);
                to.zip(sums).for_each(|(to, sum)| *to = *sum);
            }
        }
    }

    /// Values that a run may read after the start of the planes.
    pub fn reads(&self, simd: Simd, packing: &Packing) -> usize {
        let last = self.start + self.steps.iter().max().unwrap_or(&0);
        if packing.along_channels {
            last + self.span()
        } else {
            last + self.span().next_multiple_of(simd.width())
        }
    }

    /// Packs the weights of one group.
    pub fn pack(&self, simd: Simd, packing: &Packing, weights: &[f32], packed: &mut [f32]) {
        let steps = self.weights.len();
        // The convolution itself takes every weight in order: whole blocks can be turned around.
        let in_order = self.weights.iter().enumerate().all(|(i, &w)| i == w);
        for (first, lanes, channels) in packing.blocks(simd) {
            let packed = &mut packed[first * steps..][..lanes * steps];
            if channels < lanes {
                packed.fill(0.0);
            }
            if in_order {
                let from = (&weights[first * self.weight_stride..], self.weight_stride);
                transpose(simd, [channels, steps], from, None, (packed, lanes));
                continue;
            }
            for (to, &w) in packed.chunks_exact_mut(lanes).zip(&self.weights) {
                for (j, to) in to[..channels].iter_mut().enumerate() {
                    *to = weights[w + (first + j) * self.weight_stride];
                }
            }
        }
    }

    /// Sums all positions for all channels of one image and group, and adds the bias.
    ///
    /// `to` is the group's channels, each of `group.plane` values.
    pub fn run(&self, simd: Simd, group: &Group<'_>, to: &mut [f32]) {
        if self.rows * self.cols == 0 {
            return;
        }
        let packing = group.packing;
        assert!(group.planes.len() >= self.reads(simd, packing));
        assert!(group.packed.len() >= packing.len && self.steps.len() == self.weights.len());
        assert!(to.len() >= packing.channels * group.plane);
        if packing.along_channels {
            self.along_channels(simd, group, to);
        } else {
            self.along_positions(simd, group, to);
        }
    }

    fn along_channels(&self, simd: Simd, group: &Group<'_>, to: &mut [f32]) {
        let positions = self.rows * self.cols;
        let starts: Vec<*const f32> = (0..positions)
            .map(|p| self.start + p / self.cols * self.pitch + p % self.cols)
            .map(|at| group.planes[at..].as_ptr())
            .collect();
        let widest = tile::max_vectors(simd) * simd.width();
        scratch::with(positions * widest, |sums| {
            for (first, lanes, channels) in group.packing.blocks(simd) {
                let weights = &group.packed[first * self.steps.len()..];
                let weights = &weights[..lanes * self.steps.len()];
                let vectors = lanes / simd.width();
                let vector_step: Vec<usize> = (0..STEPS).map(|s| s * lanes).collect();
                for (block, steps) in self.steps.chunks(STEPS).enumerate() {
                    let mut p = 0;
                    while p < positions {
                        let rows = (positions - p).min(tile::max_rows(simd, vectors));
                        let tile = Tile {
                            rows: &starts[p..p + rows],
                            row_step: steps,
                            vector: weights[block * STEPS * lanes..].as_ptr(),
                            vector_step: &vector_step[..steps.len()],
                            sums: sums[p * lanes..][..rows * lanes].as_mut_ptr(),
                            stride: lanes,
                            accumulate: block > 0,
                        };
                        // SAFETY: `simd` was detected. A position's start plus a step is less than `reads`,
                        // which `run` compared with the planes; the weights hold `lanes` floats a step,
                        // and the sums `lanes` floats a row.
                        unsafe { tile::run(simd, vectors, &tile) };
                        p += rows;
                    }
                }
                let bias = group.bias.map(|b| &b[first..first + channels]);
                let to = &mut to[first * group.plane..(first + channels) * group.plane];
                let sums = &sums[..positions * lanes];
                if self.to_col == 1 && self.to_row == self.cols {
                    let to = (&mut to[self.to..], group.plane);
                    transpose(simd, [positions, channels], (sums, lanes), bias, to);
                } else {
                    self.spread(sums, lanes, bias, to, group.plane);
                }
            }
        });
    }

    /// Turns `sums [position][lane]` into planes whose rows or columns are apart.
    fn spread(
        &self,
        sums: &[f32],
        lanes: usize,
        bias: Option<&[f32]>,
        to: &mut [f32],
        plane: usize,
    ) {
        // A few positions at a time, so that their sums stay in the first-level cache.
        for row in 0..self.rows {
            for first in (0..self.cols).step_by(16) {
                let n = (self.cols - first).min(16);
                let sums = &sums[(row * self.cols + first) * lanes..][..n * lanes];
                let at = self.to + row * self.to_row + first * self.to_col;
                for (j, to) in to.chunks_exact_mut(plane).enumerate() {
                    let bias = bias.map_or(0.0, |b| b[j]);
                    let to = to[at..].iter_mut().step_by(self.to_col);
                    for (to, sums) in to.zip(sums.chunks_exact(lanes)) {
                        *to = sums[j] + bias;
                    }
                }
            }
        }
    }

    fn along_positions(&self, simd: Simd, group: &Group<'_>, to: &mut [f32]) {
        let width = simd.width();
        let span = self.span();
        let stride = tile::max_vectors(simd) * width;
        let padded = span.next_multiple_of(width);
        scratch::with(8 * padded, |sums| {
            for (first, rows, channels) in group.packing.blocks(simd) {
                let weights = &group.packed[first * self.steps.len()..];
                let weights = &weights[..rows * self.steps.len()];
                let starts: Vec<*const f32> = (0..rows)
                    .map(|r| weights.as_ptr().wrapping_add(r))
                    .collect();
                let row_step: Vec<usize> = (0..self.steps.len()).map(|s| s * rows).collect();
                for p in (0..padded).step_by(stride) {
                    let tile = Tile {
                        rows: &starts,
                        row_step: &row_step,
                        vector: group.planes[self.start + p..].as_ptr(),
                        vector_step: &self.steps,
                        sums: sums[p..].as_mut_ptr(),
                        stride: padded,
                        accumulate: false,
                    };
                    // SAFETY: `simd` was detected. The vectors end at most at `padded` after a step, which
                    // `reads` counts and `run` compared with the planes; `rows` is at most 6, so the sums
                    // (8 rows of `padded`) hold them; the weights hold `rows` floats a step.
                    unsafe { tile::run(simd, (padded - p).min(stride) / width, &tile) };
                }
                for j in 0..channels {
                    let bias = group.bias.map_or(0.0, |b| b[first + j]);
                    let to = &mut to[(first + j) * group.plane..][..group.plane];
                    let from = (&sums[j * padded..(j + 1) * padded], self.pitch);
                    let to = (&mut to[self.to..], self.to_row, self.to_col);
                    add_rows(simd, from, bias, to, [self.rows, self.cols]);
                }
            }
        });
    }
}

simd_fn! {
    /// Copies rows of a grid to where they belong, and adds `bias`: (values, row to row, column to column).
    fn add_rows(from: (&[f32], usize), bias: f32, to: (&mut [f32], usize, usize), size: [usize; 2]) {
        let ((from, from_row), (to, to_row, to_col), [rows, cols]) = (from, to, size);
        for row in 0..rows {
            let (from, to) = (&from[row * from_row..][..cols], &mut to[row * to_row..]);
            if to_col == 1 {
                add_row(from, bias, &mut to[..cols]);
            } else {
                for (to, from) in to.iter_mut().step_by(to_col).zip(from) {
                    *to = from + bias;
                }
            }
        }
    }
}

/// `to = from + bias` for a short row, in a few vectors that may overlap.
#[inline(always)]
fn add_row(from: &[f32], bias: f32, to: &mut [f32]) {
    #[inline(always)]
    fn part<const N: usize>(from: &[f32], bias: f32, to: &mut [f32], at: usize) {
        let (from, to) = (&from[at..at + N], &mut to[at..at + N]);
        for i in 0..N {
            to[i] = from[i] + bias;
        }
    }
    let n = to.len();
    match n {
        8..16 => {
            part::<8>(from, bias, to, 0);
            part::<8>(from, bias, to, n - 8);
        }
        16..=32 => {
            part::<16>(from, bias, to, 0);
            part::<16>(from, bias, to, n - 16);
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from + bias;
            }
        }
    }
}

impl Packing {
    /// Floats of the packed weights.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Blocks of channels: (first, lanes with padding, channels).
    pub fn blocks(&self, simd: Simd) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let width = simd.width();
        let (size, unit) = if self.along_channels {
            (tile::max_vectors(simd) * width, width)
        } else {
            (tile::max_rows(simd, tile::max_vectors(simd)), 1)
        };
        let all = self.channels;
        (0..all).step_by(size).map(move |first| {
            let channels = (all - first).min(size);
            (first, channels.next_multiple_of(unit), channels)
        })
    }
}
