//! Super-resolution by sub-pixel convolution (Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
//! Neural Network", CVPR 2016), with the residual body of EDSR (Lim et al., CVPRW 2017).
//!
//! All layers see the small image x; only the last one gives r^2 values for each pixel and channel, which become a square of r x r pixels:
//!
//! ```text
//! h_0 = conv(x),   h_(i+1) = h_i + s conv(relu(conv(h_i))),   y = nearest(x) + PS(conv(conv(h_B) + h_0))
//! ```
//!
//! where PS is the pixel shuffle (ESPCN, equation 4) and s scales the residuals. The network learns what enlarging by repeated pixels leaves out, by the mean
//! absolute error, or the squared one. No layer knows height and width, so neither does a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Dim, Error, GraphFn, Info, Init, Losses, Metrics, Model, ModelPlugin, Net,
    Phase, Plugin, Port, Result, StepCx, Task, Value,
    layers::Conv,
    quality::{Quality, enlarged},
};

/// Settings of [`SuperResolution`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps of each layer.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Residual blocks.
    #[schemars(range(min = 0))]
    pub blocks: usize,
    /// Factor of each residual: 1 for few feature maps, 0.1 for 256 (EDSR, section 3.1).
    #[schemars(range(min = 0.0))]
    pub residual_scale: f64,
    /// What is minimised.
    pub loss: Loss,
}

/// Distances of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Mean absolute error, as in EDSR.
    L1,
    /// Mean squared error, as in ESPCN: the largest PSNR, smoother images.
    L2,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 32,
            blocks: 6,
            residual_scale: 1.0,
            loss: Loss::L1,
        }
    }
}

/// The model: x (N,C,H,W) -> y (N,C,rH,rW).
pub struct SuperResolution {
    config: Config,
    /// Channels of an image.
    colours: usize,
    /// How many times as high and wide the result is.
    scale: u32,
}

impl SuperResolution {
    /// x (N,C,H,W) in [0,1] -> y (N,C,rH,rW)
    pub fn enlarge(&self, net: &Net, x: &Value) -> Value {
        let Config {
            channels, blocks, ..
        } = self.config;
        let scale = self.scale as usize;
        let first = net.conv2d("first", x, channels); // (N,F,H,W)
        let mut h = first.clone();
        for i in 1..=blocks {
            let net = net.at(&format!("block{i}"));
            let inner = net.conv2d("conv1", &h, channels).relu(); // (N,F,H,W)
            h = h + net.conv2d("conv2", &inner, channels) * self.config.residual_scale;
        }
        let h = net.conv2d("body", &h, channels) + first; // (N,F,H,W)
        // The beginning is the image as it is.
        let pixels = Conv::to(self.colours * scale * scale)
            .without_bias()
            .init(Init::Constant(0.0));
        let detail = net.conv2d("pixels", &h, pixels).pixel_shuffle(scale); // (N,C,rH,rW)
        x.upsample_nearest2d(scale) + detail
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<SuperResolution>::default())]
}

impl Model for SuperResolution {
    type Config = Config;

    const INFO: Info = Info {
        name: "super-resolution",
        summary: "Super-resolution by sub-pixel convolution with a residual body, for images of any size",
        family: "image to image",
        density: "none",
        title: "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network",
        authors: "Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert, Wang",
        year: 2016,
        url: "https://arxiv.org/abs/1609.05158",
        version: "1",
        graphs: &[("translate", "the image r times as high and wide")],
        best_metric: Some(("psnr", true)),
        defaults: include_str!("../default.toml"),
    };

    const TASK: Task = Task::ImageToImage;

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let Some([[colours, h, w], target]) = data.pair() else {
            return Err(Error::input(
                "the model enlarges images and needs pairs: set data.degrade = \"shrink 2\", or give data with targets",
            ));
        };
        let scale = target[1] / h.max(1);
        if target != [colours, scale * h, scale * w] || !(2..=8).contains(&scale) {
            return Err(Error::input(format!(
                "targets must be 2 to 8 times as high and wide as images and of as many channels; they are {target:?}, the images {:?}",
                [colours, h, w]
            )));
        }
        Ok(Self {
            config: config.clone(),
            colours,
            scale: scale as u32,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let apart = self.enlarge(&cx.net(), &batch.image()) - batch.target(); // (N,C,rH,rW)
        let (name, error) = match self.config.loss {
            Loss::L1 => ("l1", apart.abs()),
            Loss::L2 => ("l2", apart.sqr()),
        };
        Ok(Losses::one(name, error.mean(&[0, 1, 2, 3], false)))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let (x, target) = (batch.image(), batch.target()); // (N,C,H,W), (N,C,rH,rW)
        let made = self.enlarge(&cx.net(), &x).clip(0.0, 1.0); // (N,C,rH,rW)
        // As is usual, a border of r pixels does not count.
        let border = self.scale as usize;
        let own = Quality::of(&made, &target, border)?;
        let bicubic = Quality::of(&enlarged(&x, border)?, &target, border)?;
        Ok(Metrics::from([
            ("psnr".into(), own.psnr),
            ("ssim".into(), own.ssim),
            ("psnr_bicubic".into(), bicubic.psnr),
            ("ssim_bicubic".into(), bicubic.ssim),
        ]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let images = |name: &str, times: u32| {
            Port::images(
                name,
                self.colours,
                ["H", "W"].map(|s| Dim::multiple(times, s)),
            )
        };
        vec![GraphFn::new(
            "translate",
            [images("x", 1)],
            [images("y", self.scale)],
            |m: &Self, net, io| m.enlarge(net, &io[0]).clip(0.0, 1.0),
        )]
    }
}

#[cfg(test)]
mod tests;
