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
    Autoregressive, Batch, DataSpec, GraphFn, Info, List, Losses, Metrics, Model, ModelPlugin, Net,
    Phase, Plugin, Result, StepCx, Value, dist,
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

impl Autoregressive for Nade {
    type On = List;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    /// x (N,D) -> logits of p(x_i | x_<i) (N,D)
    fn network(&self, net: &Net, x: &List, _: Option<&Value>) -> List {
        let d = self.image.iter().product();
        net.nade(x, d, self.hidden) // b_i + V_i sigmoid(c + sum_{j<i} W_j x_j)
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
        Ok(Self {
            image: data.image,
            hidden: config.hidden,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        self.nll_loss(batch, cx)
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        self.nll_metrics(batch, cx)
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        self.causal_graphs()
    }
}

#[cfg(test)]
mod tests;
