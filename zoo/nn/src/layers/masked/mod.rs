//! Convolutions that see only what comes before, for models that predict pixel after pixel.

mod layers;

use candle_core::{Device, Tensor};

pub use self::layers::{LayersAtPixel, RowByRowLayers};
use crate::{Error, Init, Net, Result, Value, concat, ops::Windows};

/// What a masked convolution sees of the image around a pixel, in raster order: rows from above, each from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Pixels before this one, and of this one the colours before the one that is predicted (van den Oord et al., 2016, mask A).
    A,
    /// That, and the predicted colour's own feature maps: for all layers but the first (mask B).
    B,
    /// The rows above, whole: the first layer of a vertical stack.
    Above,
    /// The rows above and the pixel's own row, whole: for a vertical stack's later layers, whose maps know nothing of their own row.
    AboveAndOwn,
}

/// What a masked convolution is made of.
#[derive(Clone, Copy, Debug)]
pub struct MaskedConfig {
    /// Rows and columns of the window, both odd.
    pub kernel: [usize; 2],
    /// What it sees.
    pub mask: Mask,
    /// Colours of a pixel, predicted one after the other. Feature maps fall into as many groups, of sizes that differ by one at most: the first predicts the
    /// first colour.
    pub colours: usize,
    /// Parts that the outputs fall into, each with a group for every colour: 1, or the parts of a gate.
    pub parts: usize,
}

/// Says by its name which of a model's settings does not suit masked convolutions for images of so many colours.
///
/// `maps` are settings of feature maps, with the parts that they are cut into; a part has a map for each colour at least. `sides` are those of windows.
pub fn check_masked(
    colours: usize,
    maps: &[(&str, usize, usize)],
    sides: &[(&str, usize)],
) -> Result<()> {
    for &(setting, given, parts) in maps {
        let least = colours * parts;
        if given < least {
            return Err(Error::input(format!(
                "{setting} must be at least {least} for images of {colours} colours, not {given}"
            )));
        }
    }
    match sides.iter().find(|(_, side)| side.is_multiple_of(2)) {
        Some((setting, side)) => Err(Error::input(format!(
            "{setting} must be odd, not {side}: a window has its pixel in the middle"
        ))),
        None => Ok(()),
    }
}

/// A convolution of stride 1 that keeps height and width, with `weight [O,C,KH,KW]` of which `mask` hides a part, and `bias [O]`.
#[derive(Clone, Debug)]
pub struct MaskedConv2d {
    weight: Value,
    bias: Value,
    /// `None` where nothing is hidden.
    mask: Option<Value>,
    inputs: usize,
    config: MaskedConfig,
}

impl MaskedConv2d {
    /// At this place, from `inputs` to `outputs` channels.
    pub fn new(net: &Net, inputs: usize, outputs: usize, config: MaskedConfig) -> Result<Self> {
        let MaskedConfig {
            kernel: [rows, columns],
            colours,
            parts,
            ..
        } = config;
        if rows.is_multiple_of(2) || columns.is_multiple_of(2) {
            return Err(Error::input(format!(
                "a masked convolution's window has odd sides, not {rows}x{columns}"
            )));
        }
        if parts == 0 || !outputs.is_multiple_of(parts) {
            return Err(Error::input(format!(
                "{outputs} feature maps do not fall into {parts} equal parts"
            )));
        }
        let fewest = inputs.min(outputs / parts);
        if colours == 0 || fewest < colours {
            return Err(Error::input(format!(
                "{fewest} feature maps for {colours} colours: each colour needs one of its own"
            )));
        }
        let init = Init::fan_in(inputs * rows * columns);
        // One colour: whole taps are hidden, and need not be computed.
        let (to, from) = if colours == 1 {
            (1, 1)
        } else {
            (outputs, inputs)
        };
        let hides = elements(colours, colours, MaskedConfig { parts: 1, ..config })
            .iter()
            .any(|&m| m != 1.0);
        let mask = hides.then(|| {
            net.constant("mask", || {
                let parts = if colours == 1 { 1 } else { config.parts };
                let alive = elements(from, to, MaskedConfig { parts, ..config });
                Ok(Tensor::from_vec(
                    alive,
                    (to, from, rows, columns),
                    &Device::Cpu,
                )?)
            })
        });
        Ok(Self {
            weight: net.param("weight", &[outputs, inputs, rows, columns], init),
            bias: net.param("bias", &[outputs], init),
            inputs,
            mask,
            config,
        })
    }

    /// `[N,C,H,W] -> [N,O,H,W]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Value {
        let padding = self.config.kernel.map(|side| side / 2);
        match &self.mask {
            Some(mask) => x.masked_conv2d(&self.weight, mask, Some(&self.bias), padding),
            None => x.padded_conv2d(&self.weight, Some(&self.bias), padding),
        }
    }

    pub(crate) fn config(&self) -> MaskedConfig {
        self.config
    }

    pub(crate) fn bias(&self) -> &Value {
        &self.bias
    }

    /// Whether its mask hides something.
    pub(crate) fn hides(&self) -> bool {
        self.mask.is_some()
    }

    /// The weights, 0 where they are hidden.
    #[track_caller]
    pub(crate) fn alive(&self) -> Value {
        match &self.mask {
            Some(mask) => &self.weight * mask,
            None => self.weight.clone(),
        }
    }

    /// The part of it that takes whole rows, for drawing images row by row; `None` where it sees the pixel's own row only.
    #[track_caller]
    pub fn rows(&self) -> Option<RowPart> {
        let ([rows, columns], mask) = (self.config.kernel.map(|side| side / 2), self.config.mask);
        let seen = rows + usize::from(mask == Mask::AboveAndOwn);
        if seen == 0 {
            return None;
        }
        let whole = matches!(mask, Mask::Above | Mask::AboveAndOwn);
        Some(RowPart {
            weight: self.alive().slice(2, 0, seen), // [O,C,R,KW]
            bias: whole.then(|| self.bias.clone()),
            inputs: self.inputs,
            rows: seen,
            columns,
            groups: 1,
        })
    }

    /// A convolution under [`Mask::A`] or [`Mask::B`] in two parts, for drawing images pixel by pixel.
    #[track_caller]
    pub fn row_by_row(&self) -> RowByRow {
        let [rows, columns] = self.config.kernel.map(|side| side / 2);
        let weight = self
            .alive()
            .slice(2, rows, rows + 1)
            .slice(3, 0, columns + 1) // [O,C,1,KW/2+1]
            .permute(&[0, 2, 3, 1])
            .reshape(&[0, -1]); // [O,(KW/2+1)*C]
        // The bias is added once for a row where rows are seen: fewer operations for a pixel.
        let (rows, bias) = match self.rows() {
            Some(rows) => {
                let bias = Some(self.bias.clone());
                (Some(RowPart { bias, ..rows }), None)
            }
            None => (None, Some(self.bias.clone())),
        };
        RowByRow {
            neighbourhood: Neighbourhood {
                rows,
                inputs: self.inputs,
                columns,
            },
            weight,
            bias,
        }
    }
}

/// 1 where a weight is alive, `[O,C,KH,KW]`.
fn elements(inputs: usize, outputs: usize, config: MaskedConfig) -> Vec<f32> {
    let MaskedConfig {
        kernel: [rows, columns],
        mask,
        colours,
        parts,
    } = config;
    let part = outputs / parts;
    let mut alive = Vec::with_capacity(outputs * inputs * rows * columns);
    for output in 0..outputs {
        let to = (output % part) * colours / part;
        for input in 0..inputs {
            let from = input * colours / inputs;
            for row in 0..rows {
                for column in 0..columns {
                    let (above, left) = (row < rows / 2, column < columns / 2);
                    let (own_row, own) = (row == rows / 2, column == columns / 2);
                    let sees = match mask {
                        Mask::A => above || (own_row && (left || (own && from < to))),
                        Mask::B => above || (own_row && (left || (own && from <= to))),
                        Mask::Above => above,
                        Mask::AboveAndOwn => above || own_row,
                    };
                    alive.push(f32::from(u8::from(sees)));
                }
            }
        }
    }
    alive
}

/// States that go from step to step of a recurrence: each part of a network takes its own and leaves the next, in order.
#[derive(Debug)]
pub struct Carried<'a> {
    before: std::slice::Iter<'a, Value>,
    after: Vec<Value>,
}

impl<'a> Carried<'a> {
    /// The states of one step.
    pub fn new(before: &'a [Value]) -> Self {
        Self {
            before: before.iter(),
            after: Vec::with_capacity(before.len()),
        }
    }

    /// The next state that is not taken yet.
    pub fn take(&mut self) -> Value {
        match self.before.next() {
            Some(state) => state.clone(),
            None => Value::failed(Error::input(
                "a step takes more states than the one before left",
            )),
        }
    }

    /// Leaves a state for the next step.
    pub fn leave(&mut self, state: Value) {
        self.after.push(state);
    }

    /// All that was left.
    pub fn into_next(self) -> Vec<Value> {
        self.after
    }
}

/// What a masked convolution gets from whole rows: computed once for a row, from the newest row it sees and older ones that are carried along.
#[derive(Clone, Debug)]
pub struct RowPart {
    /// `[O,C/groups,R,KW]`
    weight: Value,
    bias: Option<Value>,
    /// C
    inputs: usize,
    /// R
    rows: usize,
    columns: usize,
    groups: usize,
}

impl RowPart {
    /// What is carried before the first row: zeros with the batch of `like`, for rows of `width`.
    pub fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        match self.rows {
            1 => vec![],
            rows => vec![like.zeros_like_batch(&[self.inputs, rows - 1, width])],
        }
    }

    /// The newest row it sees `[N,C,W] -> [N,O,W]`.
    #[track_caller]
    pub fn forward(&self, newest: &Value, carried: &mut Carried<'_>) -> Value {
        let newest = newest.unsqueeze(2); // [N,C,1,W]
        let seen = match self.rows {
            1 => newest,
            rows => {
                let seen = concat(&[&carried.take(), &newest], 2); // [N,C,R,W]
                carried.leave(match rows {
                    2 => newest,
                    _ => seen.slice(2, 1, rows),
                });
                seen
            }
        };
        let windows = Windows {
            groups: self.groups,
            ..Windows::padded([0, self.columns])
        };
        seen.conv(&self.weight, self.bias.as_ref(), windows) // [N,O,1,W]
            .squeeze(2)
    }
}

/// What is seen around a pixel, and what of it is carried.
#[derive(Clone, Debug)]
pub struct Neighbourhood {
    rows: Option<RowPart>,
    /// Feature maps of a pixel.
    inputs: usize,
    /// Pixels to the left.
    columns: usize,
}

impl Neighbourhood {
    /// What is carried before the first row of `width`: zeros with the batch of `like`.
    pub fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        match &self.rows {
            Some(rows) => rows.start(like, width),
            None => vec![],
        }
    }

    /// What is carried before the first pixel of a row: zeros with the batch of `like`.
    pub fn start_row(&self, like: &Value) -> Vec<Value> {
        match self.columns {
            0 => vec![],
            columns => vec![like.zeros_like_batch(&[columns * self.inputs])],
        }
    }

    /// From the maps of the row above `[N,C,W]`, the context of a row's pixels: one value `[N,O,W]`, or none where no row above is seen.
    #[track_caller]
    pub fn row(&self, above: &Value, carried: &mut Carried<'_>) -> Vec<Value> {
        match &self.rows {
            Some(rows) => vec![rows.forward(above, carried)],
            None => vec![],
        }
    }
}

/// A masked convolution in two parts: what the rows above give, once for a whole row, and what the pixels to the left and the pixel itself give. Work for a
/// pixel does not grow with the image (Ramachandran et al., 2017).
#[derive(Clone, Debug)]
pub struct RowByRow {
    neighbourhood: Neighbourhood,
    /// `[O,(KW/2+1)*C]`
    weight: Value,
    /// Where no rows are seen; else it is theirs.
    bias: Option<Value>,
}

impl RowByRow {
    /// What it sees around the pixel.
    pub fn neighbourhood(&self) -> &Neighbourhood {
        &self.neighbourhood
    }

    /// Puts a pixel in place of the one that the newest of `states`, as left by this convolution first of all, holds: an image's own pixel is known only
    /// after it was predicted.
    #[track_caller]
    pub fn correct(&self, pixel: &Value, mut states: Vec<Value>) -> Vec<Value> {
        let inputs = self.neighbourhood.inputs;
        match (self.neighbourhood.columns, states.first_mut()) {
            (0, _) | (_, None) => {}
            (1, Some(state)) => *state = pixel.clone(),
            (columns, Some(state)) => {
                let older = state.slice(1, 0, (columns - 1) * inputs);
                *state = concat(&[&older, pixel], 1); // [N,KW/2*C]
            }
        }
        states
    }

    /// One pixel, `[N,C] -> [N,O]`. It takes its context, if it has any, and its carried state.
    #[track_caller]
    pub fn pixel<'a>(
        &self,
        pixel: &Value,
        context: &mut impl Iterator<Item = &'a Value>,
        carried: &mut Carried<'_>,
    ) -> Value {
        let Neighbourhood {
            rows,
            inputs,
            columns,
        } = &self.neighbourhood;
        let seen = if *columns == 0 {
            pixel.clone()
        } else {
            let seen = concat(&[&carried.take(), pixel], 1); // [N,(KW/2+1)*C]
            carried.leave(match columns {
                1 => pixel.clone(),
                columns => seen.slice(1, *inputs, (columns + 1) * inputs),
            });
            seen
        };
        let own = seen.linear(&self.weight, self.bias.as_ref()); // [N,O]
        match rows {
            None => own,
            Some(_) => match context.next() {
                Some(above) => own + above,
                None => Value::failed(Error::input("a pixel lacks the context of its row")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, Stream};

    fn alive(mask: Mask, kernel: [usize; 2]) -> Vec<f32> {
        let config = MaskedConfig {
            kernel,
            mask,
            colours: 1,
            parts: 1,
        };
        elements(1, 1, config)
    }

    #[test]
    fn masks_hide_what_comes_later() {
        assert_eq!(alive(Mask::A, [3, 3]), [1., 1., 1., 1., 0., 0., 0., 0., 0.]);
        assert_eq!(alive(Mask::B, [3, 3]), [1., 1., 1., 1., 1., 0., 0., 0., 0.]);
        assert_eq!(
            alive(Mask::Above, [3, 3]),
            [1., 1., 1., 0., 0., 0., 0., 0., 0.]
        );
        assert_eq!(
            alive(Mask::AboveAndOwn, [3, 3]),
            [1., 1., 1., 1., 1., 1., 0., 0., 0.]
        );
        assert_eq!(alive(Mask::A, [1, 3]), [1., 0., 0.]);
        assert_eq!(alive(Mask::B, [1, 1]), [1.]);
    }

    #[test]
    fn colours_follow_each_other() {
        let centre = |mask, inputs, outputs, parts| {
            let config = MaskedConfig {
                kernel: [1, 1],
                mask,
                colours: 3,
                parts,
            };
            elements(inputs, outputs, config) // [O,C]
        };
        // Red sees nothing of its own pixel, green red, blue both.
        assert_eq!(
            centre(Mask::A, 3, 3, 1),
            [0., 0., 0., 1., 0., 0., 1., 1., 0.]
        );
        assert_eq!(
            centre(Mask::B, 3, 3, 1),
            [1., 0., 0., 1., 1., 0., 1., 1., 1.]
        );
        // Both halves of a gate have the same groups.
        let gate = centre(Mask::B, 3, 6, 2);
        assert_eq!(gate[..9], gate[9..]);
        assert_eq!(gate[..9], centre(Mask::B, 3, 3, 1));
        // Two maps for each colour.
        let wide = centre(Mask::A, 6, 3, 1);
        assert_eq!(wide[6..12], [1., 1., 0., 0., 0., 0.]);
        // Five maps: two for red, two for green, one for blue.
        let odd = centre(Mask::A, 5, 3, 1);
        assert_eq!(odd[5..10], [1., 1., 0., 0., 0.]);
        assert_eq!(odd[10..15], [1., 1., 1., 1., 0.]);
    }

    #[test]
    fn rows_and_pixels_apart_compute_the_same() {
        for (kernel, mask, colours, parts) in [
            ([7, 7], Mask::A, 1, 1),
            ([3, 3], Mask::B, 1, 2),
            ([5, 3], Mask::B, 3, 1),
            ([1, 3], Mask::A, 3, 2),
            ([1, 1], Mask::B, 3, 2),
            ([7, 5], Mask::Above, 1, 1),
            ([3, 3], Mask::Above, 1, 1),
            ([3, 3], Mask::AboveAndOwn, 3, 2),
            ([1, 3], Mask::AboveAndOwn, 1, 1),
            // Wider than the image, with more taps than a machine word has bits.
            ([15, 13], Mask::A, 1, 1),
            ([15, 13], Mask::Above, 1, 1),
        ] {
            let (n, c, o, h, w) = (2, 3 * colours, 6, 4, 5);
            let net = Net::new(&Params::fresh(7, &Device::Cpu));
            let config = MaskedConfig {
                kernel,
                mask,
                colours,
                parts,
            };
            let conv = MaskedConv2d::new(&net, c, o, config).unwrap();
            let x = Stream::new(3).normal(n * c * h * w);
            let x = Value::from(Tensor::from_vec(x, (n, c, h, w), &Device::Cpu).unwrap());
            let expected = conv.forward(&x); // [N,O,H,W]
            let row_of = |r: usize| x.slice(2, r, r + 1).squeeze(2); // [N,C,W]
            let zeros = x.zeros_like_batch(&[c, w]);
            let rows = conv.rows();
            let pixels = matches!(mask, Mask::A | Mask::B).then(|| conv.row_by_row());
            let start = |part: &RowPart| part.start(&x, w);
            let mut states = rows.as_ref().map(start).unwrap_or_default();
            let mut drawn = Vec::new();
            for r in 0..h {
                let newest = match (mask, r) {
                    (Mask::AboveAndOwn, _) => row_of(r),
                    (_, 0) => zeros.clone(),
                    _ => row_of(r - 1),
                };
                let mut carried = Carried::new(&states);
                let row = match (&pixels, &rows) {
                    (None, Some(rows)) => rows.forward(&newest, &mut carried),
                    (None, None) => unreachable!("a window without taps"),
                    (Some(pixels), _) => {
                        let context = pixels.neighbourhood().row(&newest, &mut carried);
                        let mut states = pixels.neighbourhood().start_row(&x);
                        let mut outs = Vec::new();
                        for column in 0..w {
                            let here = |v: &Value| {
                                let v = v.slice(2, column, column + 1);
                                v.squeeze(2)
                            };
                            let above: Vec<Value> = context.iter().map(here).collect();
                            let mut carried = Carried::new(&states);
                            let out =
                                pixels.pixel(&here(&row_of(r)), &mut above.iter(), &mut carried);
                            states = carried.into_next();
                            outs.push(out);
                        }
                        crate::stack(&outs.iter().collect::<Vec<_>>(), 2)
                    }
                };
                states = carried.into_next();
                drawn.push(row);
            }
            let drawn = crate::stack(&drawn.iter().collect::<Vec<_>>(), 2);
            let worst = drawn.sub(&expected).abs();
            let worst = worst.flatten(0).max(0, false);
            assert!(worst.scalar().unwrap() < 1e-5, "{config:?}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let check = |colours, channels, side| {
            let maps = [("model.head", 3, 1), ("model.channels", channels, 2)];
            check_masked(
                colours,
                &maps,
                &[("model.kernel", 3), ("model.first_kernel", side)],
            )
        };
        check(3, 6, 7).unwrap();
        check(1, 2, 7).unwrap();
        assert_eq!(
            check(3, 5, 7).unwrap_err().to_string(),
            "model.channels must be at least 6 for images of 3 colours, not 5"
        );
        assert_eq!(
            check(3, 6, 4).unwrap_err().to_string(),
            "model.first_kernel must be odd, not 4: a window has its pixel in the middle"
        );
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        for (kernel, inputs, outputs, colours, parts) in [
            ([2, 3], 3, 3, 1, 1),
            ([3, 4], 3, 3, 1, 1),
            ([3, 3], 2, 3, 3, 1),
            ([3, 3], 3, 2, 3, 1),
            ([3, 3], 3, 4, 3, 2),
            ([3, 3], 3, 3, 1, 2),
            ([3, 3], 3, 3, 0, 1),
            ([3, 3], 3, 3, 1, 0),
        ] {
            let config = MaskedConfig {
                kernel,
                mask: Mask::B,
                colours,
                parts,
            };
            let net = Net::new(&Params::fresh(7, &Device::Cpu));
            assert!(MaskedConv2d::new(&net, inputs, outputs, config).is_err());
        }
    }
}
