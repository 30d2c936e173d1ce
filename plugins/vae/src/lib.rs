//! The variational autoencoder (Kingma & Welling, "Auto-Encoding Variational Bayes", ICLR 2014; Rezende et al., ICML 2014).
//!
//! A latent z with prior p(z) = N(0, I) is decoded to p(x|z). Since p(x) = integral p(z) p(x|z) dz cannot be computed, an encoder
//! q(z|x) = N(mean(x), diag e^log_var(x)) gives the bound that is maximised:
//!
//! ```text
//! log p(x) >= E_q[log p(x|z)] - beta KL(q(z|x) || p(z))          (the ELBO; beta = 1)
//! log p(x) ~= log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x),  z_i ~ q   (importance-weighted, Burda et al., 2016)
//! ```
//!
//! beta other than 1 gives the beta-VAE (Higgins et al., 2017). Both architectures share everything but the two networks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Losses, Metrics, Model, ModelPlugin, Params, Phase,
    Plugin, Port, Result, StepCx, Value,
    layers::{Conv2d, ConvConfig, ConvTranspose2d, Linear},
    loss::{
        bernoulli_nll, gaussian_nll, kl_standard_normal, reparameterise, standard_normal_log_prob,
    },
};

/// Settings of [`Vae`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks: fully connected as in the paper, or convolutional.
    pub arch: Arch,
    /// Dimensions of z.
    #[schemars(range(min = 1))]
    pub latent: usize,
    /// Width of each hidden layer of `mlp`, from the image inwards; the decoder mirrors them.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<usize>,
    /// Channels of each stride-2 convolution of `conv`, from the image inwards; the decoder mirrors them.
    #[schemars(inner(range(min = 1)))]
    pub channels: Vec<usize>,
    /// Width of the fully connected layer between the convolutions and z.
    #[schemars(range(min = 1))]
    pub dense: usize,
    /// p(x|z).
    pub likelihood: Likelihood,
    /// Standard deviation of a Gaussian p(x|z).
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub std: f64,
    /// Weight of the KL term; 1 for a bound on log p(x).
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// Importance samples in the exported `log_prob`.
    #[schemars(range(min = 1))]
    pub importance_samples: usize,
}

/// Kinds of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// Fully connected.
    Mlp,
    /// Convolutional.
    Conv,
}

/// Kinds of p(x|z).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Likelihood {
    /// Independent Bernoulli pixels: for binary images, or grey values as probabilities.
    Bernoulli,
    /// Independent Gaussian pixels around the mean.
    Gaussian,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            arch: Arch::Mlp,
            latent: 20,
            hidden: vec![400],
            channels: vec![32, 64],
            dense: 256,
            likelihood: Likelihood::Bernoulli,
            std: 0.1,
            beta: 1.0,
            importance_samples: 16,
        }
    }
}

/// The model: x (N,C,H,W) -> mean, log_var (N,L); z (N,L) -> logits or mean (N,C,H,W).
pub struct Vae {
    config: Config,
    image: [usize; 3],
    encoder: Encoder,
    mean: Linear,
    log_var: Linear,
    decoder: Decoder,
}

/// x (N,C,H,W) -> h (N,D)
enum Encoder {
    Mlp(Vec<Linear>),
    Conv { convs: Vec<Conv2d>, dense: Linear },
}

/// z (N,L) -> logits of x (N,C,H,W)
enum Decoder {
    Mlp(Vec<Linear>),
    Conv {
        dense: Vec<Linear>,
        convs: Vec<ConvTranspose2d>,
        smallest: [usize; 3],
    },
}

/// Halves or doubles height and width.
const STRIDE_2: ConvConfig = ConvConfig {
    kernel: 4,
    stride: 2,
    padding: 1,
    output_padding: 0,
    groups: 1,
    bias: true,
    init: None,
};

impl Encoder {
    /// Also gives D.
    fn new(config: &Config, [c, h, w]: [usize; 3], params: &Params) -> Result<(Self, usize)> {
        match config.arch {
            Arch::Mlp => {
                let widths: Vec<usize> = std::iter::once(c * h * w)
                    .chain(config.hidden.iter().copied())
                    .collect();
                Ok((Self::Mlp(mlp(&widths, params)?), widths[widths.len() - 1]))
            }
            Arch::Conv => {
                let mut convs = Vec::new();
                let mut from = c;
                for (i, &to) in config.channels.iter().enumerate() {
                    convs.push(Conv2d::new(
                        &params.at(&format!("conv{}", i + 1)),
                        from,
                        to,
                        STRIDE_2,
                    )?);
                    from = to;
                }
                let [c, h, w] = smallest(config, [c, h, w])?;
                let dense = Linear::new(&params.at("dense"), c * h * w, config.dense)?;
                Ok((Self::Conv { convs, dense }, config.dense))
            }
        }
    }

    fn forward(&self, x: &Value) -> Result<Value> {
        match self {
            Self::Mlp(layers) => layers
                .iter()
                .try_fold(x.flatten(1)?, |h, layer| layer.forward(&h)?.relu()),
            Self::Conv { convs, dense } => {
                let h = convs
                    .iter()
                    .try_fold(x.clone(), |h, conv| conv.forward(&h)?.relu())?; // (N,C',H',W')
                dense.forward(&h.flatten(1)?)?.relu() // (N,D)
            }
        }
    }
}

impl Decoder {
    fn new(config: &Config, [c, h, w]: [usize; 3], params: &Params) -> Result<Self> {
        match config.arch {
            Arch::Mlp => {
                let inner = config.hidden.iter().rev().copied();
                let widths: Vec<usize> = std::iter::once(config.latent)
                    .chain(inner)
                    .chain([c * h * w])
                    .collect();
                Ok(Self::Mlp(mlp(&widths, params)?))
            }
            Arch::Conv => {
                let smallest = smallest(config, [c, h, w])?;
                let dense = mlp(
                    &[config.latent, config.dense, smallest.iter().product()],
                    params,
                )?;
                let outer = config.channels.iter().rev().skip(1).copied().chain([c]);
                let mut convs = Vec::new();
                let mut from = smallest[0];
                for (i, to) in outer.enumerate() {
                    convs.push(ConvTranspose2d::new(
                        &params.at(&format!("deconv{}", i + 1)),
                        from,
                        to,
                        STRIDE_2,
                    )?);
                    from = to;
                }
                Ok(Self::Conv {
                    dense,
                    convs,
                    smallest,
                })
            }
        }
    }

    fn forward(&self, z: &Value, [c, h, w]: [usize; 3]) -> Result<Value> {
        match self {
            Self::Mlp(layers) => {
                let (last, inner) = layers
                    .split_last()
                    .ok_or_else(|| Error::input("the decoder has no layer"))?;
                let hidden = inner
                    .iter()
                    .try_fold(z.clone(), |h, layer| layer.forward(&h)?.relu())?; // (N,D)
                last.forward(&hidden)?
                    .reshape(&[-1, c as i64, h as i64, w as i64]) // (N,C,H,W)
            }
            Self::Conv {
                dense,
                convs,
                smallest: [c, h, w],
            } => {
                let hidden = dense
                    .iter()
                    .try_fold(z.clone(), |h, layer| layer.forward(&h)?.relu())?; // (N,C'*H'*W')
                let mut x = hidden.reshape(&[-1, *c as i64, *h as i64, *w as i64])?; // (N,C',H',W')
                for (i, conv) in convs.iter().enumerate() {
                    x = conv.forward(&x)?;
                    if i + 1 < convs.len() {
                        x = x.relu()?;
                    }
                }
                Ok(x) // (N,C,H,W)
            }
        }
    }
}

fn mlp(widths: &[usize], params: &Params) -> Result<Vec<Linear>> {
    widths
        .windows(2)
        .enumerate()
        .map(|(i, w)| Linear::new(&params.at(&format!("fc{}", i + 1)), w[0], w[1]))
        .collect()
}

/// Channels and size of the innermost feature maps of `conv`.
fn smallest(config: &Config, [_, h, w]: [usize; 3]) -> Result<[usize; 3]> {
    let factor = 1usize << config.channels.len().min(16);
    match config.channels.last() {
        Some(&channels) if h % factor == 0 && w % factor == 0 => {
            Ok([channels, h / factor, w / factor])
        }
        Some(_) => Err(Error::input(format!(
            "images of {h}x{w} cannot be halved {} times: use fewer entries in model.channels, or model.arch = \"mlp\"",
            config.channels.len()
        ))),
        None => Err(Error::input(
            "model.channels must not be empty with model.arch = \"conv\"",
        )),
    }
}

impl Vae {
    /// x (N,C,H,W) -> mean, log_var (N,L)
    pub fn encode(&self, x: &Value) -> Result<(Value, Value)> {
        let h = self.encoder.forward(x)?; // (N,D)
        Ok((self.mean.forward(&h)?, self.log_var.forward(&h)?))
    }

    /// z (N,L) -> the mean of p(x|z) (N,C,H,W)
    pub fn decode(&self, z: &Value) -> Result<Value> {
        let out = self.decoder.forward(z, self.image)?;
        match self.config.likelihood {
            Likelihood::Bernoulli => out.sigmoid(),
            Likelihood::Gaussian => out.clip(0.0, 1.0),
        }
    }

    /// -log p(x|z) (N), from the decoder's raw output and x, both (N, ...)
    fn reconstruction(&self, out: &Value, x: &Value) -> Result<Value> {
        match self.config.likelihood {
            Likelihood::Bernoulli => bernoulli_nll(out, x),
            Likelihood::Gaussian => gaussian_nll(out, x, self.config.std),
        }
    }

    /// -E_q[log p(x|z)] by one sample, and KL(q(z|x) || p(z)), both (N)
    fn bound(&self, x: &Value, cx: &StepCx) -> Result<(Value, Value)> {
        let (mean, log_var) = self.encode(x)?; // (N,L)
        let z = reparameterise(&mean, &log_var, &cx.normal("z", &[self.config.latent])?)?; // (N,L)
        let out = self.decoder.forward(&z, self.image)?; // (N,C,H,W)
        Ok((
            self.reconstruction(&out, x)?,
            kl_standard_normal(&mean, &log_var)?,
        ))
    }

    /// log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) for noise (N,k,L): (N)
    fn importance_weighted(&self, x: &Value, noise: &Value) -> Result<Value> {
        let ([c, h, w], latent, k) = (self.image, self.config.latent as i64, noise.dim(1)? as i64);
        let (mean, log_var) = self.encode(x)?; // (N,L)
        let (mean, log_var) = (mean.unsqueeze(1)?, log_var.unsqueeze(1)?); // (N,1,L)
        let z = reparameterise(&mean, &log_var, noise)?; // (N,k,L)
        let out = self
            .decoder
            .forward(&z.reshape(&[-1, latent])?, self.image)?; // (N*k,C,H,W)
        let pixels = (c * h * w) as i64;
        let out = out.reshape(&[-1, k, pixels])?; // (N,k,D)
        let each = x.reshape(&[0, 1, pixels])?.expand(&[1, k as usize, 1])?; // (N,k,D)
        // One row for each z_i, so that the likelihoods are those of the loss.
        let nll =
            self.reconstruction(&out.reshape(&[-1, pixels])?, &each.reshape(&[-1, pixels])?)?; // (N*k)
        let log_p = per_row(&standard_normal_log_prob(&z)?)?; // log p(z_i) (N,k)
        // log q(z_i|x) = sum log N(noise; 0, 1) - log_var / 2
        let log_q = per_row(&standard_normal_log_prob(noise)?.sub(&log_var.mul_scalar(0.5)?)?)?; // (N,k)
        let log_w = log_p.sub(&log_q)?.sub(&nll.reshape(&[-1, k])?)?; // (N,k)
        log_w.logsumexp(1)?.add_scalar(-(k as f64).ln()) // (N)
    }
}

/// (N,k,L) -> (N,k)
fn per_row(x: &Value) -> Result<Value> {
    x.sum(&[2], false)
}

/// (N) -> the mean
fn mean(x: &Value) -> Result<Value> {
    x.mean(&[0], false)
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Vae>::default())]
}

impl Model for Vae {
    type Config = Config;

    const INFO: Info = Info {
        name: "vae",
        summary: "Variational autoencoder, fully connected or convolutional, with beta and importance-weighted likelihood",
        family: "latent variable",
        density: "approximate",
        title: "Auto-Encoding Variational Bayes",
        authors: "Kingma, Welling",
        year: 2014,
        url: "https://arxiv.org/abs/1312.6114",
        version: "1",
        graphs: &[
            ("encode", "mean and log-variance of q(z|x)"),
            ("decode", "the mean of p(x|z)"),
            ("reconstruct", "the mean of p(x|z) at the mean of q(z|x)"),
            ("sample", "images from noise z ~ N(0, I)"),
            (
                "log_prob",
                "importance-weighted lower bound of log p(x) in nats",
            ),
        ],
        best_metric: Some(("elbo_nats", true)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec, params: &Params) -> Result<Self> {
        let positive = config.latent > 0
            && config.dense > 0
            && config.importance_samples > 0
            && config
                .hidden
                .iter()
                .chain(&config.channels)
                .all(|&size| size > 0);
        if !positive {
            return Err(Error::input(
                "model.latent, hidden, channels, dense and importance_samples must be at least 1",
            ));
        }
        if !(config.std > 0.0
            && config.std.is_finite()
            && config.beta >= 0.0
            && config.beta.is_finite())
        {
            return Err(Error::input(
                "model.std must be above 0, model.beta not negative",
            ));
        }
        let (encoder, width) = Encoder::new(config, data.image, &params.at("encoder"))?;
        Ok(Self {
            image: data.image,
            mean: Linear::new(&params.at("encoder.mean"), width, config.latent)?,
            log_var: Linear::new(&params.at("encoder.log_var"), width, config.latent)?,
            decoder: Decoder::new(config, data.image, &params.at("decoder"))?,
            config: config.clone(),
            encoder,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (reconstruction, kl) = self.bound(&batch.x, cx)?; // (N)
        let (reconstruction, kl) = (mean(&reconstruction)?, mean(&kl)?);
        // The negative ELBO, eq. 7 (10 for the Gaussian q), with Higgins' beta.
        let total = reconstruction.add(&kl.mul_scalar(self.config.beta)?)?;
        Ok(Losses {
            total,
            terms: vec![("reconstruction", reconstruction), ("kl", kl)],
        })
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let (reconstruction, kl) = self.bound(&batch.x, cx)?; // (N)
        let (reconstruction, kl) = (mean(&reconstruction)?.scalar()?, mean(&kl)?.scalar()?);
        let mut metrics = Metrics::from([
            ("reconstruction_nats".into(), reconstruction),
            ("kl_nats".into(), kl),
            ("elbo_nats".into(), -reconstruction - kl),
        ]);
        let k = cx.importance_samples;
        if k > 0 {
            // A few samples at a time: k decoders at once would not fit in memory for k = 5000.
            let chunk = k.min(64);
            let mut parts = Vec::new();
            for start in (0..k).step_by(chunk) {
                let count = chunk.min(k - start);
                let noise =
                    cx.normal(&format!("importance {start}"), &[count, self.config.latent])?; // (N,count,L)
                let log_mean = self.importance_weighted(&batch.x, &noise)?; // (N)
                parts.push(log_mean.add_scalar((count as f64).ln())?);
            }
            let log_sum = zoo_nn::stack(&parts.iter().collect::<Vec<_>>(), 1)?.logsumexp(1)?; // (N)
            let log_prob = mean(&log_sum.add_scalar(-(k as f64).ln())?)?.scalar()?;
            let pixels = self.image.iter().product::<usize>() as f64;
            metrics.insert("nll_nats".into(), -log_prob);
            metrics.insert(
                "bits_per_dim".into(),
                -log_prob / pixels / std::f64::consts::LN_2,
            );
        }
        Ok(metrics)
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let (image, latent, k) = (
            self.image,
            self.config.latent,
            self.config.importance_samples,
        );
        let z = Port::normal("z", &[latent]);
        vec![
            GraphFn::new(
                "encode",
                [Port::image("x", image)],
                [
                    Port::batched("mean", &[latent]),
                    Port::batched("log_var", &[latent]),
                ],
                |m: &Self, io| {
                    let (mean, log_var) = m.encode(&io[0])?;
                    Ok(vec![mean, log_var])
                },
            ),
            GraphFn::new("decode", [z], [Port::image("x", image)], |m: &Self, io| {
                Ok(vec![m.decode(&io[0])?])
            }),
            GraphFn::new(
                "reconstruct",
                [Port::image("x", image)],
                [Port::image("x_hat", image)],
                |m: &Self, io| Ok(vec![m.decode(&m.encode(&io[0])?.0)?]),
            ),
            GraphFn::new(
                "sample",
                [Port::normal("noise", &[latent])],
                [Port::image("x", image)],
                |m: &Self, io| Ok(vec![m.decode(&io[0])?]),
            ),
            GraphFn::new(
                "log_prob",
                [Port::image("x", image), Port::normal("noise", &[k, latent])],
                [Port::batched("log_prob", &[])],
                |m: &Self, io| Ok(vec![m.importance_weighted(&io[0], &io[1])?]),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
