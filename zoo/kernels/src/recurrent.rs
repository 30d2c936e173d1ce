//! The recurrence of a Row LSTM, forward and backward through all rows of an image.
//!
//! A state goes from row to row, convolved along each (van den Oord et al., 2016). Inside, values are laid out by position, channels
//! last: the products' vectors run along channels, and so do the gates.

use crate::conv::tile::{self, Tile};
use crate::error::{KernelError, expect_len, product};
use crate::math::{sigmoid, tanh};
use crate::scratch;
use crate::simd::{Simd, simd_fn};
use crate::transpose::transpose;
use rayon::prelude::*;

/// Lanes of gates are padded to the widest vector, whatever the CPU has.
const WIDEST: usize = 16;

/// What a row scan goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLstmShape {
    /// Images; may be 0.
    pub batch: usize,
    /// Channels of the state.
    pub channels: usize,
    /// Rows of an image, from the first to the last of which the state goes.
    pub rows: usize,
    /// Columns of an image.
    pub cols: usize,
    /// Width of the state's convolution, odd; a row is padded with zeros to keep its length.
    pub kernel: usize,
}

impl RowLstmShape {
    fn check(&self) -> Result<(), KernelError> {
        let op = "row_lstm";
        if self.kernel.is_multiple_of(2) || self.channels == 0 {
            return Err(KernelError::Shape {
                op,
                what: format!(
                    "kernel {} must be odd, and channels {} at least 1",
                    self.kernel, self.channels
                ),
            });
        }
        let width = self.cols.saturating_add(self.kernel);
        let lanes = self.channels.saturating_mul(4).saturating_add(WIDEST);
        product(op, "gates", &[self.batch, self.rows, width, lanes])?;
        product(op, "w", &[lanes, self.channels, self.kernel])?;
        Ok(())
    }

    fn plane(&self) -> usize {
        self.rows * self.cols
    }

    fn gates(&self) -> usize {
        4 * self.channels
    }

    /// Gates with padding.
    fn lanes(&self) -> usize {
        self.gates().next_multiple_of(WIDEST)
    }

    /// Positions of a padded row.
    fn padded(&self) -> usize {
        self.cols + self.kernel - 1
    }

    fn weights(&self) -> usize {
        self.gates() * self.channels * self.kernel
    }

    /// Saved values of an image: gates, then cells.
    fn saved_image(&self) -> usize {
        self.plane() * (self.lanes() + self.channels)
    }

    /// Values that [`row_lstm`] saves for [`row_lstm_grad`].
    pub fn saved_len(&self) -> Result<usize, KernelError> {
        self.check()?;
        Ok(self.batch * self.saved_image())
    }
}

/// Writes the states `h [batch, channels, rows, cols]` of a Row LSTM, and into `saved` what its gradient needs.
///
/// For each row, `gates = x[row] + bias + conv(h of the row above, w)`; then, with the gates' four quarters i, f, o and g,
/// `cell = sigmoid(f) cell + sigmoid(i) tanh(g)` and `h = sigmoid(o) tanh(cell)`. `x [batch, 4 channels, rows, cols]`,
/// `w [4 channels, channels, kernel]`, `bias [4 channels]`.
pub fn row_lstm(
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    shape: &RowLstmShape,
    saved: &mut [f32],
    h: &mut [f32],
) -> Result<(), KernelError> {
    let op = "row_lstm";
    expect_len(op, "saved", saved.len(), shape.saved_len()?)?;
    let state = shape.channels * shape.plane();
    expect_len(op, "x", x.len(), shape.batch * 4 * state)?;
    expect_len(op, "w", w.len(), shape.weights())?;
    expect_len(op, "bias", bias.len(), shape.gates())?;
    expect_len(op, "h", h.len(), shape.batch * state)?;
    if h.is_empty() {
        return Ok(());
    }
    let simd = Simd::detect();
    scratch::with(shape.channels * shape.kernel * shape.lanes(), |packed| {
        packed.fill(0.0);
        // [tap][channel][gate]
        for (gate, w) in w.chunks_exact(shape.channels * shape.kernel).enumerate() {
            for (channel, w) in w.chunks_exact(shape.kernel).enumerate() {
                for (tap, &w) in w.iter().enumerate() {
                    packed[(tap * shape.channels + channel) * shape.lanes() + gate] = w;
                }
            }
        }
        let packed = &*packed;
        h.par_chunks_mut(state)
            .zip(saved.par_chunks_mut(shape.saved_image()))
            .zip(x.par_chunks(4 * state))
            .for_each(|((h, saved), x)| forward(simd, shape, x, packed, bias, saved, h));
    });
    Ok(())
}

/// One image.
fn forward(
    simd: Simd,
    shape: &RowLstmShape,
    x: &[f32],
    packed: &[f32],
    bias: &[f32],
    saved: &mut [f32],
    h: &mut [f32],
) {
    let RowLstmShape {
        channels,
        rows,
        cols,
        kernel,
        ..
    } = *shape;
    let (plane, lanes) = (shape.plane(), shape.lanes());
    let (gates, cells) = saved.split_at_mut(plane * lanes);
    for gates in gates.chunks_exact_mut(lanes) {
        gates[shape.gates()..].fill(0.0);
    }
    transpose(
        simd,
        [shape.gates(), plane],
        (x, plane),
        None,
        (&mut *gates, lanes),
    );
    let steps: Vec<usize> = (0..kernel * channels).collect();
    scratch::with(shape.padded() * channels, |above| {
        above.fill(0.0);
        scratch::with(plane * channels, |states| {
            for row in 0..rows {
                let gates = &mut gates[row * cols * lanes..][..cols * lanes];
                if row > 0 {
                    add_products(
                        simd,
                        (above, channels),
                        &steps,
                        packed,
                        (gates, lanes),
                        lanes,
                    );
                }
                let (before, cells) = cells.split_at_mut(row * cols * channels);
                let before = &before[before.len() - cols.min(before.len()) * channels..];
                for gates in gates.chunks_exact_mut(lanes) {
                    add_to(simd, gates, bias);
                }
                let own = &mut above[kernel / 2 * channels..][..cols * channels];
                for p in 0..cols {
                    let at = p * channels..(p + 1) * channels;
                    let before = before.get(at.clone()).unwrap_or(&[]);
                    cell(
                        simd,
                        &mut gates[p * lanes..][..4 * channels],
                        before,
                        &mut cells[at.clone()],
                        &mut own[at],
                    );
                }
                states[row * cols * channels..][..cols * channels].copy_from_slice(own);
            }
            transpose(
                simd,
                [plane, channels],
                (states, channels),
                None,
                (h, plane),
            );
        });
    });
}

simd_fn! {
    fn add_to(values: &mut [f32], bias: &[f32]) {
        for (v, b) in values.iter_mut().zip(bias) {
            *v += b;
        }
    }
}

simd_fn! {
    /// Activates gates in place, and writes the cell and state that follow. `before` is empty where no cell comes before.
    fn cell(gates: &mut [f32], before: &[f32], cell: &mut [f32], h: &mut [f32]) {
        let n = cell.len();
        let (sigmoids, new) = gates.split_at_mut(3 * n);
        for v in sigmoids.iter_mut() {
            *v = sigmoid(*v);
        }
        for v in new.iter_mut() {
            *v = tanh(*v);
        }
        let (input, rest) = sigmoids.split_at(n);
        let (forget, output) = rest.split_at(n);
        for ((cell, i), g) in cell.iter_mut().zip(input).zip(&*new) {
            *cell = i * g;
        }
        for ((cell, f), before) in cell.iter_mut().zip(forget).zip(before) {
            *cell += f * before;
        }
        for ((h, o), cell) in h.iter_mut().zip(output).zip(&*cell) {
            *h = o * tanh(*cell);
        }
    }
}

/// A step of a long short-term memory: from gates `[batch, 4 half]` in the order of [`row_lstm`], which are activated in place, and the cells
/// `before [batch, half]` (none where empty), the states and cells `out [batch, 2 half]`.
pub fn lstm_cell(
    gates: &mut [f32],
    before: &[f32],
    half: usize,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let op = "lstm_cell";
    check_cell(op, gates.len(), before.len(), half, out.len())?;
    if half == 0 {
        return Ok(());
    }
    let simd = Simd::detect();
    out.par_chunks_mut(2 * half)
        .zip(gates.par_chunks_mut(4 * half))
        .enumerate()
        .for_each(|(n, (out, gates))| {
            let before = before.get(n * half..(n + 1) * half).unwrap_or(&[]);
            let (h, c) = out.split_at_mut(half);
            cell(simd, gates, before, c, h);
        });
    Ok(())
}

/// The gradients of [`lstm_cell`] for the gates before activation and for `before`, from its activated gates, its result, and the
/// gradient of that, which is overwritten: the gradient for `before` stands in its second half.
pub fn lstm_cell_grad(
    gates: &[f32],
    before: &[f32],
    half: usize,
    out: &[f32],
    grad: &mut [f32],
    grad_gates: &mut [f32],
) -> Result<(), KernelError> {
    let op = "lstm_cell_grad";
    check_cell(op, gates.len(), before.len(), half, out.len())?;
    expect_len(op, "grad", grad.len(), out.len())?;
    expect_len(op, "grad_gates", grad_gates.len(), gates.len())?;
    if half == 0 {
        return Ok(());
    }
    let simd = Simd::detect();
    grad.par_chunks_mut(2 * half)
        .zip(grad_gates.par_chunks_mut(4 * half))
        .enumerate()
        .for_each(|(n, (grad, to))| {
            let before = before.get(n * half..(n + 1) * half).unwrap_or(&[]);
            let gates = &gates[n * 4 * half..][..4 * half];
            let c = &out[(2 * n + 1) * half..][..half];
            let (of_h, of_cell) = grad.split_at_mut(half);
            if before.is_empty() {
                to[half..2 * half].fill(0.0);
            }
            cell_grad(simd, gates, c, before, of_h, of_cell, to);
        });
    Ok(())
}

fn check_cell(
    op: &'static str,
    gates: usize,
    before: usize,
    half: usize,
    out: usize,
) -> Result<(), KernelError> {
    expect_len(op, "gates", gates, out.saturating_mul(2))?;
    if before != 0 {
        expect_len(op, "before", before, out / 2)?;
    }
    match out.checked_rem(half.saturating_mul(2)) {
        Some(0) => Ok(()),
        None if out == 0 => Ok(()),
        _ => Err(KernelError::Shape {
            op,
            what: format!("half {half} must divide the {} cells", out / 2),
        }),
    }
}

/// `sums[p][lane] += Σ_s rows[p][steps[s]] * packed[s][lane]` for positions that are `from.1` apart in `from.0`.
fn add_products(
    simd: Simd,
    (from, apart): (&[f32], usize),
    steps: &[usize],
    packed: &[f32],
    (sums, stride): (&mut [f32], usize),
    lanes: usize,
) {
    let (positions, width) = (sums.len() / stride, simd.width());
    let vector_step: Vec<usize> = (0..steps.len()).map(|s| s * lanes).collect();
    let last = steps.iter().max().map_or(0, |s| s + 1);
    assert!(positions == 0 || from.len() >= (positions - 1) * apart + last);
    assert!(packed.len() >= steps.len() * lanes && stride >= lanes && lanes.is_multiple_of(width));
    let starts: Vec<*const f32> = (0..positions).map(|p| from[p * apart..].as_ptr()).collect();
    let widest = tile::max_vectors(simd) * width;
    for first in (0..lanes).step_by(widest) {
        let vectors = (lanes - first).min(widest) / width;
        let rows = tile::max_rows(simd, vectors);
        for (i, starts) in starts.chunks(rows).enumerate() {
            let tile = Tile {
                rows: starts,
                row_step: steps,
                vector: packed[first..].as_ptr(),
                vector_step: &vector_step,
                sums: sums[i * rows * stride + first..].as_mut_ptr(),
                stride,
                accumulate: true,
            };
            // SAFETY: `simd` was detected. The asserts bound the positions' scalars and the weights; the sums hold `lanes` floats for
            // each position.
            unsafe { tile::run(simd, vectors, &tile) };
        }
    }
}

/// Gradients of [`row_lstm`]: `grad_x` for its input, `grad_w` for its weights. That of the bias is `grad_x` summed over all but
/// the channels.
pub fn row_lstm_grad(
    w: &[f32],
    shape: &RowLstmShape,
    saved: &[f32],
    h: &[f32],
    grad: &[f32],
    grad_x: &mut [f32],
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    let op = "row_lstm_grad";
    expect_len(op, "saved", saved.len(), shape.saved_len()?)?;
    let state = shape.channels * shape.plane();
    expect_len(op, "w", w.len(), shape.weights())?;
    expect_len(op, "h", h.len(), shape.batch * state)?;
    expect_len(op, "grad", grad.len(), h.len())?;
    expect_len(op, "grad_x", grad_x.len(), 4 * h.len())?;
    expect_len(op, "grad_w", grad_w.len(), w.len())?;
    grad_w.fill(0.0);
    if h.is_empty() {
        return Ok(());
    }
    let (simd, lanes) = (Simd::detect(), shape.lanes());
    let state_lanes = shape.channels.next_multiple_of(simd.width());
    // Chunks of the batch whose number depends on the shape alone, as in the convolutions' weight gradient.
    let len = shape.kernel * shape.channels * lanes;
    let most = ((1 << 20) / len).clamp(2, 16);
    let some = shape.batch.div_ceil(most).max(1);
    let chunks = shape.batch.div_ceil(some);
    scratch::with(shape.kernel * shape.gates() * state_lanes, |packed| {
        packed.fill(0.0);
        // [tap][gate][channel]
        for (gate, w) in w.chunks_exact(shape.channels * shape.kernel).enumerate() {
            for (channel, w) in w.chunks_exact(shape.kernel).enumerate() {
                for (tap, &w) in w.iter().enumerate() {
                    packed[(tap * shape.gates() + gate) * state_lanes + channel] = w;
                }
            }
        }
        let packed = &*packed;
        scratch::with(chunks * len, |sums| {
            sums.par_chunks_mut(len)
                .zip(grad_x.par_chunks_mut(some * 4 * state))
                .enumerate()
                .for_each(|(i, (sums, grad_x))| {
                    sums.fill(0.0);
                    for (j, grad_x) in grad_x.chunks_exact_mut(4 * state).enumerate() {
                        let n = i * some + j;
                        let image = Image {
                            saved: &saved[n * shape.saved_image()..][..shape.saved_image()],
                            h: &h[n * state..][..state],
                            grad: &grad[n * state..][..state],
                        };
                        backward(simd, shape, &image, packed, grad_x, sums);
                    }
                });
            for sums in sums.chunks_exact(len) {
                // [tap][channel][gate] -> [gate][channel][tap]
                for (gate, w) in grad_w
                    .chunks_exact_mut(shape.channels * shape.kernel)
                    .enumerate()
                {
                    for (channel, w) in w.chunks_exact_mut(shape.kernel).enumerate() {
                        for (tap, w) in w.iter_mut().enumerate() {
                            *w += sums[(tap * shape.channels + channel) * lanes + gate];
                        }
                    }
                }
            }
        });
    });
    Ok(())
}

/// What is known of one image.
struct Image<'a> {
    saved: &'a [f32],
    h: &'a [f32],
    grad: &'a [f32],
}

fn backward(
    simd: Simd,
    shape: &RowLstmShape,
    image: &Image<'_>,
    packed: &[f32],
    grad_x: &mut [f32],
    sums: &mut [f32],
) {
    let RowLstmShape {
        channels,
        rows,
        cols,
        kernel,
        ..
    } = *shape;
    let (plane, lanes, padded) = (shape.plane(), shape.lanes(), shape.padded());
    let state_lanes = channels.next_multiple_of(simd.width());
    let (gates, cells) = image.saved.split_at(plane * lanes);
    let margin = kernel / 2;
    // The gradient of the state above at p comes from the gates at p + margin - tap.
    let steps: Vec<usize> = (0..kernel)
        .flat_map(|tap| (0..shape.gates()).map(move |gate| (kernel - 1 - tap) * lanes + gate))
        .collect();
    scratch::with(rows * padded * lanes, |of_gates| {
        of_gates.fill(0.0);
        scratch::with(plane * channels, |of_h| {
            transpose(
                simd,
                [channels, plane],
                (image.grad, plane),
                None,
                (of_h, channels),
            );
            scratch::with(cols * channels, |of_cell| {
                of_cell.fill(0.0);
                scratch::with(cols * state_lanes, |from_below| {
                    from_below.fill(0.0);
                    for row in (0..rows).rev() {
                        let of_row = &mut of_gates[row * padded * lanes..][..padded * lanes];
                        for p in 0..cols {
                            let at = row * cols + p;
                            let before = match row {
                                0 => &[],
                                _ => &cells[(at - cols) * channels..][..channels],
                            };
                            let of_h = &mut of_h[at * channels..][..channels];
                            for (to, v) in of_h.iter_mut().zip(&from_below[p * state_lanes..]) {
                                *to += v;
                            }
                            cell_grad(
                                simd,
                                &gates[at * lanes..][..4 * channels],
                                &cells[at * channels..][..channels],
                                before,
                                of_h,
                                &mut of_cell[p * channels..][..channels],
                                &mut of_row[(margin + p) * lanes..][..4 * channels],
                            );
                        }
                        if row > 0 {
                            from_below.fill(0.0);
                            add_products(
                                simd,
                                (of_row, lanes),
                                &steps,
                                packed,
                                (from_below, state_lanes),
                                state_lanes,
                            );
                        }
                    }
                });
            });
        });
        for row in 0..rows {
            transpose(
                simd,
                [cols, shape.gates()],
                (&of_gates[(row * padded + margin) * lanes..], lanes),
                None,
                (&mut grad_x[row * cols..], plane),
            );
        }
        if rows > 1 {
            weight_sums(simd, shape, image.h, of_gates, sums);
        }
    });
}

/// `sums[tap][channel][gate] += Σ h of the row above, at each position, times the gradient of the gates`.
fn weight_sums(simd: Simd, shape: &RowLstmShape, h: &[f32], of_gates: &[f32], sums: &mut [f32]) {
    let RowLstmShape {
        channels,
        rows,
        cols,
        kernel,
        ..
    } = *shape;
    let (plane, lanes, padded, margin) = (
        shape.plane(),
        shape.lanes(),
        shape.padded(),
        shape.kernel / 2,
    );
    scratch::with(rows * padded * channels, |states| {
        states.fill(0.0);
        for row in 0..rows {
            let to = &mut states[(row * padded + margin) * channels..];
            transpose(
                simd,
                [channels, cols],
                (&h[row * cols..], plane),
                None,
                (to, channels),
            );
        }
        let positions = |row: usize| (0..cols).map(move |p| row * padded + p);
        let row_step: Vec<usize> = (0..rows - 1)
            .flat_map(positions)
            .map(|at| at * channels)
            .collect();
        let vector_step: Vec<usize> = (1..rows)
            .flat_map(positions)
            .map(|at| (at + margin) * lanes)
            .collect();
        // A tap and a channel stand `tap * channels + channel` after the position's start: contiguous.
        let starts: Vec<*const f32> = (0..kernel * channels)
            .map(|at| states[at..].as_ptr())
            .collect();
        assert!(of_gates.len() >= rows * padded * lanes && sums.len() == starts.len() * lanes);
        let widest = tile::max_vectors(simd) * simd.width();
        for first in (0..lanes).step_by(widest) {
            let vectors = (lanes - first).min(widest) / simd.width();
            let height = tile::max_rows(simd, vectors);
            for (i, starts) in starts.chunks(height).enumerate() {
                let tile = Tile {
                    rows: starts,
                    row_step: &row_step,
                    vector: of_gates[first..].as_ptr(),
                    vector_step: &vector_step,
                    sums: sums[i * height * lanes + first..].as_mut_ptr(),
                    stride: lanes,
                    accumulate: true,
                };
                // SAFETY: `simd` was detected. A start (at most `kernel * channels - 1`) plus a step (at most position
                // `(rows - 2) * padded + cols - 1`) is within `rows * padded * channels` states; the assert bounds gates and sums.
                unsafe { tile::run(simd, vectors, &tile) };
            }
        }
    });
}

simd_fn! {
    /// One position: the gradients of its gates before activation, and of the cell above, from those of its state and cell.
    fn cell_grad(
        gates: &[f32], cell: &[f32], before: &[f32], of_h: &[f32], of_cell: &mut [f32], to: &mut [f32],
    ) {
        let n = cell.len();
        let (input, rest) = gates.split_at(n);
        let (forget, rest) = rest.split_at(n);
        let (output, new) = rest.split_at(n);
        let (to_input, rest) = to.split_at_mut(n);
        let (to_forget, rest) = rest.split_at_mut(n);
        let (to_output, to_new) = rest.split_at_mut(n);
        for ((((to, of_cell), cell), of_h), o) in
            to_output.iter_mut().zip(of_cell.iter_mut()).zip(cell).zip(of_h).zip(output)
        {
            let t = tanh(*cell);
            *to = of_h * t * o * (1.0 - o);
            *of_cell += of_h * o * (1.0 - t * t);
        }
        for (((to, of_cell), i), g) in to_input.iter_mut().zip(&*of_cell).zip(input).zip(new) {
            *to = of_cell * g * i * (1.0 - i);
        }
        for (((to, of_cell), i), g) in to_new.iter_mut().zip(&*of_cell).zip(input).zip(new) {
            *to = of_cell * i * (1.0 - g * g);
        }
        for (((to, of_cell), f), before) in to_forget.iter_mut().zip(&*of_cell).zip(forget).zip(before) {
            *to = of_cell * before * f * (1.0 - f);
        }
        for (of_cell, f) in of_cell.iter_mut().zip(forget) {
            *of_cell *= f;
        }
    }
}

#[cfg(test)]
#[path = "recurrent_tests.rs"]
mod tests;
