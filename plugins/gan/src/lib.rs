//! Generative adversarial networks (Goodfellow et al., NeurIPS 2014), with the convolutional architecture of DCGAN (Radford et
//! al., ICLR 2016).
//!
//! A generator G maps noise z ~ N(0, I) to images, a discriminator D tells them from data:
//!
//! ```text
//! min_G max_D  E_data[log D(x)] + E_z[log(1 - D(G(z)))]                          (minimax, eq. 1)
//! min_G       -E_z[log D(G(z))]                                                  (non-saturating: a steep gradient where D is confident)
//! min_G max_D  E_data[D(x)] - E_z[D(G(z))] - lambda E[(|grad D(x^)| - 1)^2]      (wgan-gp, Gulrajani et al., 2017, eq. 3)
//! ```
//!
//! There is no density: the model can only be sampled. D gives logits; D(x) is their sigmoid, save in `wgan-gp`, where D is the critic itself and x^ lies
//! between an image and a sample. To each may come R1, gamma/2 E_data[|grad D(x)|^2] (Mescheder et al., 2018).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DType, DataSpec, Error, GradOptions, GraphFn, Info, Init, Losses, Metrics, Model,
    ModelPlugin, Net, Phase, Plugin, Port, Result, StepCx, Value, grad,
    layers::{Conv, Linear},
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
    #[schemars(range(min = 1, max = 8))]
    pub doublings: u32,
    /// What both minimise.
    pub loss: Loss,
    /// Normalisation in the discriminator; batch where left out, or layer with `wgan-gp`, whose penalty is of each image by itself.
    pub norm: Option<Norm>,
    /// Weight of the gradient penalty of `wgan-gp`, lambda.
    #[schemars(range(min = 0.0))]
    pub gradient_penalty: f64,
    /// Weight of the penalty on the discriminator's gradient at the data, gamma; 0 for none.
    #[schemars(range(min = 0.0))]
    pub r1: f64,
}

/// Kinds of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The generator minimises E_z[log(1 - D(G(z)))].
    Minimax,
    /// The generator minimises -E_z[log D(G(z))].
    NonSaturating,
    /// Wasserstein distance with a gradient penalty; five updates of the critic a step.
    WganGp,
}

/// Kinds of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Over the batch (Ioffe & Szegedy, 2015).
    Batch,
    /// Over each image's feature maps (Ba et al., 2016).
    Layer,
    /// None.
    Off,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latent: 100,
            channels: 128,
            doublings: 2,
            loss: Loss::NonSaturating,
            norm: None,
            gradient_penalty: 10.0,
            r1: 0.0,
        }
    }
}

/// All weights start as N(0, 0.02^2), as in DCGAN.
const WEIGHT: Init = Init::Normal(0.02);

/// Halves or doubles height and width. Next to the image it has a bias; elsewhere a normalisation follows.
const fn by_two(channels: usize, bias: bool) -> Conv {
    let conv = Conv::to(channels)
        .kernel(4)
        .stride(2)
        .padding(1)
        .init(WEIGHT);
    if bias { conv } else { conv.without_bias() }
}

/// The model.
pub struct Gan {
    config: Config,
    image: [usize; 3],
    norm: Norm,
}

impl Gan {
    /// z (N,L) -> x (N,C,H,W) in [-1,1]
    fn generator(&self, net: &Net, z: &Value) -> Value {
        let (
            net,
            Config {
                channels,
                doublings,
                ..
            },
        ) = (net.at("generator"), &self.config);
        let [colours, h, w] = self.image;
        let [h, w] = [h >> doublings, w >> doublings];
        let fc = Linear::to(channels * h * w).without_bias().init(WEIGHT);
        let mut x = net
            .linear("fc", z, fc)
            .reshape(&[-1, *channels as i64, h as i64, w as i64]); // (N,C',H',W')
        for i in 1..=*doublings {
            let last = i == *doublings;
            let to = if last { colours } else { channels >> i };
            x = net.batch_norm(&format!("norm{i}"), &x).relu();
            x = net.conv_transpose2d(&format!("conv{i}"), &x, by_two(to, last)); // (N,C'/2,2H',2W')
        }
        x.tanh() // (N,C,H,W)
    }

    /// x (N,C,H,W) in [-1,1] -> logit (N)
    fn discriminator(&self, net: &Net, x: &Value) -> Value {
        let (net, doublings) = (net.at("discriminator"), self.config.doublings);
        let narrowest = self.config.channels >> (doublings - 1);
        let mut h = net
            .conv2d("conv1", x, by_two(narrowest, true))
            .leaky_relu(0.2); // (N,C',H/2,W/2)
        for i in 2..=doublings {
            let channels = narrowest << (i - 1);
            let bias = self.norm == Norm::Off;
            h = net.conv2d(&format!("conv{i}"), &h, by_two(channels, bias)); // (N,2C',H/4,W/4)
            let norm = format!("norm{i}");
            h = match self.norm {
                Norm::Batch => net.batch_norm(&norm, &h),
                Norm::Layer => net.group_norm(&norm, &h, 1),
                Norm::Off => h,
            }
            .leaky_relu(0.2);
        }
        net.linear("fc", &h.flatten(1), 1).squeeze(1) // (N)
    }

    /// z (N,L) -> x (N,C,H,W) in [0,1]
    pub fn generate(&self, net: &Net, z: &Value) -> Value {
        self.generator(net, z) * 0.5 + 0.5
    }

    /// x (N,C,H,W) in [0,1] -> logit (N)
    pub fn discriminate(&self, net: &Net, x: &Value) -> Value {
        self.discriminator(net, &(x * 2.0 - 1.0))
    }

    /// The batch's generated images (N,C,H,W) in [-1,1], computed once for the phases that use this batch.
    fn fake(&self, cx: &mut StepCx) -> Value {
        cx.shared("fake", |cx| {
            self.generator(&cx.net(), &cx.normal("z", &[self.config.latent]))
        })
    }

    /// E[(|grad D(x)| - 1)^2] at images x (N,C,H,W) in [-1,1], which are variables (Gulrajani et al., 2017, eq. 3)
    fn penalty(&self, net: &Net, x: &Value) -> Value {
        let lengths = slope(&self.discriminator(net, x), x).sqrt(); // (N)
        mean(&(lengths - 1.0).sqr())
    }

    /// What the discriminator minimises, from images and samples (N,C,H,W) in [-1,1].
    fn discriminator_loss(&self, real: &Value, fake: &Value, cx: &StepCx) -> Losses {
        let net = cx.net();
        let fake = fake.detach();
        // R1's gradient is at the data themselves.
        let real = if self.config.r1 > 0.0 {
            real.variable()
        } else {
            real.clone()
        };
        let (on_real, on_fake) = (
            self.discriminator(&net, &real),
            self.discriminator(&net, &fake),
        ); // (N)
        let mut terms = match self.config.loss {
            // -E_data[log D(x)] - E_z[log(1 - D(G(z)))]
            Loss::Minimax | Loss::NonSaturating => vec![
                ("real", cross_entropy(&on_real, true)),
                ("fake", cross_entropy(&on_fake, false)),
            ],
            Loss::WganGp => {
                let epsilon = cx.uniform("epsilon", &[1, 1, 1]); // (N,1,1,1)
                let between = (&epsilon * &real.detach() + (1.0 - &epsilon) * &fake).variable(); // (N,C,H,W)
                vec![
                    ("critic", mean(&on_fake) - mean(&on_real)),
                    (
                        "penalty",
                        self.penalty(&net, &between) * self.config.gradient_penalty,
                    ),
                ]
            }
        };
        if self.config.r1 > 0.0 {
            terms.push(("r1", mean(&slope(&on_real, &real)) * (0.5 * self.config.r1)));
        }
        let sum = |total: Value, (_, term): &(_, Value)| total + term;
        Losses {
            total: terms[1..].iter().fold(terms[0].1.clone(), sum),
            terms,
        }
    }
}

/// |grad sum(y)|^2 of each x (N,C,H,W), to be differentiated again: (N)
fn slope(y: &Value, x: &Value) -> Value {
    let [gradient] = grad(y, [x], GradOptions { create_graph: true }); // (N,C,H,W)
    gradient.flatten(1).sqr().sum(&[1], false)
}

/// (N) -> the mean
fn mean(x: &Value) -> Value {
    x.mean(&[0], false)
}

/// The mean of -log D(x) for `real`, of -log(1 - D(x)) else, from logits (N).
fn cross_entropy(logit: &Value, real: bool) -> Value {
    let signed = if real { -logit } else { logit.clone() };
    mean(&signed.softplus())
}

/// The share of logits (N) on the right side of 0.
fn accuracy(logit: &Value, real: bool) -> Result<f64> {
    let right = if real {
        logit.greater_scalar(0.0)
    } else {
        logit.less_scalar(0.0)
    };
    mean(&right.cast(DType::F32)).scalar()
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Gan>::default())]
}

impl Model for Gan {
    type Config = Config;

    const INFO: Info = Info {
        name: "gan",
        summary: "Generative adversarial network with DCGAN's architecture: minimax, non-saturating or Wasserstein with gradient penalty",
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

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        if !config.channels.is_multiple_of(1 << (config.doublings - 1)) {
            return Err(Error::input(format!(
                "model.channels = {} cannot be halved {} times",
                config.channels,
                config.doublings - 1
            )));
        }
        let ([_, h, w], factor) = (data.image, 1usize << config.doublings);
        if h % factor != 0 || w % factor != 0 {
            return Err(Error::input(format!(
                "images of {h}x{w} cannot be halved {} times: use fewer model.doublings",
                config.doublings
            )));
        }
        let norm = match (config.norm, config.loss) {
            (Some(Norm::Batch), Loss::WganGp) => {
                return Err(Error::input(
                    "model.norm = \"batch\" lets images of a batch see each other, but the penalty of wgan-gp is of each by itself: use layer or off",
                ));
            }
            (Some(norm), _) => norm,
            (None, Loss::WganGp) => Norm::Layer,
            (None, _) => Norm::Batch,
        };
        Ok(Self {
            config: config.clone(),
            image: data.image,
            norm,
        })
    }

    fn phases(&self) -> Vec<Phase> {
        let updates = match self.config.loss {
            Loss::WganGp => 5, // n_critic, algorithm 1
            Loss::Minimax | Loss::NonSaturating => 1,
        };
        vec![
            Phase::new("discriminator", &["discriminator"]).repeated(updates),
            Phase::new("generator", &["generator"]),
        ]
    }

    fn loss(&self, phase: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let fake = self.fake(cx); // (N,C,H,W)
        if phase.name == "discriminator" {
            return Ok(self.discriminator_loss(&(batch.image() * 2.0 - 1.0), &fake, cx));
        }
        let logit = self.discriminator(&cx.net(), &fake); // (N)
        Ok(Losses::one(
            "loss",
            match self.config.loss {
                Loss::Minimax => -cross_entropy(&logit, false),
                Loss::NonSaturating => cross_entropy(&logit, true),
                Loss::WganGp => -mean(&logit),
            },
        ))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let fake = self.fake(cx); // (N,C,H,W)
        let net = cx.net();
        let real = self.discriminate(&net, &batch.image()); // (N)
        let fake = self.discriminator(&net, &fake); // (N)
        if self.config.loss == Loss::WganGp {
            // A critic's values have no 0 between data and samples: their difference is the distance (eq. 2).
            let distance = mean(&real).scalar()? - mean(&fake).scalar()?;
            return Ok(Metrics::from([("critic_distance".into(), distance)]));
        }
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
                |m: &Self, net, io| m.generate(net, &io[0]),
            ),
            GraphFn::new(
                "discriminate",
                [Port::image("x", self.image)],
                [Port::batched("logit", &[])],
                |m: &Self, net, io| m.discriminate(net, &io[0]),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
