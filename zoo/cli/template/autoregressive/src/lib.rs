//! A PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu, ICML 2016) of a few layers: a beginning.
//!
//! ```text
//! p(x) = prod_i p(x_i | x_1 .. x_{i-1})          pixel after pixel, row by row     (eq. 1)
//!
//! loss = -log p(x)
//! ```
//!
//! The network below is all that is written: its likelihood, the sampler that keeps what earlier pixels left, and the graphs follow from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Field, GraphFn, Info, Losses, Metrics, Model, Net, Phase,
    Result, StepCx, Value,
    dist::{self, Likelihood, PixelDistribution},
    layers::{Mask, MaskedConfig, check_masked},
};

zoo_nn::export_plugin!(MyModel);

/// Settings of [`MyModel`]. Unknown ones are refused; each needs a description, which `zoo describe` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps of each layer.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Residual layers after the first.
    pub layers: usize,
    /// p(x_i | x_<i).
    pub likelihood: Likelihood,
    /// Levels of a colour with `softmax`.
    #[schemars(range(min = 2, max = 256))]
    pub levels: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 32,
            layers: 4,
            likelihood: Likelihood::Bernoulli,
            levels: 256,
        }
    }
}

/// The model: its settings. Networks are functions of a [`Net`], a place among the weights: a layer makes its parameters when it first runs.
pub struct MyModel {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
}

impl Autoregressive for MyModel {
    type On = Field;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn pixel(&self) -> PixelDistribution {
        self.pixel
    }

    /// x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,P,H,W). On a [`Field`], which is a whole image, or a row or pixel of one that is being drawn.
    fn network(&self, net: &Net, x: &Field, _: Option<&Value>) -> Field {
        let masked = |side, mask| MaskedConfig {
            kernel: [side; 2],
            mask,
            colours: self.image[0],
            parts: 1,
        };
        let channels = self.config.channels;
        // Only the first layer must not see the pixel itself.
        let mut h = net.masked("first", x, channels, masked(7, Mask::A)); // (N,F,H,W)
        for i in 1..=self.config.layers {
            let layer = format!("layer{i}");
            h = net.masked(&layer, &h.relu(), channels, masked(3, Mask::B)) + &h;
        }
        let maps = self.pixel.maps(self.image[0]);
        net.masked("out", &h.relu(), maps, masked(1, Mask::B)) // (N,P,H,W)
    }
}

impl Model for MyModel {
    type Config = Config;

    const INFO: Info = Info {
        name: "my-model",
        summary: "A small PixelCNN, to be replaced",
        family: "autoregressive",
        density: "tractable",
        title: "Pixel Recurrent Neural Networks",
        authors: "van den Oord, Kalchbrenner, Kavukcuoglu",
        year: 2016,
        url: "https://arxiv.org/abs/1601.06759",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let pixel = PixelDistribution::new(config.likelihood, config.levels, data.binarization)?;
        check_masked(
            data.image[0],
            &[("model.channels", config.channels, 1)],
            &[],
        )?;
        Ok(Self {
            config: config.clone(),
            image: data.image,
            pixel,
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
