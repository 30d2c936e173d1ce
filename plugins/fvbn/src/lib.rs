//! The fully visible belief net (Frey, Hinton & Dayan, "Does the Wake-Sleep Algorithm Produce Good Density Estimators?", 1996; Frey, "Graphical
//! Models for Machine Learning and Digital Communication", 1998).
//!
//! Each binary pixel is a logistic regression on the pixels before it, in raster order:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_<i),   p(x_i = 1 | x_<i) = sigmoid(b_i + sum_{j<i} W_ij x_j)
//! ```
//!
//! Colours, where there are several, follow each other as whole planes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, GraphFn, Info, List, Losses, Metrics, Model, ModelPlugin, Net,
    Phase, Plugin, Result, StepCx, Value, dist,
};

/// Settings of [`Fvbn`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many pixels before it a pixel depends on; all where left out.
    #[schemars(range(min = 1))]
    pub context: Option<usize>,
}

/// The model: x (N,D) -> logits of every p(x_i | x_<i) (N,D).
pub struct Fvbn {
    image: [usize; 3],
    context: usize,
}

impl Autoregressive for Fvbn {
    type On = List;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    /// x (N,D) -> logits of p(x_i | x_<i) (N,D)
    fn network(&self, net: &Net, x: &List, _: Option<&Value>) -> List {
        let d = self.image.iter().product();
        net.causal_linear(x, d, self.context, true) // b_i + sum_{j<i} W_ij x_j
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Fvbn>::default())]
}

impl Model for Fvbn {
    type Config = Config;

    const INFO: Info = Info {
        name: "fvbn",
        summary: "Fully visible belief net: each pixel a logistic regression on those before it",
        family: "autoregressive",
        density: "tractable",
        title: "Does the Wake-Sleep Algorithm Produce Good Density Estimators?",
        authors: "Frey, Hinton, Dayan",
        year: 1996,
        url: "https://papers.nips.cc/paper/1153-does-the-wake-sleep-algorithm-produce-good-density-estimators",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let d: usize = data.image.iter().product();
        let context = config.context.unwrap_or(d);
        Ok(Self {
            image: data.image,
            context,
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
