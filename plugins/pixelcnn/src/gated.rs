//! The gated PixelCNN: a vertical stack sees the rows above, a horizontal one what stands left, and the first feeds the second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Autoregressive, Batch, DataSpec, Error, Field, GraphFn, Info, Init, Losses, Metrics, Model,
    Net, Phase, Result, StepCx, Value,
    dist::{self, Likelihood, PixelDistribution},
    layers::{Mask, MaskedConfig, check_masked},
};

/// Settings of [`GatedPixelCnn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps of each stack.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Gated layers after the first.
    #[schemars(range(min = 1))]
    pub layers: usize,
    /// Side of the first layer's windows, odd.
    #[schemars(range(min = 3))]
    pub first_kernel: usize,
    /// Side of the other layers' windows, odd.
    #[schemars(range(min = 1))]
    pub kernel: usize,
    /// Feature maps of the last hidden layer.
    #[schemars(range(min = 1))]
    pub head: usize,
    /// Whether p(x | label) is learned, for data with labels.
    pub conditional: bool,
    /// p(x_i | x_<i).
    pub likelihood: Likelihood,
    /// Levels of a colour with `softmax`.
    #[schemars(range(min = 2, max = 256))]
    pub levels: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 128,
            layers: 15,
            first_kernel: 7,
            kernel: 5,
            head: 1024,
            conditional: false,
            likelihood: Likelihood::Softmax,
            levels: 256,
        }
    }
}

/// The model: x (N,C,H,W) [, label (N)] -> parameters of every p(x_i | x_<i) (N,C*K,H,W).
pub struct GatedPixelCnn {
    config: Config,
    image: [usize; 3],
    classes: Option<usize>,
    pixel: PixelDistribution,
}

impl GatedPixelCnn {
    fn masked(&self, kernel: [usize; 2], mask: Mask, parts: usize) -> MaskedConfig {
        MaskedConfig {
            kernel,
            mask,
            colours: self.image[0],
            parts,
        }
    }

    /// Maps (N,2F,H,W) and what the class adds to the gates, V^T h of eq. 4: a vector for each class, (classes,2F).
    fn with_class(&self, net: &Net, name: &str, maps: Field, label: Option<&Value>) -> Field {
        let (Some(classes), Some(label)) = (self.classes, label) else {
            return maps;
        };
        maps.plus_vector(|| {
            let shape = [classes, 2 * self.config.channels];
            net.param(name, &shape, Init::fan_in(classes)).lookup(label) // (N,2F)
        })
    }

    /// A layer of both stacks (figure 2): v, h (N,F,H,W) -> v, h (N,F,H,W).
    fn layer(
        &self,
        net: &Net,
        [v, h]: [Field; 2],
        label: Option<&Value>,
        is_last: bool,
    ) -> [Field; 2] {
        let (f, k) = (self.config.channels, self.config.kernel);
        let (square, flat) = (
            self.masked([k, k], Mask::AboveAndOwn, 2),
            self.masked([1, k], Mask::B, 2),
        );
        let features = net.masked("vertical", &v, 2 * f, square); // (N,2F,H,W)
        // From the vertical stack to the horizontal one; it hides nothing.
        let across = self.masked([1, 1], Mask::AboveAndOwn, 2);
        let across = net.masked("across", &features, 2 * f, across); // (N,2F,H,W)
        let across = self.with_class(net, "horizontal_class", across, label);
        // tanh(W_f x) sigmoid(W_g x), eq. 2
        let gates = net.masked("horizontal", &h, 2 * f, flat) + across; // (N,2F,H,W)
        let point = self.masked([1, 1], Mask::B, 1);
        let out = net.masked("residual", &gates.gated_tanh(), f, point); // (N,F,H,W)
        // What the class would add to the last v is a parameter all the same.
        let next = self.with_class(net, "vertical_class", features, label);
        let next = if is_last { v } else { next.gated_tanh() };
        [next, out + h]
    }
}

impl Autoregressive for GatedPixelCnn {
    type On = Field;

    fn image(&self) -> [usize; 3] {
        self.image
    }

    fn pixel(&self) -> PixelDistribution {
        self.pixel
    }

    fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// x (N,C,H,W), label i64 (N) where conditional -> parameters of p(x_i | x_<i) (N,C*K,H,W)
    fn network(&self, net: &Net, x: &Field, label: Option<&Value>) -> Field {
        let (f, k) = (self.config.channels, self.config.first_kernel);
        let outputs = self.pixel.maps(self.image[0]);
        let above = self.masked([k, k], Mask::Above, 1);
        let left = self.masked([1, k], Mask::A, 1);
        let mut stacks = [
            net.masked("vertical", x, f, above),
            net.masked("horizontal", x, f, left),
        ]; // (N,F,H,W)
        for i in 0..self.config.layers {
            let is_last = i + 1 == self.config.layers;
            stacks = self.layer(&net.at(&format!("layers.{i}")), stacks, label, is_last);
        }
        let (point, [_, h]) = (self.masked([1, 1], Mask::B, 1), stacks);
        let h = net.masked("head", &h.relu(), self.config.head, point); // (N,head,H,W)
        net.masked("out", &h.relu(), outputs, point)
    }
}

fn no_labels() -> Error {
    Error::input("model.conditional = true needs data with labels")
}

impl Model for GatedPixelCnn {
    type Config = Config;

    const INFO: Info = Info {
        name: "gated-pixelcnn",
        summary: "Gated PixelCNN: two stacks without a blind spot, conditional on the class if wanted",
        family: "autoregressive",
        density: "tractable",
        title: "Conditional Image Generation with PixelCNN Decoders",
        authors: "van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu",
        year: 2016,
        url: "https://arxiv.org/abs/1606.05328",
        version: "1",
        graphs: dist::GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../gated.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let [colours, _, _] = data.image;
        let pixel = PixelDistribution::new(config.likelihood, config.levels, data.binarization)?;
        let classes = match (config.conditional, data.classes.len()) {
            (false, _) => None,
            (true, 0) => return Err(no_labels()),
            (true, classes) => Some(classes),
        };
        check_masked(
            colours,
            &[
                ("model.channels", config.channels, 1),
                ("model.head", config.head, 1),
            ],
            &[
                ("model.first_kernel", config.first_kernel),
                ("model.kernel", config.kernel),
            ],
        )?;
        Ok(Self {
            config: config.clone(),
            image: data.image,
            classes,
            pixel,
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
