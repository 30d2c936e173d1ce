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

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Error, Field, GraphFn, Info, Losses, Metrics, Model,
    ModelPlugin, Net, Phase, Plugin, Result, StepCx, Value,
    dist::{self, Likelihood, PixelDistribution},
    layers::{Mask, MaskedConfig, check_masked},
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

/// A recurrent layer.
pub trait Layer: Sized + Send + Sync + 'static {
    /// What is known of the model of such layers.
    const INFO: Info;

    /// x (N,2h,H,W) -> what its states of `h` maps add (N,2h,H,W), for pixels of so many colours.
    fn forward(net: &Net, x: &Field, h: usize, colours: usize) -> Field;
}

/// PixelRNN whose states go from row to row.
pub type RowLstm = PixelRnn<Row>;

/// PixelRNN whose states go along both diagonals.
pub type DiagonalBiLstm = PixelRnn<Diagonals>;

/// The Row LSTM (section 3.1): a state comes from three states of the row above.
pub struct Row;

impl Layer for Row {
    const INFO: Info = info(
        "row-lstm",
        "PixelRNN whose states go from row to row, convolved along each",
    );

    fn forward(net: &Net, x: &Field, h: usize, colours: usize) -> Field {
        let gates = net.masked("input", x, 4 * h, masked([1, 3], Mask::B, colours, 4)); // (N,4h,H,W), K_is * x
        let states = net.row_lstm("state", &gates); // (N,h,H,W), eq. 3
        net.masked("up", &states, 2 * h, masked([1; 2], Mask::B, colours, 1))
    }
}

/// The Diagonal BiLSTM (section 3.2): one state comes from the left and from above, another from the right and from above.
pub struct Diagonals;

impl Layer for Diagonals {
    const INFO: Info = info(
        "diagonal-bilstm",
        "PixelRNN whose states go along both diagonals",
    );

    fn forward(net: &Net, x: &Field, h: usize, colours: usize) -> Field {
        let (left, right) = (net.at("left"), net.at("right"));
        let gates = left.masked("input", x, 4 * h, masked([1; 2], Mask::B, colours, 4)); // (N,4h,H,W)
        let from_left = left.diagonal_lstm("state", &gates); // (N,h,H,W)
        // Moved down by a row before they are used, so that their input needs no mask.
        let from_right = right.diagonal_lstm_above(x, h); // (N,h,H,W)
        let states = from_left + from_right;
        net.masked("up", &states, 2 * h, masked([1; 2], Mask::B, colours, 1))
    }
}

/// The model: x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,C*K,H,W).
pub struct PixelRnn<L> {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
    layer: PhantomData<L>,
}

impl<L: Layer> Autoregressive for PixelRnn<L> {
    type On = Field;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn pixel(&self) -> PixelDistribution {
        self.pixel
    }

    /// x (N,C,H,W) -> parameters of p(x_i | x_<i) (N,C*K,H,W)
    fn network(&self, net: &Net, x: &Field, _: Option<&Value>) -> Field {
        let (config, colours) = (&self.config, self.image[0]);
        let first = masked([config.first_kernel; 2], Mask::A, colours, 1);
        let point = masked([1; 2], Mask::B, colours, 1);
        let mut h = net.masked("first", x, config.channels, first); // (N,2h,H,W)
        for i in 0..config.layers {
            let net = net.at(&format!("layers.{i}"));
            h = L::forward(&net, &h, config.channels / 2, colours) + h; // figure 5, right
        }
        let h = net.masked("head", &h.relu(), config.head, point); // (N,head,H,W)
        net.masked("out", &h.relu(), self.pixel.maps(colours), point)
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
        if wide % 2 != 0 {
            return Err(Error::input(format!(
                "model.channels must be even, not {wide}: a state has half as many"
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
