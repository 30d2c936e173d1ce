//! PixelCNN++ (Salimans, Karpathy, Chen & Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood",
//! ICLR 2017).
//!
//! An image is predicted pixel by pixel, row by row from the left; a pixel's colours are predicted together:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_1 .. x_{i-1})
//! p(x_i | ..) = sum_k w_k [s((x_i + 1/2 - m_k) / s_k) - s((x_i - 1/2 - m_k) / s_k)]          s: sigmoid (eq. 2)
//! p(r, g, b) = sum_k w_k p_k(r) p_k(g | r) p_k(b | r, g),   m(g) = m + a r,   m(b) = m + b r + c g     (eq. 3)
//! ```
//!
//! A mixture of logistics, each cut at the edges of the 256 levels; the lowest and the highest take what lies beyond them. Parameters w, m, s, a, b and c come
//! from a network of two streams (see [`PixelCnnPp`]) which goes down to coarser resolutions and up again, with short-cuts between the halves.
//!
//! Beside the paper: weights are not normalised, and not initialised by data; see the README.

mod network;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Error, Field, GraphFn, Info, Losses, Metrics, Model,
    ModelPlugin, Net, Phase, Plugin, Result, StepCx, Value,
    dist::{self, PixelDistribution},
};

/// Kinds of p(x_i | x_<i).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// A mixture of discretised logistics: for 8-bit images of one colour or three.
    Logistics,
    /// A pixel is 0 or 1: for binary images of one colour.
    Bernoulli,
}

/// Settings of [`PixelCnnPp`]. The default is the paper's for CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps of each stream.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Residual blocks at each resolution, on the way down; as many on the way up, and one more where there is a coarser one.
    #[schemars(range(min = 1))]
    pub blocks: usize,
    /// Resolutions, each of half the height and width of the one before: sides of images are multiples of 2^(resolutions - 1).
    #[schemars(range(min = 1, max = 3))]
    pub resolutions: usize,
    /// Logistics in a mixture.
    #[schemars(range(min = 1))]
    pub components: usize,
    /// Part of the feature maps that is dropped within blocks, in training.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub dropout: f64,
    /// p(x_i | x_<i).
    pub likelihood: Likelihood,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 160,
            blocks: 5,
            resolutions: 3,
            components: 10,
            dropout: 0.5,
            likelihood: Likelihood::Logistics,
        }
    }
}

/// The model: x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,P,H,W).
pub struct PixelCnnPp {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
}

impl Autoregressive for PixelCnnPp {
    type On = Field;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn pixel(&self) -> PixelDistribution {
        self.pixel
    }

    /// x (N,C,H,W) -> parameters of p(x_i | x_<i) (N,P,H,W): those of [`zoo_nn::loss::logistic_mixture_rows`], or a logit
    fn network(&self, net: &Net, x: &Field, _: Option<&Value>) -> Field {
        network::network(&self.config, net, x, self.pixel.maps(self.image[0]))
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<PixelCnnPp>::default())]
}

impl Model for PixelCnnPp {
    type Config = Config;

    const INFO: Info = Info {
        name: "pixelcnn-pp",
        summary: "PixelCNN++: two streams over several resolutions predict mixtures of logistics",
        family: "autoregressive",
        density: "tractable",
        title: "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood",
        authors: "Salimans, Karpathy, Chen, Kingma",
        year: 2017,
        url: "https://arxiv.org/abs/1701.05517",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let [colours, height, width] = data.image;
        let step = 1 << (config.resolutions - 1);
        if height % step != 0 || width % step != 0 {
            return Err(Error::input(format!(
                "images of {height}x{width} cannot be halved {} times: with model.resolutions = {} their sides must be multiples of {step}; set fewer resolutions",
                config.resolutions - 1,
                config.resolutions
            )));
        }
        let pixel = match (config.likelihood, colours) {
            (Likelihood::Logistics, 1 | 3) => PixelDistribution::logistics(config.components),
            (Likelihood::Bernoulli, 1) => PixelDistribution::BINARY,
            (likelihood, _) => {
                return Err(Error::input(format!(
                    "images of {colours} colours do not fit model.likelihood = {}: logistics takes 1 or 3 colours, bernoulli 1",
                    match likelihood {
                        Likelihood::Logistics => "\"logistics\"",
                        Likelihood::Bernoulli => "\"bernoulli\"",
                    }
                )));
            }
        };
        Ok(Self {
            image: data.image,
            pixel,
            config: config.clone(),
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        self.nll_loss(batch, cx)
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        self.nll_metrics(batch, cx)
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        self.causal_graphs()
    }
}

#[cfg(test)]
mod tests;
