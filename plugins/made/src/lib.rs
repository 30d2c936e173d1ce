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
    Batch, DataSpec, Device, Error, GraphFn, Info, Init, Losses, Metrics, Mode, Model, ModelPlugin,
    Net, Phase, Plugin, Result, StepCx, Stream, Tensor, Value,
    dist::{self, autoregressive_graphs, draw_list, nll_loss, nll_metrics},
    layers::CausalLinear,
    loss::bernoulli_nll,
    stack,
};

/// Settings of [`Made`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Units of each hidden layer.
    #[schemars(inner(range(min = 1)))]
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

/// Its weights.
struct Network {
    image: [usize; 3],
    layers: Vec<Layer>,
    direct: Option<CausalLinear>,
}

/// A fully connected layer with a mask for each draw of degrees.
struct Layer {
    /// (O,I)
    weight: Value,
    /// (O)
    bias: Value,
    /// (O,I) each
    masks: Vec<Value>,
}

/// A layer's weights under one mask.
type Masked<'a> = (Value, &'a Value);

impl Layer {
    fn masked(&self, mask: usize) -> Masked<'_> {
        (self.weight.mul(&self.masks[mask]), &self.bias)
    }
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
fn mask(to: &[usize], from: &[usize], strict: bool) -> Result<Tensor> {
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

impl Network {
    fn new(model: &Made, net: &Net) -> Result<Self> {
        let d = model.size();
        let mut layers = Vec::new();
        for layer in 0..=model.config.hidden.len() {
            let (from, to) = (
                model.degrees[0][layer].len(),
                model.degrees[0][layer + 1].len(),
            );
            let last = layer == model.config.hidden.len();
            let net = net.at(&format!("fc{}", layer + 1));
            let of = |(i, m): (usize, &Vec<Vec<usize>>)| {
                net.constant(&format!("mask{i}"), || mask(&m[layer + 1], &m[layer], last))
            };
            layers.push(Layer {
                weight: net.param("weight", &[to, from], Init::fan_in(from)),
                bias: net.param("bias", &[to], Init::Constant(0.0)),
                masks: model.degrees.iter().enumerate().map(of).collect(),
            });
        }
        let direct = model.config.direct;
        Ok(Self {
            image: model.image,
            layers,
            direct: direct
                .then(|| CausalLinear::new(&net.at("direct"), d, d))
                .transpose()?,
        })
    }

    fn size(&self) -> usize {
        self.image.iter().product()
    }

    fn masks(&self) -> usize {
        self.layers[0].masks.len()
    }

    /// x (N,D) -> logits (N,D) under one mask, `direct` among them
    fn under(&self, x: &Value, mask: usize, direct: Option<&Value>) -> Value {
        let mut h = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            let (weight, bias) = layer.masked(mask);
            h = h.linear(&weight, Some(bias)); // (N,O)
            if i + 1 < self.layers.len() {
                h = h.relu();
            }
        }
        match direct {
            Some(direct) => h.add(direct),
            None => h,
        }
    }

    /// What x (N,D) gives to the logits directly (N,D), the same under all masks.
    fn direct(&self, x: &Value) -> Option<Value> {
        let give = |direct: &CausalLinear| x.linear(&direct.weight(), None);
        self.direct.as_ref().map(give)
    }

    fn forward(&self, x: &Value) -> Value {
        let x = x.flatten(1);
        let direct = self.direct(&x);
        let each = (0..self.masks())
            .map(|mask| self.under(&x, mask, direct.as_ref()))
            .collect::<Vec<_>>();
        logit_of_mean(&each)
    }

    fn draw(&self, inputs: &[&Value]) -> Value {
        let noise = inputs[0];
        let (Some(first), Some(last)) = (self.layers.first(), self.layers.last()) else {
            return Value::failed(Error::input("the network has no layer"));
        };
        let inner = &self.layers[1..self.layers.len() - 1];
        // For each mask: the first layer's sums so far (N,H), its weights by input, those of an output, and the layers between.
        let (mut states, mut ins, mut outs, mut between) = (vec![], vec![], vec![], vec![]);
        for mask in 0..self.masks() {
            let sums = noise.zeros_like_batch(&[first.bias.dims()[0]]);
            states.push(sums.add(&first.bias));
            ins.push(first.masked(mask).0); // (H,D), cut along D
            outs.push(last.masked(mask).0); // (D,H), cut along D
            between.push(
                inner
                    .iter()
                    .map(|layer| layer.masked(mask))
                    .collect::<Vec<Masked<'_>>>(),
            );
        }
        let bias = last.bias.unsqueeze(1); // (D,1)
        let masks = self.masks();
        let mut weights: Vec<(&Value, usize)> = vec![(&bias, 0)];
        weights.extend(ins.iter().map(|weight| (weight, 1)));
        weights.extend(outs.iter().map(|weight| (weight, 0)));
        // What the inputs give directly, to the next output and those after it.
        let onward = self.direct.as_ref().map(CausalLinear::onward); // (D,D)
        if let Some(onward) = &onward {
            states.push(noise.zeros_like_batch(&[self.size()]));
            weights.push((onward, 0));
        }
        draw_list(
            inputs,
            &states,
            &weights,
            |sums, weights| {
                let (bias, outs) = (&weights[0], &weights[1 + masks..=2 * masks]);
                let (sums, direct) = sums.split_at(masks);
                let direct = direct.first().map(|sums| sums.slice(1, 0, 1)); // (N,1)
                let mut logits = Vec::with_capacity(masks);
                for ((sum, out), between) in sums.iter().zip(outs).zip(&between) {
                    let mut h = sum.relu(); // (N,H)
                    for (weight, bias) in between {
                        h = h.linear(weight, Some(bias)).relu();
                    }
                    let logit = h.linear(&out.unsqueeze(0), Some(bias)); // (N,1)
                    logits.push(match &direct {
                        Some(direct) => logit.add(direct),
                        None => logit,
                    });
                }
                logit_of_mean(&logits)
            },
            |sums, weights, x| {
                let add = |(sum, weight): (&Value, &Value)| sum.add(&x.mul(&weight.unsqueeze(0)));
                let hidden = sums[..masks].iter().zip(&weights[1..]);
                let mut next = hidden.map(add).collect::<Vec<_>>();
                if let (Some(direct), Some(onward)) = (sums.get(masks), weights.last()) {
                    next.push(CausalLinear::next(direct, onward, x));
                }
                next
            },
        )
    }
}

impl Made {
    fn size(&self) -> usize {
        self.image.iter().product()
    }

    /// x (N,C,H,W) -> logits of p(x_i | x_<i) (N,D), by the mean of all masks
    pub fn forward(&self, net: &Net, x: &Value) -> Value {
        Network::new(self, net)
            .map(|network| network.forward(x))
            .into()
    }

    /// -log p(x) (N)
    pub fn nll(&self, net: &Net, x: &Value) -> Value {
        bernoulli_nll(&self.forward(net, x), x)
    }

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too. A pixel is added to the first layer's sums once; the
    /// layers after it are computed anew for each pixel.
    pub fn draw(&self, net: &Net, inputs: &[&Value]) -> Value {
        Network::new(self, net)
            .map(|network| network.draw(inputs))
            .into()
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
        if config.hidden.is_empty() || config.hidden.contains(&0) || config.masks == 0 {
            return Err(Error::input(
                "model.hidden must have at least one layer, and its layers and model.masks be at least 1",
            ));
        }
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
        let nll = match cx.mode {
            Mode::Train => {
                let network = Network::new(self, &cx.net())?;
                let mask = (cx.step % self.config.masks as u64) as usize;
                let x = batch.image().flatten(1);
                let direct = network.direct(&x);
                bernoulli_nll(&network.under(&x, mask, direct.as_ref()), &batch.image())
            }
            Mode::Eval => self.nll(&cx.net(), &batch.image()),
        };
        Ok(nll_loss(&nll))
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
