//! The gated PixelCNN: a vertical stack sees the rows above, a horizontal one what stands left, and the first feeds the second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Init, Losses, Metrics, Model, Net, Phase, Pixel, Port,
    Raster, Result, Row, StepCx, Value, concat,
    dist::{
        self, Likelihood, PixelDistribution, complete_ports, nll_loss, nll_metrics, sample_ports,
    },
    layers::{
        Carried, Mask, MaskedConfig, MaskedConv2d, RowByRow, RowByRowLayers, RowPart, check_masked,
    },
    raster_scan,
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

/// Its layers.
struct Network {
    image: [usize; 3],
    pixel: PixelDistribution,
    vertical: MaskedConv2d,
    horizontal: MaskedConv2d,
    layers: Vec<Layer>,
    head: MaskedConv2d,
    out: MaskedConv2d,
}

/// One layer of both stacks (figure 2).
struct Layer {
    vertical: MaskedConv2d,
    horizontal: MaskedConv2d,
    /// From the vertical stack to the horizontal one.
    across: MaskedConv2d,
    residual: MaskedConv2d,
    class: Option<Class>,
}

/// What a class adds to the gates, V^T h of eq. 4: a vector for each class, (classes,2F).
struct Class {
    vertical: Value,
    horizontal: Value,
}

/// A vector of each image's class, (N,2F), as maps (N,2F,1,1).
fn of_class(table: &Value, label: &Value) -> Value {
    table.lookup(label).unsqueeze(2).unsqueeze(3)
}

impl Layer {
    fn new(config: &Config, image: [usize; 3], classes: Option<usize>, net: &Net) -> Result<Self> {
        let (f, k) = (config.channels, config.kernel);
        let masked = |kernel, mask, parts| MaskedConfig {
            kernel,
            mask,
            colours: image[0],
            parts,
        };
        let vertical = masked([k, k], Mask::AboveAndOwn, 2);
        let horizontal = masked([1, k], Mask::B, 2);
        let class = match classes {
            Some(classes) => {
                let table = |name| net.param(name, &[classes, 2 * f], Init::fan_in(classes));
                Some(Class {
                    vertical: table("vertical_class"),
                    horizontal: table("horizontal_class"),
                })
            }
            None => None,
        };
        let residual = masked([1, 1], Mask::B, 1);
        let across = masked([1, 1], Mask::AboveAndOwn, 2); // it hides nothing
        Ok(Self {
            vertical: MaskedConv2d::new(&net.at("vertical"), f, 2 * f, vertical)?,
            horizontal: MaskedConv2d::new(&net.at("horizontal"), f, 2 * f, horizontal)?,
            across: MaskedConv2d::new(&net.at("across"), 2 * f, 2 * f, across)?,
            residual: MaskedConv2d::new(&net.at("residual"), f, f, residual)?,
            class,
        })
    }

    /// v, h (N,F,H,W) -> v, h (N,F,H,W); no v where no layer follows.
    fn forward(
        &self,
        v: &Value,
        h: &Value,
        label: Option<&Value>,
        last: bool,
    ) -> (Option<Value>, Value) {
        let features = self.vertical.forward(v); // (N,2F,H,W)
        let across = self.across.forward(&features); // (N,2F,H,W)
        let (next, across) = self.join(&features, &across, label, last);
        // tanh(W_f x) sigmoid(W_g x), eq. 2
        let gates = self.horizontal.forward(h).add(&across); // (N,2F,H,W)
        let out = self.residual.forward(&gates.gated_tanh()); // (N,F,H,W)
        (next, out.add(h))
    }

    /// From the vertical stack's features (N,2F,H,W) and what they give across (N,2F,H,W): its next v (N,F,H,W) unless this is the last layer, and what
    /// it adds to the gates of the horizontal stack (N,2F,H,W).
    fn join(
        &self,
        features: &Value,
        across: &Value,
        label: Option<&Value>,
        last: bool,
    ) -> (Option<Value>, Value) {
        let (mut gates, mut across) = (features.clone(), across.clone());
        if let (Some(class), Some(label)) = (&self.class, label) {
            across = across.add(&of_class(&class.horizontal, label)); // eq. 4
            gates = gates.add(&of_class(&class.vertical, label));
        }
        let next = if last { None } else { Some(gates.gated_tanh()) };
        (next, across)
    }

    fn row_by_row(&self) -> Result<Step> {
        Ok(Step {
            vertical: vertical(&self.vertical)?,
            across: vertical(&self.across)?,
            residual: self.residual.row_by_row(),
        })
    }
}

/// A convolution of the vertical stack for drawing.
fn vertical(conv: &MaskedConv2d) -> Result<RowPart> {
    let rows = conv.rows();
    rows.ok_or_else(|| {
        Error::input("model.first_kernel must be at least 3: the vertical stack sees rows above")
    })
}

/// A layer's convolutions for drawing, save the horizontal one: those of all layers are drawn together.
struct Step {
    vertical: RowPart,
    across: RowPart,
    residual: RowByRow,
}

impl Network {
    fn new(model: &GatedPixelCnn, net: &Net) -> Result<Self> {
        let config = &model.config;
        let [colours, _, _] = model.image;
        let conv = |name: &str, from, to, kernel, mask| {
            let masked = MaskedConfig {
                kernel,
                mask,
                colours,
                parts: 1,
            };
            MaskedConv2d::new(&net.at(name), from, to, masked)
        };
        let (f, k, head) = (config.channels, config.first_kernel, config.head);
        let layer = |i: usize| {
            Layer::new(
                config,
                model.image,
                model.classes,
                &net.at(&format!("layers.{i}")),
            )
        };
        Ok(Self {
            image: model.image,
            pixel: model.pixel,
            vertical: conv("vertical", colours, f, [k, k], Mask::Above)?,
            horizontal: conv("horizontal", colours, f, [1, k], Mask::A)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            head: conv("head", f, head, [1, 1], Mask::B)?,
            out: conv(
                "out",
                head,
                colours * model.pixel.parameters(),
                [1, 1],
                Mask::B,
            )?,
        })
    }

    fn forward(&self, x: &Value, label: Option<&Value>) -> Value {
        let (mut v, mut h) = (self.vertical.forward(x), self.horizontal.forward(x)); // (N,F,H,W)
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            let (next, out) = layer.forward(&v, &h, label, last);
            (v, h) = (next.unwrap_or(v), out);
        }
        let h = self.head.forward(&h.relu()); // (N,head,H,W)
        self.out.forward(&h.relu())
    }

    fn draw(&self, inputs: &[&Value], label: Option<&Value>) -> Result<Value> {
        let [colours, _, width] = self.image;
        let first = self.horizontal.row_by_row();
        let above = vertical(&self.vertical)?;
        let steps = self
            .layers
            .iter()
            .map(Layer::row_by_row)
            .collect::<Result<Vec<_>>>()?;
        let horizontal = RowByRowLayers::new(self.layers.iter().map(|l| &l.horizontal))?;
        let (head, out) = (self.head.row_by_row(), self.out.row_by_row());
        let noise = inputs[0];
        let mut states = Vec::new();
        for rows in std::iter::once(&above).chain(steps.iter().map(|s| &s.vertical)) {
            states.extend(rows.start(noise, width));
        }
        let raster = Raster {
            inputs,
            states,
            last: vec![noise.zeros_like_batch(&[colours, width])],
        };
        Ok(raster_scan(
            raster,
            |states, last| {
                let mut carried = Carried::new(states);
                let mut pixels = first.neighbourhood().start_row(&last[0]);
                let mut v = above.forward(&last[0], &mut carried); // (N,F,W)
                let mut gates = Vec::new();
                for (i, (layer, step)) in self.layers.iter().zip(&steps).enumerate() {
                    let features = step.vertical.forward(&v, &mut carried); // (N,2F,W)
                    let across = step.across.forward(&features, &mut carried).unsqueeze(2);
                    let end = i + 1 == steps.len();
                    let (next, across) = layer.join(&features.unsqueeze(2), &across, label, end);
                    v = match next {
                        Some(next) => next.squeeze(2), // (N,F,W)
                        None => v,
                    };
                    gates.push(across.squeeze(2)); // (N,2F,W)
                }
                pixels.extend(horizontal.neighbourhood().start_row(&last[0]));
                let context = vec![concat(&gates.iter().collect::<Vec<_>>(), 1)]; // (N,L*2F,W)
                Row {
                    states: carried.into_next(),
                    context,
                    pixels,
                }
            },
            |states, inputs, context| {
                let (x, states) = self.pixel.draw_pixel(inputs, |x| {
                    // None of these convolutions sees rows above: the context is the vertical stack's.
                    let mut carried = Carried::new(states);
                    let pixel = |conv: &RowByRow, x: &Value, carried: &mut Carried<'_>| {
                        conv.pixel(x, &mut std::iter::empty(), carried)
                    };
                    let mut h = pixel(&first, x, &mut carried); // (N,F)
                    let mut gates = horizontal.begin(context.first(), &mut carried);
                    for step in &steps {
                        let gated = gates.next(h.clone()).gated_tanh(); // (N,F)
                        h = pixel(&step.residual, &gated, &mut carried).add(&h);
                    }
                    gates.end(&mut carried);
                    let h = pixel(&head, &h.relu(), &mut carried);
                    let parameters = pixel(&out, &h.relu(), &mut carried); // (N,C*K)
                    (parameters, carried.into_next())
                });
                Pixel {
                    states: first.correct(&x, states),
                    outputs: vec![x],
                }
            },
        ))
    }
}

impl GatedPixelCnn {
    /// x (N,C,H,W), label i64 (N) where conditional -> parameters of p(x_i | x_<i) (N,C*K,H,W)
    pub fn forward(&self, net: &Net, x: &Value, label: Option<&Value>) -> Value {
        Network::new(self, net)
            .map(|network| network.forward(x, label))
            .into()
    }

    /// -log p(x) (N)
    pub fn nll(&self, net: &Net, x: &Value, label: Option<&Value>) -> Value {
        self.pixel.nll(&self.forward(net, x, label), x)
    }

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too. The vertical stack is computed once for a row, the
    /// horizontal one pixel by pixel.
    pub fn draw(&self, net: &Net, inputs: &[&Value], label: Option<&Value>) -> Value {
        Network::new(self, net)
            .and_then(|network| network.draw(inputs, label))
            .into()
    }

    fn batch_nll(&self, net: &Net, batch: &Batch) -> Value {
        let label = self.classes.map(|_| batch.label());
        self.nll(net, &batch.image(), label.as_ref())
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
        Ok(nll_loss(&self.batch_nll(&cx.net(), batch)))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        nll_metrics(
            &self.batch_nll(&cx.net(), batch),
            self.image.iter().product(),
        )
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let image = || vec![Port::image("x", self.image)];
        let labelled = |mut ports: Vec<Port>| {
            ports.extend(self.classes.map(|classes| Port::label("label", classes)));
            ports
        };
        // The label, where there is one, comes last.
        let draw = |m: &Self, net: &Net, io: &[Value]| {
            let (inputs, label) = io.split_at(io.len() - usize::from(m.classes.is_some()));
            let inputs: Vec<&Value> = inputs.iter().collect();
            m.draw(net, &inputs, label.first())
        };
        let (sample, complete) = (sample_ports(self.image), complete_ports(self.image));
        vec![
            GraphFn::new(
                "log_prob",
                labelled(image()),
                [Port::batched("log_prob", &[])],
                |m: &Self, net, io| -m.nll(net, &io[0], io.get(1)),
            ),
            GraphFn::new("sample", labelled(sample), image(), draw),
            GraphFn::new("complete", labelled(complete), image(), draw),
        ]
    }
}
