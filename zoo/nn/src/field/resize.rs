//! A layer that doubles height and width.

use std::rc::Rc;

use super::{
    Field,
    layer::{AtPixel, AtRow, Gives, Knows, Layer, part, unknown},
    window::Columns,
};
use crate::{Error, Value};

impl Field {
    /// A transposed convolution of stride 2 to twice the height and width, with what `weights` makes: `[C,O,2,K]` and `[O]`. K is 2, or where maps know rows above
    /// only 3, centred on the first of two columns.
    #[track_caller]
    pub fn doubled(&self, columns: Columns, weights: impl Fn() -> (Value, Value)) -> Self {
        let centred = columns == Columns::Centred;
        self.layer(
            |x| {
                let (weight, bias) = weights();
                grown(x, &weight, &bias, centred)
            },
            |x| {
                let (weight, bias) = weights();
                weight.check()?;
                let &[_, maps, 2, _] = weight.dims() else {
                    return Err(Error::input(format!(
                        "a layer that doubles takes weights [C,O,2,K], not {:?}",
                        weight.dims()
                    )));
                };
                let Some(level) = x.level.checked_sub(1) else {
                    return Err(Error::input(
                        "the image's own resolution cannot be doubled in a drawing",
                    ));
                };
                if x.knows == Knows::Own || (x.knows == Knows::Left) == centred {
                    return Err(Error::input(format!(
                        "{columns:?} columns do not suit maps that know {:?}",
                        x.knows
                    )));
                }
                let by_output = weight.permute(&[1, 2, 3, 0]); // (O,2,K,C)
                Ok(Rc::new(Doubled {
                    pixel: by_output.reshape(&[-1, x.maps as i64]),
                    weight,
                    bias,
                    inputs: x.maps,
                    gives: Gives {
                        knows: x.knows,
                        maps,
                        level,
                    },
                }))
            },
        )
    }
}

/// (N,C,H,W) -> (N,O,2H,2W)
#[track_caller]
fn grown(x: &Value, weight: &Value, bias: &Value, centred: bool) -> Value {
    let grown = x.conv_transpose2d(weight, Some(bias), 2, 0, 0);
    match x.dims() {
        &[_, _, _, width] if centred => grown.slice(3, 1, 2 * width + 1), // of 2W+1
        _ => grown,
    }
}

#[derive(Debug)]
struct Doubled {
    weight: Value,
    /// For a pixel that becomes two by two, (O*4,C).
    pixel: Value,
    bias: Value,
    inputs: usize,
    gives: Gives,
}

impl Layer for Doubled {
    fn gives(&self) -> Gives {
        self.gives
    }

    /// The newest pixel of the coarser resolution.
    fn keeps(&self) -> Vec<usize> {
        match self.gives.knows {
            Knows::Above => vec![],
            _ => vec![self.inputs],
        }
    }

    fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        match self.gives.knows {
            Knows::Above => {
                vec![like.zeros_like_batch(&[self.inputs, 1, width >> (self.gives.level + 1)])]
            }
            _ => vec![],
        }
    }

    fn start_row(&self, like: &Value) -> Vec<Value> {
        match self.gives.knows {
            Knows::Above => vec![],
            _ => vec![like.zeros_like_batch(&[self.inputs])],
        }
    }

    fn row(&self, at: &mut AtRow) -> Option<Value> {
        if self.gives.knows != Knows::Above {
            // At full width already.
            at.context.push(part(&at.kept, 0).unsqueeze(2));
            return None;
        }
        // The newest row of the coarser resolution becomes two of this one.
        let Some(new) = at.new.get(self.gives.level) else {
            return Some(unknown());
        };
        let x = at.x.clone().unwrap_or_else(unknown);
        let newest = new.here.choose(&x, &part(&at.states, 0)); // (N,C,1,W')
        let rows = grown(&newest, &self.weight, &self.bias, true); // (N,O,2,2W')
        at.next.push(newest);
        let [first, second] = rows.halves(2);
        Some(new.here.choose(&first, &second))
    }

    fn pixel(&self, x: Option<&Value>, at: &mut AtPixel) -> Value {
        let (Some(x), Some(new)) = (x, at.new.get(self.gives.level)) else {
            return unknown();
        };
        let (left, above) = (part(&at.states, 0), part(&at.context, 0));
        let newest = new.here.choose(x, &new.row.choose(&left, &above)); // (N,C)
        let four = newest.linear(&self.pixel, None); // (N,O*4)
        at.next.push(newest.clone());
        at.keep.push(newest);
        let four = four.reshape(&[0, self.gives.maps as i64, 4]);
        (four * &new.place).sum(&[2], false) + &self.bias
    }
}
