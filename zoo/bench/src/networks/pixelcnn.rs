//! A gated PixelCNN (van den Oord et al., 2016): a vertical stack, and a horizontal one that it feeds.

use zoo_nn::{Batch, Info, Losses, Model, Net, Phase, Result, StepCx, Value, layers::Conv, loss};

use super::{
    Suite, info,
    masked::{Mask, masked_conv},
    trained_only,
};

const CHANNELS: usize = 32;
const LAYERS: usize = 7;

/// v, h (N,C,H,W) -> v, h (N,C,H,W); v stays where no layer follows.
fn layer(net: &Net, v: &Value, h: &Value, last: bool) -> (Value, Value) {
    let (vertical, horizontal) = (
        Mask::Vertical { strict: false },
        Mask::Horizontal { strict: false },
    );
    let features = masked_conv(&net.at("v"), v, 2 * CHANNELS, 3, vertical); // (N,2C,H,W)
    let next = if last {
        v.clone()
    } else {
        features.gated_tanh()
    };
    let joined = masked_conv(&net.at("h"), h, 2 * CHANNELS, 3, horizontal)
        + net.conv2d("v2h", &features, Conv::pointwise(2 * CHANNELS));
    let out = net.conv2d("h1", &joined.gated_tanh(), Conv::pointwise(CHANNELS)); // (N,C,H,W)
    (next, out + h)
}

/// Seven gated layers of 32 channels.
pub struct PixelCnn(Suite);

impl Model for PixelCnn {
    trained_only!();

    const INFO: Info = info("gated-pixelcnn", "Gated PixelCNN of seven layers");

    fn loss(&self, _: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (net, x) = (cx.net().at("m"), self.0.images(&cx.net())?); // (N,1,H,W)
        let vertical = Mask::Vertical { strict: true };
        let horizontal = Mask::Horizontal { strict: true };
        let mut v = masked_conv(&net.at("vin"), &x, CHANNELS, 7, vertical); // (N,C,H,W)
        let mut h = masked_conv(&net.at("hin"), &x, CHANNELS, 7, horizontal);
        for i in 0..LAYERS {
            (v, h) = layer(&net.at(&format!("layers.{i}")), &v, &h, i + 1 == LAYERS);
        }
        let logits = net.conv2d("out", &h.elu(1.0), Conv::pointwise(1)); // (N,1,H,W)
        Ok(Losses::one("loss", mean_bce(&logits, &x)))
    }
}

/// Binary cross-entropy, a mean over images and pixels.
pub fn mean_bce(logits: &Value, x: &Value) -> Value {
    let pixels: usize = x.dims().iter().skip(1).product();
    loss::bernoulli_nll(logits, x).mean(&[0], false) * (1.0 / pixels as f64)
}
