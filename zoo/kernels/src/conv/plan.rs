//! What a convolution and its adjoint compute, from their geometry.

use super::engine::Windows;
use super::plane::Planes;
use super::shape::Geometry;

/// Each output gathers its window.
pub(super) fn gathering(g: &Geometry) -> Plan {
    let planes = Planes::input(g);
    let mut steps = Vec::with_capacity(g.in_group * g.taps());
    let mut weights = Vec::with_capacity(steps.capacity());
    for c in 0..g.in_group {
        for (ky, kx, place) in g.live_taps() {
            let tap = planes.tap([ky * g.dilation[0], kx * g.dilation[1]]);
            steps.push(c * planes.channel_len() + tap);
            weights.push(c * g.taps() + place);
        }
    }
    let windows = Windows {
        weights,
        weight_stride: g.in_group * g.taps(),
        steps,
        rows: g.out[0],
        cols: g.out[1],
        start: 0,
        pitch: planes.cols,
        to: 0,
        to_row: g.out[1],
        to_col: 1,
    };
    let from = Images {
        channels: g.in_group,
        plane: g.input_plane(),
    };
    let to = Images {
        channels: g.out_group,
        plane: g.out_plane(),
    };
    Plan {
        planes,
        grids: vec![windows],
        from,
        to,
    }
}

/// One grid of windows for each phase of the stride: every input value is written once, from the outputs whose windows it is in.
pub(super) fn scattering(g: &Geometry) -> Plan {
    let planes = Planes::output(g);
    let mut grids = Vec::new();
    for a in phase_grid(g, 0) {
        for b in phase_grid(g, 1) {
            let mut windows = Windows {
                steps: Vec::new(),
                weights: Vec::new(),
                weight_stride: g.taps(),
                rows: a.count,
                cols: b.count,
                start: a.first * planes.cols + b.first,
                pitch: planes.cols,
                to: a.to * g.input[1] + b.to,
                to_row: g.stride[0] * g.input[1],
                to_col: g.stride[1],
            };
            for o in 0..g.out_group {
                for &(ky, back_y) in &a.taps {
                    for &(kx, back_x) in &b.taps {
                        if !g.live.has(ky * g.kernel[1] + kx) {
                            continue;
                        }
                        let tap = back_y * planes.cols + back_x;
                        windows.steps.push(o * planes.channel_len() + tap);
                        windows
                            .weights
                            .push(o * g.in_group * g.taps() + ky * g.kernel[1] + kx);
                    }
                }
            }
            grids.push(windows);
        }
    }
    let from = Images {
        channels: g.out_group,
        plane: g.out_plane(),
    };
    let to = Images {
        channels: g.in_group,
        plane: g.input_plane(),
    };
    Plan {
        planes,
        grids,
        from,
        to,
    }
}

/// The rows (or columns) of the input in one phase of the stride.
struct Phase {
    /// The first window that such a row can belong to, as its first.
    first: usize,
    /// Rows of the phase.
    count: usize,
    /// The first of them.
    to: usize,
    /// The taps that meet this phase, and how far behind the reach their windows are.
    taps: Vec<(usize, usize)>,
}

fn phase_grid(g: &Geometry, axis: usize) -> Vec<Phase> {
    let (stride, padding, reach) = (g.stride[axis], g.padding[axis], g.reach(axis));
    let end = padding + g.input[axis]; // in padded rows
    (0..stride.min(end))
        .filter_map(|phase| {
            let first = padding.saturating_sub(phase).div_ceil(stride);
            let to = first * stride + phase;
            if to >= end {
                return None;
            }
            let taps = (0..g.kernel[axis])
                .map(|k| (k, k * g.dilation[axis]))
                .filter(|(_, at)| at % stride == phase)
                .map(|(k, at)| (k, reach - at / stride))
                .collect();
            Some(Phase {
                first,
                count: (end - to).div_ceil(stride),
                to: to - padding,
                taps,
            })
        })
        .collect()
}

/// The layout of one side of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Images {
    /// Channels per group.
    pub channels: usize,
    /// Values of one channel.
    pub plane: usize,
}

/// What to compute for each image and group.
pub(super) struct Plan {
    pub planes: Planes,
    pub grids: Vec<Windows>,
    pub from: Images,
    pub to: Images,
}
