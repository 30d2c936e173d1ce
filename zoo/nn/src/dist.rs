//! Distributions of pixels that follow each other: their likelihood, and how they are drawn.
//!
//! An autoregressive network gives parameters of p(x_i | x_<i) for every colour of every pixel. Noise is uniform, one number for each: the inverse of the
//! distribution function at it is the pixel, so that the same noise gives the same image wherever it is computed.

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Losses, Metrics, Port, Result, Value, concat, loss};

/// The loss of a model of exact likelihood: the mean of -log p(x), given as `nll [N]` in nats.
pub fn nll_loss(nll: &Value) -> Result<Losses> {
    let total = nll.mean(&[0], false)?;
    Ok(Losses {
        total: total.clone(),
        terms: vec![("nll", total)],
    })
}

/// The metrics of a model of exact likelihood from `nll [N]` in nats, for images of `values` numbers each: `nll_nats` and `bits_per_dim`.
pub fn nll_metrics(nll: &Value, values: usize) -> Result<Metrics> {
    let nats = nll.mean(&[0], false)?.scalar()?;
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

/// The distribution of one colour of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelDistribution {
    likelihood: Likelihood,
    levels: usize,
}

impl PixelDistribution {
    /// `levels`, 2 to 256, are those of [`Likelihood::Softmax`].
    pub fn new(likelihood: Likelihood, levels: usize) -> Result<Self> {
        if !(2..=256).contains(&levels) {
            return Err(Error::input(format!(
                "model.levels must be from 2 to 256, not {levels}"
            )));
        }
        Ok(Self { likelihood, levels })
    }

    /// Parameters for one colour of one pixel: feature maps that a network gives for each.
    pub fn parameters(&self) -> usize {
        match self.likelihood {
            Likelihood::Bernoulli => 1,
            Likelihood::Softmax => self.levels,
        }
    }

    /// Values that a colour can take.
    pub fn levels(&self) -> usize {
        match self.likelihood {
            Likelihood::Bernoulli => 2,
            Likelihood::Softmax => self.levels,
        }
    }

    /// -log p(x) in nats `[N]`, for `parameters [N,C*K,H,W]`, those of each colour together, and `x [N,C,H,W]` in [0, 1].
    #[track_caller]
    pub fn nll(&self, parameters: &Value, x: &Value) -> Result<Value> {
        match self.likelihood {
            Likelihood::Bernoulli => loss::bernoulli_nll(parameters, x),
            Likelihood::Softmax => {
                let levels = self.levels as i64;
                let (colours, height, width) = (x.dim(1)?, x.dim(2)?, x.dim(3)?);
                let logits = parameters
                    .reshape(&[0, colours as i64, levels, (height * width) as i64])?
                    .permute(&[0, 1, 3, 2])? // [N,C,H*W,K]
                    .reshape(&[-1, levels])?; // [N*C*H*W,K]
                let nearest = x.mul_scalar((self.levels - 1) as f64)?.add_scalar(0.5)?;
                let level = nearest.floor()?.cast(DType::I64)?.reshape(&[-1])?; // [N*C*H*W]
                let each = loss::cross_entropy(&logits, &level)?;
                each.reshape(&[-1, (colours * height * width) as i64])?
                    .sum(&[1], false)
            }
        }
    }

    /// The value in [0, 1], `[N]`, of one colour of a pixel with `parameters [N,K]`, for noise U[0, 1) `[N]`.
    #[track_caller]
    pub fn draw(&self, parameters: &Value, noise: &Value) -> Result<Value> {
        match self.likelihood {
            Likelihood::Bernoulli => {
                let p = parameters.sigmoid()?.squeeze(1)?; // [N]
                noise.less(&p)?.cast(DType::F32)
            }
            Likelihood::Softmax => {
                // The levels whose distribution function is not above the noise come before the drawn one.
                let below = parameters
                    .softmax(1)?
                    .cumsum(1)?
                    .slice(1, 0, self.levels - 1)?; // [N,K-1]
                let before = noise.unsqueeze(1)?.less(&below)?.not()?;
                let level = before.cast(DType::F32)?.sum(&[1], false)?; // [N]
                level.mul_scalar(1.0 / (self.levels - 1) as f64)
            }
        }
    }
}

impl PixelDistribution {
    /// The colours `[N,C]` of a pixel, drawn one after the other, and what `network` gives beside at the last.
    ///
    /// `inputs` are the noise `[N,C]`, and where a part of the image is given, its pixel and its mask `[N,C]`, 1 for what is given. `network` gets the pixel as
    /// far as it is known, zeros for the rest, and gives the parameters `[N,C*K]`.
    #[track_caller]
    pub fn draw_pixel<T>(
        &self,
        inputs: &[Value],
        network: impl Fn(&Value) -> Result<(Value, T)>,
    ) -> Result<(Value, T)> {
        let Some(noise) = inputs.first() else {
            return Err(Error::input(
                "a pixel is drawn from noise, and there is none",
            ));
        };
        let (colours, k) = (noise.dim(1)?, self.parameters());
        let of = |value: &Value, colour: usize, size: usize| match colours {
            1 => Ok(value.clone()),
            _ => value.slice(1, colour * size, (colour + 1) * size),
        };
        let mut x = noise.mul_scalar(0.0)?;
        let mut colour = 0;
        loop {
            let (parameters, beside) = network(&x)?;
            let drawn = self.draw(
                &of(&parameters, colour, k)?,
                &of(noise, colour, 1)?.squeeze(1)?,
            )?;
            let mut own = drawn.unsqueeze(1)?; // [N,1]
            if let [_, given, mask] = inputs {
                let is_given = of(mask, colour, 1)?.greater_scalar(0.5)?;
                own = is_given.choose(&of(given, colour, 1)?, &own)?;
            }
            x = match (colour, colours - colour - 1) {
                (0, 0) => own,
                (0, _) => concat(&[&own, &x.slice(1, 1, colours)?], 1)?,
                (_, 0) => concat(&[&x.slice(1, 0, colour)?, &own], 1)?,
                _ => {
                    let rest = x.slice(1, colour + 1, colours)?;
                    concat(&[&x.slice(1, 0, colour)?, &own, &rest], 1)?
                }
            };
            colour += 1;
            if colour == colours {
                return Ok((x, beside));
            }
        }
    }
}

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

    fn pixels() -> [PixelDistribution; 3] {
        [
            PixelDistribution::new(Likelihood::Bernoulli, 2).unwrap(),
            PixelDistribution::new(Likelihood::Softmax, 2).unwrap(),
            PixelDistribution::new(Likelihood::Softmax, 5).unwrap(),
        ]
    }

    /// e^-nll of one pixel at each level.
    fn probabilities(pixel: PixelDistribution, parameters: &[f32]) -> Vec<f64> {
        let levels = pixel.levels();
        let x = |level: usize| value(vec![level as f32 / (levels - 1) as f32], &[1, 1, 1, 1]);
        let logits = value(parameters.to_vec(), &[1, parameters.len(), 1, 1]);
        (0..levels)
            .map(|level| {
                let nll = pixel.nll(&logits, &x(level)).unwrap();
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
            let drawn = pixel.draw(&logits, &value(noise, &[n])).unwrap();
            let drawn: Vec<f32> = drawn.tensor().to_vec1().unwrap();
            for (level, p) in p.iter().enumerate() {
                let at = level as f32 / (pixel.levels() - 1) as f32;
                let share = drawn.iter().filter(|x| (**x - at).abs() < 1e-6).count() as f64;
                assert!((share / n as f64 - p).abs() < 2.0 / n as f64, "{pixel:?}");
            }
        }
    }

    #[test]
    fn colours_and_places_keep_their_parameters() {
        let pixel = PixelDistribution::new(Likelihood::Softmax, 3).unwrap();
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
        let nll = pixel
            .nll(
                &value(parameters, &[n, c * 3, h, w]),
                &value(x, &[n, c, h, w]),
            )
            .unwrap();
        let nll: Vec<f32> = nll.tensor().to_vec1().unwrap();
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
                    let x = pixel.draw(&parameters, &value(vec![noise], &[1])).unwrap();
                    assert!((0.0..=1.0).contains(&x.scalar().unwrap()));
                }
            }
        }
        assert!(PixelDistribution::new(Likelihood::Softmax, 1).is_err());
        assert!(PixelDistribution::new(Likelihood::Softmax, 257).is_err());
    }
}
