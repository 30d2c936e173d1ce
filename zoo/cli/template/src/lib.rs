//! A variational autoencoder (Kingma & Welling, ICLR 2014) with one hidden layer on either side: a beginning.
//!
//! ```text
//! z ~ N(0, I)                                    (N,L)
//! p(x|z) = Bernoulli(sigmoid(W2 relu(W1 z)))     (N,C,H,W)
//! q(z|x) = N(mean(x), exp(log_var(x)))           (N,L)
//!
//! loss = -E_q[log p(x|z)] + KL(q(z|x) || p(z))   (the negative ELBO, eq. 10)
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, GraphFn, Info, Losses, Metrics, Model, Net, Phase, Port, Result, StepCx,
    Value,
    loss::{bernoulli_nll, kl_standard_normal, reparameterise},
};

zoo_nn::export_plugin!(MyModel);

/// Settings of [`MyModel`]. Unknown ones are refused, and those out of their range; each needs a description, which `zoo describe` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Dimensions of z.
    #[schemars(range(min = 1))]
    pub latent: usize,
    /// Units of the hidden layers.
    #[schemars(range(min = 1))]
    pub hidden: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            latent: 16,
            hidden: 128,
        }
    }
}

/// The model: its settings. Networks are functions of a [`Net`], a place among the weights: a layer makes its parameters when it first runs.
pub struct MyModel {
    config: Config,
    image: [usize; 3],
}

impl MyModel {
    /// x (N,C,H,W) -> mean, log_var (N,L)
    pub fn encode(&self, net: &Net, x: &Value) -> (Value, Value) {
        let (net, latent) = (net.at("encoder"), self.config.latent);
        let h = net
            .linear("hidden", &x.flatten(1), self.config.hidden)
            .relu(); // (N,D)
        (
            net.linear("mean", &h, latent),
            net.linear("log_var", &h, latent),
        ) // (N,L)
    }

    /// z (N,L) -> logits of p(x|z) (N,C,H,W)
    pub fn decode(&self, net: &Net, z: &Value) -> Value {
        let (net, [c, h, w]) = (net.at("decoder"), self.image);
        let hidden = net.linear("hidden", z, self.config.hidden).relu(); // (N,D)
        // -1, never the batch size: the graph must hold for every N.
        net.linear("output", &hidden, c * h * w)
            .reshape(&[-1, c as i64, h as i64, w as i64]) // (N,C,H,W)
    }

    /// -E_q[log p(x|z)] by one sample, and KL(q(z|x) || p(z)): means over the batch
    fn bound(&self, x: &Value, cx: &StepCx) -> (Value, Value) {
        let (mean, log_var) = self.encode(&cx.net(), x); // (N,L)
        // Noise comes from the context, by name: so a seed decides everything, and a resumed run goes on as if never stopped.
        let noise = cx.normal("z", &[self.config.latent]); // (N,L)
        let logits = self.decode(&cx.net(), &reparameterise(&mean, &log_var, &noise)); // (N,C,H,W)
        (
            bernoulli_nll(&logits, x).mean(&[0], false),
            kl_standard_normal(&mean, &log_var).mean(&[0], false),
        )
    }
}

impl Model for MyModel {
    type Config = Config;

    const INFO: Info = Info {
        name: "my-model",
        summary: "A small variational autoencoder, to be replaced",
        family: "latent variable",
        density: "approximate",
        title: "Auto-Encoding Variational Bayes",
        authors: "Kingma, Welling",
        year: 2014,
        url: "https://arxiv.org/abs/1312.6114",
        version: "1",
        graphs: &[
            ("sample", "images from noise z ~ N(0, I)"),
            ("reconstruct", "the mean of p(x|z) at the mean of q(z|x)"),
        ],
        best_metric: Some(("elbo_nats", true)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            image: data.image,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (reconstruction, kl) = self.bound(&batch.image(), cx);
        Ok(Losses {
            total: &reconstruction + &kl,
            terms: vec![("reconstruction", reconstruction), ("kl", kl)],
        })
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let (reconstruction, kl) = self.bound(&batch.image(), cx);
        let elbo = -reconstruction.scalar()? - kl.scalar()?;
        Ok(Metrics::from([("elbo_nats".into(), elbo)]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        vec![
            GraphFn::new(
                "sample",
                [Port::normal("noise", &[self.config.latent])],
                [Port::image("x", self.image)],
                |m: &Self, net, io| m.decode(net, &io[0]).sigmoid(),
            ),
            GraphFn::new(
                "reconstruct",
                [Port::image("x", self.image)],
                [Port::image("x_hat", self.image)],
                |m: &Self, net, io| m.decode(net, &m.encode(net, &io[0]).0).sigmoid(),
            ),
        ]
    }
}
