//! Recurrences over the rows of images.

use zoo_kernels::RowLstmShape;

use super::{ScanStep, kernels, may_fuse, scan};
use crate::{
    Value,
    value::{Computed, Outcome, attempt, op},
};

fn fits(gates: &Value, cell: Option<&Value>) -> Outcome<()> {
    let Some(cell) = cell else {
        gates.get()?;
        return Ok(());
    };
    let (gates, cell) = (gates.get()?.dims(), cell.get()?.dims());
    let mut quarter = gates.to_vec();
    if let Some(maps) = quarter.get_mut(1) {
        *maps /= 4;
    }
    if gates.len() < 2 || quarter != cell {
        return Err(format!(
            "takes gates [N,4C,...] and a cell [N,C,...], not {gates:?} and {cell:?}"
        )
        .into());
    }
    Ok(())
}

fn shape_of(gates: &Value, weight: &Value, bias: &Value) -> Outcome<RowLstmShape> {
    let [gates, weight, bias] = [gates.get()?, weight.get()?, bias.get()?];
    match (gates.dims(), weight.dims(), bias.dims()) {
        (&[batch, gates, rows, cols], &[outputs, channels, kernel], &[biases])
            if gates == 4 * channels
                && outputs == gates
                && biases == gates
                && kernel % 2 == 1
                && rows > 0 =>
        {
            Ok(RowLstmShape {
                batch,
                channels,
                rows,
                cols,
                kernel,
            })
        }
        (gates, weight, bias) => Err(format!(
            "takes gates [N,4C,H,W], weight [4C,C,K] with K odd and bias [4C], not {gates:?}, {weight:?} and {bias:?}"
        )
        .into()),
    }
}

impl Value {
    /// One step of a long short-term memory (Hochreiter & Schmidhuber, 1997) from its gates before activation `[N,4C,...]`, in the order input, forget,
    /// output, new, and the cell `[N,C,...]` before it, which is 0 where there is none: the state and the cell.
    #[track_caller]
    pub fn lstm_cell(&self, cell: Option<&Self>) -> (Self, Self) {
        const OP: &str = "lstm_cell";
        if let Err(fault) = fits(self, cell) {
            let failed = Self::refused(OP, fault);
            return (failed.clone(), failed);
        }
        let inputs: Vec<&Self> = [self].into_iter().chain(cell).collect();
        let quarters = self.dims().get(1).is_some_and(|c| c % 4 == 0);
        if quarters && may_fuse(&inputs) {
            let both = crate::value::op_list(
                OP,
                &inputs,
                |all| Ok(kernels::lstm_cell(all[0], all.get(1).copied())?),
                |_| Ok(()),
            ); // [N,2C,...]
            let [state, cell] = both.halves(1);
            return (state, cell);
        }
        let parts = self.chunk(4, 1);
        let mut next = parts[0].sigmoid() * parts[3].tanh();
        if let Some(cell) = cell {
            next = next + parts[1].sigmoid() * cell;
        }
        (parts[2].sigmoid() * next.tanh(), next)
    }

    /// The states `[N,C,H,W]` of a Row LSTM (van den Oord et al., 2016) that goes over these gates `[N,4C,H,W]` from the first row to the last: to
    /// each row's gates comes a convolution of the row above's state by `weight [4C,C,K]`, K odd, plus `bias [4C]`. Gates are in the order
    /// of [`Value::lstm_cell`].
    #[track_caller]
    pub fn row_lstm(&self, weight: &Self, bias: &Self) -> Self {
        let shape = attempt!("row_lstm", shape_of(self, weight, bias));
        if may_fuse(&[self, weight, bias]) {
            let fused = |all: [&Computed; 3]| Ok(kernels::row_lstm(all, shape)?);
            return op("row_lstm", [self, weight, bias], fused, |_| Ok(()));
        }
        self.rows_apart(weight, bias, shape)
    }

    /// [`Value::row_lstm`], composed of other operations: a scan over the rows.
    #[track_caller]
    fn rows_apart(&self, weight: &Self, bias: &Self, shape: RowLstmShape) -> Self {
        let weight = weight.unsqueeze(2); // (4C,C,1,K)
        let start = self.zeros_like_batch(&[shape.channels, 1, shape.cols]);
        let scanned = scan(
            &[start.clone(), start],
            &[(self, 2)],
            &[2],
            |states, rows| {
                let above = states[0].padded_conv2d(&weight, Some(bias), [0, shape.kernel / 2]);
                let gates = rows[0].unsqueeze(2) + above; // (N,4C,1,W)
                let (state, cell) = gates.lstm_cell(Some(&states[1])); // (N,C,1,W)
                ScanStep {
                    outputs: vec![state.squeeze(2)],
                    states: vec![state, cell],
                }
            },
        );
        scanned.outputs[0].clone() // (N,C,H,W)
    }
}
