//! Long short-term memories: a step, and the Row LSTM's scan.

use zoo_kernels::RowLstmShape;

use super::{Result, check};
use crate::{
    memory::{Floats, Held},
    value::{Computed, Sink},
};

/// The states of a scan over `gates`.
pub fn row_lstm([gates, weight, bias]: [&Computed; 3], shape: RowLstmShape) -> Result<Computed> {
    let [x, held_w, b] = [gates, weight, bias].map(|v| v.held.detached().contiguous());
    let (x, held_w, b) = (x?, held_w?, b?);
    let mut saved = Floats::stale(shape.saved_len().map_err(candle_core::Error::wrap)?);
    let held = {
        let (x, w, b) = (x.read()?, held_w.read()?, b.read()?);
        let states = [shape.batch, shape.channels, shape.rows, shape.cols];
        Held::fill(&states, |h| {
            zoo_kernels::row_lstm(&x, &w, &b, &shape, &mut saved, h)
        })?
    };
    Ok(Computed::fused(held, &[gates, weight, bias], |h| {
        let h = h.clone();
        move |gradient: Floats, sink: &mut Sink<'_>| {
            let w = held_w.read()?;
            let mut of_x = Floats::stale(4 * gradient.len());
            let mut of_w = Floats::stale(w.len());
            check(zoo_kernels::row_lstm_grad(
                &w,
                &shape,
                &saved,
                &h.read()?,
                &gradient,
                &mut of_x,
                &mut of_w,
            ))?;
            drop(gradient);
            if sink.wants(2) {
                let channels = 4 * shape.channels;
                let mut of_bias = Floats::stale(channels);
                check(zoo_kernels::bias_grad(
                    &of_x,
                    shape.batch,
                    channels,
                    shape.rows * shape.cols,
                    &mut of_bias,
                ))?;
                sink.give(2, of_bias)?;
            }
            sink.give(1, of_w)?;
            sink.give(0, of_x)
        }
    }))
}

/// State and cell, side by side in dimension 1, after gates `[N,4C,...]` and the cell before.
pub fn lstm_cell(gates: &Computed, cell: Option<&Computed>) -> Result<Computed> {
    let mut activated = Floats::copy(&gates.held.contiguous()?.read()?);
    let before = cell.map(|c| c.held.detached().contiguous()).transpose()?;
    let mut shape = gates.dims().to_vec();
    shape[1] /= 2;
    let half = shape[1..].iter().product::<usize>() / 2;
    let held = {
        let before = before.as_ref().map(Held::read).transpose()?;
        Held::fill(&shape, |out| {
            let before = before.as_deref().unwrap_or(&[]);
            zoo_kernels::lstm_cell(&mut activated, before, half, out)
        })?
    };
    let inputs: Vec<&Computed> = std::iter::once(gates).chain(cell).collect();
    Ok(Computed::fused(held, &inputs, |out| {
        let out = out.clone();
        move |mut gradient: Floats, sink: &mut Sink<'_>| {
            let mut of_gates = Floats::stale(activated.len());
            let read = before.as_ref().map(Held::read).transpose()?;
            check(zoo_kernels::lstm_cell_grad(
                &activated,
                read.as_deref().unwrap_or(&[]),
                half,
                &out.read()?,
                &mut gradient,
                &mut of_gates,
            ))?;
            sink.give(0, of_gates)?;
            if sink.wants(1) {
                let mut of_cell = Floats::stale(gradient.len() / 2);
                let parts = gradient.chunks_exact(2 * half.max(1));
                for (to, from) in of_cell.chunks_exact_mut(half.max(1)).zip(parts) {
                    to.copy_from_slice(&from[half..]);
                }
                sink.give(1, of_cell)?;
            }
            Ok(())
        }
    }))
}
