//! Flows: a map from images to noise and its exact inverse (Dinh, Krueger & Bengio, "NICE", 2015; Dinh, Sohl-Dickstein & Bengio, "Density Estimation using
//! Real NVP", ICLR 2017).
//!
//! An invertible f takes an image to z with a simple density, so that the image's own is known:
//!
//! ```text
//! log p(x) = log p(f(x)) + log |det df/dx|                      (change of variables; Real NVP, eq. 2)
//! y_1 = x_1,   y_2 = x_2 exp(s(x_1)) + t(x_1)                   (affine coupling, eq. 4 and 5)
//! x_2 = (y_2 - t(y_1)) exp(-s(y_1)),   log det = sum s(x_1)     (eq. 6 and 8)
//! ```
//!
//! A coupling is inverted whatever s and t are; with s = 0 it is NICE's. [`nice`] is fully connected, [`realnvp`] works on images at several scales.
//!
//! Images of 256 levels are made continuous by uniform noise (Theis et al., 2016): what is maximised and reported is E_u[log p((255 x + u) / 256)] - D log 256, a
//! lower bound of the log-likelihood of the levels.

pub mod nice;
pub mod realnvp;

use zoo_nn::{
    Batch, GraphFn, Metrics, ModelPlugin, Net, Plugin, Port, Result, StepCx, Value,
    dist::nll_metrics,
};

pub use nice::Nice;
pub use realnvp::RealNvp;

/// Levels of a pixel.
const LEVELS: f64 = 256.0;

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(ModelPlugin::<Nice>::default()),
        Box::new(ModelPlugin::<RealNvp>::default()),
    ]
}

/// Which way a map goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From images to noise.
    Forward,
    /// From noise to images.
    Inverse,
}

/// A map between continuous images (N,C,H,W) in (0,1) and noise z (N,D).
pub trait Flow: Sized + Send + Sync + 'static {
    /// x (N,C,H,W) in (0,1) -> z (N,D), and log |det dz/dx| (N)
    fn forward(&self, net: &Net, x: &Value) -> (Value, Value);

    /// z (N,D) -> x (N,C,H,W) in (0,1)
    fn inverse(&self, net: &Net, z: &Value) -> Value;

    /// log p(z) (N), for z (N,D)
    fn prior(&self, z: &Value) -> Value;

    /// The port of the noise from which z is drawn.
    fn noise(&self, name: &str, dims: &[usize]) -> Port {
        Port::normal(name, dims)
    }

    /// z (N,D) from that noise (N,D)
    fn drawn(&self, noise: &Value) -> Value {
        noise.clone()
    }

    /// Channels, height and width of an image.
    fn image(&self) -> [usize; 3];

    /// -log p of the levels of x (N,C,H,W) in [0,1], a bound by one noise U[0,1) (N,C,H,W): (N)
    fn nll(&self, net: &Net, x: &Value, noise: &Value) -> Value {
        let values = self.image().iter().product::<usize>() as f64;
        let (z, log_det) = self.forward(net, &((x * (LEVELS - 1.0) + noise) / LEVELS)); // (N,D), (N)
        values * LEVELS.ln() - self.prior(&z) - log_det
    }

    /// The same of a batch, by the step's own noise: (N)
    fn batch_nll(&self, batch: &Batch, cx: &StepCx) -> Value {
        let noise = cx.uniform("dequantise", &self.image()); // (N,C,H,W)
        self.nll(&cx.net(), &batch.image(), &noise)
    }

    /// `nll_nats` and `bits_per_dim` of a batch, by one dequantisation.
    fn metrics(&self, batch: &Batch, cx: &StepCx) -> Result<Metrics> {
        nll_metrics(&self.batch_nll(batch, cx), self.image().iter().product())
    }

    /// x (N,C,H,W) in [0,1] -> z (N,D), from the middle of each level
    fn encode(&self, net: &Net, x: &Value) -> Value {
        self.forward(net, &((x * (LEVELS - 1.0) + 0.5) / LEVELS)).0
    }

    /// z (N,D) -> x (N,C,H,W) in [0,1]
    fn decode(&self, net: &Net, z: &Value) -> Value {
        ((self.inverse(net, z) * LEVELS - 0.5) / (LEVELS - 1.0)).clip(0.0, 1.0)
    }
}

/// The graphs of a flow, for its description.
pub const GRAPHS: &[(&str, &str)] = &[
    (
        "log_prob",
        "log p of the image's levels in nats, a bound by one dequantisation",
    ),
    ("encode", "the noise that an image stands for"),
    ("decode", "the image of this noise: the inverse of encode"),
    ("sample", "images from noise"),
];

/// The graphs of a flow.
fn graphs<M: Flow>(model: &M) -> Vec<GraphFn<M>> {
    let image = model.image();
    let values: usize = image.iter().product();
    let x = || Port::image("x", image);
    vec![
        GraphFn::new(
            "log_prob",
            [x(), Port::uniform("noise", &image)],
            [Port::batched("log_prob", &[])],
            |m: &M, net, io| -m.nll(net, &io[0], &io[1]),
        ),
        GraphFn::new(
            "encode",
            [x()],
            [Port::batched("z", &[values])],
            |m: &M, net, io| m.encode(net, &io[0]),
        ),
        GraphFn::new(
            "decode",
            [Port::batched("z", &[values])],
            [x()],
            |m: &M, net, io| m.decode(net, &io[0]),
        ),
        GraphFn::new(
            "sample",
            [model.noise("noise", &[values])],
            [x()],
            |m: &M, net, io| m.decode(net, &m.drawn(&io[0])),
        ),
    ]
}

#[cfg(test)]
mod tests;
