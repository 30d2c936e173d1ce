//! Variational autoencoders, of linear layers and of convolutions.

use zoo_nn::{
    Batch, Buffer, DataSpec, GraphFn, Info, Losses, Metrics, Model, Params, Phase, Result, StepCx,
    Value,
    layers::{Conv2d, ConvConfig, ConvTranspose2d, Linear},
    loss,
};

use super::{Settings, info, no_metrics, only};

const LATENT: usize = 20;

/// Mean and logarithm of the variance of z.
struct Head {
    mean: Linear,
    log_var: Linear,
}

impl Head {
    fn new(params: &Params, inputs: usize) -> Result<Self> {
        Ok(Self {
            mean: Linear::new(&params.at("mu"), inputs, LATENT)?,
            log_var: Linear::new(&params.at("lv"), inputs, LATENT)?,
        })
    }

    /// h (N,I) -> mean, log_var (N,L)
    fn forward(&self, h: &Value) -> Result<(Value, Value)> {
        Ok((self.mean.forward(h)?, self.log_var.forward(h)?))
    }
}

/// Binary cross-entropy plus KL divergence, a mean over the images.
fn objective(x: &Value, logits: &Value, mean: &Value, log_var: &Value) -> Result<Losses> {
    let nll = loss::bernoulli_nll(logits, x)?; // (N)
    let kl = loss::kl_standard_normal(mean, log_var)?; // (N)
    Ok(only(nll.add(&kl)?.mean(&[0], false)?))
}

/// 784 - 400 - 20 - 400 - 784.
pub struct MlpVae {
    x: Buffer,
    noise: Buffer,
    fc1: Linear,
    head: Head,
    fc3: Linear,
    fc4: Linear,
}

impl Model for MlpVae {
    type Config = Settings;

    const INFO: Info = info("mlp-vae", "VAE of linear layers");

    fn new(settings: &Settings, data: &DataSpec, params: &Params) -> Result<Self> {
        let (m, pixels) = (params.at("m"), data.pixels());
        Ok(Self {
            x: settings.images(data, params)?,
            noise: settings.noise("eps", LATENT, params)?,
            fc1: Linear::new(&m.at("fc1"), pixels, 400)?,
            head: Head::new(&m, 400)?,
            fc3: Linear::new(&m.at("fc3"), LATENT, 400)?,
            fc4: Linear::new(&m.at("fc4"), 400, pixels)?,
        })
    }

    fn loss(&self, _: &Phase, _: &Batch, _: &mut StepCx) -> Result<Losses> {
        let x = self.x.value(); // (N,1,H,W)
        let h = self.fc1.forward(&x.flatten(1)?)?.relu()?; // (N,400)
        let (mean, log_var) = self.head.forward(&h)?; // (N,L)
        let z = loss::reparameterise(&mean, &log_var, &self.noise.value())?; // (N,L)
        let h = self.fc3.forward(&z)?.relu()?; // (N,400)
        objective(&x, &self.fc4.forward(&h)?, &mean, &log_var)
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}

/// Two convolutions down, two transposed ones up, linear layers between.
pub struct ConvVae {
    x: Buffer,
    noise: Buffer,
    c1: Conv2d,
    c2: Conv2d,
    fc: Linear,
    head: Head,
    d1: Linear,
    d2: Linear,
    t1: ConvTranspose2d,
    t2: ConvTranspose2d,
    /// Height and width of the inner images.
    inner: [i64; 2],
}

impl Model for ConvVae {
    type Config = Settings;

    const INFO: Info = info("conv-vae", "VAE of convolutions");

    fn new(settings: &Settings, data: &DataSpec, params: &Params) -> Result<Self> {
        let m = params.at("m");
        let [_, h, w] = data.image;
        let flat = 64 * (h / 4) * (w / 4);
        let halve = ConvConfig {
            kernel: 4,
            stride: 2,
            padding: 1,
            ..ConvConfig::default()
        };
        Ok(Self {
            x: settings.images(data, params)?,
            noise: settings.noise("eps", LATENT, params)?,
            c1: Conv2d::new(&m.at("c1"), 1, 32, halve)?,
            c2: Conv2d::new(&m.at("c2"), 32, 64, halve)?,
            fc: Linear::new(&m.at("fc"), flat, 256)?,
            head: Head::new(&m, 256)?,
            d1: Linear::new(&m.at("d1"), LATENT, 256)?,
            d2: Linear::new(&m.at("d2"), 256, flat)?,
            t1: ConvTranspose2d::new(&m.at("t1"), 64, 32, halve)?,
            t2: ConvTranspose2d::new(&m.at("t2"), 32, 1, halve)?,
            inner: [(h / 4) as i64, (w / 4) as i64],
        })
    }

    fn loss(&self, _: &Phase, _: &Batch, _: &mut StepCx) -> Result<Losses> {
        let x = self.x.value(); // (N,1,H,W)
        let h = self.c1.forward(&x)?.relu()?; // (N,32,H/2,W/2)
        let h = self.c2.forward(&h)?.relu()?; // (N,64,H/4,W/4)
        let h = self.fc.forward(&h.flatten(1)?)?.relu()?; // (N,256)
        let (mean, log_var) = self.head.forward(&h)?; // (N,L)
        let z = loss::reparameterise(&mean, &log_var, &self.noise.value())?; // (N,L)
        let h = self.d1.forward(&z)?.relu()?; // (N,256)
        let h = self.d2.forward(&h)?.relu()?; // (N,64 H/4 W/4)
        let h = h.reshape(&[0, 64, self.inner[0], self.inner[1]])?; // (N,64,H/4,W/4)
        let h = self.t1.forward(&h)?.relu()?; // (N,32,H/2,W/2)
        objective(&x, &self.t2.forward(&h)?, &mean, &log_var)
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}
