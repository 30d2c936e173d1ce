//! NICE: additive couplings of the two halves of an image, and a scale for each dimension.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zoo_nn::{
    Batch, DataSpec, Error, GraphFn, Info, Init, Losses, Metrics, Model, Net, Phase, Port, Result,
    StepCx, Value, concat, dist::nll_loss,
};

use crate::{Direction, Flow, GRAPHS, graphs};

/// Settings of [`Nice`]. The default is the paper's network for MNIST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Couplings; which half moves changes from one to the next, so that two move every dimension.
    #[schemars(range(min = 2))]
    pub couplings: usize,
    /// Width of each hidden layer of a coupling's network.
    #[schemars(inner(range(min = 1)))]
    pub hidden: Vec<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            couplings: 4,
            hidden: vec![1000; 5],
        }
    }
}

/// Of the standard logistic distribution: pi^2 / 3.
const LOGISTIC_VARIANCE: f64 = std::f64::consts::PI * std::f64::consts::PI / 3.0;

/// The model: x (N,C,H,W) <-> z (N,D).
pub struct Nice {
    config: Config,
    image: [usize; 3],
}

impl Nice {
    fn values(&self) -> usize {
        self.image.iter().product()
    }

    /// m(x_1): what a coupling adds, (N,D/2) -> (N,D/2)
    fn shift(&self, net: &Net, x: &Value) -> Value {
        let hidden = self.config.hidden.iter().enumerate();
        let h = hidden.fold(x.clone(), |h, (i, &width)| {
            net.linear(&format!("fc{}", i + 1), &h, width).relu() // (N,width)
        });
        net.linear("out", &h, self.values() / 2)
    }

    /// The couplings, over the even and odd dimensions (N,D/2) each.
    fn couple(&self, net: &Net, halves: [Value; 2], way: Direction) -> [Value; 2] {
        let [mut even, mut odd] = halves;
        let number = |i: usize| match way {
            Direction::Forward => i,
            Direction::Inverse => self.config.couplings - 1 - i,
        };
        for i in (0..self.config.couplings).map(number) {
            let net = net.at(&format!("coupling{}", i + 1));
            let (fixed, moved) = if i % 2 == 0 {
                (&even, &odd)
            } else {
                (&odd, &even)
            };
            let shift = self.shift(&net, fixed); // (N,D/2)
            let next = match way {
                Direction::Forward => moved + shift, // eq. 9
                Direction::Inverse => moved - shift,
            };
            if i % 2 == 0 { odd = next } else { even = next }
        }
        [even, odd]
    }

    /// The logarithm of each dimension's scale, (D): the diagonal S of section 3.3
    fn scale(&self, net: &Net) -> Value {
        net.param("scale", &[self.values()], Init::Constant(0.0))
    }

    /// The same while h (N,D) is there: it starts where the first batch has the prior's variance, far from which Adam would take thousands of steps.
    fn scale_of(&self, net: &Net, h: &Value) -> Value {
        net.param_from_data("scale", &[self.values()], Init::Constant(0.0), || {
            let mean = h.mean(&[0], true); // (1,D)
            let variance = (h - mean).sqr().mean(&[0], false); // (D)
            (LOGISTIC_VARIANCE / (variance + 1e-6)).log() * 0.5
        })
    }
}

/// (N,D) -> the even and the odd dimensions (N,D/2) each
fn apart(x: &Value) -> [Value; 2] {
    let pairs = x.reshape(&[0, -1, 2]); // (N,D/2,2)
    [0, 1].map(|i| pairs.slice(2, i, i + 1).squeeze(2))
}

/// The inverse of [`apart`].
fn together([even, odd]: &[Value; 2]) -> Value {
    concat(&[even.unsqueeze(2), odd.unsqueeze(2)], 2).reshape(&[0, -1])
}

impl Flow for Nice {
    fn forward(&self, net: &Net, x: &Value) -> (Value, Value) {
        let h = together(&self.couple(net, apart(&x.flatten(1)), Direction::Forward)); // (N,D)
        let scale = self.scale_of(net, &h); // (D)
        // A coupling moves no volume: the scale alone has a determinant.
        let log_det = (&h * 0.0 + &scale).sum(&[1], false); // (N)
        (h * scale.exp(), log_det)
    }

    fn inverse(&self, net: &Net, z: &Value) -> Value {
        let [c, h, w] = self.image.map(|size| size as i64);
        let y = z * (-self.scale(net)).exp(); // (N,D)
        together(&self.couple(net, apart(&y), Direction::Inverse)).reshape(&[-1, c, h, w])
    }

    /// A standard logistic distribution in each dimension.
    fn prior(&self, z: &Value) -> Value {
        -(z.softplus() + (-z).softplus()).sum(&[1], false)
    }

    fn noise(&self, name: &str, dims: &[usize]) -> Port {
        Port::uniform(name, dims)
    }

    /// By the inverse of the logistic distribution function, log u - log(1 - u).
    fn drawn(&self, noise: &Value) -> Value {
        let u = noise.clip(1e-6, 1.0 - 1e-6);
        u.log() - (1.0 - &u).log()
    }

    fn image(&self) -> [usize; 3] {
        self.image
    }
}

impl Model for Nice {
    type Config = Config;

    const INFO: Info = Info {
        name: "nice",
        summary: "NICE: additive couplings with an exact inverse and likelihood",
        family: "flow",
        density: "tractable",
        title: "NICE: Non-linear Independent Components Estimation",
        authors: "Dinh, Krueger, Bengio",
        year: 2015,
        url: "https://arxiv.org/abs/1410.8516",
        version: "1",
        graphs: GRAPHS,
        best_metric: Some(("nll_nats", false)),
        defaults: include_str!("../nice.toml"),
    };

    fn new(config: &Config, data: &DataSpec) -> Result<Self> {
        if !data.pixels().is_multiple_of(2) {
            return Err(Error::input(format!(
                "images of {:?} do not fall into two halves: nice takes an even number of values",
                data.image
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
