//! Generator and discriminator with batch normalisation, one update each in a step.

use zoo_nn::{
    Batch, Buffer, DataSpec, GraphFn, Info, Losses, Metrics, Mode, Model, Params, Phase, Result,
    StepCx, Value,
    layers::{BatchNorm, Conv2d, ConvConfig, ConvTranspose2d, Linear},
};

use super::{Settings, info, no_metrics, only};

const LATENT: usize = 100;

const HALVE: ConvConfig = ConvConfig {
    kernel: 4,
    stride: 2,
    padding: 1,
    output_padding: 0,
    groups: 1,
    bias: true,
    init: None,
};

const WITHOUT_BIAS: ConvConfig = ConvConfig {
    bias: false,
    ..HALVE
};

struct Generator {
    fc: Linear,
    bn1: BatchNorm,
    t1: ConvTranspose2d,
    bn2: BatchNorm,
    t2: ConvTranspose2d,
    inner: [i64; 2],
}

impl Generator {
    fn new(params: &Params, [h, w]: [usize; 2]) -> Result<Self> {
        let init = zoo_nn::Init::fan_in(LATENT);
        Ok(Self {
            fc: Linear::without_bias(&params.at("fc"), LATENT, 128 * h * w, init)?,
            bn1: BatchNorm::new(&params.at("bn1"), 128, None)?,
            t1: ConvTranspose2d::new(&params.at("t1"), 128, 64, WITHOUT_BIAS)?,
            bn2: BatchNorm::new(&params.at("bn2"), 64, None)?,
            t2: ConvTranspose2d::new(&params.at("t2"), 64, 1, HALVE)?,
            inner: [h as i64, w as i64],
        })
    }

    /// z (N,L) -> x (N,1,H,W) in (-1, 1)
    fn forward(&self, z: &Value) -> Result<Value> {
        let [h, w] = self.inner;
        let x = self.fc.forward(z)?.reshape(&[0, 128, h, w])?; // (N,128,H/4,W/4)
        let x = self.bn1.forward(&x, Mode::Train)?.relu()?;
        let x = self.t1.forward(&x)?; // (N,64,H/2,W/2)
        let x = self.bn2.forward(&x, Mode::Train)?.relu()?;
        self.t2.forward(&x)?.tanh()
    }
}

struct Discriminator {
    c1: Conv2d,
    c2: Conv2d,
    bn: BatchNorm,
    fc: Linear,
}

impl Discriminator {
    fn new(params: &Params, [h, w]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            c1: Conv2d::new(&params.at("c1"), 1, 64, HALVE)?,
            c2: Conv2d::new(&params.at("c2"), 64, 128, WITHOUT_BIAS)?,
            bn: BatchNorm::new(&params.at("bn"), 128, None)?,
            fc: Linear::new(&params.at("fc"), 128 * h * w, 1)?,
        })
    }

    /// x (N,1,H,W) -> logit (N,1)
    fn forward(&self, x: &Value) -> Result<Value> {
        let h = self.c1.forward(x)?.leaky_relu(0.2)?; // (N,64,H/2,W/2)
        let h = self.c2.forward(&h)?; // (N,128,H/4,W/4)
        let h = self.bn.forward(&h, Mode::Train)?.leaky_relu(0.2)?;
        self.fc.forward(&h.flatten(1)?)
    }
}

/// The mean of -log D for images that are to be taken for real, of -log(1 - D) for others.
fn cross_entropy(logit: &Value, real: bool) -> Result<Value> {
    let signed = if real { logit.neg()? } else { logit.clone() };
    signed.softplus()?.mean(&[0, 1], false)
}

/// The pair.
pub struct Dcgan {
    x: Buffer,
    z: Buffer,
    generator: Generator,
    discriminator: Discriminator,
}

impl Model for Dcgan {
    type Config = Settings;

    const INFO: Info = info(
        "dcgan",
        "DCGAN, a step of the discriminator and one of the generator",
    );

    fn new(settings: &Settings, data: &DataSpec, params: &Params) -> Result<Self> {
        let [_, h, w] = data.image;
        Ok(Self {
            x: settings.images(data, params)?,
            z: settings.noise("z", LATENT, params)?,
            generator: Generator::new(&params.at("g"), [h / 4, w / 4])?,
            discriminator: Discriminator::new(&params.at("d"), [h / 4, w / 4])?,
        })
    }

    fn phases(&self) -> Vec<Phase> {
        vec![
            Phase {
                name: "discriminator",
                parameters: &["d"],
            },
            Phase {
                name: "generator",
                parameters: &["g"],
            },
        ]
    }

    fn loss(&self, phase: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        // One forward of the generator serves both phases.
        let fake = cx.shared("fake", |_| self.generator.forward(&self.z.value()))?; // (N,1,H,W)
        if phase.name == "generator" {
            let logit = self.discriminator.forward(&fake)?;
            return Ok(only(cross_entropy(&logit, true)?));
        }
        let real = self.discriminator.forward(&self.x.value())?;
        let fake = self.discriminator.forward(&fake.detach())?;
        Ok(only(
            cross_entropy(&real, true)?.add(&cross_entropy(&fake, false)?)?,
        ))
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}
