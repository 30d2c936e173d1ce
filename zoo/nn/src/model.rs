//! What a model is: the trait that every plugin implements, and what it gets and gives.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use zoo_graph::Port;
use zoo_sdk::{DataSpec, Metrics, Stream};

use crate::{Params, Result, Value};

/// A generative model: a network with its losses and the graphs it ships.
pub trait Model: Sized + Send + Sync {
    /// Its settings. The default is the paper's. Derive `Deserialize` with `deny_unknown_fields` and `default`.
    type Config: Serialize + DeserializeOwned + JsonSchema + Default;

    /// Name, paper and place in the taxonomy.
    const INFO: Info;

    /// Makes the network for these data. Settings and shapes that do not fit are an [`Error::Input`](crate::Error::Input).
    fn new(config: &Self::Config, data: &DataSpec, params: &Params) -> Result<Self>;

    /// Parts of a training step, in order: each minimises its loss over its parameters.
    fn phases(&self) -> Vec<Phase> {
        vec![Phase {
            name: "",
            parameters: &[""],
        }]
    }

    /// The objective of `phase` on a batch.
    fn loss(&self, phase: &Phase, batch: &Batch, cx: &mut StepCx) -> Result<Losses>;

    /// Metrics of a batch, means over its images. Likelihoods are in nats per image.
    fn evaluate(&self, batch: &Batch, cx: &mut StepCx) -> Result<Metrics>;

    /// The functions it exports, by the names of [`Info::graphs`].
    fn graphs(&self) -> Vec<GraphFn<Self>>;
}

/// What is known of a model without making it.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The name that commands use.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// `latent variable`, `autoregressive`, `adversarial`, ...
    pub family: &'static str,
    /// `tractable`, `approximate`, `implicit` or `none`.
    pub density: &'static str,
    /// Title of the paper.
    pub title: &'static str,
    /// Family names of its authors.
    pub authors: &'static str,
    /// Year of its publication.
    pub year: u32,
    /// Where to read it.
    pub url: &'static str,
    /// The model's own version: raised when old weights no longer fit.
    pub version: &'static str,
    /// Names of the graphs, and what each computes.
    pub graphs: &'static [(&'static str, &'static str)],
    /// The metric that says which checkpoint is best, and whether larger is better.
    pub best_metric: Option<(&'static str, bool)>,
    /// Recommended settings: the text of `default.toml`, tables `model`, `data` and `train`.
    pub defaults: &'static str,
}

/// Whether a network learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout.
    Train,
    /// Running statistics.
    Eval,
}

/// A part of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Shown with its losses; empty where there is one phase.
    pub name: &'static str,
    /// It trains the parameters at and below these paths; the empty path is all.
    pub parameters: &'static [&'static str],
}

impl Phase {
    /// Whether it trains the parameter at `path`.
    pub fn trains(&self, path: &str) -> bool {
        self.parameters.iter().any(|p| {
            p.is_empty()
                || path
                    .strip_prefix(p)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// Images of one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[N,C,H,W]` in [0, 1], binarised as the data's settings say.
    pub x: Value,
    /// Class of each image, i64 `[N]`.
    pub label: Option<Value>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.x.dims().first().copied().unwrap_or(0)
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A loss to minimise, and the terms that it is the sum of.
#[derive(Clone, Debug)]
pub struct Losses {
    /// What is differentiated: one number.
    pub total: Value,
    /// Named as in the paper's objective; each one number.
    pub terms: Vec<(&'static str, Value)>,
}

/// The state of one step: mode, randomness, and what its phases share.
#[derive(Debug)]
pub struct StepCx {
    /// Training or evaluation.
    pub mode: Mode,
    /// Steps done before this one.
    pub step: u64,
    /// Importance samples per image that an evaluation wants; 0 for none.
    pub importance_samples: usize,
    device: Device,
    stream: Stream,
    /// A key for each image of the batch.
    keys: Vec<u64>,
    shared: HashMap<&'static str, Value>,
}

impl StepCx {
    /// For a batch whose images have these keys: their place in the batch in training, their index in evaluation.
    pub fn new(mode: Mode, step: u64, stream: Stream, keys: Vec<u64>, device: &Device) -> Self {
        Self {
            mode,
            step,
            importance_samples: 0,
            device: device.clone(),
            stream,
            keys,
            shared: HashMap::new(),
        }
    }

    /// N(0, 1) for each image: `[N, dims...]`. The same name gives the same numbers within a step.
    pub fn normal(&self, name: &str, dims: &[usize]) -> Result<Value> {
        self.draw(name, dims, Stream::fill_normal)
    }

    /// U[0, 1) for each image: `[N, dims...]`.
    pub fn uniform(&self, name: &str, dims: &[usize]) -> Result<Value> {
        self.draw(name, dims, Stream::fill_uniform)
    }

    fn draw(&self, name: &str, dims: &[usize], fill: fn(Stream, &mut [f32])) -> Result<Value> {
        let row: usize = dims.iter().product();
        let mut values = vec![0.0; row * self.keys.len()];
        let stream = self.stream.named(name);
        for (out, &key) in values.chunks_mut(row.max(1)).zip(&self.keys) {
            fill(stream.at(key), out);
        }
        let mut shape = vec![self.keys.len()];
        shape.extend_from_slice(dims);
        Ok(Tensor::from_vec(values, shape, &self.device)?.into())
    }

    /// What an earlier phase of this step computed under `name`, or `compute`'s result, kept for the later ones.
    pub fn shared(
        &mut self,
        name: &'static str,
        compute: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        if let Some(value) = self.shared.get(name) {
            return Ok(value.clone());
        }
        let value = compute(self)?;
        self.shared.insert(name, value.clone());
        Ok(value)
    }
}

type GraphBody<M> = Box<dyn Fn(&M, &[Value]) -> Result<Vec<Value>> + Send + Sync>;

/// A function of a model that can be called and exported.
pub struct GraphFn<M> {
    /// Its name in the vocabulary: `encode`, `decode`, `sample`, ...
    pub name: &'static str,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// What it gives.
    pub outputs: Vec<Port>,
    body: GraphBody<M>,
}

impl<M> GraphFn<M> {
    /// A function from `inputs` to `outputs`. `body` gets one value for each input and gives one for each output.
    pub fn new(
        name: &'static str,
        inputs: impl Into<Vec<Port>>,
        outputs: impl Into<Vec<Port>>,
        body: impl Fn(&M, &[Value]) -> Result<Vec<Value>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            inputs: inputs.into(),
            outputs: outputs.into(),
            body: Box::new(body),
        }
    }

    /// Computes it.
    pub fn call(&self, model: &M, inputs: &[Value]) -> Result<Vec<Value>> {
        (self.body)(model, inputs)
    }
}

/// Sums metrics over batches, weighted by their images.
#[derive(Debug, Default)]
pub(crate) struct Mean {
    sums: BTreeMap<String, f64>,
    images: f64,
}

impl Mean {
    pub fn add(&mut self, metrics: Metrics, images: usize) {
        for (name, value) in metrics {
            *self.sums.entry(name).or_default() += value * images as f64;
        }
        self.images += images as f64;
    }

    pub fn finish(self) -> Metrics {
        self.sums
            .into_iter()
            .map(|(name, sum)| (name, sum / self.images))
            .collect()
    }
}
