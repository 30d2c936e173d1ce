//! Distributions of pixels that follow each other: their likelihood, and how they are drawn.
//!
//! An autoregressive network gives parameters of p(x_i | x_<i) for every colour of every pixel. Noise is uniform, one number for each: the inverse of the
//! distribution function at it is the pixel, so that the same noise gives the same image wherever it is computed.

mod mixture;

use std::ops::Range;

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Binarization, Error, Losses, Metrics, Port, Result, Value, concat, loss};

/// The loss of a model of exact likelihood: the mean of -log p(x), given as `nll [N]` in nats.
pub fn nll_loss(nll: &Value) -> Losses {
    Losses::one("nll", nll.mean(&[0], false))
}

/// The metrics of a model of exact likelihood from `nll [N]` in nats, for images of `values` numbers each: `nll_nats` and `bits_per_dim`.
pub fn nll_metrics(nll: &Value, values: usize) -> Result<Metrics> {
    let nats = nll.mean(&[0], false).scalar()?;
    let bits = nats / values as f64 / std::f64::consts::LN_2;
    Ok(Metrics::from([
        ("nll_nats".into(), nats),
        ("bits_per_dim".into(), bits),
    ]))
}

/// Kinds of p(x_i | x_<i).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// A pixel is 0 or 1: for binary images.
    Bernoulli,
    /// A pixel is one of equidistant levels from 0 to 1, each with its own probability.
    Softmax,
}

/// The distribution of a pixel's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelDistribution {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bernoulli,
    /// Of so many levels.
    Softmax(usize),
    /// Of so many components.
    Logistics(usize),
}

impl PixelDistribution {
    /// Of values that are 0 or 1.
    pub const BINARY: Self = Self {
        kind: Kind::Bernoulli,
    };

    /// Colours that have parameters of their own, of images made binary so. `levels` are those of [`Likelihood::Softmax`]: a setting of the range 2 to 256.
    ///
    /// # Errors
    /// Of several levels for images that have two.
    pub fn new(likelihood: Likelihood, levels: usize, binarization: Binarization) -> Result<Self> {
        if likelihood == Likelihood::Softmax && levels > 2 && binarization != Binarization::None {
            return Err(Error::input(format!(
                "model.likelihood = \"softmax\" predicts {levels} levels, but data.binarization = {:?} leaves two: set it to \"none\"",
                binarization.name()
            )));
        }
        let kind = match likelihood {
            Likelihood::Bernoulli => Kind::Bernoulli,
            Likelihood::Softmax => Kind::Softmax(levels),
        };
        Ok(Self { kind })
    }

    /// A mixture of `components` discretised logistics for 8-bit pixels of one colour or three (Salimans et al., 2017): see
    /// [`loss::logistic_mixture_rows`]. The colours of a pixel share its parameters; each depends on those before.
    pub const fn logistics(components: usize) -> Self {
        Self {
            kind: Kind::Logistics(components),
        }
    }

    /// Parameters for one colour of one pixel: feature maps that a network gives for each. Of logistics, those of a pixel of one colour.
    pub fn parameters(&self) -> usize {
        match self.kind {
            Kind::Bernoulli => 1,
            Kind::Softmax(levels) => levels,
            Kind::Logistics(components) => 3 * components,
        }
    }

    /// Parameters for one pixel of so many colours.
    pub fn maps(&self, colours: usize) -> usize {
        match self.kind {
            Kind::Logistics(components) if colours == 3 => 10 * components,
            _ => colours * self.parameters(),
        }
    }

    /// Those of a pixel's parameters that say p of one of its colours.
    pub(crate) fn maps_of(&self, colour: usize, colours: usize) -> Range<usize> {
        let each = self.parameters();
        match self.kind {
            Kind::Logistics(_) => 0..self.maps(colours),
            _ => colour * each..(colour + 1) * each,
        }
    }

    /// Values that a colour can take.
    pub fn levels(&self) -> usize {
        match self.kind {
            Kind::Bernoulli => 2,
            Kind::Softmax(levels) => levels,
            Kind::Logistics(_) => mixture::LEVELS,
        }
    }

    /// -log p(x) in nats `[N]`, for `parameters [N,P,H,W]`, those of each colour together, and `x [N,C,H,W]` in [0, 1].
    #[track_caller]
    pub fn nll(&self, parameters: &Value, x: &Value) -> Value {
        match self.kind {
            Kind::Bernoulli => loss::bernoulli_nll(parameters, x),
            Kind::Logistics(components) => loss::logistic_mixture_rows(x, parameters, components),
            Kind::Softmax(levels) => {
                let levels = levels as i64;
                let &[_, colours, height, width] = x.dims() else {
                    return x.check().err().map_or_else(
                        || Value::refused("softmax", "takes images [N,C,H,W]"),
                        Value::failed,
                    );
                };
                let logits = parameters
                    .reshape(&[0, colours as i64, levels, (height * width) as i64])
                    .permute(&[0, 1, 3, 2]) // [N,C,H*W,K]
                    .reshape(&[-1, levels]); // [N*C*H*W,K]
                let nearest = (x * (levels - 1) as f64 + 0.5).floor();
                let level = nearest.cast(DType::I64).reshape(&[-1]); // [N*C*H*W]
                let each = loss::cross_entropy(&logits, &level);
                each.reshape(&[-1, (colours * height * width) as i64])
                    .sum(&[1], false)
            }
        }
    }

    /// The value in [0, 1], `[N]`, of the only colour of a pixel with `parameters [N,K]`, for noise U[0, 1) `[N]`.
    #[track_caller]
    pub fn draw(&self, parameters: &Value, noise: &Value) -> Value {
        match self.kind {
            Kind::Bernoulli => {
                let p = parameters.sigmoid().squeeze(1); // [N]
                noise.less(&p).cast(DType::F32)
            }
            Kind::Softmax(levels) => level_at(&parameters.softmax(1).cumsum(1), levels, noise),
            Kind::Logistics(components) => {
                let below = mixture::distribution(parameters, None, [0, 1], components);
                level_at(&below, mixture::LEVELS, noise)
            }
        }
    }

    /// The value in [0, 1], `[N]`, of colour number `colour` of a pixel with `parameters [N,P]`, whose colours `x [N,C]` are known as far as they come
    /// before, for noise U[0, 1) `[N]`.
    #[track_caller]
    pub(crate) fn draw_colour(
        &self,
        parameters: &Value,
        x: &Value,
        colour: usize,
        noise: &Value,
    ) -> Value {
        let colours = colours_of(x);
        match self.kind {
            _ if colours == 1 => self.draw(parameters, noise),
            Kind::Logistics(components) => {
                let place = [colour, colours];
                let below = mixture::distribution(parameters, Some(x), place, components);
                level_at(&below, mixture::LEVELS, noise)
            }
            _ => {
                let own = self.maps_of(colour, colours);
                self.draw(&parameters.slice(1, own.start, own.end), noise)
            }
        }
    }
}

/// Colours of a pixel `[N,C]`.
fn colours_of(pixel: &Value) -> usize {
    pixel.dims().get(1).copied().unwrap_or(1)
}

/// The level in [0, 1] where `below [N,levels or levels - 1]`, a distribution function, passes the noise `[N]`: the levels at which it is not above the
/// noise come before it.
#[track_caller]
fn level_at(below: &Value, levels: usize, noise: &Value) -> Value {
    let below = match below.dims() {
        [_, all] if *all == levels => below.slice(1, 0, levels - 1), // [N,levels-1]
        _ => below.clone(),
    };
    let before = noise.unsqueeze(1).less(&below).not();
    let level = before.cast(DType::F32).sum(&[1], false); // [N]
    level * (1.0 / (levels - 1) as f64)
}

/// Colour number `colour` of a pixel's `[N,C]`: `[N,1]`.
#[track_caller]
fn colour_of(pixel: &Value, colour: usize) -> Value {
    match colours_of(pixel) {
        1 => pixel.clone(),
        _ => pixel.slice(1, colour, colour + 1),
    }
}

/// The pixel `x [N,C]` with a colour in its place: the one drawn, `[N]`, unless `inputs` say that it is given.
#[track_caller]
fn put(x: &Value, colour: usize, drawn: &Value, inputs: &[Value]) -> Value {
    let colours = colours_of(x);
    let mut own = drawn.unsqueeze(1); // [N,1]
    if let [_, given, mask] = inputs {
        let is_given = colour_of(mask, colour).greater_scalar(0.5);
        own = is_given.choose(&colour_of(given, colour), &own);
    }
    match (colour, colours - colour - 1) {
        (0, 0) => own,
        (0, _) => concat(&[own, x.slice(1, 1, colours)], 1),
        (_, 0) => concat(&[x.slice(1, 0, colour), own], 1),
        _ => {
            let rest = x.slice(1, colour + 1, colours);
            concat(&[x.slice(1, 0, colour), own, rest], 1)
        }
    }
}

fn noise_of(inputs: &[Value]) -> Value {
    inputs.first().cloned().unwrap_or_else(|| {
        Value::failed(Error::input(
            "a pixel is drawn from noise, and there is none",
        ))
    })
}

impl PixelDistribution {
    /// The colours `[N,C]` of a pixel, drawn one after the other.
    ///
    /// `inputs` are the noise `[N,C]`, and where a part of the image is given, its pixel and its mask `[N,C]`, 1 for what is given. `network` gets the pixel as
    /// far as it is known, zeros for the rest, and gives the parameters `[N,C*K]`.
    #[track_caller]
    pub(crate) fn draw_pixel(&self, inputs: &[Value], network: impl Fn(&Value) -> Value) -> Value {
        let noise = noise_of(inputs);
        let mut x = &noise * 0.0;
        for colour in 0..colours_of(&noise) {
            let own = colour_of(&noise, colour).squeeze(1); // [N]
            let drawn = self.draw_colour(&network(&x), &x, colour, &own);
            x = put(&x, colour, &drawn, inputs);
        }
        x
    }

    /// The colours `[N,C]` of a pixel whose `parameters [N,P]` depend on none of them; `inputs` as for [`PixelDistribution::draw_pixel`].
    #[track_caller]
    pub(crate) fn draw_colours(&self, parameters: &Value, inputs: &[Value]) -> Value {
        self.draw_pixel(inputs, |_| parameters.clone())
    }
}

/// The graphs of an [`Autoregressive`](crate::Autoregressive) model, for its description.
pub const GRAPHS: &[(&str, &str)] = &[
    ("log_prob", "log p(x) in nats, exact"),
    ("sample", "images from uniform noise"),
    (
        "complete",
        "a partly given image, the rest drawn from uniform noise",
    ),
];

/// Ports of a graph `sample`: uniform noise for every colour of every pixel.
pub fn sample_ports(image: [usize; 3]) -> Vec<Port> {
    vec![Port::uniform("noise", &image)]
}

/// Ports of a graph `complete`: the noise, `given` (an image), and a mask that is 1 for the colours of pixels to keep and 0 for those to draw.
pub fn complete_ports(image: [usize; 3]) -> Vec<Port> {
    let [given, mask] = ["given", "mask"].map(|name| Port::image(name, image));
    vec![Port::uniform("noise", &image), given, mask]
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::Stream;

    fn value(values: Vec<f32>, shape: &[usize]) -> Value {
        Tensor::from_vec(values, shape, &Device::Cpu)
            .unwrap()
            .into()
    }

    fn pixels() -> [PixelDistribution; 5] {
        [
            PixelDistribution::logistics(1),
            PixelDistribution::logistics(3),
            PixelDistribution::BINARY,
            PixelDistribution::new(Likelihood::Softmax, 2, Binarization::Dynamic).unwrap(),
            PixelDistribution::new(Likelihood::Softmax, 5, Binarization::None).unwrap(),
        ]
    }

    /// e^-nll of one pixel at each level.
    fn probabilities(pixel: PixelDistribution, parameters: &[f32]) -> Vec<f64> {
        let levels = pixel.levels();
        let x = |level: usize| value(vec![level as f32 / (levels - 1) as f32], &[1, 1, 1, 1]);
        let logits = value(parameters.to_vec(), &[1, parameters.len(), 1, 1]);
        (0..levels)
            .map(|level| {
                let nll = pixel.nll(&logits, &x(level));
                (-nll.scalar().unwrap()).exp()
            })
            .collect()
    }

    #[test]
    fn what_is_drawn_has_the_probability_of_its_likelihood() {
        for pixel in pixels() {
            let parameters = Stream::new(4).normal(pixel.parameters());
            let p = probabilities(pixel, &parameters);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{pixel:?}");
            // Evenly spread noise meets each level as often as its probability says.
            let n = 10_000;
            let noise = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
            let logits = value(parameters.repeat(n), &[n, parameters.len()]);
            let drawn = pixel.draw(&logits, &value(noise, &[n]));
            let drawn = drawn.to_vec().unwrap();
            for (level, p) in p.iter().enumerate() {
                let at = level as f32 / (pixel.levels() - 1) as f32;
                let share = drawn.iter().filter(|x| (**x - at).abs() < 1e-6).count() as f64;
                assert!((share / n as f64 - p).abs() < 2.0 / n as f64, "{pixel:?}");
            }
        }
    }

    /// What pixels of three colours are drawn from, `[N,P]`, of widths between a level and the whole range.
    fn three_colours(components: usize) -> Vec<f32> {
        let mut parameters = Stream::new(14).normal(10 * components);
        for colour in 0..3 {
            let scales = (1 + 3 * colour + 1) * components;
            for k in 0..components {
                parameters[scales + k] = -1.0 - 1.5 * (k + colour) as f32;
            }
        }
        parameters
    }

    #[test]
    fn a_colour_is_drawn_given_those_before() {
        let components = 2;
        let pixel = PixelDistribution::logistics(components);
        let p = pixel.maps(3);
        let parameters = three_colours(components);
        let of = |colours: &[[usize; 3]]| -> Vec<f64> {
            let x = colours.iter().flatten().map(|&l| l as f32 / 255.0);
            let n = colours.len();
            let all = value(parameters.repeat(n), &[n, p, 1, 1]);
            let nll = pixel.nll(&all, &value(x.collect(), &[n, 3, 1, 1]));
            let nll = nll.to_vec().unwrap();
            nll.iter().map(|nll| f64::from(-nll).exp()).collect()
        };
        let (red, green) = (120, 90);
        // p(red), by all that may follow, is that of one colour: and so is p(green | red), by all blues.
        let every = |r: usize, g: usize| -> f64 {
            let blues: Vec<_> = (0..256).map(|b| [r, g, b]).collect();
            of(&blues).iter().sum()
        };
        let greens: Vec<f64> = (0..256).map(|g| every(red, g)).collect();
        let p_red: f64 = greens.iter().sum();
        let grey = probabilities(pixel, &parameters[..3 * components]);
        assert!((p_red - grey[red]).abs() < 1e-6, "{p_red} {}", grey[red]);
        let blues: Vec<_> = (0..256).map(|b| [red, green, b]).collect();
        let blues = of(&blues);

        let n = 20_000;
        let noise: Vec<f32> = (0..n).map(|i| (i as f32 + 0.5) / n as f32).collect();
        let noise = value(noise, &[n]);
        let all = value(parameters.repeat(n), &[n, p]);
        let known = [red as f32 / 255.0, green as f32 / 255.0, 0.5].repeat(n);
        let known = value(known, &[n, 3]);
        for (colour, p) in [(0, &grey), (1, &greens), (2, &blues)] {
            let total: f64 = p.iter().sum();
            let drawn = pixel.draw_colour(&all, &known, colour, &noise);
            let drawn = drawn.to_vec().unwrap();
            for (level, p) in p.iter().enumerate() {
                let at = level as f32 / 255.0;
                let count = drawn.iter().filter(|x| (**x - at).abs() < 1e-6).count();
                let share = count as f64 / n as f64;
                assert!(
                    (share - p / total).abs() < 2.0 / n as f64,
                    "colour {colour} level {level}: {share} {}",
                    p / total
                );
            }
        }
    }

    #[test]
    fn given_colours_stay_and_the_others_follow_them() {
        let pixel = PixelDistribution::logistics(2);
        let n = 2;
        let parameters = value(three_colours(2).repeat(n), &[n, 20]);
        // The second image is given another red.
        let noise = value([0.3, 0.6, 0.4].repeat(n), &[n, 3]);
        let given = value(vec![0.2, 0.0, 1.0, 0.8, 0.0, 1.0], &[n, 3]);
        let mask = value([1.0, 0.0, 1.0].repeat(n), &[n, 3]);
        let inputs = [noise, given, mask];
        let x = pixel.draw_colours(&parameters, &inputs);
        let x: Vec<Vec<f32>> = x.tensor().unwrap().to_vec2().unwrap();
        assert_eq!([x[0][0], x[0][2], x[1][0], x[1][2]], [0.2, 1.0, 0.8, 1.0]);
        assert!((x[0][1] - x[1][1]).abs() > 0.02, "{x:?}");
    }

    #[test]
    fn colours_and_places_keep_their_parameters() {
        let pixel = PixelDistribution::new(Likelihood::Softmax, 3, Binarization::None).unwrap();
        let (n, c, h, w) = (2, 3, 2, 2);
        let parameters = Stream::new(5).normal(n * c * 3 * h * w);
        let levels = Stream::new(6).integers(n * c * h * w, 3);
        let mut expected = vec![0.0; n];
        for (i, &level) in levels.iter().enumerate() {
            let (image, colour, place) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            let at = |k: usize| parameters[((image * c + colour) * 3 + k) * h * w + place];
            let p = probabilities(pixel, &[at(0), at(1), at(2)]);
            expected[image] -= p[level as usize].ln();
        }
        let x = levels.iter().map(|&l| l as f32 / 2.0).collect();
        let nll = pixel.nll(
            &value(parameters, &[n, c * 3, h, w]),
            &value(x, &[n, c, h, w]),
        );
        let nll = nll.to_vec().unwrap();
        for (nll, expected) in nll.iter().zip(expected) {
            assert!(
                (f64::from(*nll) - expected).abs() < 1e-4,
                "{nll} {expected}"
            );
        }
    }

    #[test]
    fn extreme_noise_and_logits_stay_inside() {
        for pixel in pixels() {
            for logit in [-1e4f32, 0.0, 1e4] {
                let mut parameters = vec![0.0; pixel.parameters()];
                parameters[0] = logit;
                for noise in [0.0f32, 1.0 - f32::EPSILON / 2.0] {
                    let parameters = value(parameters.clone(), &[1, parameters.len()]);
                    let x = pixel.draw(&parameters, &value(vec![noise], &[1]));
                    assert!((0.0..=1.0).contains(&x.scalar().unwrap()));
                }
            }
        }
        for binarization in [
            Binarization::Threshold,
            Binarization::Dynamic,
            Binarization::Static,
        ] {
            let error = PixelDistribution::new(Likelihood::Softmax, 3, binarization).unwrap_err();
            assert!(error.to_string().contains("set it to \"none\""), "{error}");
        }
    }
}
