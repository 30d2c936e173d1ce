//! The PixelCNN: residual blocks of masked convolutions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Field, GraphFn, Info, Losses, Metrics, Model, Net, Phase,
    Result, StepCx, Value,
    dist::{self, Likelihood, PixelDistribution},
    layers::{Mask, MaskedConfig, check_masked},
};

/// Settings of [`PixelCnn`]. The default is the paper's network for CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps between residual blocks (2h of the paper); inside a block there are half as many.
    #[schemars(range(min = 2))]
    pub channels: usize,
    /// Residual blocks.
    #[schemars(range(min = 1))]
    pub blocks: usize,
    /// Side of the first layer's window, odd.
    #[schemars(range(min = 3))]
    pub first_kernel: usize,
    /// Side of the windows inside the blocks, odd.
    #[schemars(range(min = 1))]
    pub kernel: usize,
    /// Feature maps of the last hidden layer.
    #[schemars(range(min = 1))]
    pub head: usize,
    /// p(x_i | x_<i).
    pub likelihood: Likelihood,
    /// Levels of a colour with `softmax`.
    #[schemars(range(min = 2, max = 256))]
    pub levels: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 256,
            blocks: 15,
            first_kernel: 7,
            kernel: 3,
            head: 1024,
            likelihood: Likelihood::Softmax,
            levels: 256,
        }
    }
}

/// The model: x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,C*K,H,W).
pub struct PixelCnn {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
}

impl PixelCnn {
    fn masked(&self, side: usize, mask: Mask) -> MaskedConfig {
        MaskedConfig {
            kernel: [side; 2],
            mask,
            colours: self.image[0],
            parts: 1,
        }
    }

    /// h (N,2h,H,W) -> h, a residual (figure 5, left)
    fn block(&self, net: &Net, h: &Field) -> Field {
        let (wide, narrow) = (self.config.channels, self.config.channels / 2);
        let (point, window) = (
            self.masked(1, Mask::B),
            self.masked(self.config.kernel, Mask::B),
        );
        let inner = net.masked("reduce", &h.relu(), narrow, point).relu(); // (N,h,H,W)
        let inner = net.masked("context", &inner, narrow, window).relu(); // (N,h,H,W)
        net.masked("expand", &inner, wide, point) + h // (N,2h,H,W)
    }
}

impl Autoregressive for PixelCnn {
    type On = Field;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn pixel(&self) -> PixelDistribution {
        self.pixel
    }

    /// x (N,C,H,W) -> parameters of p(x_i | x_<i) (N,C*K,H,W)
    fn network(&self, net: &Net, x: &Field, _: Option<&Value>) -> Field {
        let config = &self.config;
        let outputs = self.pixel.maps(self.image[0]);
        let (first, point) = (
            self.masked(config.first_kernel, Mask::A),
            self.masked(1, Mask::B),
        );
        let mut h = net.masked("first", x, config.channels, first); // (N,2h,H,W)
        for i in 0..config.blocks {
            h = self.block(&net.at(&format!("blocks.{i}")), &h);
        }
        let h = net.masked("head", &h.relu(), config.head, point); // (N,head,H,W)
        net.masked("out", &h.relu(), outputs, point)
    }
}

impl Model for PixelCnn {
    type Config = Config;

    const INFO: Info = Info {
        name: "pixelcnn",
        summary: "PixelCNN: masked convolutions in residual blocks predict pixel after pixel",
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
        let [colours, _, _] = data.image;
        let pixel = PixelDistribution::new(config.likelihood, config.levels, data.binarization)?;
        check_masked(
            colours,
            &[
                ("model.channels", config.channels, 2),
                ("model.head", config.head, 1),
            ],
            &[
                ("model.first_kernel", config.first_kernel),
                ("model.kernel", config.kernel),
            ],
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
