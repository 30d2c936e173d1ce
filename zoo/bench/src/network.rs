//! The networks by name, and how much each computes.

use std::{fmt, str::FromStr};

use zoo_nn::{ModelPlugin, fresh};
use zoo_sdk::{DataSpec, Plugin, Tensors};

use crate::{
    Error, Result,
    networks::{ConvVae, Dcgan, MlpVae, PixelCnn, RowLstm, Settings},
};

/// One network of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// VAE 784-400-20 of linear layers.
    MlpVae,
    /// VAE with two convolutions and two transposed ones.
    ConvVae,
    /// Generator and discriminator, one update each.
    Dcgan,
    /// Gated PixelCNN of seven layers.
    GatedPixelCnn,
    /// Row LSTM of 32 channels.
    RowLstm,
}

/// How many images of how many pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Images a step.
    pub batch: usize,
    /// Height and width of an image; a multiple of 4.
    pub pixels: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            batch: 64,
            pixels: 28,
        }
    }
}

impl Network {
    /// All, in the order of the tables.
    pub const ALL: [Self; 5] = [
        Self::MlpVae,
        Self::ConvVae,
        Self::Dcgan,
        Self::GatedPixelCnn,
        Self::RowLstm,
    ];

    /// The name that commands use.
    pub fn name(self) -> &'static str {
        match self {
            Self::MlpVae => "mlp-vae",
            Self::ConvVae => "conv-vae",
            Self::Dcgan => "dcgan",
            Self::GatedPixelCnn => "gated-pixelcnn",
            Self::RowLstm => "row-lstm",
        }
    }

    /// The name that the PyTorch script uses for its files.
    pub fn file_stem(self) -> &'static str {
        match self {
            Self::MlpVae => "mlp",
            Self::ConvVae => "convvae",
            Self::Dcgan => "dcgan",
            Self::GatedPixelCnn => "pixelcnn",
            Self::RowLstm => "rowlstm",
        }
    }

    /// Steps that take some seconds at the default size.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::MlpVae => 300,
            Self::ConvVae => 60,
            Self::Dcgan => 20,
            Self::GatedPixelCnn => 4,
            Self::RowLstm => 12,
        }
    }

    /// What its noise is called in a weights file, and its width.
    pub(crate) fn noise(self) -> Option<(&'static str, usize)> {
        match self {
            Self::MlpVae | Self::ConvVae => Some(("eps", 20)),
            Self::Dcgan => Some(("z", 100)),
            Self::GatedPixelCnn | Self::RowLstm => None,
        }
    }

    pub(crate) fn plugin(self) -> Box<dyn Plugin> {
        match self {
            Self::MlpVae => Box::new(ModelPlugin::<MlpVae>::default()),
            Self::ConvVae => Box::new(ModelPlugin::<ConvVae>::default()),
            Self::Dcgan => Box::new(ModelPlugin::<Dcgan>::default()),
            Self::GatedPixelCnn => Box::new(ModelPlugin::<PixelCnn>::default()),
            Self::RowLstm => Box::new(ModelPlugin::<RowLstm>::default()),
        }
    }

    /// What a training of the network starts from.
    pub(crate) fn fresh(
        self,
        settings: &Settings,
        data: &DataSpec,
        seed: u64,
    ) -> zoo_nn::Result<Tensors> {
        match self {
            Self::MlpVae => fresh::<MlpVae>(settings, data, seed),
            Self::ConvVae => fresh::<ConvVae>(settings, data, seed),
            Self::Dcgan => fresh::<Dcgan>(settings, data, seed),
            Self::GatedPixelCnn => fresh::<PixelCnn>(settings, data, seed),
            Self::RowLstm => fresh::<RowLstm>(settings, data, seed),
        }
    }

    /// Floating-point operations of the products and convolutions of a training step: forward, gradient of the weights, and gradient of the
    /// input but where that is data. Taps under a mask are not counted. Everything else is memory traffic.
    pub fn flops(self, size: Size) -> f64 {
        let s = size.pixels as f64;
        let (plane, half, quarter) = (s * s, s * s / 4.0, s * s / 16.0);
        // Multiplications of (layers that read data, other layers) for one image.
        let (first, rest) = match self {
            Self::MlpVae => (plane * 400.0, 400.0 * 40.0 + 20.0 * 400.0 + 400.0 * plane),
            Self::ConvVae => {
                let flat = 64.0 * quarter;
                let inner = 32.0 * 64.0 * 16.0 * quarter;
                let dense = flat * 256.0 + 256.0 * 40.0 + 20.0 * 256.0 + 256.0 * flat;
                (
                    32.0 * 16.0 * half,
                    inner + dense + inner + 32.0 * 16.0 * half,
                )
            }
            Self::Dcgan => {
                let inner = 64.0 * 128.0 * 16.0 * quarter;
                let (outer, logit) = (64.0 * 16.0 * half, 128.0 * quarter);
                // Generator once; discriminator on real images and on generated ones, whose pixels are data there, and once
                // more with gradients of its input but not of its weights.
                let generator = 3.0 * (inner + outer) + 2.0 * (100.0 * 128.0 * quarter);
                let discriminator = 2.0 * (3.0 * (inner + logit) + 2.0 * outer);
                let through = 2.0 * (inner + logit + outer);
                return 2.0 * size.batch as f64 * (generator + discriminator + through);
            }
            Self::GatedPixelCnn => {
                let layer = 32.0 * 64.0 * (6.0 + 2.0) + 64.0 * 64.0 + 32.0 * 32.0;
                (plane * 32.0 * (24.0 + 3.0), plane * (7.0 * layer + 32.0))
            }
            Self::RowLstm => (
                plane * 32.0 * 3.0,
                plane * (32.0 * 128.0 * (2.0 + 3.0) + 32.0),
            ),
        };
        2.0 * size.batch as f64 * (2.0 * first + 3.0 * rest)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|n| text == n.name() || text == n.file_stem());
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|n| n.name()).collect();
            Error::input(format!(
                "the suite has no network {text:?}: it has {}",
                known.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for network in Network::ALL {
            assert_eq!(network.name().parse::<Network>().ok(), Some(network));
            assert_eq!(network.file_stem().parse::<Network>().ok(), Some(network));
        }
        let message = "vae".parse::<Network>().unwrap_err().to_string();
        assert!(message.contains("mlp-vae, conv-vae, dcgan"), "{message}");
    }

    #[test]
    fn work_grows_with_images_and_pixels() {
        // By hand: 784 x 400 reads data; 400 x 40, 20 x 400 and 400 x 784 do not.
        let mlp = 2.0 * 64.0 * (2.0 * 313_600.0 + 3.0 * (16_000.0 + 8_000.0 + 313_600.0));
        assert_eq!(Network::MlpVae.flops(Size::default()), mlp);
        for network in Network::ALL {
            let of = |batch, pixels| network.flops(Size { batch, pixels });
            assert_eq!(of(128, 28), 2.0 * of(64, 28));
            let per_pixel = of(64, 56) / of(64, 28);
            assert!((3.8..=4.0).contains(&per_pixel), "{network}: {per_pixel}");
        }
    }
}
