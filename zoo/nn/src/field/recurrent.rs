//! Recurrent layers on fields: long short-term memories that go along rows and diagonals (van den Oord et al., 2016).

use std::rc::Rc;

use candle_core::{Device, Tensor};

use super::{
    Field,
    layer::{AtPixel, AtRow, Gives, Knows, Layer, part, unknown},
    run::Drawn,
};
use crate::{Error, Init, Net, Result, ScanStep, Value, concat, scan};

/// Gates of places that are no pixels: every sigmoid is 0 there, and so are the cell and the state.
const SHUT: f64 = -1e4;

/// What states add to the gates: (4h,h,K), and the bias (4h).
struct States {
    weight: Value,
    bias: Value,
}

impl States {
    fn new(net: &Net, name: &str, gates: usize, taps: usize) -> Self {
        let (own, h) = (net.at(name), gates / 4);
        let init = Init::fan_in(taps * h);
        Self {
            weight: own.param("weight", &[4 * h, h, taps], init),
            bias: own.param("bias", &[4 * h], init),
        }
    }

    /// Tap `k`, (4h,h).
    fn tap(&self, k: usize) -> Value {
        self.weight.slice(2, k, k + 1).squeeze(2)
    }
}

fn left(x: &Drawn, layer: &str) -> Result<Gives> {
    if x.knows != Knows::Left || x.level > 0 || !x.maps.is_multiple_of(4) {
        return Err(Error::input(format!(
            "{layer} takes gates (4h maps) of a layer under Mask::B, at the image's resolution"
        )));
    }
    Ok(Gives {
        knows: Knows::Left,
        maps: x.maps / 4,
        level: 0,
    })
}

impl Net {
    /// The states of a Row LSTM (section 3.1), gates (4h maps) -> h maps: to a row's gates comes a convolution of the state of the row above, 1x3, with
    /// `weight [4h,h,3]` and `bias [4h]`.
    #[track_caller]
    pub fn row_lstm(&self, name: &str, gates: &Field) -> Field {
        let states = || States::new(self, name, gates.maps(), 3);
        gates.layer(
            |gates| {
                let states = states();
                gates.row_lstm(&states.weight, &states.bias)
            },
            |x| {
                let gives = left(x, "a Row LSTM")?;
                let states = states();
                Ok(Rc::new(RowLstm {
                    weight: states.weight.unsqueeze(2),
                    bias: states.bias,
                    gives,
                }))
            },
        )
    }

    /// The states of a Diagonal BiLSTM that come from the left and from above (section 3.2), gates (4h maps) -> h maps: with `weight [4h,h,2]`, for the
    /// state above and the one to the left, and `bias [4h]`.
    #[track_caller]
    pub fn diagonal_lstm(&self, name: &str, gates: &Field) -> Field {
        let states = || States::new(self, name, gates.maps(), 2);
        gates.layer(
            |gates| diagonal(gates, &states()),
            |x| {
                let gives = left(x, "a Diagonal LSTM")?;
                let states = states();
                Ok(Rc::new(FromLeft {
                    above: states.tap(0).unsqueeze(2).unsqueeze(3),
                    side: states.tap(1),
                    bias: states.bias,
                    gives,
                }))
            },
        )
    }

    /// The states of a Diagonal BiLSTM that come from the right and from above, of the row above, maps -> h maps: of gates from all of that row, by
    /// `input.weight [4h,C,1,1]` and `input.bias`, and from states as those of [`Net::diagonal_lstm`], in `state`.
    #[track_caller]
    pub fn diagonal_lstm_above(&self, x: &Field, h: usize) -> Field {
        let parts = || {
            let (own, inputs) = (self.at("input"), x.maps());
            let init = Init::fan_in(inputs);
            let weight = own.param("weight", &[4 * h, inputs, 1, 1], init);
            let bias = own.param("bias", &[4 * h], init);
            (weight, bias, States::new(self, "state", 4 * h, 2))
        };
        x.layer(
            |x| {
                let (weight, bias, states) = parts();
                let gates = x.conv2d(&weight, Some(&bias), 1, 0, 1); // (N,4h,H,W)
                let &[_, _, rows, width] = x.dims() else {
                    return gates; // it failed
                };
                let mirror = self.mirror(width);
                let right = diagonal(&mirrored(&gates, &mirror), &states);
                let right = mirrored(&right, &mirror); // (N,h,H,W)
                let top = x.zeros_like_batch(&[h, 1, width]);
                concat(&[&top, &right.slice(2, 0, rows - 1)], 2)
            },
            |x| {
                if x.knows != Knows::Left || x.level > 0 {
                    return Err(Error::input(
                        "a Diagonal LSTM of the row above takes maps that know pixels to the left, at the image's resolution",
                    ));
                }
                let (weight, bias, states) = parts();
                Ok(Rc::new(FromRight {
                    weight,
                    input_bias: bias,
                    above: states.tap(0).unsqueeze(2).unsqueeze(3),
                    side: states.tap(1),
                    mirror: self.mirror(x.run.width),
                    bias: states.bias,
                    h,
                }))
            },
        )
    }

    /// A matrix with ones on the other diagonal, (W,W).
    fn mirror(&self, width: usize) -> Value {
        self.constant(&format!("mirror{width}"), || {
            let is_one = |at: usize| at / width + at % width + 1 == width;
            let ones = (0..width * width).map(|at| f32::from(u8::from(is_one(at))));
            let shape = (width, width);
            Ok(Tensor::from_vec(ones.collect(), shape, &Device::Cpu)?)
        })
    }
}

/// Columns in the opposite order: (..,W) -> (..,W).
#[track_caller]
fn mirrored(x: &Value, mirror: &Value) -> Value {
    let mut shape: Vec<i64> = x.dims().iter().map(|&d| d as i64).collect();
    let Some(&width) = shape.last() else {
        return x.clone(); // it failed
    };
    shape[0] = -1;
    x.reshape(&[-1, width]).linear(mirror, None).reshape(&shape)
}

/// Gates (N,4h,H,W) -> states (N,h,H,W), from the left and from above. Rows are skewed, each moved by one against the row above, so that a diagonal becomes a
/// column and all its pixels are computed at once.
#[track_caller]
fn diagonal(gates: &Value, states: &States) -> Value {
    let &[_, channels, rows, cols] = gates.dims() else {
        return gates.clone(); // it failed
    };
    let (c, h, w) = (channels as i64, rows as i64, cols as i64);
    // Every row with H shut places after it, read as rows shorter by one: row r stands r places further right.
    let shut = gates.zeros_like_batch(&[channels, rows, rows]) + SHUT;
    let skewed = concat(&[gates, &shut], 3)
        .reshape(&[0, c, -1])
        .slice(2, 0, rows * (cols + rows - 1))
        .reshape(&[0, c, h, w + h - 1]) // (N,4h,H,W+H-1)
        .permute(&[0, 1, 3, 2]); // (N,4h,W+H-1,H)
    // The scan goes from diagonal to diagonal; of its three neighbours the third, from below, is not there.
    let none = states.weight.slice(2, 0, 1) * 0.0;
    let weight = concat(&[&states.weight, &none], 2); // (4h,h,3)
    let along = skewed.row_lstm(&weight, &states.bias); // (N,h,W+H-1,H)
    let c = c / 4;
    let flat = along.permute(&[0, 1, 3, 2]).reshape(&[0, c, -1]);
    let end = flat.slice(2, 0, rows);
    concat(&[&flat, &end], 2)
        .reshape(&[0, c, h, w + h])
        .slice(3, 0, cols) // (N,h,H,W)
}

#[derive(Debug)]
struct RowLstm {
    /// (4h,h,1,3)
    weight: Value,
    bias: Value,
    gives: Gives,
}

impl Layer for RowLstm {
    fn gives(&self) -> Gives {
        self.gives
    }

    fn adds(&self) -> usize {
        4 * self.gives.maps
    }

    /// The state and the cell.
    fn keeps(&self) -> Vec<usize> {
        vec![self.gives.maps; 2]
    }

    fn row(&self, at: &mut AtRow) -> Option<Value> {
        let above = part(&at.kept, 0).unsqueeze(2); // (N,h,1,W)
        at.added = Some(above.padded_conv2d(&self.weight, Some(&self.bias), [0, 1]));
        at.context.push(part(&at.kept, 1).unsqueeze(2));
        None
    }

    fn pixel(&self, x: Option<&Value>, at: &mut AtPixel) -> Value {
        let gates = x.cloned().unwrap_or_else(unknown); // (N,4h)
        let (h, cell) = gates.lstm_cell(Some(&part(&at.context, 0))); // (N,h)
        at.keep.extend([h.clone(), cell]);
        h
    }
}

/// States from the left and from above.
#[derive(Debug)]
struct FromLeft {
    /// (4h,h,1,1)
    above: Value,
    /// (4h,h)
    side: Value,
    bias: Value,
    gives: Gives,
}

impl Layer for FromLeft {
    fn gives(&self) -> Gives {
        self.gives
    }

    fn adds(&self) -> usize {
        4 * self.gives.maps
    }

    /// The state.
    fn keeps(&self) -> Vec<usize> {
        vec![self.gives.maps]
    }

    /// The state and the cell of the pixel to the left.
    fn start_row(&self, like: &Value) -> Vec<Value> {
        let zeros = like.zeros_like_batch(&[self.gives.maps]);
        vec![zeros.clone(), zeros]
    }

    fn row(&self, at: &mut AtRow) -> Option<Value> {
        let above = part(&at.kept, 0).unsqueeze(2); // (N,h,1,W)
        at.added = Some(above.padded_conv2d(&self.above, Some(&self.bias), [0, 0]));
        None
    }

    fn pixel(&self, x: Option<&Value>, at: &mut AtPixel) -> Value {
        let gates = x.cloned().unwrap_or_else(unknown); // (N,4h)
        let (side, cell) = (part(&at.states, 0), part(&at.states, 1));
        let (h, cell) = (gates + side.linear(&self.side, None)).lstm_cell(Some(&cell));
        at.next.extend([h.clone(), cell]);
        at.keep.push(h.clone());
        h
    }
}

/// States from the right and from above, of the row above.
#[derive(Debug)]
struct FromRight {
    /// (4h,C,1,1)
    weight: Value,
    input_bias: Value,
    /// (4h,h,1,1)
    above: Value,
    /// (4h,h)
    side: Value,
    bias: Value,
    mirror: Value,
    h: usize,
}

impl Layer for FromRight {
    fn gives(&self) -> Gives {
        Gives {
            knows: Knows::Above,
            maps: self.h,
            level: 0,
        }
    }

    fn reads_above(&self) -> bool {
        true
    }

    /// The states of the row before the one above, and 0 until there is a row above.
    fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        vec![
            like.zeros_like_batch(&[self.h, 1, width]),
            like.zeros_like_batch(&[1, 1, 1]),
        ]
    }

    fn row(&self, at: &mut AtRow) -> Option<Value> {
        // The row above is complete now: its states from the right, beginning there.
        let (before, started) = (part(&at.states, 0), part(&at.states, 1)); // (N,h,1,W), (N,1,1,1)
        let from_above = before.padded_conv2d(&self.above, Some(&self.bias), [0, 0]); // (N,4h,1,W)
        let x = at.above.clone().unwrap_or_else(unknown).unsqueeze(2); // (N,C,1,W)
        let gates = x.padded_conv2d(&self.weight, Some(&self.input_bias), [0, 0]) + from_above;
        let gates = gates.squeeze(2).matmul(&self.mirror); // (N,4h,W), from the right
        let zeros = gates.zeros_like_batch(&[self.h]);
        let states = scan(
            &[zeros.clone(), zeros],
            &[(&gates, 2)],
            &[2],
            |states, gates| {
                let gates = &gates[0] + states[0].linear(&self.side, None); // (N,4h)
                let (h, cell) = gates.lstm_cell(Some(&states[1]));
                ScanStep {
                    outputs: vec![h.clone()],
                    states: vec![h, cell],
                }
            },
        );
        let right = states.outputs[0].matmul(&self.mirror).unsqueeze(2) * &started; // (N,h,1,W)
        at.next.extend([right.clone(), started * 0.0 + 1.0]);
        Some(right)
    }
}
