//! Runs plans over batches: the images in parallel, or a single one in bands.

use super::engine::{Group, Packing, Windows};
use super::plan::Plan;
use super::shape::Geometry;
use super::weight;
use crate::reduce::sum as sum_of;
use crate::scratch;
use crate::simd::Simd;
use rayon::prelude::*;

/// Multiplications in an image that is worth cutting.
const LARGE: usize = 1 << 20;

/// A plan with its weights packed.
pub(super) struct Ready<'a> {
    simd: Simd,
    groups: usize,
    plan: &'a Plan,
    packings: &'a [Packing],
    /// Those of all grids, group by group.
    packed: &'a [f32],
    bias: Option<&'a [f32]>,
}

/// Packs the weights of `plan` and lends it to `body`.
pub(super) fn ready<T>(
    simd: Simd,
    groups: usize,
    plan: &Plan,
    w: &[f32],
    bias: Option<&[f32]>,
    body: impl FnOnce(&Ready<'_>) -> T,
) -> T {
    let packings: Vec<_> = plan
        .grids
        .iter()
        .map(|grid| grid.packing(simd, plan.to.channels))
        .collect();
    let packed_len: usize = packings.iter().map(Packing::len).sum();
    scratch::with(packed_len * groups, |packed| {
        for (w, packed) in w
            .chunks_exact((w.len() / groups).max(1))
            .zip(packed.chunks_exact_mut(packed_len.max(1)))
        {
            let mut at = 0;
            for (grid, packing) in plan.grids.iter().zip(&packings) {
                grid.pack(simd, packing, w, &mut packed[at..]);
                at += packing.len();
            }
        }
        body(&Ready {
            simd,
            groups,
            plan,
            packings: &packings,
            packed,
            bias,
        })
    })
}

impl Ready<'_> {
    /// Runs every grid of windows over every image and group: the images in parallel, or where there are fewer than threads, each in bands of
    /// rows. Either way the same bits.
    fn run(&self, x: &[f32], y: &mut [f32]) {
        let (from, to) = (self.plan.from, self.plan.to);
        let image = self.groups * to.channels * to.plane;
        if image == 0 || y.is_empty() {
            return;
        }
        let threads = rayon::current_num_threads();
        let steps: usize = self.plan.grids.iter().map(|grid| grid.steps.len()).sum();
        let large =
            steps.saturating_mul(to.channels * to.plane) / self.plan.grids.len().max(1) > LARGE;
        let cut = y.len() / image < threads && large;
        y.par_chunks_mut(image).enumerate().for_each(|(n, y)| {
            let x = &x[n * self.groups * from.channels * from.plane..];
            if cut {
                self.image_in_bands(x, y, threads);
            } else {
                self.image(x, y);
            }
        });
    }

    /// Each group's planes, of which at least `reads` values can be read, and its part of `y`. `x` starts at the image.
    fn each_group(
        &self,
        x: &[f32],
        y: &mut [f32],
        reads: usize,
        mut run: impl FnMut(usize, &[f32], &mut [f32]),
    ) {
        let Plan {
            planes, from, to, ..
        } = self.plan;
        let from_group = from.channels * from.plane;
        for (group, y) in y.chunks_exact_mut(to.channels * to.plane).enumerate() {
            let x = &x[group * from_group..];
            // Tiles may read past the last image only in a copy.
            if planes.is_source() && x.len() >= reads {
                run(group, x, y);
            } else {
                scratch::with(reads, |buffer| {
                    planes.fill(self.simd, &x[..from_group], buffer);
                    run(group, buffer, y);
                });
            }
        }
    }

    /// The grids with their packings and packed weights.
    fn grids(&self, group: usize) -> impl Iterator<Item = (&Windows, &Packing, &[f32])> {
        let packed_len: usize = self.packings.iter().map(Packing::len).sum();
        let mut at = group * packed_len;
        let grids = self.plan.grids.iter().zip(self.packings);
        grids.map(move |(grid, packing)| {
            let packed = &self.packed[at..];
            at += packing.len();
            (grid, packing, packed)
        })
    }

    fn bias_of(&self, group: usize) -> Option<&[f32]> {
        let channels = self.plan.to.channels;
        self.bias.map(|b| &b[group * channels..][..channels])
    }

    /// One image on this thread.
    fn image(&self, x: &[f32], y: &mut [f32]) {
        let grids = self.plan.grids.iter().zip(self.packings);
        let reads = grids
            .map(|(grid, packing)| grid.reads(self.simd, packing))
            .fold(self.plan.planes.len(), usize::max);
        self.each_group(x, y, reads, |group, planes, y| {
            for (grid, packing, packed) in self.grids(group) {
                let group = Group {
                    packing,
                    packed,
                    planes,
                    bias: self.bias_of(group),
                    plane: self.plan.to.plane,
                };
                grid.run(self.simd, &group, y);
            }
        });
    }

    /// One image, in about `count` bands of rows of each grid, in parallel.
    pub(super) fn image_in_bands(&self, x: &[f32], y: &mut [f32], count: usize) {
        let channels = self.plan.to.channels;
        let bands: Vec<Vec<Windows>> = self
            .plan
            .grids
            .iter()
            .map(|grid| grid.bands(count))
            .collect();
        let reads = bands
            .iter()
            .zip(self.packings)
            .flat_map(|(bands, packing)| bands.iter().map(|band| band.reads(self.simd, packing)))
            .fold(self.plan.planes.len(), usize::max);
        self.each_group(x, y, reads, |group, planes, y| {
            for ((grid, packing, packed), bands) in self.grids(group).zip(&bands) {
                let sums: Vec<Vec<f32>> = bands
                    .par_iter()
                    .map(|band| {
                        let plane = band.rows * band.cols;
                        let mut sums = vec![0.0; channels * plane];
                        let group = Group {
                            packing,
                            packed,
                            planes,
                            bias: self.bias_of(group),
                            plane,
                        };
                        band.run(self.simd, &group, &mut sums);
                        sums
                    })
                    .collect();
                let mut first = 0;
                for (band, sums) in bands.iter().zip(&sums) {
                    grid.place(band, first, sums, y, self.plan.to.plane);
                    first += band.rows;
                }
            }
        });
    }
}

/// Runs a plan over every image.
pub(super) fn product(
    simd: Simd,
    groups: usize,
    plan: &Plan,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    ready(simd, groups, plan, w, bias, |ready| ready.run(x, y));
}

/// One chunk's part of the gradients that are computed along with that of the weights.
struct Part<'a> {
    first_image: usize,
    x: Option<&'a mut [f32]>,
    bias: Option<&'a mut [f64]>,
}

/// Gradients of a product whose output gradient `plan` reads: `grad_w` from `images` as the weight gradient takes them, and along with it
/// those for the input and the bias.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    simd: Simd,
    g: &Geometry,
    plan: &Plan,
    w: &[f32],
    grad: &[f32],
    images: [&[f32]; 2],
    [grad_x, grad_bias]: [Option<&mut [f32]>; 2],
    grad_w: &mut [f32],
) {
    let per_chunk = weight::images_per_chunk(simd, g);
    let (chunks, channels) = (g.batch.div_ceil(per_chunk), g.groups * plan.from.channels);
    let (from_image, to_image) = (
        channels * plan.from.plane,
        g.groups * plan.to.channels * plan.to.plane,
    );
    let mut sums = vec![
        0f64;
        if grad_bias.is_some() {
            chunks * channels
        } else {
            0
        }
    ];
    let mut parts_of_bias = sums.chunks_mut(channels);
    let mut parts_of_x = grad_x.map(|grad_x| grad_x.chunks_mut(per_chunk * to_image));
    let mut parts: Vec<Part<'_>> = (0..chunks)
        .map(|i| Part {
            first_image: i * per_chunk,
            x: parts_of_x.as_mut().and_then(Iterator::next),
            bias: parts_of_bias.next(),
        })
        .collect();
    let [x, y] = images;
    ready(simd, g.groups, plan, w, None, |ready| {
        weight::weight_grad(simd, g, x, y, grad_w, &mut parts, |images, part| {
            for n in images {
                let own = &grad[n * from_image..(n + 1) * from_image];
                if let Some(bias) = &mut part.bias {
                    for (sum, plane) in bias.iter_mut().zip(own.chunks_exact(plan.from.plane)) {
                        *sum += sum_of(simd, plane);
                    }
                }
                if let Some(grad_x) = &mut part.x {
                    let at = (n - part.first_image) * to_image;
                    ready.image(&grad[n * from_image..], &mut grad_x[at..at + to_image]);
                }
            }
        });
    });
    if let Some(grad_bias) = grad_bias {
        for (c, to) in grad_bias.iter_mut().enumerate() {
            *to = sums.iter().skip(c).step_by(channels).sum::<f64>() as f32;
        }
    }
}
