//! PixelRNN (van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016).
//!
//! An image is predicted pixel by pixel, row by row from the left, and in a pixel red before green before blue:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_1 .. x_{i-1})                                             (eq. 1)
//! [o, f, i, g] = [s, s, s, tanh](K_ss * h_before + K_is * x)   s: sigmoid            (eq. 3)
//! c = f c_before + i g,   h = o tanh(c)
//! ```
//!
//! Long short-term memories carry what was seen through the image. In the [`RowLstm`] a state comes from the row above, convolved along it: it sees a triangle above
//! the pixel. In the [`DiagonalBiLstm`] one state comes from the left and from above, another from the right and from above: together they
//! see everything, save the last pixel of the row above, which no feature map of that row has seen, where the first layer's window does not reach it.
//! The network around them is that of the PixelCNN: a first layer under mask A, residual connections, a head of two layers.

mod diagonal;
mod row;

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Losses, Metrics, Model, ModelPlugin, Net, Phase, Pixel,
    Plugin, Raster, Result, Row, StepCx, Value,
    dist::{self, Likelihood, PixelDistribution, autoregressive_graphs, nll_loss, nll_metrics},
    layers::{Carried, Mask, MaskedConfig, MaskedConv2d, check_masked},
    raster_scan,
};

/// Settings of both models. The default is the paper's for CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps between layers (2h of the paper); a state has half as many.
    #[schemars(range(min = 2))]
    pub channels: usize,
    /// Recurrent layers.
    pub layers: usize,
    /// Side of the first layer's window, odd.
    #[schemars(range(min = 3))]
    pub first_kernel: usize,
    /// Feature maps of the last hidden layer.
    #[schemars(range(min = 1))]
    pub head: usize,
    /// p(x_i | x_<i).
    pub likelihood: Likelihood,
    /// Levels of a colour with `softmax`.
    #[schemars(range(min = 2, max = 256))]
    pub levels: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 256,
            layers: 12,
            first_kernel: 7,
            head: 1024,
            likelihood: Likelihood::Softmax,
            levels: 256,
        }
    }
}

/// A recurrent layer: x (N,2h,H,W) -> x and what its states add.
pub trait Layer: Sized + Send + Sync + 'static {
    /// What is known of the model of such layers.
    const INFO: Info;

    /// The layer for drawing.
    type Step: Step;

    /// With states of `h` maps, for pixels of so many colours.
    fn new(h: usize, colours: usize, net: &Net) -> Result<Self>;

    /// (N,2h,H,W) -> (N,2h,H,W)
    fn forward(&self, x: &Value) -> Value;

    /// Its weights, as drawing rows of `width` takes them.
    fn step(&self, width: usize) -> Result<Self::Step>;
}

/// A layer that is computed pixel by pixel.
pub trait Step {
    /// Sizes of what a pixel keeps for the row below.
    fn kept(&self) -> Vec<usize>;

    /// What is carried from row to row, before the first one.
    fn start(&self, like: &Value, width: usize) -> Vec<Value>;

    /// What is carried from pixel to pixel, before a row's first one.
    fn start_row(&self, like: &Value) -> Vec<Value>;

    /// From what the pixels of the row above kept (N,K,W), the context of a row's pixels.
    fn row(&self, kept: &[Value], carried: &mut Carried<'_>) -> Vec<Value>;

    /// One pixel (N,2h) -> (N,2h), and what it keeps.
    fn pixel<'a>(
        &self,
        x: &Value,
        context: &mut impl Iterator<Item = &'a Value>,
        carried: &mut Carried<'_>,
    ) -> (Value, Vec<Value>);
}

/// The model: x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,C*K,H,W).
pub struct PixelRnn<L> {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
    layer: PhantomData<L>,
}

/// Its layers.
struct Network<L> {
    image: [usize; 3],
    pixel: PixelDistribution,
    first: MaskedConv2d,
    layers: Vec<L>,
    head: MaskedConv2d,
    out: MaskedConv2d,
}

/// PixelRNN whose states go from row to row.
pub type RowLstm = PixelRnn<row::RowLayer>;

/// PixelRNN whose states go along both diagonals.
pub type DiagonalBiLstm = PixelRnn<diagonal::DiagonalLayer>;

/// The next context of a pixel.
fn next<'a>(context: &mut impl Iterator<Item = &'a Value>) -> Value {
    context
        .next()
        .cloned()
        .unwrap_or_else(|| Value::failed(Error::input("a pixel lacks the context of its row")))
}

impl<L: Layer> Network<L> {
    fn new(model: &PixelRnn<L>, net: &Net) -> Result<Self> {
        let config = &model.config;
        let [colours, _, _] = model.image;
        let (wide, head, k) = (config.channels, config.head, config.first_kernel);
        let conv = |name: &str, from, to, side, mask| {
            let masked = masked([side; 2], mask, colours, 1);
            MaskedConv2d::new(&net.at(name), from, to, masked)
        };
        let layer = |i: usize| L::new(wide / 2, colours, &net.at(&format!("layers.{i}")));
        Ok(Self {
            image: model.image,
            pixel: model.pixel,
            first: conv("first", colours, wide, k, Mask::A)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            head: conv("head", wide, head, 1, Mask::B)?,
            out: conv("out", head, colours * model.pixel.parameters(), 1, Mask::B)?,
        })
    }

    fn forward(&self, x: &Value) -> Value {
        let start = self.first.forward(x); // (N,2h,H,W)
        let h = self.layers.iter().fold(start, |h, layer| layer.forward(&h));
        let h = self.head.forward(&h.relu()); // (N,head,H,W)
        self.out.forward(&h.relu())
    }

    fn draw(&self, inputs: &[&Value]) -> Result<Value> {
        let [colours, _, width] = self.image;
        let first = self.first.row_by_row();
        let (head, out) = (self.head.row_by_row(), self.out.row_by_row());
        let steps = self
            .layers
            .iter()
            .map(|layer| layer.step(width))
            .collect::<Result<Vec<_>>>()?;
        let noise = inputs[0];
        let mut states = first.neighbourhood().start(noise, width);
        let mut last = vec![noise.zeros_like_batch(&[colours, width])];
        for step in &steps {
            states.extend(step.start(noise, width));
            for size in step.kept() {
                last.push(noise.zeros_like_batch(&[size, width]));
            }
        }
        let raster = Raster {
            inputs,
            states,
            last,
        };
        Ok(raster_scan(
            raster,
            |states, last| {
                let mut carried = Carried::new(states);
                let mut context = first.neighbourhood().row(&last[0], &mut carried); // (N,2h,W)
                let mut pixels = first.neighbourhood().start_row(&last[0]);
                let mut kept = &last[1..];
                for step in &steps {
                    let (own, rest) = kept.split_at(step.kept().len());
                    context.extend(step.row(own, &mut carried));
                    pixels.extend(step.start_row(&last[0]));
                    kept = rest;
                }
                Row {
                    states: carried.into_next(),
                    context,
                    pixels,
                }
            },
            |states, inputs, context| {
                let (x, (states, kept)) = self.pixel.draw_pixel(inputs, |x| {
                    let (mut carried, mut context) = (Carried::new(states), context.iter());
                    let mut h = first.pixel(x, &mut context, &mut carried); // (N,2h)
                    let mut kept = Vec::new();
                    for step in &steps {
                        let (next, own) = step.pixel(&h, &mut context, &mut carried);
                        h = next;
                        kept.extend(own);
                    }
                    let h = head.pixel(&h.relu(), &mut context, &mut carried);
                    let parameters = out.pixel(&h.relu(), &mut context, &mut carried); // (N,C*K)
                    (parameters, (carried.into_next(), kept))
                });
                Pixel {
                    states: first.correct(&x, states),
                    outputs: std::iter::once(x).chain(kept).collect(),
                }
            },
        ))
    }
}

impl<L: Layer> PixelRnn<L> {
    /// x (N,C,H,W) -> parameters of p(x_i | x_<i) (N,C*K,H,W)
    pub fn forward(&self, net: &Net, x: &Value) -> Value {
        Network::new(self, net)
            .map(|network| network.forward(x))
            .into()
    }

    /// -log p(x) (N)
    pub fn nll(&self, net: &Net, x: &Value) -> Value {
        self.pixel.nll(&self.forward(net, x), x)
    }

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too: pixel by pixel, with the states of the row above.
    pub fn draw(&self, net: &Net, inputs: &[&Value]) -> Value {
        Network::new(self, net)
            .and_then(|network| network.draw(inputs))
            .into()
    }
}

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(ModelPlugin::<RowLstm>::default()),
        Box::new(ModelPlugin::<DiagonalBiLstm>::default()),
    ]
}

/// What is known of a PixelRNN.
const fn info(name: &'static str, summary: &'static str) -> Info {
    Info {
        name,
        summary,
        family: "autoregressive",
        density: "tractable",
        title: "Pixel Recurrent Neural Networks",
        authors: "van den Oord, Kalchbrenner, Kavukcuoglu",
        year: 2016,
        url: "https://arxiv.org/abs/1601.06759",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    }
}

/// A window under a mask; `parts` says how many parts the outputs fall into, as gates do.
fn masked(kernel: [usize; 2], mask: Mask, colours: usize, parts: usize) -> MaskedConfig {
    MaskedConfig {
        kernel,
        mask,
        colours,
        parts,
    }
}

impl<L: Layer> Model for PixelRnn<L> {
    type Config = Config;

    const INFO: Info = L::INFO;

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let [colours, _, _] = data.image;
        let pixel = PixelDistribution::new(config.likelihood, config.levels, data.binarization)?;
        let (wide, head, k) = (config.channels, config.head, config.first_kernel);
        if wide % 2 != 0 || wide == 0 {
            return Err(Error::input(format!(
                "model.channels must be even and at least 2, not {wide}: a state has half as many"
            )));
        }
        check_masked(
            colours,
            &[("model.channels", wide, 2), ("model.head", head, 1)],
            &[("model.first_kernel", k)],
        )?;
        Ok(Self {
            config: config.clone(),
            image: data.image,
            pixel,
            layer: PhantomData,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        Ok(nll_loss(&self.nll(&cx.net(), &batch.image())))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        nll_metrics(
            &self.nll(&cx.net(), &batch.image()),
            self.image.iter().product(),
        )
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        autoregressive_graphs(self.image, Self::nll, Self::draw)
    }
}

#[cfg(test)]
mod tests;
