//! Requirements for the tests of models that predict pixel after pixel: causality, probabilities that sum to one, and samples that have them.
//!
//! They are for images small enough to try everything; each says what does not hold.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use zoo_sdk::{Binarization, DataSpec, Stream};

use crate::{
    Autoregressive, Batch, Error, Field, Init, List, Losses, Mode, Model, Net, Params, Result,
    StepCx, Value, dist::PixelDistribution, settings, train::make,
};

/// A model for images `[C,H,W]` of `classes` classes, and random weights for it, `factor` times the usual ones: small weights hide faults. Those that start at 0 are
/// drawn from a normal distribution, times `factor`.
pub fn random<M: Model>(
    config: &M::Config,
    image: [usize; 3],
    classes: usize,
    factor: f32,
) -> Result<(M, Net)> {
    let data = DataSpec {
        name: "test".into(),
        image,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        binarization: Binarization::None,
        sha256: String::new(),
        ..DataSpec::default()
    };
    let model: M = settings::model_of(config, &data)?;
    let params = Params::fresh(5, &Device::Cpu);
    make(&model, &params, &data, &Arc::default())?;
    let mut weights = params.snapshot()?;
    for (name, array) in &mut weights {
        let mut values = array.as_f32()?.to_vec();
        if values.iter().all(|&w| w == 0.0) {
            values = Stream::new(5).named(name).normal(values.len());
        }
        values.iter_mut().for_each(|w| *w *= factor);
        *array = zoo_graph::Array::f32(array.shape(), values)?;
    }
    Ok((model, Net::new(&params.twin(Some(&weights))?)))
}

/// The loss of the first phase of a training step on these data, as a trainer with this seed would compute it.
pub fn loss<M: Model>(model: &M, net: &Net, batch: &Batch, seed: u64) -> Result<Losses> {
    let keys = (0..batch.len() as u64).collect();
    let stream = Stream::new(seed).named("step");
    let mut step = StepCx::new(Mode::Train, 0, stream, keys, net, &Arc::default());
    model.loss(&model.phases()[0], batch, &mut step)
}

/// A step of a training or an evaluation with this seed, for tests of what a model computes in it.
pub fn step(mode: Mode, net: &Net, images: usize, seed: u64) -> StepCx {
    let keys = (0..images as u64).collect();
    StepCx::new(mode, 0, Stream::new(seed), keys, net, &Arc::default())
}

/// A model that predicts the colours of pixels in raster order, as its tests see it.
pub struct Predictor<'a> {
    /// Channels, height and width: the colours of a pixel follow each other.
    pub image: [usize; 3],
    /// p(x_i | x_<i).
    pub pixel: PixelDistribution,
    /// x `[N,C,H,W]` -> the parameters of every p(x_i | x_<i) `[N,P,H,W]`.
    pub parameters: &'a dyn Fn(&Value) -> Value,
    /// x `[N,C,H,W]` -> -log p(x) `[N]`.
    pub nll: &'a dyn Fn(&Value) -> Value,
    /// Noise `[N,C,H,W]`, or noise, an image and its mask -> x `[N,C,H,W]`.
    pub draw: &'a dyn Fn(&[&Value]) -> Value,
}

/// Holds a model that is written on fields to what `require` asks; with classes, for images of the class `label`.
pub fn with_pixels<M: Autoregressive<On = Field>, T>(
    model: &M,
    net: &Net,
    label: i64,
    require: impl FnOnce(Predictor<'_>) -> T,
) -> T {
    let label = |x: &Value| {
        let labels = vec![label; x.dims().first().copied().unwrap_or(0)];
        let count = labels.len();
        let labels = Tensor::from_vec(labels, count, &Device::Cpu).map_err(Error::from);
        model.classes().map(|_| Value::from(labels))
    };
    require(Predictor {
        image: model.image(),
        pixel: model.pixel(),
        parameters: &|x| model.forward(net, x, label(x).as_ref()),
        nll: &|x| model.nll(net, x, label(x).as_ref()),
        draw: &|inputs| model.draw(net, inputs, label(inputs[0]).as_ref()),
    })
}

/// Holds a model that is written on lists to what `require` asks. It sees the model's images `(C,H,W)` as such of one colour, (1,C*H,W).
pub fn with_list<M: Autoregressive<On = List>, T>(
    model: &M,
    net: &Net,
    require: impl FnOnce(Predictor<'_>) -> T,
) -> T {
    let forward = |x: &Value| model.forward(net, x, None);
    with_logits(model, net, forward, require)
}

/// [`with_list`], with these logits (N,C*H*W) of images (N,C,H,W) for those of the model.
pub fn with_logits<M: Autoregressive<On = List>, T>(
    model: &M,
    net: &Net,
    logits: impl Fn(&Value) -> Value,
    require: impl FnOnce(Predictor<'_>) -> T,
) -> T {
    let [c, h, w] = model.image();
    let own = |x: &Value| x.reshape(&[-1, c as i64, h as i64, w as i64]); // (N,C,H,W)
    let tall = |x: Value| x.reshape(&[-1, 1, (c * h) as i64, w as i64]); // (N,1,C*H,W)
    require(Predictor {
        image: [1, c * h, w],
        pixel: model.pixel(),
        parameters: &|x| tall(logits(&own(x))),
        nll: &|x| model.nll(net, &own(x), None),
        draw: &|inputs| {
            let inputs: Vec<Value> = inputs.iter().map(|x| own(x)).collect();
            tall(model.draw(net, &inputs.iter().collect::<Vec<_>>(), None))
        },
    })
}

/// Something that must hold.
fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::input(otherwise()))
    }
}

impl Predictor<'_> {
    fn values(&self) -> usize {
        self.image.iter().product()
    }

    /// Where value `i` of the order stands in memory, and its channel, row and column.
    fn place(&self, i: usize) -> (usize, usize) {
        let [colours, height, width] = self.image;
        let (pixel, colour) = (i / colours, i % colours);
        (colour * height * width + pixel, colour)
    }

    fn images(&self, values: Vec<f32>) -> Result<Value> {
        let [c, h, w] = self.image;
        let n = values.len() / self.values();
        Ok(Tensor::from_vec(values, (n, c, h, w), &Device::Cpu)?.into())
    }

    fn noise(&self, n: usize, seed: u64) -> Result<Value> {
        self.images(Stream::new(seed).uniform(n * self.values()))
    }

    /// Random images of the levels that there are.
    fn drawn_evenly(&self, n: usize, seed: u64) -> Vec<f32> {
        let levels = self.pixel.levels();
        let drawn = Stream::new(seed).integers(n * self.values(), levels as u64);
        drawn
            .into_iter()
            .map(|level| level as f32 / (levels - 1) as f32)
            .collect()
    }

    /// The parameters of value `i` of the order, `[N,K]`.
    fn parameters_of(&self, all: &Value, i: usize) -> Value {
        let own = self.pixel.maps_of(self.place(i).1, self.image[0]);
        self.of_pixel(all, i).slice(1, own.start, own.end)
    }

    /// What maps `[N,P,H,W]` hold for the pixel of value `i` of the order, `[N,P]`.
    fn of_pixel(&self, maps: &Value, i: usize) -> Value {
        let [colours, height, width] = self.image;
        let pixel = i / colours;
        maps.reshape(&[0, -1, (height * width) as i64])
            .slice(2, pixel, pixel + 1)
            .squeeze(2)
    }

    /// Which values each one depends on, by gradient, in the order of prediction.
    fn sees(&self) -> Result<Vec<Vec<bool>>> {
        let (d, [c, h, w]) = (self.values(), self.image);
        let mut sees = vec![vec![false; d]; d];
        for seed in 0..6 {
            let params = Params::fresh(seed, &Device::Cpu);
            let x = Net::new(&params).param("x", &[1, c, h, w], Init::Uniform(1.0));
            for (i, row) in sees.iter_mut().enumerate() {
                let own = self.parameters_of(&(self.parameters)(&x), i);
                // Weighted, so that the effects on several parameters do not cancel.
                let count = own.dim(1)?;
                let weights = Stream::new(9).normal(count);
                let weights = Value::from(Tensor::from_vec(weights, (1, count), &Device::Cpu)?);
                let total = (own * weights).sum(&[0, 1], false);
                let Some(gradient) = total.backward()?.get(&x) else {
                    continue; // it depends on nothing
                };
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                for (j, seen) in row.iter_mut().enumerate() {
                    *seen |= gradient[self.place(j).0] != 0.0;
                }
            }
        }
        Ok(sees)
    }

    /// All requirements of a model that sees everything before a value.
    pub fn is_sound(&self) -> Result<()> {
        self.is_causal()?;
        self.sees_all_before()?;
        self.sums_to_one()?;
        self.draws_what_is_likely()?;
        self.draws_as_naively()
    }

    /// No prediction depends on its own value or on later ones: by gradient, and when they change.
    pub fn is_causal(&self) -> Result<()> {
        let d = self.values();
        for (i, sees) in self.sees()?.iter().enumerate() {
            let later = (i..d).find(|&j| sees[j]);
            require(later.is_none(), || {
                format!("the gradient of prediction {i} reaches value {later:?}")
            })?;
        }
        // Image j + 1 is image 0 with another value j.
        let base = self.drawn_evenly(1, 3);
        let mut all = base.clone();
        for j in 0..d {
            let mut changed = base.clone();
            let value = &mut changed[self.place(j).0];
            *value = if *value < 0.5 { 1.0 } else { 0.0 };
            all.extend(changed);
        }
        let parameters = (self.parameters)(&self.images(all)?);
        let mut moved = false;
        for i in 0..d {
            let own = self.parameters_of(&parameters, i); // [d+1,K]
            let own = own.tensor()?.to_vec2::<f32>()?;
            for j in 0..d {
                let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6 * (1.0 + a.abs());
                let differs = own[0].iter().zip(&own[j + 1]).any(differs);
                require(!differs || j < i, || {
                    format!("prediction {i} changes with value {j}")
                })?;
                moved |= differs;
            }
        }
        require(moved || d == 1, || {
            "no prediction depends on anything".into()
        })
    }

    /// Predictions and values before them on which they do not depend.
    pub fn blind_spots(&self) -> Result<Vec<(usize, usize)>> {
        let sees = self.sees()?;
        let blind = |(i, sees): (usize, &Vec<bool>)| {
            let unseen: Vec<_> = (0..i).filter(|&j| !sees[j]).map(|j| (i, j)).collect();
            unseen
        };
        Ok(sees.iter().enumerate().flat_map(blind).collect())
    }

    /// Every prediction depends on all values before it.
    pub fn sees_all_before(&self) -> Result<()> {
        let blind = self.blind_spots()?;
        require(blind.is_empty(), || {
            format!("predictions do not see these values before them: {blind:?}")
        })
    }

    /// All images that there are, and p of each.
    fn everything(&self) -> Result<(Vec<f32>, Vec<f64>)> {
        let (d, levels) = (self.values(), self.pixel.levels());
        let count = levels.pow(d as u32);
        let mut images = Vec::with_capacity(count * d);
        for number in 0..count {
            let level = |i: usize| number / levels.pow(i as u32) % levels;
            images.extend((0..d).map(|i| level(i) as f32 / (levels - 1) as f32));
        }
        let p = (self.nll)(&self.images(images.clone())?).to_vec()?;
        Ok((images, p.iter().map(|nll| f64::from(-nll).exp()).collect()))
    }

    /// The probabilities of all images sum to one.
    pub fn sums_to_one(&self) -> Result<()> {
        let total: f64 = self.everything()?.1.iter().sum();
        require((total - 1.0).abs() < 1e-4, || {
            format!("the probabilities sum to {total}")
        })
    }

    /// Every image is drawn as often as its probability says.
    pub fn draws_what_is_likely(&self) -> Result<()> {
        let (images, p) = self.everything()?;
        let (n, d) = (20_000, self.values());
        let drawn = (self.draw)(&[&self.noise(n, 8)?]).to_vec()?;
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let mut counts = vec![0usize; p.len()];
        for x in drawn.chunks(d) {
            match images.chunks(d).position(|image| same(image, x)) {
                Some(image) => counts[image] += 1,
                None => return Err(Error::input(format!("{x:?} was drawn"))),
            }
        }
        for (image, (&count, p)) in images.chunks(d).zip(counts.iter().zip(&p)) {
            let expected = n as f64 * p;
            // Five standard deviations of a binomial distribution, and a little for images that hardly ever come.
            let allowed = 5.0 * (expected * (1.0 - p)).max(0.0).sqrt() + 3.0;
            require((count as f64 - expected).abs() <= allowed, || {
                format!("{image:?} was drawn {count} times, not {expected:.1}")
            })?;
        }
        Ok(())
    }

    /// The images of `n` rows of noise, a value at a time, with the whole network for each.
    fn drawn_naively(&self, inputs: &[&Value]) -> Result<Vec<f32>> {
        let (d, n) = (self.values(), inputs[0].dims()[0]);
        let mut x = vec![0.0; n * d];
        for i in 0..d {
            let (at, colour) = self.place(i);
            let so_far = self.images(x.clone())?;
            let parameters = (self.parameters)(&so_far);
            let own = self.of_pixel(&parameters, i); // [N,P]
            let pixel = self.of_pixel(&so_far, i); // [N,C]
            let column = |v: &Value| -> Result<Vec<f32>> {
                Ok(v.to_vec()?.chunks(d).map(|row| row[at]).collect())
            };
            let noise = Tensor::from_vec(column(inputs[0])?, n, &Device::Cpu)?;
            let drawn = self.pixel.draw_colour(&own, &pixel, colour, &noise.into());
            let mut drawn = drawn.to_vec()?;
            if let [_, given, mask] = inputs {
                for ((drawn, given), mask) in
                    drawn.iter_mut().zip(column(given)?).zip(column(mask)?)
                {
                    *drawn = if mask > 0.5 { given } else { *drawn };
                }
            }
            x.chunks_mut(d)
                .zip(drawn)
                .for_each(|(row, drawn)| row[at] = drawn);
        }
        Ok(x)
    }

    /// Drawing with what is kept gives the same values as drawing with the whole network for each value; also where a part is given, which stays.
    pub fn draws_as_naively(&self) -> Result<()> {
        let n = 5;
        let noise = self.noise(n, 12)?;
        let given = self.images(self.drawn_evenly(n, 13))?;
        let mask = self.noise(n, 14)?.greater_scalar(0.5).cast(DType::F32);
        for inputs in [&[&noise][..], &[&noise, &given, &mask]] {
            let (fast, slow) = ((self.draw)(inputs).to_vec()?, self.drawn_naively(inputs)?);
            let wrong = fast.iter().zip(&slow).position(|(a, b)| a != b);
            require(wrong.is_none(), || {
                format!(
                    "with {} inputs, value {wrong:?} of {n} images differs from what the whole network draws",
                    inputs.len()
                )
            })?;
            require(slow.iter().any(|x| *x != slow[0]), || {
                "all values are alike: nothing is shown".into()
            })?;
        }
        Ok(())
    }
}
