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
    Batch, DataSpec, Error, GraphFn, Info, Init, Losses, Metrics, Model, ModelPlugin, Net, Phase,
    Plugin, Result, StepCx, Value,
    dist::{self, autoregressive_graphs, draw_list, nll_loss, nll_metrics},
    layers::CausalLinear,
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

impl Fvbn {
    fn size(&self) -> usize {
        self.image.iter().product()
    }

    /// Its weights, and the bias (D).
    fn weights(&self, net: &Net) -> Result<(CausalLinear, Value)> {
        let d = self.size();
        let linear = CausalLinear::new(net, d, self.context)?;
        Ok((linear, net.param("bias", &[d], Init::Constant(0.0))))
    }

    /// x (N,C,H,W) -> logits of p(x_i | x_<i) (N,D)
    pub fn forward(&self, net: &Net, x: &Value) -> Value {
        let logits = |(linear, bias): (CausalLinear, Value)| {
            x.flatten(1).linear(&linear.weight(), Some(&bias))
        };
        self.weights(net).map(logits).into()
    }

    /// -log p(x) (N)
    pub fn nll(&self, net: &Net, x: &Value) -> Value {
        zoo_nn::loss::bernoulli_nll(&self.forward(net, x), x)
    }

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too. A pixel adds to the logits of those after it.
    pub fn draw(&self, net: &Net, inputs: &[&Value]) -> Value {
        let (linear, bias) = match self.weights(net) {
            Ok(weights) => weights,
            Err(error) => return Value::failed(error),
        };
        let start = inputs[0].zeros_like_batch(&[self.size()]);
        let start = start.add(&bias); // logits from the next pixel on (N,D)
        draw_list(
            inputs,
            &[start],
            &[(&linear.onward(), 0)],
            |logits, _| logits[0].slice(1, 0, 1), // (N,1)
            |logits, onward, x| vec![CausalLinear::next(&logits[0], &onward[0], x)],
        )
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
        if context == 0 {
            return Err(Error::input("model.context must be at least 1"));
        }
        Ok(Self {
            image: data.image,
            context,
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
