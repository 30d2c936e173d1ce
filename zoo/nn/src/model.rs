//! What a model is: the trait that every plugin implements, and what it gets and gives.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use zoo_graph::Port;
use zoo_sdk::{DataSpec, Metrics, Stream, Task, is_below};

use crate::{Error, Mode, Net, Result, Value, net::Dice};

/// A generative model: its settings, the losses of its networks, and the graphs it ships.
///
/// A model holds no weights: its networks are functions of a [`Net`], which makes the parameters that they ask for when they first run.
pub trait Model: Sized + Send + Sync {
    /// Its settings. The default is the paper's. Derive `Deserialize` with `deny_unknown_fields` and `default`.
    type Config: Serialize + DeserializeOwned + JsonSchema + Default;

    /// Name, paper and place in the taxonomy.
    const INFO: Info;

    /// What it is for, which says what a batch holds beside images.
    const TASK: Task = Task::Generate;

    /// The model for these data. Settings and shapes that do not fit are an [`Error::Input`](crate::Error::Input).
    fn new(config: &Self::Config, data: &DataSpec) -> Result<Self>;

    /// Parts of a training step, in order: each minimises its loss over its parameters.
    fn phases(&self) -> Vec<Phase> {
        vec![Phase::new("", &[""])]
    }

    /// Trainings that follow each other, each on what those before left.
    fn stages(&self) -> Vec<Stage> {
        vec![Stage::new("", self.phases())]
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

/// A part of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phase {
    /// Shown with its losses, and the name of its own settings under `train`; empty where there is one phase.
    pub name: &'static str,
    /// It trains the parameters at and below these paths; the empty path is all.
    pub trains: &'static [&'static str],
    /// Updates in a step, unless `train` says otherwise; each on a batch of its own.
    pub repeats: u64,
}

impl Phase {
    /// Trains the parameters at and below these paths, once a step.
    pub const fn new(name: &'static str, trains: &'static [&'static str]) -> Self {
        Self {
            name,
            trains,
            repeats: 1,
        }
    }

    /// With so many updates in a step, such as those of a critic.
    ///
    /// # Panics
    /// For none.
    pub const fn repeated(self, repeats: u64) -> Self {
        assert!(repeats > 0, "a phase has at least one update in a step");
        Self { repeats, ..self }
    }

    /// Whether it trains the parameter at `path`.
    pub fn trains(&self, path: &str) -> bool {
        self.trains.iter().any(|part| is_below(path, part))
    }
}

/// A training that follows others in the same run, such as that of a prior on the codes that an autoencoder gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stage {
    /// The name of its own settings under `train`, its length among them; empty where there is one stage.
    pub name: &'static str,
    /// The parts of its steps.
    pub phases: Vec<Phase>,
}

impl Stage {
    /// A stage of these phases.
    pub fn new(name: &'static str, phases: Vec<Phase>) -> Self {
        Self { name, phases }
    }
}

/// What a value of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// What is modelled, or the input of a map from images to images: `[N,C,H,W]` in [0, 1], binarised or degraded as the data's settings say.
    Image,
    /// The class of each image, i64 `[N]`.
    Label,
    /// What a map from images to images is to give, `[N,C,H,W]` in [0, 1].
    Target,
    /// Something else that is given.
    Condition,
    /// Codes of a stage before.
    Code,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Label => "labels",
            Self::Target => "targets",
            Self::Condition => "conditions",
            Self::Code => "codes",
        }
    }
}

/// The data of one step, by role.
#[derive(Clone, Debug)]
pub struct Batch {
    len: usize,
    values: BTreeMap<Role, Value>,
}

impl Batch {
    /// Of so many images.
    pub fn new(len: usize) -> Self {
        Self {
            len,
            values: BTreeMap::new(),
        }
    }

    /// With this value, whose first dimension is the batch.
    pub fn with(mut self, role: Role, value: impl Into<Value>) -> Self {
        self.values.insert(role, value.into());
        self
    }

    /// What the batch holds of a role; a failed value where the data have none.
    pub fn get(&self, role: Role) -> Value {
        self.values.get(&role).cloned().unwrap_or_else(|| {
            Value::failed(Error::input(format!(
                "the model needs {}, and the data have none",
                role.name()
            )))
        })
    }

    /// Whether it holds something of a role.
    pub fn has(&self, role: Role) -> bool {
        self.values.contains_key(&role)
    }

    /// The images.
    pub fn image(&self) -> Value {
        self.get(Role::Image)
    }

    /// The classes.
    pub fn label(&self) -> Value {
        self.get(Role::Label)
    }

    /// The targets.
    pub fn target(&self) -> Value {
        self.get(Role::Target)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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

impl Losses {
    /// A loss of one term.
    pub fn one(name: &'static str, loss: Value) -> Self {
        Self {
            total: loss.clone(),
            terms: vec![(name, loss)],
        }
    }
}

/// A scalar that changes over a training, such as the weight of a term.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anneal {
    /// Its value at first.
    pub from: f64,
    /// Its value in the end.
    pub to: f64,
    /// Steps from the one to the other, in a straight line.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Steps before it begins to move.
    #[serde(default)]
    pub after: u64,
}

impl Anneal {
    /// Its value after `step` steps.
    pub fn at(&self, step: u64) -> f64 {
        let done = step.saturating_sub(self.after) as f64 / self.steps.max(1) as f64;
        self.from + (self.to - self.from) * done.min(1.0)
    }
}

/// Scalars that change over a training, and those that a model asked for.
#[derive(Debug, Default)]
pub(crate) struct Scalars {
    pub scheduled: BTreeMap<String, Anneal>,
    asked: Mutex<BTreeSet<String>>,
}

impl Scalars {
    pub fn new(scheduled: BTreeMap<String, Anneal>) -> Self {
        Self {
            scheduled,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error if one is scheduled that no loss asked for.
    pub fn check(&self) -> Result<()> {
        let asked = self.asked();
        let unknown = self.scheduled.keys().find(|name| !asked.contains(*name));
        match unknown {
            None => Ok(()),
            Some(name) => Err(Error::input(format!(
                "train.anneal.{name}: the model has no such scalar; it has {}",
                match asked.len() {
                    0 => "none".into(),
                    _ => asked.iter().cloned().collect::<Vec<_>>().join(", "),
                }
            ))),
        }
    }
}

/// The state of one step: weights, mode, randomness, and what its phases share.
#[derive(Debug)]
pub struct StepCx {
    /// Training or evaluation.
    pub mode: Mode,
    /// Steps done before this one.
    pub step: u64,
    /// Steps that the training is to take, where that is known.
    pub steps: Option<u64>,
    /// Importance samples per image that an evaluation wants; 0 for none.
    pub importance_samples: usize,
    net: Net,
    averaged: Option<Net>,
    dice: Dice,
    scalars: Arc<Scalars>,
    shared: HashMap<&'static str, Value>,
}

impl StepCx {
    /// For networks at the root `net`, and a batch whose images have these keys: their place in the batch in training, their index in evaluation.
    pub(crate) fn new(
        mode: Mode,
        step: u64,
        stream: Stream,
        keys: Vec<u64>,
        net: &Net,
        scalars: &Arc<Scalars>,
    ) -> Self {
        let dice = Dice::new(stream, keys, net.device());
        Self {
            mode,
            step,
            steps: None,
            importance_samples: 0,
            net: match mode {
                Mode::Train => net.in_training(&dice),
                Mode::Eval => net.clone(),
            },
            averaged: None,
            dice,
            scalars: scalars.clone(),
            shared: HashMap::new(),
        }
    }

    /// With these moving averages of the weights.
    pub(crate) fn with_averaged(self, averaged: Option<Net>) -> Self {
        Self { averaged, ..self }
    }

    /// The root of the model's weights, in this step's mode.
    pub fn net(&self) -> Net {
        self.net.clone()
    }

    /// The root of the moving averages of the weights, for a teacher: without gradients, and in evaluation mode.
    ///
    /// # Errors
    /// Where `train.ema` is not set.
    pub fn averaged(&self) -> Result<Net> {
        match &self.averaged {
            Some(net) => Ok(net.frozen()),
            // In evaluation the weights are the averages, if there are any.
            None if self.mode == Mode::Eval => Ok(self.net.frozen()),
            None => Err(Error::input(
                "the model learns from moving averages of its weights: set train.ema",
            )),
        }
    }

    /// A scalar that `train.anneal` may change over the training, by name; `usual` where it does not.
    pub fn scalar(&self, name: &str, usual: f64) -> f64 {
        self.scalars.asked().insert(name.into());
        match self.scalars.scheduled.get(name) {
            Some(anneal) => anneal.at(self.step),
            None => usual,
        }
    }

    /// N(0, 1) for each image: `[N, dims...]`. The same name gives the same numbers within a step.
    pub fn normal(&self, name: &str, dims: &[usize]) -> Value {
        self.dice.draw(name, dims, Stream::fill_normal)
    }

    /// U[0, 1) for each image: `[N, dims...]`.
    pub fn uniform(&self, name: &str, dims: &[usize]) -> Value {
        self.dice.draw(name, dims, Stream::fill_uniform)
    }

    /// What an earlier phase of this step computed under `name`, or `compute`'s result, kept for the later ones.
    pub fn shared(
        &mut self,
        name: &'static str,
        compute: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        if let Some(value) = self.shared.get(name) {
            return value.clone();
        }
        let value = compute(self);
        self.shared.insert(name, value.clone());
        value
    }
}

/// What a graph's function may give: one value, or several for as many outputs.
pub trait Outputs {
    /// All of them in order.
    fn outputs(self) -> Result<Vec<Value>>;
}

impl Outputs for Value {
    fn outputs(self) -> Result<Vec<Value>> {
        Ok(vec![self])
    }
}

impl Outputs for (Value, Value) {
    fn outputs(self) -> Result<Vec<Value>> {
        Ok(vec![self.0, self.1])
    }
}

impl Outputs for Vec<Value> {
    fn outputs(self) -> Result<Vec<Value>> {
        Ok(self)
    }
}

impl<T: Outputs> Outputs for Result<T> {
    fn outputs(self) -> Result<Vec<Value>> {
        self?.outputs()
    }
}

type GraphBody<M> = Box<dyn Fn(&M, &Net, &[Value]) -> Result<Vec<Value>> + Send + Sync>;

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
    /// A function from `inputs` to `outputs`. `body` gets the model, the root of its weights and one value for each input; it gives one for each output.
    pub fn new<O: Outputs>(
        name: &'static str,
        inputs: impl Into<Vec<Port>>,
        outputs: impl Into<Vec<Port>>,
        body: impl Fn(&M, &Net, &[Value]) -> O + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            inputs: inputs.into(),
            outputs: outputs.into(),
            body: Box::new(move |model, net, inputs| body(model, net, inputs).outputs()),
        }
    }

    /// Computes it.
    pub fn call(&self, model: &M, net: &Net, inputs: &[Value]) -> Result<Vec<Value>> {
        let outputs = (self.body)(model, net, inputs)?;
        outputs.iter().try_for_each(Value::check)?;
        Ok(outputs)
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
