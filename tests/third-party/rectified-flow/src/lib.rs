//! Rectified flow (Liu, Gong & Liu, "Flow Straight and Fast", ICLR 2023; Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023).
//!
//! ```text
//! x_1 = 2 image - 1,  x_0 ~ N(0, I),  t ~ U[0, 1)          (N,C,H,W), (N)
//! x_t = t x_1 + (1 - t) x_0                                 a straight line from noise to an image
//! loss = E |v(x_t, t) - (x_1 - x_0)|^2                      (eq. 1)
//!
//! dx = v(x, t) dt from t = 0 to 1 draws an image; Euler: x <- x + v(x, t) / T at t = 0, 1/T, .., (T-1)/T
//! ```
//!
//! v is a small U-Net, whose maps are moved by a function of the time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Device, Error, GraphFn, Info, Losses, Metrics, Model, Net, Phase, Port,
    Result, ScanStep, StepCx, Tensor, Value, concat, layers::Conv, loss::per_image, repeat, scan,
};

zoo_nn::export_plugin!(RectifiedFlow);

/// The most steps that a sampler can be told.
const MOST_STEPS: usize = 64;

/// When the graph `path` looks at its images: it goes slowly where they take shape.
const TIMES: [f32; 8] = [0.0, 0.25, 0.45, 0.6, 0.72, 0.82, 0.9, 0.96];

/// Settings of [`RectifiedFlow`]. Unknown ones are refused; each needs a description, which `zoo describe` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Maps at the images' own size; at half and a quarter of it there are two and four times as many.
    pub channels: usize,
    /// Waves of the time that the network sees, each as sine and cosine.
    pub waves: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channels: 16,
            waves: 8,
        }
    }
}

/// The model: its settings. Networks are functions of a [`Net`], a place among the weights: a layer makes its parameters when it first runs.
pub struct RectifiedFlow {
    config: Config,
    image: [usize; 3],
}

impl RectifiedFlow {
    /// x (N,C,H,W), t (N,1) or (1,1) -> the velocity (N,C,H,W)
    pub fn velocity(&self, net: &Net, x: &Value, t: &Value) -> Value {
        let net = net.at("velocity");
        let time = self.time(&net, t); // (N,D)
        let channels = self.config.channels;
        let h1 = self.block(&net, "in", x, &time, channels.into()); // (N,D,H,W)
        let h2 = self.block(&net, "down1", &h1, &time, Conv::to(2 * channels).stride(2)); // (N,2D,H/2,W/2)
        let h4 = self.block(&net, "down2", &h2, &time, Conv::to(4 * channels).stride(2)); // (N,4D,H/4,W/4)
        let h4 = &h4 + self.block(&net, "middle", &h4, &time, (4 * channels).into());
        let up = concat(&[h4.upsample_nearest2d(2), h2], 1); // (N,6D,H/2,W/2)
        let up = self.block(&net, "up1", &up, &time, (2 * channels).into()); // (N,2D,H/2,W/2)
        let up = concat(&[up.upsample_nearest2d(2), h1], 1); // (N,3D,H,W)
        let up = self.block(&net, "up2", &up, &time, channels.into()); // (N,D,H,W)
        net.conv2d("out", &up, self.image[0]) // (N,C,H,W)
    }

    /// t (N,1) -> what the network knows of the time (N,D)
    fn time(&self, net: &Net, t: &Value) -> Value {
        let waves = net.constant("frequencies", || {
            let powers =
                (0..self.config.waves).map(|k| std::f32::consts::PI * 1.5f32.powi(k as i32));
            Ok(Tensor::from_vec(
                powers.collect(),
                (1, self.config.waves),
                &Device::Cpu,
            )?)
        }); // (1,K)
        let angles = t * waves; // (N,K)
        let seen = concat(&[angles.sin(), angles.cos()], 1); // (N,2K)
        net.linear("time", &seen, 2 * self.config.channels).silu()
    }

    /// A convolution whose maps are moved by the time: x (N,..), time (N,D) -> (N,O,..)
    fn block(&self, net: &Net, name: &str, x: &Value, time: &Value, conv: Conv) -> Value {
        let net = net.at(name);
        let h = net.conv2d("conv", x, conv.without_bias()); // (N,O,H,W)
        let maps = h.dims().get(1).copied().unwrap_or(0);
        let moved = net.linear("time", time, maps).unsqueeze(2).unsqueeze(3); // (N,O,1,1)
        net.group_norm("norm", &(h + moved), 4).silu()
    }

    /// The mean square of what is missing to the straight line's velocity, (N).
    fn error(&self, x: &Value, cx: &StepCx) -> Value {
        let x1 = x * 2.0 - 1.0; // (N,C,H,W)
        let x0 = cx.normal("x0", &self.image); // (N,C,H,W)
        let t = cx.uniform("t", &[1]); // (N,1)
        let along = t.unsqueeze(2).unsqueeze(3); // (N,1,1,1)
        let xt = &x1 * &along + &x0 * (1.0 - &along); // (N,C,H,W)
        let missing = self.velocity(&cx.net(), &xt, &t) - (x1 - x0); // eq. 1
        per_image(&missing.sqr()) / self.image.iter().product::<usize>() as f64
    }

    /// Noise (N,C,H,W) -> images (N,C,H,W), in as many Euler steps as `steps`, one i64, says.
    fn sample(&self, net: &Net, noise: &Value, steps: &Value) -> Value {
        let pace = 1.0 / steps.cast(zoo_nn::DType::F32); // one number
        let drawn = repeat(steps, std::slice::from_ref(noise), |states, step| {
            let t = (step * &pace).reshape(&[1, 1]); // (1,1)
            let x = &states[0]; // (N,C,H,W)
            vec![x + self.velocity(net, x, &t) * &pace]
        });
        shown(&drawn[0])
    }

    /// Noise (N,C,H,W) -> the images that it becomes at each of [`TIMES`]' ends, (N,8,C,H,W).
    fn path(&self, net: &Net, noise: &Value) -> Value {
        let ends = TIMES.iter().skip(1).chain([&1.0]);
        let paces = ends.zip(TIMES).map(|(end, t)| end - t).collect();
        let list = |values: Vec<f32>| Ok(Tensor::from_vec(values, TIMES.len(), &Device::Cpu)?);
        let times = net.constant("times", || list(TIMES.to_vec())); // (8)
        let paces = net.constant("paces", || list(paces)); // (8)
        let lists = [(&times, 0), (&paces, 0)];
        let drawn = scan(
            std::slice::from_ref(noise),
            &lists,
            &[1],
            |states, slices| {
                let x = &states[0]; // (N,C,H,W)
                let v = self.velocity(net, x, &slices[0].reshape(&[1, 1])); // (N,C,H,W)
                let next = x + v * &slices[1];
                ScanStep {
                    states: vec![next.clone()],
                    outputs: vec![shown(&next)],
                }
            },
        );
        drawn.outputs[0].clone()
    }
}

/// Values around [-1, 1] as those of images.
fn shown(x: &Value) -> Value {
    ((x + 1.0) * 0.5).clip(0.0, 1.0)
}

impl Model for RectifiedFlow {
    type Config = Config;

    const INFO: Info = Info {
        name: "rectified-flow",
        summary: "Images by following straight lines from noise",
        family: "flow",
        density: "none",
        title: "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
        authors: "Liu, Gong, Liu",
        year: 2022,
        url: "https://arxiv.org/abs/2209.03003",
        version: "1",
        graphs: &[
            ("sample", "images from noise, in as many steps as are told"),
            (
                "path",
                "what the noise becomes on its way, in eight steps of known times",
            ),
        ],
        best_metric: Some(("velocity_mse", false)),
        defaults: include_str!("../default.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        if config.channels == 0 || !config.channels.is_multiple_of(4) || config.waves == 0 {
            return Err(Error::input(
                "model.channels must be a multiple of 4, model.waves at least 1",
            ));
        }
        let [_, height, width] = data.image;
        if !height.is_multiple_of(4) || !width.is_multiple_of(4) {
            return Err(Error::input(format!(
                "images are halved twice: a height and width of {height}x{width} must be multiples of 4"
            )));
        }
        Ok(Self {
            config: config.clone(),
            image: data.image,
        })
    }

    fn loss(&self, _: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let error = self.error(&batch.image(), cx).mean(&[0], false);
        Ok(Losses::one("velocity", error))
    }

    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics> {
        let error = self.error(&batch.image(), cx).mean(&[0], false);
        Ok(Metrics::from([("velocity_mse".into(), error.scalar()?)]))
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        let [channels, height, width] = self.image;
        vec![
            GraphFn::new(
                "sample",
                [
                    Port::normal("noise", &self.image),
                    Port::count("steps", 1, MOST_STEPS),
                ],
                [Port::image("x", self.image)],
                |m: &Self, net, io| m.sample(net, &io[0], &io[1]),
            ),
            GraphFn::new(
                "path",
                [Port::normal("noise", &self.image)],
                [Port {
                    range: Some([0.0, 1.0]),
                    ..Port::batched("path", &[TIMES.len(), channels, height, width])
                }],
                |m: &Self, net, io| m.path(net, &io[0]),
            ),
        ]
    }
}
