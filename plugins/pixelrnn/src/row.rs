//! The Row LSTM: a pixel's state comes from three states of the row above.

use zoo_nn::{
    Info, Init, Net, Result, Value,
    layers::{Carried, Mask, MaskedConv2d, RowByRow},
};

use crate::{Layer, Step, info, masked, next};

/// A layer of the Row LSTM (section 3.1).
pub struct RowLayer {
    /// 1x3 under mask B, (N,2h,H,W) -> gates (N,4h,H,W).
    input: MaskedConv2d,
    /// 1x3 along the row above, (4h,h,3), and the bias (4h).
    weight: Value,
    bias: Value,
    /// (N,h,H,W) -> (N,2h,H,W)
    up: MaskedConv2d,
    h: usize,
}

/// Its weights for drawing.
pub struct RowStep {
    input: RowByRow,
    /// (4h,h,1,3)
    weight: Value,
    bias: Value,
    up: RowByRow,
    h: usize,
}

impl Layer for RowLayer {
    const INFO: Info = info(
        "row-lstm",
        "PixelRNN whose states go from row to row, convolved along each",
    );

    type Step = RowStep;

    fn new(h: usize, colours: usize, net: &Net) -> Result<Self> {
        let (gates, up) = (
            masked([1, 3], Mask::B, colours, 4),
            masked([1, 1], Mask::B, colours, 1),
        );
        let (state, init) = (net.at("state"), Init::fan_in(3 * h));
        Ok(Self {
            input: MaskedConv2d::new(&net.at("input"), 2 * h, 4 * h, gates)?,
            weight: state.param("weight", &[4 * h, h, 3], init),
            bias: state.param("bias", &[4 * h], init),
            up: MaskedConv2d::new(&net.at("up"), h, 2 * h, up)?,
            h,
        })
    }

    fn forward(&self, x: &Value) -> Value {
        let gates = self.input.forward(x); // (N,4h,H,W)
        let h = gates.row_lstm(&self.weight, &self.bias); // (N,h,H,W)
        self.up.forward(&h).add(x) // figure 5, right
    }

    fn step(&self, _: usize) -> Result<RowStep> {
        Ok(RowStep {
            input: self.input.row_by_row(),
            weight: self.weight.unsqueeze(2),
            bias: self.bias.clone(),
            up: self.up.row_by_row(),
            h: self.h,
        })
    }
}

impl Step for RowStep {
    /// The state and the cell.
    fn kept(&self) -> Vec<usize> {
        vec![self.h; 2]
    }

    fn start(&self, _: &Value, _: usize) -> Vec<Value> {
        vec![]
    }

    fn start_row(&self, like: &Value) -> Vec<Value> {
        self.input.neighbourhood().start_row(like)
    }

    fn row(&self, kept: &[Value], _: &mut Carried<'_>) -> Vec<Value> {
        let above = kept[0].unsqueeze(2); // (N,h,1,W)
        let gates = above.padded_conv2d(&self.weight, Some(&self.bias), [0, 1]);
        vec![gates.squeeze(2), kept[1].clone()] // (N,4h,W), (N,h,W)
    }

    fn pixel<'a>(
        &self,
        x: &Value,
        context: &mut impl Iterator<Item = &'a Value>,
        carried: &mut Carried<'_>,
    ) -> (Value, Vec<Value>) {
        let gates = self.input.pixel(x, context, carried).add(&next(context)); // (N,4h)
        let (h, cell) = gates.lstm_cell(Some(&next(context))); // (N,h)
        let out = self.up.pixel(&h, context, carried).add(x); // (N,2h)
        (out, vec![h, cell])
    }
}
