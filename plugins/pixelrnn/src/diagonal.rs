//! The Diagonal BiLSTM: one state comes from the left and from above, another from the right and from above.
//!
//! Rows are skewed, each moved by one against the row above, so that a diagonal becomes a column and all its pixels are computed at once.

use zoo_nn::{
    Device, Error, Info, Init, Net, Result, ScanStep, Tensor, Value, concat,
    layers::{Carried, Mask, MaskedConv2d, RowByRow, RowPart},
    scan,
};

use crate::{Layer, Step, info, masked, next};

/// Gates of places that are no pixels: every sigmoid is 0 there, and so are the cell and the state.
const SHUT: f64 = -1e4;

/// A layer of the Diagonal BiLSTM (section 3.2).
pub struct DiagonalLayer {
    left: Direction,
    /// Its states are moved down by a row before they are used: its input is not masked.
    right: Direction,
    /// (N,h,H,W) -> (N,2h,H,W)
    up: MaskedConv2d,
    h: usize,
}

/// The states that come from one side.
struct Direction {
    /// 1x1, (N,2h,H,W) -> gates (N,4h,H,W).
    input: MaskedConv2d,
    /// From the state above and from the one at the side to the gates, (4h,h,2), and the bias (4h).
    weight: Value,
    bias: Value,
}

impl Direction {
    fn new(h: usize, mask: Mask, colours: usize, net: &Net) -> Result<Self> {
        let masked = masked([1, 1], mask, colours, 4);
        let (state, init) = (net.at("state"), Init::fan_in(2 * h));
        Ok(Self {
            input: MaskedConv2d::new(&net.at("input"), 2 * h, 4 * h, masked)?,
            weight: state.param("weight", &[4 * h, h, 2], init),
            bias: state.param("bias", &[4 * h], init),
        })
    }

    /// Gates (N,4h,H,W) -> states (N,h,H,W), from the left
    fn states(&self, gates: &Value) -> Value {
        let &[_, channels, rows, cols] = gates.dims() else {
            return gates.clone(); // it failed
        };
        let (c, h, w) = (channels as i64, rows as i64, cols as i64);
        // Every row with H shut places after it, read as rows shorter by one: row r stands r places further right.
        let shut = gates
            .zeros_like_batch(&[channels, rows, rows])
            .add_scalar(SHUT);
        let skewed = concat(&[gates, &shut], 3)
            .reshape(&[0, c, -1])
            .slice(2, 0, rows * (cols + rows - 1))
            .reshape(&[0, c, h, w + h - 1]) // (N,4h,H,W+H-1)
            .permute(&[0, 1, 3, 2]); // (N,4h,W+H-1,H)
        // The scan goes from diagonal to diagonal; of its three neighbours the third, from below, is not there.
        let none = self.weight.slice(2, 0, 1).mul_scalar(0.0);
        let weight = concat(&[&self.weight, &none], 2); // (4h,h,3)
        let states = skewed.row_lstm(&weight, &self.bias); // (N,h,W+H-1,H)
        let c = c / 4;
        let flat = states.permute(&[0, 1, 3, 2]).reshape(&[0, c, -1]);
        let end = flat.slice(2, 0, rows);
        concat(&[&flat, &end], 2)
            .reshape(&[0, c, h, w + h])
            .slice(3, 0, cols) // (N,h,H,W)
    }

    /// What comes from above (4h,h,1,1), and from the side (4h,h).
    fn weights(&self) -> (Value, Value) {
        let above = self.weight.slice(2, 0, 1).unsqueeze(3);
        (above, self.weight.slice(2, 1, 2).squeeze(2))
    }
}

/// Columns in the opposite order, by a matrix with ones on the other diagonal: (..,W) -> (..,W).
fn mirrored(x: &Value, mirror: &Value) -> Value {
    let mut shape: Vec<i64> = x.dims().iter().map(|&d| d as i64).collect();
    let width = shape[shape.len() - 1];
    shape[0] = -1;
    x.reshape(&[-1, width]).linear(mirror, None).reshape(&shape)
}

fn mirror(width: usize, device: &Device) -> Result<Value> {
    let ones =
        (0..width * width).map(|at| f32::from(u8::from(at / width + at % width + 1 == width)));
    let matrix = Tensor::from_vec(ones.collect(), (width, width), &Device::Cpu)?;
    Ok(Value::constant(matrix.to_device(device)?))
}

impl Layer for DiagonalLayer {
    const INFO: Info = info(
        "diagonal-bilstm",
        "PixelRNN whose states go along both diagonals",
    );

    type Step = DiagonalStep;

    fn new(h: usize, colours: usize, net: &Net) -> Result<Self> {
        let (left, right) = (net.at("left"), net.at("right"));
        let up = masked([1, 1], Mask::B, colours, 1);
        Ok(Self {
            left: Direction::new(h, Mask::B, colours, &left)?,
            right: Direction::new(h, Mask::AboveAndOwn, colours, &right)?,
            up: MaskedConv2d::new(&net.at("up"), h, 2 * h, up)?,
            h,
        })
    }

    fn forward(&self, x: &Value) -> Value {
        let &[_, _, rows, width] = x.dims() else {
            return x.clone(); // it failed
        };
        let left = self.left.states(&self.left.input.forward(x)); // (N,h,H,W)
        let mirror: Value = x.tensor().and_then(|x| mirror(width, x.device())).into();
        let gates = mirrored(&self.right.input.forward(x), &mirror); // (N,4h,H,W)
        let right = mirrored(&self.right.states(&gates), &mirror); // (N,h,H,W)
        let top = x.zeros_like_batch(&[self.h, 1, width]);
        let down = concat(&[&top, &right.slice(2, 0, rows - 1)], 2);
        self.up.forward(&left.add(&down)).add(x)
    }

    fn step(&self, width: usize) -> Result<DiagonalStep> {
        let (left_above, left_side) = self.left.weights();
        let (right_above, right_side) = self.right.weights();
        let right = self.right.input.rows();
        Ok(DiagonalStep {
            left: self.left.input.row_by_row(),
            left_above,
            left_side,
            left_bias: self.left.bias.clone(),
            right: right.ok_or_else(|| Error::input("it sees its own row"))?,
            right_above,
            right_side,
            right_bias: self.right.bias.clone(),
            up: self.up.row_by_row(),
            mirror: mirror(width, self.left.bias.tensor()?.device())?,
            h: self.h,
        })
    }
}

/// Its weights for drawing.
pub struct DiagonalStep {
    left: RowByRow,
    left_above: Value,
    left_side: Value,
    left_bias: Value,
    right: RowPart,
    right_above: Value,
    right_side: Value,
    right_bias: Value,
    up: RowByRow,
    mirror: Value,
    h: usize,
}

impl Step for DiagonalStep {
    /// The layer's input, and the state from the left.
    fn kept(&self) -> Vec<usize> {
        vec![2 * self.h, self.h]
    }

    /// The states from the right of the row before the one above, and 0 until there is a row above.
    fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        vec![
            like.zeros_like_batch(&[self.h, width]),
            like.zeros_like_batch(&[1, 1]),
        ]
    }

    /// The state and the cell of the pixel to the left.
    fn start_row(&self, like: &Value) -> Vec<Value> {
        let zeros = like.zeros_like_batch(&[self.h]);
        vec![zeros.clone(), zeros]
    }

    fn row(&self, kept: &[Value], carried: &mut Carried<'_>) -> Vec<Value> {
        let [input, state] = kept else {
            return vec![Value::failed(Error::input(
                "a pixel keeps its input and its state",
            ))];
        };
        let above = state.unsqueeze(2); // (N,h,1,W)
        let left = above
            .padded_conv2d(&self.left_above, Some(&self.left_bias), [0, 0])
            .squeeze(2); // (N,4h,W)

        // The row above is complete now: its states from the right, beginning there.
        let (before, started) = (carried.take(), carried.take()); // (N,h,W), (N,1,1)
        let from_above = before
            .unsqueeze(2)
            .padded_conv2d(&self.right_above, Some(&self.right_bias), [0, 0])
            .squeeze(2); // (N,4h,W)
        let gates = self.right.forward(input, carried).add(&from_above);
        let gates = gates.matmul(&self.mirror); // (N,4h,W), from the right
        let start = self.start_row(&gates);
        let states = scan(&start, &[(&gates, 2)], &[2], |states, gates| {
            let gates = gates[0].add(&states[0].linear(&self.right_side, None)); // (N,4h)
            let (h, cell) = gates.lstm_cell(Some(&states[1]));
            ScanStep {
                outputs: vec![h.clone()],
                states: vec![h, cell],
            }
        });
        let right = states.outputs[0].matmul(&self.mirror).mul(&started); // (N,h,W)
        carried.leave(right.clone());
        carried.leave(started.mul_scalar(0.0).add_scalar(1.0));
        vec![left, right]
    }

    fn pixel<'a>(
        &self,
        x: &Value,
        context: &mut impl Iterator<Item = &'a Value>,
        carried: &mut Carried<'_>,
    ) -> (Value, Vec<Value>) {
        let (above, right) = (next(context), next(context)); // (N,4h), (N,h)
        let (side, cell) = (carried.take(), carried.take()); // (N,h)
        let gates = self
            .left
            .pixel(x, context, carried)
            .add(&above)
            .add(&side.linear(&self.left_side, None)); // (N,4h)
        let (h, cell) = gates.lstm_cell(Some(&cell));
        carried.leave(h.clone());
        carried.leave(cell);
        let out = self.up.pixel(&h.add(&right), context, carried).add(x); // (N,2h)
        (out, vec![x.clone(), h])
    }
}
