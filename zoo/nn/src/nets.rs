//! Networks that several models share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Net, Result, Value, layers::Conv};

/// Kinds of encoder and decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Fully connected.
    Mlp,
    /// Convolutional.
    Conv,
}

/// An encoder of images and a decoder that mirrors it.
#[derive(Clone, Debug)]
pub struct Coder {
    /// Fully connected or convolutional.
    pub arch: Arch,
    /// Channels, height and width of an image.
    pub image: [usize; 3],
    /// Width of each hidden layer of `mlp`, from the image inwards.
    pub hidden: Vec<usize>,
    /// Channels of each stride-2 convolution of `conv`, from the image inwards.
    pub channels: Vec<usize>,
    /// Width of the fully connected layer between the convolutions and the code.
    pub dense: usize,
}

/// A convolution that halves height and width; transposed, it doubles them.
const fn by_two(channels: usize) -> Conv {
    Conv::to(channels).kernel(4).stride(2).padding(1)
}

/// Numbers of layers from 1 on, and their sizes.
fn numbered(sizes: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    sizes.iter().enumerate().map(|(i, &size)| (i + 1, size))
}

impl Coder {
    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// Names the settings, which are called as the fields are, under `model`.
    pub fn check(&self) -> Result<()> {
        let (halvings, [_, h, w]) = (self.channels.len(), self.image);
        let even = |side: usize| side.is_multiple_of(1 << halvings.min(16));
        match self.arch {
            Arch::Conv if halvings == 0 => Err(Error::input(
                "model.channels must not be empty with model.arch = \"conv\"",
            )),
            Arch::Conv if !even(h) || !even(w) => Err(Error::input(format!(
                "images of {h}x{w} cannot be halved {halvings} times: use fewer entries in model.channels, or model.arch = \"mlp\""
            ))),
            _ => Ok(()),
        }
    }

    /// x (N,C,H,W) -> features (N,D), after the last activation
    #[track_caller]
    pub fn encode(&self, net: &Net, x: &Value) -> Value {
        match self.arch {
            Arch::Mlp => numbered(&self.hidden).fold(x.flatten(1), |h, (i, width)| {
                net.linear(&format!("fc{i}"), &h, width).relu() // (N,D)
            }),
            Arch::Conv => {
                let h = numbered(&self.channels).fold(x.clone(), |h, (i, channels)| {
                    net.conv2d(&format!("conv{i}"), &h, by_two(channels)).relu() // (N,C',H',W')
                });
                net.linear("dense", &h.flatten(1), self.dense).relu() // (N,D)
            }
        }
    }

    /// z (N,L) -> what becomes of the image (N,C,H,W), without bounds
    #[track_caller]
    pub fn decode(&self, net: &Net, z: &Value) -> Value {
        let [c, h, w] = self.image;
        match self.arch {
            Arch::Mlp => {
                let outwards: Vec<usize> = self.hidden.iter().rev().copied().collect();
                let hidden = numbered(&outwards).fold(z.clone(), |h, (i, width)| {
                    net.linear(&format!("fc{i}"), &h, width).relu() // (N,D)
                });
                let last = format!("fc{}", outwards.len() + 1);
                net.linear(&last, &hidden, c * h * w)
                    .reshape(&[-1, c as i64, h as i64, w as i64]) // (N,C,H,W)
            }
            Arch::Conv => {
                let doublings = self.channels.len();
                let mut outwards: Vec<usize> = self.channels.iter().rev().copied().collect();
                let widest = outwards.first().copied().unwrap_or(c);
                let [h, w] = [h >> doublings, w >> doublings];
                let hidden = net.linear("fc1", z, self.dense).relu(); // (N,D)
                let hidden = net.linear("fc2", &hidden, widest * h * w).relu();
                let smallest = hidden.reshape(&[-1, widest as i64, h as i64, w as i64]); // (N,C',H',W')
                outwards.rotate_left(1.min(doublings));
                if let Some(last) = outwards.last_mut() {
                    *last = c;
                }
                numbered(&outwards).fold(smallest, |x, (i, channels)| {
                    let x = net.conv_transpose2d(&format!("deconv{i}"), &x, by_two(channels));
                    if i < doublings { x.relu() } else { x } // (N,C,H,W) at last
                })
            }
        }
    }
}
