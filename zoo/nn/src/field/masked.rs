//! Masked convolutions on fields.

use std::rc::Rc;

use super::{
    Field,
    layer::{Gives, Knows},
    run::Drawn,
    windowed::{Rows, Windowed},
};
use crate::{
    Error, Net, Result, Value,
    layers::{Mask, MaskedConfig, MaskedConv2d},
};

impl Net {
    /// A convolution under a mask to so many maps, with `weight [O,C,KH,KW]` and `bias [O]`.
    #[track_caller]
    pub fn masked(&self, name: &str, x: &Field, outputs: usize, config: MaskedConfig) -> Field {
        let layer = || MaskedConv2d::new(&self.at(name), x.maps(), outputs, config);
        x.layer(
            |x| layer().map(|layer| layer.forward(x)).into(),
            |x| Ok(Rc::new(layer()?.drawn(x)?)),
        )
    }
}

impl MaskedConv2d {
    /// The same for drawing, over `x`.
    fn drawn(&self, x: &Drawn) -> Result<Windowed> {
        let MaskedConfig {
            kernel,
            mask,
            colours,
            ..
        } = self.config();
        let [rows, columns] = kernel.map(|side| side / 2);
        let weight = self.alive();
        weight.check()?;
        let (inputs, outputs) = (x.maps, weight.dims()[0]);
        let point = rows + columns == 0 && (mask == Mask::AboveAndOwn || !self.hides());
        let whole = match (mask, x.knows) {
            (Mask::AboveAndOwn, Knows::Above) => true,
            (Mask::Above, Knows::Left | Knows::Own) if rows > 0 => true,
            (_, known) if point => known == Knows::Above,
            (Mask::A | Mask::B, Knows::Left | Knows::Own) => false,
            (Mask::Above, Knows::Left | Knows::Own) => {
                return Err(Error::input(
                    "a window under Mask::Above has at least 3 rows: it sees rows above",
                ));
            }
            (mask, known) => {
                return Err(Error::input(format!(
                    "Mask::{mask:?} does not suit maps that know {known:?}: vertical stacks begin with Mask::Above and go on with Mask::AboveAndOwn, what knows pixels to the left goes on with Mask::B"
                )));
            }
        };
        let part = |seen: usize, bias: Option<Value>| Rows {
            weight: weight.slice(2, 0, seen).packed(), // [O,C,R,KW]
            bias,
            pad: columns,
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
            gives: Gives {
                knows: if whole { Knows::Above } else { Knows::Left },
                maps: outputs,
                level: x.level,
            },
            level: x.level,
        };
        let bias = Some(self.bias().clone());
        if whole {
            let seen = rows + usize::from(mask != Mask::Above);
            drawn.rows = Some(part(seen, bias));
            return Ok(drawn);
        }
        drawn.columns = columns;
        drawn.sees_own = mask != Mask::A || colours > 1 || columns == 0;
        let own = weight
            .slice(2, rows, rows + 1)
            .slice(3, 0, columns + usize::from(drawn.sees_own)) // [O,C,1,KW/2+1]
            .permute(&[0, 2, 3, 1]);
        drawn.own = Some(own.reshape(&[0, -1])); // [O,(KW/2+1)*C]
        // Where rows are seen the bias is added once for a row: fewer operations for a pixel.
        match rows {
            0 => drawn.bias = bias,
            rows => drawn.rows = Some(part(rows, bias)),
        }
        Ok(drawn)
    }
}
