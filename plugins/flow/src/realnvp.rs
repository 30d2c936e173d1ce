//! Real NVP: affine couplings of images under masks, at several scales.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Device, Error, GraphFn, Info, Init, Losses, Metrics, Model, Net, Phase,
    Result, StepCx, Tensor, Value, concat,
    dist::nll_loss,
    layers::Conv,
    loss::{per_image, standard_normal_log_prob},
};

use crate::{Direction, Flow, GRAPHS, graphs};

/// Pixels are squeezed into (alpha, 1 - alpha) before their logit is taken (section 4.1).
const ALPHA: f64 = 0.05;

/// Settings of [`RealNvp`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Scales: at each but the last the image becomes half as high and wide and half of its values are done. Sides are multiples of 2^(scales - 1).
    #[schemars(range(min = 1, max = 6))]
    pub scales: usize,
    /// Couplings under checkerboards at each scale, and again so many under channels but at the last.
    #[schemars(range(min = 2))]
    pub couplings: usize,
    /// Feature maps in a coupling's network.
    #[schemars(range(min = 1))]
    pub channels: usize,
    /// Residual blocks in a coupling's network.
    pub blocks: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scales: 2,
            couplings: 4,
            channels: 64,
            blocks: 2,
        }
    }
}

/// The model: x (N,C,H,W) <-> z (N,D).
pub struct RealNvp {
    config: Config,
    image: [usize; 3],
}

/// A step of the map.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Every other pixel stays, those whose row and column sum to this parity.
    Checkerboard(usize),
    /// (N,C,H,W) -> (N,4C,H/2,W/2)
    Squeeze,
    /// The first half of the channels stays, or the second.
    Channels(usize),
    /// Half of the channels are done (eq. 14).
    FactorOut,
}

impl RealNvp {
    /// All steps from the image to the noise (section 3.6).
    fn steps(&self) -> Vec<Step> {
        let Config {
            scales, couplings, ..
        } = self.config;
        let mut steps = Vec::new();
        for scale in 1..=scales {
            steps.extend((0..couplings).map(|i| Step::Checkerboard(i % 2)));
            if scale < scales {
                steps.push(Step::Squeeze);
                steps.extend((0..couplings).map(|i| Step::Channels(i % 2)));
                steps.push(Step::FactorOut);
            }
        }
        steps
    }

    /// Channels, height and width at each step, and at the end.
    fn sizes(&self) -> Vec<[usize; 3]> {
        let mut sizes = vec![self.image];
        for step in self.steps() {
            let [c, h, w] = sizes[sizes.len() - 1];
            sizes.push(match step {
                Step::Checkerboard(_) | Step::Channels(_) => [c, h, w],
                Step::Squeeze => [4 * c, h / 2, w / 2],
                Step::FactorOut => [c - c / 2, h, w],
            });
        }
        sizes
    }

    /// s and t of what stays, x (N,C,H,W) -> s, t (N,O,H,W): a residual network. It starts as the identity's.
    fn scale_and_shift(&self, net: &Net, x: &Value, outputs: usize) -> [Value; 2] {
        let Config {
            channels, blocks, ..
        } = self.config;
        let mut h = net.conv2d("in", x, channels); // (N,F,H,W)
        for i in 1..=blocks {
            let block = net.at(&format!("block{i}"));
            let inner = block.conv2d("conv1", &h.relu(), Conv::pointwise(channels)); // (N,F,H,W)
            h = h + block.conv2d("conv2", &inner.relu(), channels);
        }
        let out = Conv::to(2 * outputs).init(Init::Constant(0.0));
        let [s, t] = net.conv2d("out", &h.relu(), out).halves(1); // (N,O,H,W)
        // Bounded, so that one step cannot blow an image up (section 4.1).
        let bound = net.param("bound", &[outputs, 1, 1], Init::Constant(1.0));
        [s.tanh() * bound, t]
    }

    /// y = x exp(s) + t where `moves` is 1, x elsewhere, from s and t of x where it is 0; and what that adds to log |det|, (N).
    fn under(&self, net: &Net, x: &Value, moves: &Value, way: Direction) -> (Value, Value) {
        let stays = 1.0 - moves;
        let channels = x.dims().get(1).copied().unwrap_or_default();
        let [s, t] = self.scale_and_shift(net, &(x * &stays), channels);
        let (s, t) = (s * moves, t * moves); // (N,C,H,W)
        let y = match way {
            Direction::Forward => x * s.exp() + t, // eq. 9
            Direction::Inverse => (x - t) * (-&s).exp(),
        };
        (y, per_image(&s))
    }

    /// A coupling of halves of the channels: as [`RealNvp::under`], but what stays is not computed.
    fn by_channels(&self, net: &Net, x: &Value, parity: usize, way: Direction) -> (Value, Value) {
        let channels = x.dims().get(1).copied().unwrap_or_default();
        let [first, second] = x.halves(1); // (N,C/2,H,W)
        let (stays, moves) = if parity == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let [s, t] = self.scale_and_shift(net, &stays, channels / 2);
        let moved = match way {
            Direction::Forward => moves * s.exp() + t,
            Direction::Inverse => (moves - t) * (-&s).exp(),
        };
        let both = if parity == 0 {
            [stays, moved]
        } else {
            [moved, stays]
        };
        (concat(&both, 1), per_image(&s))
    }

    /// 1 where row and column sum to a number of the other parity: (1,1,H,W)
    fn checkerboard(net: &Net, [_, h, w]: [usize; 3], parity: usize) -> Value {
        net.constant("checkerboard", || {
            let moves = (0..h * w).map(|at| ((at / w + at % w + parity) % 2) as f32);
            Ok(Tensor::from_vec(
                moves.collect(),
                (1, 1, h, w),
                &Device::Cpu,
            )?)
        })
    }
}

/// (N,C,H,W) -> (N,4C,H/2,W/2), each 2 x 2 pixels to channels
fn squeeze(x: &Value, [c, h, w]: [usize; 3]) -> Value {
    let [c, h, w] = [c, h, w].map(|size| size as i64);
    x.reshape(&[0, c, h / 2, 2, w / 2, 2])
        .permute(&[0, 1, 3, 5, 2, 4]) // (N,C,2,2,H/2,W/2)
        .reshape(&[0, 4 * c, h / 2, w / 2])
}

/// The inverse of [`squeeze`], from (N,C,H,W)
fn unsqueeze(x: &Value, [c, h, w]: [usize; 3]) -> Value {
    let [c, h, w] = [c, h, w].map(|size| size as i64);
    x.reshape(&[0, c / 4, 2, 2, h, w])
        .permute(&[0, 1, 4, 2, 5, 3]) // (N,C/4,H,2,W,2)
        .reshape(&[0, c / 4, 2 * h, 2 * w])
}

impl Flow for RealNvp {
    fn forward(&self, net: &Net, x: &Value) -> (Value, Value) {
        // logit(alpha + (1 - 2 alpha) x), and its slope (1 - 2 alpha) / (y (1 - y))
        let y = x * (1.0 - 2.0 * ALPHA) + ALPHA; // (N,C,H,W)
        let mut h = y.log() - (1.0 - &y).log();
        let values = self.image.iter().product::<usize>() as f64;
        let mut log_det = per_image(&(h.softplus() + (-&h).softplus())); // (N)
        log_det = log_det + values * (1.0 - 2.0 * ALPHA).ln();
        let mut done = Vec::new();
        for (i, (step, size)) in self.steps().into_iter().zip(self.sizes()).enumerate() {
            let net = net.at(&format!("steps.{i}"));
            let (next, gained) = match step {
                Step::Checkerboard(parity) => {
                    let moves = Self::checkerboard(&net, size, parity);
                    self.under(&net, &h, &moves, Direction::Forward)
                }
                Step::Channels(parity) => self.by_channels(&net, &h, parity, Direction::Forward),
                Step::Squeeze => {
                    h = squeeze(&h, size);
                    continue;
                }
                Step::FactorOut => {
                    let kept = size[0] - size[0] / 2;
                    done.push(h.slice(1, kept, size[0]).flatten(1));
                    h = h.slice(1, 0, kept);
                    continue;
                }
            };
            (h, log_det) = (next, log_det + gained);
        }
        done.push(h.flatten(1));
        (concat(&done, 1), log_det)
    }

    fn inverse(&self, net: &Net, z: &Value) -> Value {
        let sizes = self.sizes();
        let mut end = self.image.iter().product();
        // The next values of z from its end, as maps.
        let mut take = |[c, h, w]: [usize; 3]| {
            let start = end - c * h * w;
            let part = z.slice(1, start, end);
            end = start;
            part.reshape(&[-1, c as i64, h as i64, w as i64])
        };
        let mut h = take(sizes[sizes.len() - 1]); // (N,C,H,W)
        for (i, step) in self.steps().into_iter().enumerate().rev() {
            let (net, [c, rows, columns]) = (net.at(&format!("steps.{i}")), sizes[i]);
            h = match step {
                Step::Checkerboard(parity) => {
                    let moves = Self::checkerboard(&net, sizes[i], parity);
                    self.under(&net, &h, &moves, Direction::Inverse).0
                }
                Step::Channels(parity) => self.by_channels(&net, &h, parity, Direction::Inverse).0,
                Step::Squeeze => unsqueeze(&h, sizes[i + 1]),
                Step::FactorOut => concat(&[h, take([c / 2, rows, columns])], 1),
            };
        }
        (h.sigmoid() - ALPHA) / (1.0 - 2.0 * ALPHA)
    }

    fn prior(&self, z: &Value) -> Value {
        per_image(&standard_normal_log_prob(z))
    }

    fn image(&self) -> [usize; 3] {
        self.image
    }
}

impl Model for RealNvp {
    type Config = Config;

    const INFO: Info = Info {
        name: "realnvp",
        summary: "Real NVP: affine couplings at several scales, with an exact inverse and likelihood",
        family: "flow",
        density: "tractable",
        title: "Density Estimation using Real NVP",
        authors: "Dinh, Sohl-Dickstein, Bengio",
        year: 2017,
        url: "https://arxiv.org/abs/1605.08803",
        version: "1",
        graphs: GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        let Config { scales, .. } = *config;
        let ([_, h, w], factor) = (data.image, 1usize << (scales - 1));
        if h % factor != 0 || w % factor != 0 {
            return Err(Error::input(format!(
                "images of {h}x{w} cannot be halved {} times: use fewer model.scales",
                scales - 1
            )));
        }
        Ok(Self {
            config: config.clone(),
            image: data.image,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        Ok(nll_loss(&self.batch_nll(batch, cx)))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        self.metrics(batch, cx)
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        graphs(self)
    }
}
