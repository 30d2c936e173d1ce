//! Convolutions whose windows end at the pixel or before it.

use std::rc::Rc;

use super::{
    Field,
    layer::{Gives, Knows},
    run::Drawn,
    windowed::{Rows, Windowed, corner},
};
use crate::{Error, Result, Value, ops::Windows};

/// Columns of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// As many to the left of the pixel as to the right: for maps that know rows above only.
    Centred,
    /// Up to the pixel's own, or to one so many to the left of it.
    Left(usize),
}

/// Where a convolution's window lies: its last row is the pixel's own or one above.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its columns.
    pub columns: Columns,
    /// Rows from its last one down to the pixel's: 0, or 1 to see rows above only.
    pub down: usize,
    /// 1, or 2 for half the height and width.
    pub stride: usize,
}

impl Window {
    /// Up to the pixel, of stride 1.
    pub const fn new(columns: Columns) -> Self {
        Self {
            columns,
            down: 0,
            stride: 1,
        }
    }

    /// A row further up.
    pub const fn above(self) -> Self {
        Self { down: 1, ..self }
    }

    /// With this step between windows.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Zeros left of the image, which a window of `columns` sees.
    fn pad(self, columns: usize) -> usize {
        match self.columns {
            Columns::Centred => columns / 2,
            Columns::Left(right) => columns.saturating_sub(1) + right,
        }
    }
}

impl Field {
    /// A convolution of windows that end at the pixel or before it, with what `weights` makes: `[O,C,R,K]`, and `[O]` if there is a bias.
    #[track_caller]
    pub fn window(&self, window: Window, weights: impl Fn() -> (Value, Option<Value>)) -> Self {
        let whole = |x: &Value| {
            let (weight, bias) = weights();
            let (&[_, _, height, width], &[_, _, rows, columns]) = (x.dims(), weight.dims()) else {
                return x.conv2d(&weight, bias.as_ref(), 1, 0, 1); // one has failed
            };
            let windows = Windows {
                stride: [window.stride; 2],
                padding: [rows - 1 + window.down, window.pad(columns)],
                groups: 1,
            };
            let seen = x.conv(&weight, bias.as_ref(), windows);
            corner(&seen, height / window.stride, width / window.stride)
        };
        self.layer(whole, |x| {
            let (weight, bias) = weights();
            Ok(Rc::new(windowed(window, x, &weight, bias)?))
        })
    }

    /// A convolution of the pixel alone, with what `weights` makes: `[O,C,1,1]`, and `[O]` if there is a bias.
    #[track_caller]
    pub fn pointwise(&self, weights: impl Fn() -> (Value, Option<Value>)) -> Self {
        self.window(Window::new(Columns::Centred), weights)
    }
}

/// A window of [`Field::window`] over `x`.
fn windowed(window: Window, x: &Drawn, weight: &Value, bias: Option<Value>) -> Result<Windowed> {
    weight.check()?;
    let &[outputs, inputs, rows, columns] = weight.dims() else {
        return Err(Error::input(format!(
            "a window's weights are [O,C,R,K], not {:?}",
            weight.dims()
        )));
    };
    let whole = x.knows == Knows::Above || window.down > 0;
    let fits = match window.columns {
        Columns::Left(right) => right <= 1,
        Columns::Centred => whole || columns == 1,
    };
    let halved = window.stride > 1 || x.level > 0;
    if !fits
        || inputs != x.maps
        || window.down > usize::from(x.knows != Knows::Above)
        || (halved && rows > 2)
    {
        return Err(Error::input(format!(
            "{window:?} with weights {:?} cannot be drawn over {} maps that know {:?}",
            weight.dims(),
            x.maps,
            x.knows
        )));
    }
    let pad = window.pad(columns);
    let gives = Gives {
        knows: if whole { Knows::Above } else { Knows::Left },
        maps: outputs,
        level: x.level + usize::from(window.stride == 2),
    };
    let part = |weight: Value, bias: Option<Value>| Rows {
        weight,
        bias,
        pad,
        groups: 1,
        own: x.knows == Knows::Above,
    };
    let mut drawn = Windowed {
        rows: None,
        own: None,
        bias: None,
        columns: 0,
        sees_own: false,
        inputs,
        gives,
        level: x.level,
    };
    if whole {
        drawn.rows = Some(part(weight.clone(), bias));
        return Ok(drawn);
    }
    drawn.columns = pad;
    drawn.sees_own = window.columns != Columns::Left(1);
    let own = weight.slice(2, rows - 1, rows).permute(&[0, 2, 3, 1]); // [O,1,K,C]
    drawn.own = Some(own.reshape(&[0, -1]));
    match rows {
        1 => drawn.bias = bias,
        _ => drawn.rows = Some(part(weight.slice(2, 0, rows - 1), bias)),
    }
    Ok(drawn)
}
