//! The PixelCNN: residual blocks of masked convolutions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, GraphFn, Info, Losses, Metrics, Model, Net, Phase, Pixel, Raster, Result, Row,
    StepCx, Value,
    dist::{self, Likelihood, PixelDistribution, autoregressive_graphs, nll_loss, nll_metrics},
    layers::{Carried, Mask, MaskedConfig, MaskedConv2d, RowByRow, RowByRowLayers, check_masked},
    raster_scan,
};

/// Settings of [`PixelCnn`]. The default is the paper's network for CIFAR-10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Feature maps between residual blocks (2h of the paper); inside a block there are half as many.
    #[schemars(range(min = 2))]
    pub channels: usize,
    /// Residual blocks.
    #[schemars(range(min = 1))]
    pub blocks: usize,
    /// Side of the first layer's window, odd.
    #[schemars(range(min = 3))]
    pub first_kernel: usize,
    /// Side of the windows inside the blocks, odd.
    #[schemars(range(min = 1))]
    pub kernel: usize,
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
            blocks: 15,
            first_kernel: 7,
            kernel: 3,
            head: 1024,
            likelihood: Likelihood::Softmax,
            levels: 256,
        }
    }
}

/// The model: x (N,C,H,W) -> parameters of every p(x_i | x_<i) (N,C*K,H,W).
pub struct PixelCnn {
    config: Config,
    image: [usize; 3],
    pixel: PixelDistribution,
}

/// Its layers.
struct Network {
    image: [usize; 3],
    pixel: PixelDistribution,
    first: MaskedConv2d,
    blocks: Vec<Block>,
    head: MaskedConv2d,
    out: MaskedConv2d,
}

/// h (N,2h,H,W) -> h, a residual (figure 5, left).
struct Block {
    reduce: MaskedConv2d,
    context: MaskedConv2d,
    expand: MaskedConv2d,
}

impl Block {
    fn new(config: &Config, colours: usize, net: &Net) -> Result<Self> {
        let (wide, narrow) = (config.channels, config.channels / 2);
        let conv = |name: &str, from, to, side| {
            let masked = masked(side, Mask::B, colours);
            MaskedConv2d::new(&net.at(name), from, to, masked)
        };
        Ok(Self {
            reduce: conv("reduce", wide, narrow, 1)?,
            context: conv("context", narrow, narrow, config.kernel)?,
            expand: conv("expand", narrow, wide, 1)?,
        })
    }

    fn forward(&self, h: &Value) -> Value {
        let inner = self.reduce.forward(&h.relu()).relu(); // (N,h,H,W)
        let inner = self.context.forward(&inner).relu(); // (N,h,H,W)
        self.expand.forward(&inner).add(h) // (N,2h,H,W)
    }
}

/// A block's convolutions for drawing, save the one with a window: those of all blocks are drawn together.
struct Step {
    reduce: RowByRow,
    expand: RowByRow,
}

impl Block {
    fn row_by_row(&self) -> Step {
        Step {
            reduce: self.reduce.row_by_row(),
            expand: self.expand.row_by_row(),
        }
    }
}

fn masked(side: usize, mask: Mask, colours: usize) -> MaskedConfig {
    MaskedConfig {
        kernel: [side; 2],
        mask,
        colours,
        parts: 1,
    }
}

impl Network {
    fn new(model: &PixelCnn, net: &Net) -> Result<Self> {
        let config = &model.config;
        let [colours, _, _] = model.image;
        let conv = |name: &str, from, to, side, mask| {
            MaskedConv2d::new(&net.at(name), from, to, masked(side, mask, colours))
        };
        let (wide, head) = (config.channels, config.head);
        let out = colours * model.pixel.parameters();
        Ok(Self {
            image: model.image,
            pixel: model.pixel,
            first: conv("first", colours, wide, config.first_kernel, Mask::A)?,
            blocks: (0..config.blocks)
                .map(|i| Block::new(config, colours, &net.at(&format!("blocks.{i}"))))
                .collect::<Result<_>>()?,
            head: conv("head", wide, head, 1, Mask::B)?,
            out: conv("out", head, out, 1, Mask::B)?,
        })
    }

    fn forward(&self, x: &Value) -> Value {
        let start = self.first.forward(x); // (N,2h,H,W)
        let h = self.blocks.iter().fold(start, |h, block| block.forward(&h));
        let h = self.head.forward(&h.relu()); // (N,head,H,W)
        self.out.forward(&h.relu())
    }

    fn draw(&self, inputs: &[&Value]) -> Result<Value> {
        let [colours, _, width] = self.image;
        let first = self.first.row_by_row();
        let blocks = self
            .blocks
            .iter()
            .map(Block::row_by_row)
            .collect::<Vec<_>>();
        let (head, out) = (self.head.row_by_row(), self.out.row_by_row());
        let windows = RowByRowLayers::new(self.blocks.iter().map(|b| &b.context))?;
        let noise = inputs[0];
        let mut states = first.neighbourhood().start(noise, width);
        states.extend(windows.neighbourhood().start(noise, width));
        let raster = Raster {
            inputs,
            states,
            // The image, and what comes into the windows.
            last: vec![
                noise.zeros_like_batch(&[colours, width]),
                noise.zeros_like_batch(&[windows.inputs(), width]),
            ],
        };
        Ok(raster_scan(
            raster,
            |states, last| {
                let mut carried = Carried::new(states);
                let mut context = first.neighbourhood().row(&last[0], &mut carried); // (N,2h,W)
                context.extend(windows.neighbourhood().row(&last[1], &mut carried)); // (N,B*h,W)
                let mut pixels = first.neighbourhood().start_row(&last[0]);
                pixels.extend(windows.neighbourhood().start_row(&last[0]));
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
                    let mut windows = windows.begin(context.next(), &mut carried);
                    let point = |conv: &RowByRow, x: &Value| {
                        conv.pixel(x, &mut std::iter::empty(), &mut Carried::new(&[]))
                    };
                    for block in &blocks {
                        let inner = point(&block.reduce, &h.relu()).relu(); // (N,h)
                        let seen = windows.next(inner).relu(); // (N,h)
                        h = point(&block.expand, &seen).add(&h); // (N,2h)
                    }
                    let kept = windows.end(&mut carried); // (N,B*h)
                    let h = point(&head, &h.relu());
                    let parameters = point(&out, &h.relu()); // (N,C*K)
                    (parameters, (carried.into_next(), kept))
                });
                Pixel {
                    states: first.correct(&x, states),
                    outputs: vec![x, kept],
                }
            },
        ))
    }
}

impl PixelCnn {
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

    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too: pixel by pixel, each layer's last rows and
    /// pixels kept.
    pub fn draw(&self, net: &Net, inputs: &[&Value]) -> Value {
        Network::new(self, net)
            .and_then(|network| network.draw(inputs))
            .into()
    }
}

impl Model for PixelCnn {
    type Config = Config;

    const INFO: Info = Info {
        name: "pixelcnn",
        summary: "PixelCNN: masked convolutions in residual blocks predict pixel after pixel",
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
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let [colours, _, _] = data.image;
        let pixel = PixelDistribution::new(config.likelihood, config.levels, data.binarization)?;
        check_masked(
            colours,
            &[
                ("model.channels", config.channels, 2),
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
            pixel,
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
