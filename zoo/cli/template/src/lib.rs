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
    Batch, DataSpec, Error, GraphFn, Info, Losses, Metrics, Model, Params, Phase, Port, Result,
    StepCx, Value,
    layers::Linear,
    loss::{bernoulli_nll, kl_standard_normal, reparameterise},
};

zoo_nn::export_plugin!(MyModel);

/// Settings of [`MyModel`]. Unknown ones are refused; each needs a description, which `zoo describe` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Dimensions of z.
    pub latent: usize,
    /// Units of the hidden layers.
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

/// The model.
pub struct MyModel {
    config: Config,
    image: [usize; 3],
    encoder: Linear,
    mean: Linear,
    log_var: Linear,
    hidden: Linear,
    output: Linear,
}

impl MyModel {
    /// x (N,C,H,W) -> mean, log_var (N,L)
    pub fn encode(&self, x: &Value) -> Result<(Value, Value)> {
        let h = self.encoder.forward(&x.flatten(1)?)?.relu()?; // (N,D)
        Ok((self.mean.forward(&h)?, self.log_var.forward(&h)?)) // (N,L)
    }

    /// z (N,L) -> logits of p(x|z) (N,C,H,W)
    pub fn decode(&self, z: &Value) -> Result<Value> {
        let [c, h, w] = self.image.map(|size| size as i64);
        let hidden = self.hidden.forward(z)?.relu()?; // (N,D)
        // -1, never the batch size: the graph must hold for every N.
        self.output.forward(&hidden)?.reshape(&[-1, c, h, w]) // (N,C,H,W)
    }

    /// -E_q[log p(x|z)] by one sample, and KL(q(z|x) || p(z)): means over the batch
    fn bound(&self, x: &Value, cx: &StepCx) -> Result<(Value, Value)> {
        let (mean, log_var) = self.encode(x)?; // (N,L)
        // Noise comes from the context, by name: so a seed decides everything, and a resumed run goes on as if never stopped.
        let noise = cx.normal("z", &[self.config.latent])?; // (N,L)
        let logits = self.decode(&reparameterise(&mean, &log_var, &noise)?)?; // (N,C,H,W)
        Ok((
            bernoulli_nll(&logits, x)?.mean(&[0], false)?,
            kl_standard_normal(&mean, &log_var)?.mean(&[0], false)?,
        ))
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

    fn new(config: &Config, data: &DataSpec, params: &Params) -> Result<Self> {
        if config.latent == 0 || config.hidden == 0 {
            return Err(Error::input(
                "model.latent and model.hidden must be at least 1",
            ));
        }
        let (latent, hidden) = (config.latent, config.hidden);
        let pixels = data.pixels();
        Ok(Self {
            image: data.image,
            encoder: Linear::new(&params.at("encoder.hidden"), pixels, hidden)?,
            mean: Linear::new(&params.at("encoder.mean"), hidden, latent)?,
            log_var: Linear::new(&params.at("encoder.log_var"), hidden, latent)?,
            hidden: Linear::new(&params.at("decoder.hidden"), latent, hidden)?,
            output: Linear::new(&params.at("decoder.output"), hidden, pixels)?,
            config: config.clone(),
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (reconstruction, kl) = self.bound(&batch.x, cx)?;
        Ok(Losses {
            total: reconstruction.add(&kl)?,
            terms: vec![("reconstruction", reconstruction), ("kl", kl)],
        })
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let (reconstruction, kl) = self.bound(&batch.x, cx)?;
        let elbo = -reconstruction.scalar()? - kl.scalar()?;
        Ok(Metrics::from([("elbo_nats".into(), elbo)]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        vec![
            GraphFn::new(
                "sample",
                [Port::normal("noise", &[self.config.latent])],
                [Port::image("x", self.image)],
                |m: &Self, io| Ok(vec![m.decode(&io[0])?.sigmoid()?]),
            ),
            GraphFn::new(
                "reconstruct",
                [Port::image("x", self.image)],
                [Port::image("x_hat", self.image)],
                |m: &Self, io| Ok(vec![m.decode(&m.encode(&io[0])?.0)?.sigmoid()?]),
            ),
        ]
    }
}
