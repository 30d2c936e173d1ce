//! Where a network computes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Device, Tensor};
use zoo_sdk::Stream;

use crate::{
    Buffer, Error, Init, Params, Result, Value, recorder::Origin, value::without_gradients,
};

/// Whether a network learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout.
    Train,
    /// Running statistics.
    Eval,
}

/// A place among a model's weights where a network computes: `net.linear("fc1", &x, 400)` applies the layer `fc1`, whose parameters it makes when it first runs.
///
/// A network is a function of a `Net` and its inputs. The same function with another `Net` computes with other weights, such as the moving averages, or in another
/// [`Mode`]. [`Net::at`] enters a part of the model; within one visit of a part each layer has a name of its own, and a part that is entered again has the
/// same weights again.
#[derive(Clone, Debug)]
pub struct Net {
    params: Params,
    prefix: String,
    mode: Mode,
    /// Random numbers of a step, for what a network draws itself.
    dice: Option<Dice>,
    /// Whether parameters that start from data do so now.
    starts: bool,
    frozen: bool,
    /// Whether names are checked: not where the same function has run before.
    checks: bool,
    /// Names that this visit has used; the root has no visits.
    used: Option<Arc<Mutex<BTreeSet<String>>>>,
    fault: Option<Arc<Error>>,
}

impl Net {
    /// The root of these weights, for evaluation.
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            prefix: String::new(),
            mode: Mode::Eval,
            dice: None,
            starts: false,
            frozen: false,
            checks: true,
            used: None,
            fault: None,
        }
    }

    /// The same place in a training step.
    pub(crate) fn in_training(&self, dice: &Dice) -> Self {
        Self {
            mode: Mode::Train,
            dice: Some(dice.clone()),
            ..self.clone()
        }
    }

    /// The same place while parameters start from data.
    pub(crate) fn starting(&self) -> Self {
        Self {
            starts: true,
            ..self.clone()
        }
    }

    /// The part `name` of the model below this place.
    pub fn at(&self, name: &str) -> Self {
        let fault = self.fault.clone();
        Self {
            params: self.params.clone(),
            prefix: self.path(name),
            dice: self.dice.clone(),
            used: self.checks.then(Arc::default),
            fault: fault.or_else(|| self.enter(name).err().map(Arc::new)),
            ..*self
        }
    }

    /// The same place, visited again.
    pub(crate) fn again(&self) -> Self {
        Self {
            used: self.used.as_ref().map(|_| Arc::default()),
            ..self.clone()
        }
    }

    /// The same place for a function that has run before, and whose names were checked then.
    pub(crate) fn known(&self) -> Self {
        Self {
            checks: false,
            used: None,
            ..self.clone()
        }
    }

    /// Notes that this visit uses a name.
    fn enter(&self, name: &str) -> Result<()> {
        let Some(used) = &self.used else {
            return Ok(());
        };
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.insert(name.into()) {
            return Ok(());
        }
        Err(Error::Param {
            name: self.path(name),
            message:
                "is used twice within one part of the network: give each layer a name of its own"
                    .into(),
        })
    }

    /// The path of `name` here, as weights are called in files.
    pub fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.into()
        } else {
            [&self.prefix, ".", name].concat()
        }
    }

    /// Whether the network learns.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        self.params.device()
    }

    /// The same place, whose parameters get no gradient.
    pub fn frozen(&self) -> Self {
        Self {
            frozen: true,
            ..self.clone()
        }
    }

    /// The trainable parameter `name`, which starts as `init` says.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Value {
        self.entry(name, shape, init).into()
    }

    fn entry(&self, name: &str, shape: &[usize], init: Init) -> Result<Value> {
        if let Some(fault) = &self.fault {
            return Err(Error::Failed(fault.clone()));
        }
        self.enter(name)?;
        let path = self.path(name);
        let var = self.params.get(&path, shape, init)?;
        let tensor = if self.frozen {
            var.as_detached_tensor()
        } else {
            var.as_tensor().clone()
        };
        Ok(Value::with_origin(tensor, Origin::Param(path.into())))
    }

    /// The trainable parameter `name`, which starts as what `first` computes from a training's first batch (Salimans & Kingma, 2016); as `init` where there is
    /// none.
    pub fn param_from_data(
        &self,
        name: &str,
        shape: &[usize],
        init: Init,
        first: impl FnOnce() -> Value,
    ) -> Value {
        let parameter = self.param(name, shape, init);
        if !self.params.starts_from_data(&self.path(name)) || !self.starts {
            return parameter;
        }
        let set = || -> Result<()> {
            let start = without_gradients(first);
            let start = start.tensor()?.detach().reshape(shape)?.contiguous()?;
            let var = self.params.get(&self.path(name), shape, init)?;
            Ok(var.set(&start)?)
        };
        match set() {
            Ok(()) => parameter,
            Err(error) => Value::failed(error),
        }
    }

    /// A constant of the network, such as a mask, which `make` makes once. It must depend on nothing but the settings.
    pub fn constant(&self, name: &str, make: impl FnOnce() -> Result<Tensor>) -> Value {
        let made = self.params.constant(&self.path(name), make);
        made.map(Value::constant).into()
    }

    /// The buffer `name`, which starts as `value` everywhere.
    pub fn buffer(&self, name: &str, shape: &[usize], value: f64) -> Result<Buffer> {
        if let Some(fault) = &self.fault {
            return Err(Error::Failed(fault.clone()));
        }
        self.enter(name)?;
        self.params.buffer(&self.path(name), shape, value)
    }

    /// Random numbers that belong to this place and step; `None` outside training.
    pub(crate) fn dice(&self) -> Option<&Dice> {
        self.dice.as_ref()
    }
}

/// Random numbers of one step, keyed by its images and by what they are for.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    device: Device,
    stream: Stream,
    /// A key for each image of the batch.
    keys: Arc<[u64]>,
}

impl Dice {
    pub fn new(stream: Stream, keys: Vec<u64>, device: &Device) -> Self {
        Self {
            device: device.clone(),
            stream,
            keys: keys.into(),
        }
    }

    /// Numbers for each image: `[N, dims...]`.
    pub fn draw(&self, name: &str, dims: &[usize], fill: fn(Stream, &mut [f32])) -> Value {
        let row: usize = dims.iter().product();
        let mut values = vec![0.0; row * self.keys.len()];
        let stream = self.stream.named(name);
        for (out, &key) in values.chunks_mut(row.max(1)).zip(self.keys.iter()) {
            fill(stream.at(key), out);
        }
        let mut shape = vec![self.keys.len()];
        shape.extend_from_slice(dims);
        let drawn = Tensor::from_vec(values, shape, &self.device);
        drawn.map_err(Error::from).into()
    }
}
