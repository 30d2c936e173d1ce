//! Recurrences over the rows of images.

use zoo_kernels::RowLstmShape;

use super::{concat, fused, kernels};
use crate::{Error, Result, Value, value::record};

impl Value {
    /// One step of a long short-term memory (Hochreiter & Schmidhuber, 1997) from its gates before activation `[N,4C,...]`, in the order input, forget,
    /// output, new, and the cell `[N,C,...]` before it, which is 0 where there is none: the state and the cell.
    #[track_caller]
    pub fn lstm_cell(&self, cell: Option<&Self>) -> Result<(Self, Self)> {
        if let Some(cell) = cell
            && (self.rank() < 2 || cell.rank() != self.rank() || {
                let mut quarter = self.dims().to_vec();
                quarter[1] /= 4;
                quarter != cell.dims()
            })
        {
            return Err(Error::usage(
                "lstm_cell",
                format!(
                    "takes gates [N,4C,...] and a cell [N,C,...], not {:?} and {:?}",
                    self.dims(),
                    cell.dims()
                ),
            ));
        }
        // Fused only outside a trace, which needs the parts.
        if let Some(both) = fused(|| kernels::lstm_cell(self, cell)) {
            let both = record(both, "lstm_cell", |_| Ok(()))?; // [N,2C,...]
            let channels = both.dim(1)? / 2;
            return Ok((
                both.slice(1, 0, channels)?,
                both.slice(1, channels, 2 * channels)?,
            ));
        }
        let parts = self.chunk(4, 1)?;
        let mut next = parts[0].sigmoid()?.mul(&parts[3].tanh()?)?;
        if let Some(cell) = cell {
            next = next.add(&parts[1].sigmoid()?.mul(cell)?)?;
        }
        let state = parts[2].sigmoid()?.mul(&next.tanh()?)?;
        Ok((state, next))
    }

    /// The states `[N,C,H,W]` of a Row LSTM (van den Oord et al., 2016) that goes over these gates `[N,4C,H,W]` from the first row to the last: to
    /// each row's gates comes a convolution of the row above's state by `weight [4C,C,K]`, K odd, plus `bias [4C]`. Gates are in the order
    /// of [`Value::lstm_cell`].
    #[track_caller]
    pub fn row_lstm(&self, weight: &Self, bias: &Self) -> Result<Self> {
        let shape = match (self.dims(), weight.dims(), bias.dims()) {
            (&[batch, gates, rows, cols], &[outputs, channels, kernel], &[biases])
                if gates == 4 * channels
                    && outputs == gates
                    && biases == gates
                    && kernel % 2 == 1
                    && rows > 0 =>
            {
                RowLstmShape {
                    batch,
                    channels,
                    rows,
                    cols,
                    kernel,
                }
            }
            (gates, weight, bias) => {
                return Err(Error::usage(
                    "row_lstm",
                    format!(
                        "takes gates [N,4C,H,W], weight [4C,C,K] with K odd and bias [4C], not {gates:?}, {weight:?} and {bias:?}"
                    ),
                ));
            }
        };
        // Fused only outside a trace, which needs the parts.
        match fused(|| kernels::row_lstm(self, weight, bias, shape)) {
            Some(fused) => record(fused, "row_lstm", |_| Ok(())),
            None => self.rows_apart(weight, bias, shape),
        }
    }

    /// [`Value::row_lstm`], composed of other operations.
    #[track_caller]
    fn rows_apart(&self, weight: &Self, bias: &Self, shape: RowLstmShape) -> Result<Self> {
        let weight = weight.unsqueeze(2)?; // (4C,C,1,K)
        let plain = bias.reshape(&[1, -1, 1, 1])?; // (1,4C,1,1)
        let mut states: Vec<Self> = Vec::with_capacity(shape.rows);
        let mut cell = None;
        for row in 0..shape.rows {
            let gates = self.slice(2, row, row + 1)?; // (N,4C,1,W)
            let gates = match states.last() {
                Some(above) => gates.add(&above.padded_conv2d(
                    &weight,
                    Some(bias),
                    [0, shape.kernel / 2],
                )?)?,
                None => gates.add(&plain)?,
            };
            let (state, next) = gates.lstm_cell(cell.as_ref())?; // (N,C,1,W)
            states.push(state);
            cell = Some(next);
        }
        concat(&states.iter().collect::<Vec<_>>(), 2)
    }
}
