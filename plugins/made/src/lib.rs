//! The masked autoencoder for distribution estimation (Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015).
//!
//! An autoencoder whose masks let output i see only the inputs before it gives all conditionals at once:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_<i),   p(x_i = 1 | x_<i) = sigmoid(output_i + sum_{j<i} A_ij x_j)
//! ```
//!
//! where A are the direct weights, if there are any.
//!
//! Every hidden unit k has a degree m(k): it sees the first m(k) inputs. A unit feeds those of the next layer whose degree is not smaller (eq. 12), and output i
//! sees units of degrees below i (eq. 13). Degrees are drawn once, or several times: then each step trains with one of the masks in turn, and the
//! probability of a pixel is the mean of what all masks give (section 4.2; the order of the pixels stays). Pixels come in raster order;
//! colours, where there are several, follow each other as whole planes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Device, GraphFn, Info, Init, List, Losses, Metrics, Mode,
    Model, ModelPlugin, Net, Phase, Plugin, Result, StepCx, Stream, Tensor, Value,
    dist::{self, nll_loss},
    loss::bernoulli_nll,
    stack,
};

/// Settings of [`Made`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Units of each hidden layer.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub hidden: Vec<usize>,
    /// Times that the hidden units' degrees are drawn.
    #[schemars(range(min = 1))]
    pub masks: usize,
    /// Whether each output also sees the inputs before it directly, by weights of its own.
    pub direct: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden: vec![500],
            masks: 1,
            direct: false,
        }
    }
}

/// The model: x (N,D) -> logits of every p(x_i | x_<i) (N,D).
pub struct Made {
    config: Config,
    image: [usize; 3],
    /// Degrees of all units, by draw and layer.
    degrees: Vec<Vec<Vec<usize>>>,
}

/// Degrees of each layer, inputs first and outputs last: unit o of a layer sees unit i of the layer before where `sees(o, i)`.
fn degrees(d: usize, hidden: &[usize], stream: Stream) -> Vec<Vec<usize>> {
    let mut all = vec![(1..=d).collect::<Vec<_>>()];
    for (layer, &units) in hidden.iter().enumerate() {
        // From the smallest degree below, so that no unit sees nothing, up to D - 1.
        let least = all[layer].iter().copied().min().unwrap_or(1);
        let choices = d.saturating_sub(least).max(1) as u64;
        let drawn = stream
            .named("degrees")
            .at(layer as u64)
            .integers(units, choices);
        all.push(drawn.into_iter().map(|m| least + m as usize).collect());
    }
    all.push((1..=d).collect());
    all
}

/// (O,I) with 1 where the first degree may see the second.
fn sees(to: &[usize], from: &[usize], strict: bool) -> Result<Tensor> {
    let sees = |to: usize, from: usize| if strict { to > from } else { to >= from };
    let pairs = to.iter().flat_map(|&to| {
        from.iter()
            .map(move |&from| f32::from(u8::from(sees(to, from))))
    });
    Ok(Tensor::from_vec(
        pairs.collect(),
        (to.len(), from.len()),
        &Device::Cpu,
    )?)
}

impl Made {
    /// x (N,D) -> logits (N,D) under one of the masks, with what x gives to them directly
    fn under(&self, net: &Net, mask: usize, x: &List, direct: Option<&List>) -> List {
        let layers = self.config.hidden.len();
        let weights = |layer: usize| {
            let net = net.at(&format!("fc{}", layer + 1));
            let degrees = &self.degrees[mask];
            let (from, to) = (&degrees[layer], &degrees[layer + 1]);
            let shape = [to.len(), from.len()];
            let weight = net.param("weight", &shape, Init::fan_in(from.len())); // (O,I)
            let sees = net.constant(&format!("mask{mask}"), || sees(to, from, layer == layers));
            (
                weight * sees,
                net.param("bias", &[to.len()], Init::Constant(0.0)),
            )
        };
        let mut h = x.to_features(|| weights(0)).map(Value::relu); // (N,H)
        for layer in 1..layers {
            h = h.linear(|| weights(layer)).map(Value::relu); // (N,H)
        }
        let logits = h.of_features(|| weights(layers)); // (N,D)
        match direct {
            Some(direct) => List::combined(&[logits, direct.clone()], |all| &all[0] + &all[1]),
            None => logits,
        }
    }

    /// What x (N,D) gives to the logits directly (N,D), the same under all masks.
    fn direct(&self, net: &Net, x: &List) -> Option<List> {
        let d = self.image.iter().product();
        let give = || net.at("direct").causal_linear(x, d, d, false);
        self.config.direct.then(give)
    }
}

impl Autoregressive for Made {
    type On = List;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    /// x (N,D) -> logits of p(x_i | x_<i) (N,D), by the mean of all masks
    fn network(&self, net: &Net, x: &List, _: Option<&Value>) -> List {
        let direct = self.direct(net, x);
        let under = |mask| self.under(net, mask, x, direct.as_ref());
        let each: Vec<List> = (0..self.config.masks).map(under).collect();
        List::combined(&each, logit_of_mean)
    }
}

/// The logit of the mean of the probabilities that these logits give: log mean sigmoid(l) - log mean sigmoid(-l).
fn logit_of_mean(logits: &[Value]) -> Value {
    if let [only] = logits {
        return only.clone();
    }
    // In logarithms, so that nothing is lost where a mask is certain.
    let each = |sign: f64| {
        let log = |l: &Value| l.mul_scalar(-sign).softplus().neg(); // log sigmoid(sign l)
        let logs = logits.iter().map(log).collect::<Vec<_>>();
        stack(&logs.iter().collect::<Vec<_>>(), 1).logsumexp(1)
    };
    each(1.0).sub(&each(-1.0))
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![Box::new(ModelPlugin::<Made>::default())]
}

impl Model for Made {
    type Config = Config;

    const INFO: Info = Info {
        name: "made",
        summary: "Masked autoencoder: each output sees only the pixels before it",
        family: "autoregressive",
        density: "tractable",
        title: "MADE: Masked Autoencoder for Distribution Estimation",
        authors: "Germain, Gregor, Murray, Larochelle",
        year: 2015,
        url: "https://arxiv.org/abs/1502.03509",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let d: usize = data.image.iter().product();
        // Part of the model, as its settings are: the same for every seed of a training.
        let degrees = (0..config.masks)
            .map(|mask| degrees(d, &config.hidden, Stream::new(mask as u64)))
            .collect();
        Ok(Self {
            config: config.clone(),
            image: data.image,
            degrees,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        if cx.mode == Mode::Eval {
            return self.nll_loss(batch, cx);
        }
        let (net, x) = (cx.net(), List::from(&batch.image()));
        let mask = (cx.step % self.config.masks as u64) as usize;
        let logits = self.under(&net, mask, &x, self.direct(&net, &x).as_ref());
        Ok(nll_loss(&bernoulli_nll(&logits.value(), &batch.image())))
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
