//! The neural autoregressive distribution estimator (Larochelle & Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011).
//!
//! Each binary pixel is predicted from those before it, in raster order, by a network with one hidden layer; all networks share their weights:
//!
//! ```text
//! h_i = sigmoid(c + sum_{j<i} W_j x_j)                                    (eq. 8)
//! p(x_i = 1 | x_<i) = sigmoid(b_i + V_i h_i)                              (eq. 7)
//! ```
//!
//! The hidden sums grow by one pixel at a time, so that all conditionals together take time of order D H. Colours, where there are several, follow
//! each other as whole planes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Init, Losses, Metrics, Model, ModelPlugin, Net, Phase,
    Plugin, Result, StepCx, Value,
    dist::{self, autoregressive_graphs, draw_list, nll_loss, nll_metrics},
};

/// Settings of [`Nade`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Hidden units.
    #[schemars(range(min = 1))]
    pub hidden: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { hidden: 500 }
    }
}

/// The model: x (N,D) -> logits of every p(x_i | x_<i) (N,D).
pub struct Nade {
    image: [usize; 3],
    hidden: usize,
}

/// Its weights.
struct Weights {
    /// What a pixel adds to the hidden sums (D,H).
    w: Value,
    /// The sums without any pixel (H).
    c: Value,
    /// From hidden units to a pixel's logit (D,H), and its bias (D).
    v: Value,
    b: Value,
}

impl Nade {
    fn size(&self) -> usize {
        self.image.iter().product()
    }

    fn weights(&self, net: &Net) -> Weights {
        let (d, h) = (self.size(), self.hidden);
        Weights {
            w: net.param("w", &[d, h], Init::fan_in(d)),
            c: net.param("c", &[h], Init::Constant(0.0)),
            v: net.param("v", &[d, h], Init::fan_in(h)),
            b: net.param("b", &[d], Init::Constant(0.0)),
        }
    }

    /// x (N,C,H,W) -> logits of p(x_i | x_<i) (N,D)
    pub fn forward(&self, net: &Net, x: &Value) -> Value {
        let Weights { w, c, v, b } = self.weights(net);
        x.flatten(1).nade(&w, &c, &v) + b
    }

    /// -log p(x) (N)
    pub fn nll(&self, net: &Net, x: &Value) -> Value {
        zoo_nn::loss::bernoulli_nll(&self.forward(net, x), x)
    }

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too. Each pixel is added to the hidden sums once.
    pub fn draw(&self, net: &Net, inputs: &[&Value]) -> Value {
        let Weights { w, c, v, b } = self.weights(net);
        let start = inputs[0].zeros_like_batch(&[self.hidden]) + c; // (N,H)
        let b = b.unsqueeze(1); // (D,1)
        draw_list(
            inputs,
            &[start],
            &[(&w, 0), (&v, 0), (&b, 0)],
            |sums, weights| {
                let [_, v, b] = weights else {
                    return Value::failed(Error::input("a value has its weights"));
                };
                sums[0].sigmoid().linear(&v.unsqueeze(0), Some(b)) // (N,1)
            },
            |sums, weights, x| {
                let added = x.mul(&weights[0].unsqueeze(0)); // (N,H)
                vec![sums[0].add(&added)]
            },
        )
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Nade>::default())]
}

impl Model for Nade {
    type Config = Config;

    const INFO: Info = Info {
        name: "nade",
        summary: "Neural autoregressive distribution estimator: one hidden layer that grows by a pixel at a time",
        family: "autoregressive",
        density: "tractable",
        title: "The Neural Autoregressive Distribution Estimator",
        authors: "Larochelle, Murray",
        year: 2011,
        url: "https://proceedings.mlr.press/v15/larochelle11a.html",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let h = config.hidden;
        if h == 0 {
            return Err(Error::input("model.hidden must be at least 1"));
        }
        Ok(Self {
            image: data.image,
            hidden: h,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        Ok(nll_loss(&self.nll(&cx.net(), &batch.image())))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        nll_metrics(&self.nll(&cx.net(), &batch.image()), self.size())
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        autoregressive_graphs(self.image, Self::nll, Self::draw)
    }
}

#[cfg(test)]
mod tests;
