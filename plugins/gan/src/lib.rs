//! Generative adversarial networks (Goodfellow et al., NeurIPS 2014), with the convolutional architecture of DCGAN (Radford et
//! al., ICLR 2016).
//!
//! A generator G maps noise z ~ N(0, I) to images, a discriminator D tells them from data:
//!
//! ```text
//! min_G max_D  E_data[log D(x)] + E_z[log(1 - D(G(z)))]     (minimax, eq. 1)
//! min_G       -E_z[log D(G(z))]                             (non-saturating: a steep gradient where D is confident)
//! ```
//!
//! There is no density: the model can only be sampled. D gives logits; D(x) is their sigmoid.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Init, Losses, Metrics, Mode, Model, ModelPlugin, Params,
    Phase, Plugin, Port, Result, StepCx, Value,
    layers::{BatchNorm, Conv2d, ConvConfig, ConvTranspose2d, Linear},
};

/// Settings of [`Gan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Dimensions of z.
    #[schemars(range(min = 1))]
    pub latent: usize,
    /// Channels of the widest feature maps, next to z; each doubling of the size halves them.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Doublings of height and width from the smallest feature maps to the image.
    #[schemars(range(min = 1))]
    pub doublings: u32,
    /// What the generator minimises.
    pub loss: Loss,
}

/// Kinds of generator loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// E_z[log(1 - D(G(z)))]
    Minimax,
    /// -E_z[log D(G(z))]
    NonSaturating,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latent: 100,
            channels: 128,
            doublings: 2,
            loss: Loss::NonSaturating,
        }
    }
}

/// All weights start as N(0, 0.02^2), as in DCGAN.
const WEIGHT: Init = Init::Normal(0.02);
/// Halves or doubles height and width. No bias: a normalisation follows.
const STRIDE_2: ConvConfig = ConvConfig {
    kernel: 4,
    stride: 2,
    padding: 1,
    output_padding: 0,
    groups: 1,
    bias: false,
    init: Some(WEIGHT),
};
/// The layer next to the image has a bias and no normalisation.
const AT_IMAGE: ConvConfig = ConvConfig {
    bias: true,
    ..STRIDE_2
};

/// The model.
pub struct Gan {
    config: Config,
    image: [usize; 3],
    generator: Generator,
    discriminator: Discriminator,
}

/// z (N,L) -> x (N,C,H,W) in [-1,1]
struct Generator {
    fc: Linear,
    smallest: [usize; 3],
    norms: Vec<BatchNorm>,
    convs: Vec<ConvTranspose2d>,
}

impl Generator {
    fn new(config: &Config, image: [usize; 3], params: &Params) -> Result<Self> {
        let smallest = smallest(config, image)?;
        let fc = Linear::without_bias(
            &params.at("fc"),
            config.latent,
            smallest.iter().product(),
            WEIGHT,
        )?;
        let (mut norms, mut convs) = (Vec::new(), Vec::new());
        for i in 1..=config.doublings {
            let (from, last) = (config.channels >> (i - 1), i == config.doublings);
            norms.push(BatchNorm::new(&params.at(&format!("norm{i}")), from, None)?);
            let (to, conv) = if last {
                (image[0], AT_IMAGE)
            } else {
                (config.channels >> i, STRIDE_2)
            };
            convs.push(ConvTranspose2d::new(
                &params.at(&format!("conv{i}")),
                from,
                to,
                conv,
            )?);
        }
        Ok(Self {
            fc,
            smallest,
            norms,
            convs,
        })
    }

    fn forward(&self, z: &Value, mode: Mode) -> Result<Value> {
        let [c, h, w] = self.smallest.map(|size| size as i64);
        let mut x = self.fc.forward(z)?.reshape(&[-1, c, h, w])?; // (N,C',H',W')
        for (norm, conv) in self.norms.iter().zip(&self.convs) {
            x = conv.forward(&norm.forward(&x, mode)?.relu()?)?; // (N,C'/2,2H',2W')
        }
        x.tanh() // (N,C,H,W)
    }
}

/// x (N,C,H,W) in [-1,1] -> logit (N)
struct Discriminator {
    first: Conv2d,
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    fc: Linear,
}

impl Discriminator {
    fn new(config: &Config, image: [usize; 3], params: &Params) -> Result<Self> {
        let narrowest = config.channels >> (config.doublings - 1);
        let first = Conv2d::new(&params.at("conv1"), image[0], narrowest, AT_IMAGE)?;
        let (mut convs, mut norms) = (Vec::new(), Vec::new());
        for i in 2..=config.doublings {
            let to = narrowest << (i - 1);
            convs.push(Conv2d::new(
                &params.at(&format!("conv{i}")),
                to / 2,
                to,
                STRIDE_2,
            )?);
            norms.push(BatchNorm::new(&params.at(&format!("norm{i}")), to, None)?);
        }
        let fc = Linear::new(
            &params.at("fc"),
            smallest(config, image)?.iter().product(),
            1,
        )?;
        Ok(Self {
            first,
            convs,
            norms,
            fc,
        })
    }

    fn forward(&self, x: &Value, mode: Mode) -> Result<Value> {
        let mut h = self.first.forward(x)?.leaky_relu(0.2)?; // (N,C',H/2,W/2)
        for (conv, norm) in self.convs.iter().zip(&self.norms) {
            h = norm.forward(&conv.forward(&h)?, mode)?.leaky_relu(0.2)?; // (N,2C',H/4,W/4)
        }
        self.fc.forward(&h.flatten(1)?)?.squeeze(1) // (N)
    }
}

/// Channels and size of the feature maps next to z.
fn smallest(config: &Config, [_, h, w]: [usize; 3]) -> Result<[usize; 3]> {
    let factor = 1usize << config.doublings;
    if h % factor != 0 || w % factor != 0 {
        return Err(Error::input(format!(
            "images of {h}x{w} cannot be halved {} times: use fewer model.doublings",
            config.doublings
        )));
    }
    Ok([config.channels, h / factor, w / factor])
}

impl Gan {
    /// z (N,L) -> x (N,C,H,W) in [0,1]
    pub fn generate(&self, z: &Value, mode: Mode) -> Result<Value> {
        self.generator
            .forward(z, mode)?
            .mul_scalar(0.5)?
            .add_scalar(0.5)
    }

    /// x (N,C,H,W) in [0,1] -> logit (N)
    pub fn discriminate(&self, x: &Value, mode: Mode) -> Result<Value> {
        self.discriminator
            .forward(&x.mul_scalar(2.0)?.add_scalar(-1.0)?, mode)
    }

    /// The batch's generated images, computed once a step: both phases need them.
    fn fake(&self, cx: &mut StepCx) -> Result<Value> {
        cx.shared("fake", |cx| {
            self.generate(&cx.normal("z", &[self.config.latent])?, cx.mode)
        })
    }
}

/// The mean of -log D(x) for `real`, of -log(1 - D(x)) else, from logits (N).
fn cross_entropy(logit: &Value, real: bool) -> Result<Value> {
    let signed = if real { logit.neg()? } else { logit.clone() };
    signed.softplus()?.mean(&[0], false)
}

/// The share of logits (N) on the right side of 0.
fn accuracy(logit: &Value, real: bool) -> Result<f64> {
    let right = if real {
        logit.greater_scalar(0.0)?
    } else {
        logit.less_scalar(0.0)?
    };
    right.cast(zoo_nn::DType::F32)?.mean(&[0], false)?.scalar()
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Gan>::default())]
}

impl Model for Gan {
    type Config = Config;

    const INFO: Info = Info {
        name: "gan",
        summary: "Generative adversarial network with DCGAN's architecture, minimax or non-saturating",
        family: "adversarial",
        density: "implicit",
        title: "Generative Adversarial Nets",
        authors: "Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio",
        year: 2014,
        url: "https://arxiv.org/abs/1406.2661",
        version: "1",
        graphs: &[
            ("sample", "images from noise z ~ N(0, I)"),
            ("discriminate", "the logit that an image is real"),
        ],
        best_metric: None,
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec, params: &Params) -> Result<Self> {
        if config.latent == 0
            || config.doublings == 0
            || config.doublings > 8
            || config.channels >> (config.doublings - 1) == 0
        {
            return Err(Error::input(
                "model.latent must be at least 1, model.doublings 1 to 8, model.channels at least 2^(doublings - 1)",
            ));
        }
        if !config.channels.is_multiple_of(1 << (config.doublings - 1)) {
            return Err(Error::input(format!(
                "model.channels = {} cannot be halved {} times",
                config.channels,
                config.doublings - 1
            )));
        }
        Ok(Self {
            config: config.clone(),
            image: data.image,
            generator: Generator::new(config, data.image, &params.at("generator"))?,
            discriminator: Discriminator::new(config, data.image, &params.at("discriminator"))?,
        })
    }

    fn phases(&self) -> Vec<Phase> {
        vec![
            Phase {
                name: "discriminator",
                parameters: &["discriminator"],
            },
            Phase {
                name: "generator",
                parameters: &["generator"],
            },
        ]
    }

    fn loss(&self, phase: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let fake = self.fake(cx)?; // (N,C,H,W)
        if phase.name == "discriminator" {
            // -E_data[log D(x)] - E_z[log(1 - D(G(z)))]
            let real = cross_entropy(&self.discriminate(&batch.x, cx.mode)?, true)?;
            let fake = cross_entropy(&self.discriminate(&fake.detach(), cx.mode)?, false)?;
            return Ok(Losses {
                total: real.add(&fake)?,
                terms: vec![("real", real), ("fake", fake)],
            });
        }
        let logit = self.discriminate(&fake, cx.mode)?; // (N)
        let loss = match self.config.loss {
            Loss::Minimax => cross_entropy(&logit, false)?.neg()?,
            Loss::NonSaturating => cross_entropy(&logit, true)?,
        };
        Ok(Losses {
            total: loss.clone(),
            terms: vec![("loss", loss)],
        })
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let fake = self.fake(cx)?;
        let (real, fake) = (
            self.discriminate(&batch.x, cx.mode)?,
            self.discriminate(&fake, cx.mode)?,
        ); // (N)
        Ok(Metrics::from([
            ("discriminator_accuracy_real".into(), accuracy(&real, true)?),
            (
                "discriminator_accuracy_fake".into(),
                accuracy(&fake, false)?,
            ),
        ]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        vec![
            GraphFn::new(
                "sample",
                [Port::normal("noise", &[self.config.latent])],
                [Port::image("x", self.image)],
                |m: &Self, io| Ok(vec![m.generate(&io[0], Mode::Eval)?]),
            ),
            GraphFn::new(
                "discriminate",
                [Port::image("x", self.image)],
                [Port::batched("logit", &[])],
                |m: &Self, io| Ok(vec![m.discriminate(&io[0], Mode::Eval)?]),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
