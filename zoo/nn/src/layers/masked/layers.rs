//! Masked convolutions of successive layers, drawn together.

use super::{Carried, MaskedConv2d, Neighbourhood, RowByRow, RowPart};
use crate::{Error, Result, Value, concat, stack};

/// Masked convolutions of one shape in L successive layers, for drawing images pixel by pixel. What the rows above and the pixels to the left give each layer is known
/// before the pixel is, so it is computed for all at once; a layer adds its product with the pixel itself. Feature maps of all layers stand side by side, L*C of them.
#[derive(Clone, Debug)]
pub struct RowByRowLayers {
    /// Of all layers side by side, the rows in a group for each.
    neighbourhood: Neighbourhood,
    /// For the pixels to the left, `[L,KW/2*C,O]`.
    left: Option<Value>,
    /// For the pixel itself, `[O,C]` of each layer.
    own: Vec<Value>,
    /// `[L*O]`, where no rows are seen; else it is theirs.
    bias: Option<Value>,
}

impl RowByRowLayers {
    /// From the layers' convolutions, the first layer's first.
    #[track_caller]
    pub fn new<'a>(convolutions: impl IntoIterator<Item = &'a MaskedConv2d>) -> Result<Self> {
        let parts: Vec<RowByRow> = convolutions
            .into_iter()
            .map(MaskedConv2d::row_by_row)
            .collect();
        let first = parts
            .first()
            .ok_or_else(|| Error::input("there is no layer to draw"))?;
        let shape = |part: &RowByRow| {
            let rows = part.neighbourhood.rows.as_ref();
            let rows = rows.map(|rows| rows.weight.dims().to_vec());
            (
                part.weight.dims().to_vec(),
                part.neighbourhood.columns,
                rows,
            )
        };
        if parts.iter().any(|part| shape(part) != shape(first)) {
            return Err(Error::input(
                "layers that are drawn together have windows and feature maps alike",
            ));
        }
        let Neighbourhood {
            inputs, columns, ..
        } = first.neighbourhood;
        let seen = columns * inputs;
        // Being alike, all have rows, or a bias, or none has.
        let joined = |values: Vec<&Value>| (!values.is_empty()).then(|| concat(&values, 0));
        let rows: Vec<&RowPart> = parts
            .iter()
            .filter_map(|part| part.neighbourhood.rows.as_ref())
            .collect();
        let weights = joined(rows.iter().map(|rows| &rows.weight).collect());
        let biases = joined(rows.iter().filter_map(|rows| rows.bias.as_ref()).collect());
        let together = weights.map(|weight| RowPart {
            weight,
            bias: biases,
            inputs: rows.len() * inputs,
            rows: rows[0].rows,
            columns: rows[0].columns,
            groups: rows.len(),
        });
        let left = || {
            let of = |part: &RowByRow| part.weight.slice(1, 0, seen).permute(&[1, 0]);
            stack(&parts.iter().map(of).collect::<Vec<_>>(), 0)
        };
        Ok(Self {
            neighbourhood: Neighbourhood {
                rows: together,
                inputs: parts.len() * inputs,
                columns,
            },
            left: (columns > 0).then(left),
            own: parts
                .iter()
                .map(|part| part.weight.slice(1, seen, seen + inputs))
                .collect(),
            bias: joined(parts.iter().filter_map(|p| p.bias.as_ref()).collect()),
        })
    }

    /// What they see around the pixel.
    pub fn neighbourhood(&self) -> &Neighbourhood {
        &self.neighbourhood
    }

    /// Feature maps that they read, of all layers.
    pub fn inputs(&self) -> usize {
        self.neighbourhood.inputs
    }

    /// Begins a pixel, with what its row's context gives all layers `[N,L*O]` and what is carried.
    #[track_caller]
    pub fn begin<'a>(
        &'a self,
        context: Option<&Value>,
        carried: &mut Carried<'_>,
    ) -> LayersAtPixel<'a> {
        let mut terms = Vec::new();
        let mut before = None;
        if let Some(left) = &self.left {
            let state = carried.take(); // [N,L*(KW/2)*C]
            let layers = self.own.len() as i64;
            let seen = state.reshape(&[0, layers, -1]).permute(&[1, 0, 2]); // [L,N,KW/2*C]
            let sums = seen.matmul(left).permute(&[1, 0, 2]); // [N,L,O]
            terms.push(sums.reshape(&[0, -1]));
            before = Some(state);
        }
        terms.extend(context.cloned());
        terms.extend(self.bias.clone());
        let known = match terms.into_iter().reduce(|sum, term| sum + term) {
            Some(known) if self.neighbourhood.rows.is_none() || context.is_some() => known, // [N,L*O]
            _ => Value::failed(Error::input("a pixel lacks the context of its row")),
        };
        LayersAtPixel {
            layers: self,
            known: match known.check() {
                Ok(()) => known.chunk(self.own.len(), -1),
                Err(_) => vec![known; self.own.len()],
            },
            before,
            pixels: Vec::new(),
        }
    }
}

/// The layers at one pixel, from the first to the last.
#[derive(Debug)]
pub struct LayersAtPixel<'a> {
    layers: &'a RowByRowLayers,
    /// What each layer's output is without the pixel, `[N,O]`.
    known: Vec<Value>,
    /// The pixels to the left, `[N,L*(KW/2)*C]`.
    before: Option<Value>,
    /// What each layer before was given, `[N,C]`.
    pixels: Vec<Value>,
}

impl LayersAtPixel<'_> {
    /// The next layer's convolution, `[N,C] -> [N,O]`.
    #[track_caller]
    pub fn next(&mut self, pixel: Value) -> Value {
        let layer = self.pixels.len();
        let (Some(own), Some(known)) = (self.layers.own.get(layer), self.known.get(layer)) else {
            return Value::failed(Error::input(format!("there are {layer} layers, no more")));
        };
        let out = pixel.linear(own, None) + known; // [N,O]
        self.pixels.push(pixel);
        out
    }

    /// Leaves what the next pixel is to see; gives what the row below is to see of this one, `[N,L*C]`.
    #[track_caller]
    pub fn end(self, carried: &mut Carried<'_>) -> Value {
        let (all, seen) = (self.layers.own.len(), self.pixels.len());
        if seen != all {
            return Value::failed(Error::input(format!(
                "a pixel ends after {seen} of {all} layers"
            )));
        }
        let all = concat(&self.pixels, 1); // [N,L*C]
        let (layers, columns) = (
            self.layers.own.len() as i64,
            self.layers.neighbourhood.columns,
        );
        if let Some(before) = self.before {
            carried.leave(if columns == 1 {
                all.clone()
            } else {
                let by_column = |value: &Value, columns: usize| {
                    value.reshape(&[0, layers, columns as i64, -1]) // [N,L,KW/2,C]
                };
                let newer = by_column(&before, columns).slice(2, 1, columns);
                concat(&[newer, by_column(&all, 1)], 2).reshape(&[0, -1])
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::{Mask, MaskedConfig};
    use super::*;
    use crate::{Net, Params, Stream};

    #[test]
    fn layers_together_compute_what_each_does() {
        for (kernel, mask, colours) in [
            ([3, 3], Mask::B, 1),
            ([5, 3], Mask::B, 3),
            ([3, 7], Mask::B, 1),
            ([1, 5], Mask::A, 3),
            ([3, 1], Mask::B, 1),
            ([1, 1], Mask::B, 3),
        ] {
            let (n, layers, c, o, h, w) = (2, 3, 2 * colours, 4 * colours, 4, 5);
            let net = Net::new(&Params::fresh(7, &Device::Cpu));
            let config = MaskedConfig {
                kernel,
                mask,
                colours,
                parts: 2,
            };
            let convs: Vec<MaskedConv2d> = (0..layers)
                .map(|l| MaskedConv2d::new(&net.at(&format!("{l}")), c, o, config).unwrap())
                .collect();
            let x = Stream::new(3).normal(n * layers * c * h * w);
            let x = Tensor::from_vec(x, (n, layers * c, h, w), &Device::Cpu).unwrap();
            let x = Value::from(x);
            let expected: Vec<Value> = convs
                .iter()
                .zip(x.chunk(layers, 1))
                .map(|(conv, x)| conv.forward(&x)) // [N,O,H,W]
                .collect();
            let expected = concat(&expected.iter().collect::<Vec<_>>(), 1);

            let together = RowByRowLayers::new(&convs).unwrap();
            assert_eq!(together.inputs(), layers * c);
            let row_of = |r: usize| x.slice(2, r, r + 1).squeeze(2);
            let mut rows = together.neighbourhood().start(&x, w);
            let mut above = x.zeros_like_batch(&[layers * c, w]);
            let mut drawn = Vec::new();
            for r in 0..h {
                let mut carried = Carried::new(&rows);
                let context = together.neighbourhood().row(&above, &mut carried);
                rows = carried.into_next();
                let mut pixels = together.neighbourhood().start_row(&x);
                let (mut outs, mut seen) = (Vec::new(), Vec::new());
                for column in 0..w {
                    let here = |v: &Value| {
                        let v = v.slice(2, column, column + 1);
                        v.squeeze(2)
                    };
                    let context: Vec<Value> = context.iter().map(here).collect();
                    let mut carried = Carried::new(&pixels);
                    let mut at = together.begin(context.first(), &mut carried);
                    let parts = here(&row_of(r)).chunk(layers, 1);
                    let parts: Vec<Value> = parts.into_iter().map(|x| at.next(x)).collect();
                    assert!(
                        at.next(parts[0].clone()).check().is_err(),
                        "one layer too many"
                    );
                    seen.push(at.end(&mut carried));
                    pixels = carried.into_next();
                    outs.push(concat(&parts.iter().collect::<Vec<_>>(), 1));
                }
                above = stack(&seen.iter().collect::<Vec<_>>(), 2);
                drawn.push(stack(&outs.iter().collect::<Vec<_>>(), 2));
            }
            let drawn = stack(&drawn.iter().collect::<Vec<_>>(), 2);
            let worst = drawn.sub(&expected).abs();
            let worst = worst.flatten(0).max(0, false);
            assert!(worst.scalar().unwrap() < 1e-5, "{config:?}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_together_is_refused() {
        let net = Net::new(&Params::fresh(7, &Device::Cpu));
        let none: [&MaskedConv2d; 0] = [];
        assert!(RowByRowLayers::new(none).is_err());
        let conv = |name: &str, kernel| {
            let config = MaskedConfig {
                kernel,
                mask: Mask::B,
                colours: 1,
                parts: 1,
            };
            MaskedConv2d::new(&net.at(name), 2, 2, config).unwrap()
        };
        let (square, flat) = (conv("square", [3, 3]), conv("flat", [1, 3]));
        let wide = conv("wide", [3, 5]);
        for mixed in [[&square, &flat], [&flat, &square], [&square, &wide]] {
            let error = RowByRowLayers::new(mixed).unwrap_err();
            assert!(error.to_string().contains("alike"), "{error}");
        }
        let together = RowByRowLayers::new([&square, &square]).unwrap();
        let x = Value::from(Tensor::zeros((1, 4), crate::DType::F32, &Device::Cpu).unwrap());
        let states = together.neighbourhood().start_row(&x);
        let mut without = together.begin(None, &mut Carried::new(&states));
        let error = without.next(x.slice(1, 0, 2)).check().unwrap_err();
        assert!(error.to_string().contains("context"), "{error}");

        let context = x.zeros_like_batch(&[4]);
        let mut carried = Carried::new(&states);
        let early = together.begin(Some(&context), &mut carried);
        let error = early.end(&mut carried).check().unwrap_err();
        assert!(error.to_string().contains("0 of 2 layers"), "{error}");
    }
}
