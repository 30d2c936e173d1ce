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
    Batch, DataSpec, GraphFn, Info, Losses, Metrics, Model, ModelPlugin, Net, Phase, Plugin, Port,
    Result, StepCx, Value,
    loss::{
        bernoulli_nll, gaussian_nll, kl_standard_normal, reparameterise, standard_normal_log_prob,
    },
    nets::{Arch, Coder},
    stack,
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

/// The model: an encoder x (N,C,H,W) -> mean, log_var (N,L) and a decoder z (N,L) -> logits or mean (N,C,H,W).
pub struct Vae {
    config: Config,
    coder: Coder,
}

impl Vae {
    /// x (N,C,H,W) -> mean, log_var (N,L)
    pub fn encode(&self, net: &Net, x: &Value) -> (Value, Value) {
        let (net, latent) = (net.at("encoder"), self.config.latent);
        let h = self.coder.encode(&net, x); // (N,D)
        (
            net.linear("mean", &h, latent),
            net.linear("log_var", &h, latent),
        ) // (N,L)
    }

    /// z (N,L) -> logits or mean of x, before the likelihood bounds it (N,C,H,W)
    fn decoder(&self, net: &Net, z: &Value) -> Value {
        self.coder.decode(&net.at("decoder"), z)
    }

    /// z (N,L) -> the mean of p(x|z) (N,C,H,W)
    pub fn decode(&self, net: &Net, z: &Value) -> Value {
        let out = self.decoder(net, z);
        match self.config.likelihood {
            Likelihood::Bernoulli => out.sigmoid(),
            Likelihood::Gaussian => out.clip(0.0, 1.0),
        }
    }

    /// -log p(x|z) (N), from the decoder's raw output and x, both (N, ...)
    fn reconstruction(&self, out: &Value, x: &Value) -> Value {
        match self.config.likelihood {
            Likelihood::Bernoulli => bernoulli_nll(out, x),
            Likelihood::Gaussian => gaussian_nll(out, x, self.config.std),
        }
    }

    /// -E_q[log p(x|z)] by one sample, and KL(q(z|x) || p(z)), both (N)
    fn bound(&self, x: &Value, cx: &StepCx) -> (Value, Value) {
        let (mean, log_var) = self.encode(&cx.net(), x); // (N,L)
        let z = reparameterise(&mean, &log_var, &cx.normal("z", &[self.config.latent])); // (N,L)
        let out = self.decoder(&cx.net(), &z); // (N,C,H,W)
        (
            self.reconstruction(&out, x),
            kl_standard_normal(&mean, &log_var),
        )
    }

    /// log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x) for noise (N,k,L): (N)
    fn importance_weighted(&self, net: &Net, x: &Value, noise: &Value) -> Result<Value> {
        let (latent, k) = (self.config.latent as i64, noise.dim(1)? as i64);
        let pixels = self.coder.image.iter().product::<usize>() as i64;
        let (mean, log_var) = self.encode(net, x); // (N,L)
        let (mean, log_var) = (mean.unsqueeze(1), log_var.unsqueeze(1)); // (N,1,L)
        let z = reparameterise(&mean, &log_var, noise); // (N,k,L)
        let out = self.decoder(net, &z.reshape(&[-1, latent])); // (N*k,C,H,W)
        let each = x.reshape(&[0, 1, pixels]).expand(&[1, k as usize, 1]); // (N,k,D)
        // One row for each z_i, so that the likelihoods are those of the loss.
        let nll = self.reconstruction(&out.reshape(&[-1, pixels]), &each.reshape(&[-1, pixels])); // (N*k)
        let log_p = standard_normal_log_prob(&z).sum(&[2], false); // log p(z_i) (N,k)
        // log q(z_i|x) = sum log N(noise; 0, 1) - log_var / 2
        let log_q = (standard_normal_log_prob(noise) - log_var * 0.5).sum(&[2], false); // (N,k)
        let log_w = log_p - log_q - nll.reshape(&[-1, k]); // (N,k)
        Ok(log_w.logsumexp(1) - (k as f64).ln()) // (N)
    }
}

/// (N) -> the mean
fn mean(x: &Value) -> Value {
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

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let coder = Coder {
            arch: config.arch,
            image: data.image,
            hidden: config.hidden.clone(),
            channels: config.channels.clone(),
            dense: config.dense,
        };
        coder.check()?;
        Ok(Self {
            config: config.clone(),
            coder,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (reconstruction, kl) = self.bound(&batch.image(), cx); // (N)
        let (reconstruction, kl) = (mean(&reconstruction), mean(&kl));
        // The negative ELBO, eq. 7 (10 for the Gaussian q), with Higgins' beta.
        Ok(Losses {
            total: &reconstruction + &kl * cx.scalar("beta", self.config.beta),
            terms: vec![("reconstruction", reconstruction), ("kl", kl)],
        })
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let x = batch.image();
        let (reconstruction, kl) = self.bound(&x, cx); // (N)
        let (reconstruction, kl) = (mean(&reconstruction).scalar()?, mean(&kl).scalar()?);
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
                let noise = cx.normal(&format!("importance {start}"), &[count, self.config.latent]); // (N,count,L)
                let log_mean = self.importance_weighted(&cx.net(), &x, &noise)?; // (N)
                parts.push(log_mean + (count as f64).ln());
            }
            let log_sum = stack(&parts, 1).logsumexp(1); // (N)
            let log_prob = mean(&(log_sum - (k as f64).ln())).scalar()?;
            let pixels = self.coder.image.iter().product::<usize>() as f64;
            metrics.insert("nll_nats".into(), -log_prob);
            metrics.insert(
                "bits_per_dim".into(),
                -log_prob / pixels / std::f64::consts::LN_2,
            );
        }
        Ok(metrics)
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let (latent, k) = (self.config.latent, self.config.importance_samples);
        let image = |name: &str| Port::image(name, self.coder.image);
        let code = |name: &str| Port::batched(name, &[latent]);
        vec![
            GraphFn::new(
                "encode",
                [image("x")],
                [code("mean"), code("log_var")],
                |m: &Self, net, io| m.encode(net, &io[0]),
            ),
            GraphFn::new(
                "decode",
                [Port::normal("z", &[latent])],
                [image("x")],
                |m: &Self, net, io| m.decode(net, &io[0]),
            ),
            GraphFn::new(
                "reconstruct",
                [image("x")],
                [image("x_hat")],
                |m: &Self, net, io| m.decode(net, &m.encode(net, &io[0]).0),
            ),
            GraphFn::new(
                "sample",
                [Port::normal("noise", &[latent])],
                [image("x")],
                |m: &Self, net, io| m.decode(net, &io[0]),
            ),
            GraphFn::new(
                "log_prob",
                [image("x"), Port::normal("noise", &[k, latent])],
                [Port::batched("log_prob", &[])],
                |m: &Self, net, io| m.importance_weighted(net, &io[0], &io[1]),
            ),
        ]
    }
}

#[cfg(test)]
mod tests;
