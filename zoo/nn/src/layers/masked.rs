//! Convolutions that see only what comes before, for models that predict pixel after pixel.

use candle_core::{Device, Tensor};

use crate::{Error, Init, Net, Result, Value};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Params;

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
