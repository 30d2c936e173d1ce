//! A gated PixelCNN (van den Oord et al., 2016): a vertical stack, and a horizontal one that it feeds.

use zoo_nn::{
    Batch, Buffer, DataSpec, GraphFn, Info, Losses, Metrics, Model, Params, Phase, Result, StepCx,
    Value,
    layers::{Conv2d, ConvConfig},
    loss,
};

use super::{
    Settings, info,
    masked::{Mask, MaskedConv},
    no_metrics, only,
};

const CHANNELS: usize = 32;
const LAYERS: usize = 7;

const POINT: ConvConfig = ConvConfig {
    kernel: 1,
    stride: 1,
    padding: 0,
    output_padding: 0,
    groups: 1,
    bias: true,
    init: None,
};

struct Layer {
    v: MaskedConv,
    h: MaskedConv,
    v2h: Conv2d,
    h1: Conv2d,
}

impl Layer {
    fn new(params: &Params) -> Result<Self> {
        const C: usize = CHANNELS;
        let (vertical, horizontal) = (
            Mask::Vertical { strict: false },
            Mask::Horizontal { strict: false },
        );
        Ok(Self {
            v: MaskedConv::new(&params.at("v"), C, 2 * C, 3, vertical)?,
            h: MaskedConv::new(&params.at("h"), C, 2 * C, 3, horizontal)?,
            v2h: Conv2d::new(&params.at("v2h"), 2 * C, 2 * C, POINT)?,
            h1: Conv2d::new(&params.at("h1"), C, C, POINT)?,
        })
    }

    /// v, h (N,C,H,W) -> v, h (N,C,H,W); no v where no layer follows.
    fn forward(&self, v: &Value, h: &Value, last: bool) -> Result<(Option<Value>, Value)> {
        let features = self.v.forward(v)?; // (N,2C,H,W)
        let next = if last {
            None
        } else {
            Some(features.gated_tanh()?)
        };
        let joined = self.h.forward(h)?.add(&self.v2h.forward(&features)?)?;
        Ok((next, self.h1.forward(&joined.gated_tanh()?)?.add(h)?))
    }
}

/// Seven gated layers of 32 channels.
pub struct PixelCnn {
    x: Buffer,
    v_in: MaskedConv,
    h_in: MaskedConv,
    layers: Vec<Layer>,
    out: Conv2d,
}

impl Model for PixelCnn {
    type Config = Settings;

    const INFO: Info = info("gated-pixelcnn", "Gated PixelCNN of seven layers");

    fn new(settings: &Settings, data: &DataSpec, params: &Params) -> Result<Self> {
        let m = params.at("m");
        let vertical = Mask::Vertical { strict: true };
        let horizontal = Mask::Horizontal { strict: true };
        let layer = |i: usize| Layer::new(&m.at(&format!("layers.{i}")));
        Ok(Self {
            x: settings.images(data, params)?,
            v_in: MaskedConv::new(&m.at("vin"), 1, CHANNELS, 7, vertical)?,
            h_in: MaskedConv::new(&m.at("hin"), 1, CHANNELS, 7, horizontal)?,
            layers: (0..LAYERS).map(layer).collect::<Result<_>>()?,
            out: Conv2d::new(&m.at("out"), CHANNELS, 1, POINT)?,
        })
    }

    fn loss(&self, _: &Phase, _: &Batch, _: &mut StepCx) -> Result<Losses> {
        let x = self.x.value(); // (N,1,H,W)
        let (mut v, mut h) = (self.v_in.forward(&x)?, self.h_in.forward(&x)?); // (N,C,H,W)
        for (i, layer) in self.layers.iter().enumerate() {
            let (next, out) = layer.forward(&v, &h, i + 1 == LAYERS)?;
            v = next.unwrap_or(v);
            h = out;
        }
        let logits = self.out.forward(&h.elu(1.0)?)?; // (N,1,H,W)
        Ok(only(mean_bce(&logits, &x)?))
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}

/// Binary cross-entropy, a mean over images and pixels.
pub fn mean_bce(logits: &Value, x: &Value) -> Result<Value> {
    let pixels: usize = x.dims().iter().skip(1).product();
    loss::bernoulli_nll(logits, x)?
        .mean(&[0], false)?
        .mul_scalar(1.0 / pixels as f64)
}
