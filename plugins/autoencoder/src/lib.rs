//! The autoencoder (Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 2006), and the denoising one (Vincent et
//! al., ICML 2008; JMLR 2010).
//!
//! An encoder maps an image to a code z of fewer numbers, a decoder maps it back; both minimise the squared error
//!
//! ```text
//! L(x, x_hat) = |x - x_hat|^2,   x_hat = decode(encode(x~))
//! ```
//!
//! where x~ is x itself, or x corrupted: then the code must hold what the corruption spares. The distribution of z is not known, so nothing can be drawn; the
//! encoder's features serve other tasks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Losses, Metrics, Mode, Model, ModelPlugin, Net, Phase,
    Plugin, Port, Result, StepCx, Task, Value,
    nets::{Arch, Coder},
};

/// Settings of [`Autoencoder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks: fully connected or convolutional.
    pub arch: Arch,
    /// Dimensions of z.
    #[schemars(range(min = 1))]
    pub latent: usize,
    /// Width of each hidden layer of `mlp`, from the image inwards; the decoder mirrors them.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<usize>,
    /// Channels of each stride-2 convolution of `conv`, from the image inwards; the decoder mirrors them.
    #[schemars(inner(range(min = 1)))]
    pub channels: Vec<usize>,
    /// Width of the fully connected layer between the convolutions and z.
    #[schemars(range(min = 1))]
    pub dense: usize,
    /// How images are corrupted in training.
    pub corruption: Corruption,
    /// How much: the standard deviation of the noise, or the share of the pixels that are hidden.
    #[schemars(range(min = 0.0))]
    pub amount: f64,
}

/// Kinds of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Corruption {
    /// None: the plain autoencoder.
    Off,
    /// Gaussian noise is added to every value.
    Gaussian,
    /// Values are set to 0.
    Masking,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            arch: Arch::Mlp,
            latent: 30,
            hidden: vec![1000, 500, 250],
            channels: vec![32, 64],
            dense: 256,
            corruption: Corruption::Off,
            amount: 0.25,
        }
    }
}

/// The model: x (N,C,H,W) -> z (N,L) -> x_hat (N,C,H,W).
pub struct Autoencoder {
    config: Config,
    coder: Coder,
}

impl Autoencoder {
    /// x (N,C,H,W) -> z (N,L)
    pub fn encode(&self, net: &Net, x: &Value) -> Value {
        let net = net.at("encoder");
        net.linear("code", &self.coder.encode(&net, x), self.config.latent)
    }

    /// z (N,L) -> x_hat (N,C,H,W) in [0,1]
    pub fn decode(&self, net: &Net, z: &Value) -> Value {
        self.coder.decode(&net.at("decoder"), z).sigmoid()
    }

    /// x (N,C,H,W) -> x~ (N,C,H,W), as the network sees it in training
    fn corrupted(&self, x: &Value, cx: &StepCx) -> Value {
        let (amount, image) = (self.config.amount, &self.coder.image);
        match self.config.corruption {
            _ if cx.mode == Mode::Eval => x.clone(),
            Corruption::Off => x.clone(),
            Corruption::Gaussian => x + cx.normal("noise", image) * amount,
            Corruption::Masking => {
                let kept = cx.uniform("mask", image).less_scalar(1.0 - amount);
                x * kept.cast(x.dtype())
            }
        }
    }

    /// |x - x_hat|^2 of each image: (N)
    fn squared_error(&self, x: &Value, cx: &StepCx) -> Value {
        let z = self.encode(&cx.net(), &self.corrupted(x, cx)); // (N,L)
        let apart = x - self.decode(&cx.net(), &z); // (N,C,H,W)
        zoo_nn::loss::per_image(&apart.sqr())
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Autoencoder>::default())]
}

impl Model for Autoencoder {
    type Config = Config;

    const INFO: Info = Info {
        name: "autoencoder",
        summary: "Autoencoder, fully connected or convolutional, denoising if wanted",
        family: "latent variable",
        density: "none",
        title: "Reducing the Dimensionality of Data with Neural Networks",
        authors: "Hinton, Salakhutdinov",
        year: 2006,
        url: "https://www.science.org/doi/10.1126/science.1127647",
        version: "1",
        graphs: &[
            ("encode", "the code of an image"),
            ("decode", "an image from its code"),
            ("reconstruct", "an image through its code"),
        ],
        best_metric: Some(("squared_error", false)),
        defaults: include_str!("../default.toml"),
    };

    const TASK: Task = Task::Represent;

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        if config.corruption == Corruption::Masking && config.amount > 1.0 {
            return Err(Error::input(format!(
                "model.amount = {} must be at most 1 with model.corruption = \"masking\": it is a share of the pixels",
                config.amount
            )));
        }
        let coder = Coder {
            arch: config.arch,
            image: data.image,
            hidden: config.hidden.clone(),
            channels: config.channels.clone(),
            dense: config.dense,
        };
        coder.check()?;
        Ok(Self {
            config: config.clone(),
            coder,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let error = self.squared_error(&batch.image(), cx); // (N)
        Ok(Losses::one("squared_error", error.mean(&[0], false)))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let error = self
            .squared_error(&batch.image(), cx)
            .mean(&[0], false)
            .scalar()?;
        let values = self.coder.image.iter().product::<usize>() as f64;
        Ok(Metrics::from([
            ("squared_error".into(), error),
            ("mse".into(), error / values),
        ]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let image = |name: &str| Port::image(name, self.coder.image);
        let code = || Port::batched("z", &[self.config.latent]);
        vec![
            GraphFn::new("encode", [image("x")], [code()], |m: &Self, net, io| {
                m.encode(net, &io[0])
            }),
            GraphFn::new("decode", [code()], [image("x")], |m: &Self, net, io| {
                m.decode(net, &io[0])
            }),
            GraphFn::new(
                "reconstruct",
                [image("x")],
                [image("x_hat")],
                |m: &Self, net, io| m.decode(net, &m.encode(net, &io[0])),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
