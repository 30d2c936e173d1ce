//! Weights and buffers by path.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{Device, Tensor, Var};
use zoo_sdk::{Stream, Tensors, is_below};

use crate::{Error, Result, Value, array::array_of, recorder::Origin};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All elements the same.
    Constant(f64),
    /// U(-bound, bound).
    Uniform(f64),
    /// N(0, std^2).
    Normal(f64),
}

impl Init {
    /// U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear and convolutional layers.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in.max(1) as f64).sqrt())
    }

    fn draw(self, stream: Stream, shape: &[usize]) -> Vec<f32> {
        let count = shape.iter().product();
        match self {
            Self::Constant(value) => vec![value as f32; count],
            Self::Uniform(bound) => stream
                .uniform(count)
                .into_iter()
                .map(|u| ((2.0 * f64::from(u) - 1.0) * bound) as f32)
                .collect(),
            Self::Normal(std) => stream
                .normal(count)
                .into_iter()
                .map(|n| (f64::from(n) * std) as f32)
                .collect(),
        }
    }
}

/// The elements of a given weight, which is then no longer left over.
fn taken(weights: &Mutex<Tensors>, path: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let array = lock(weights)
        .remove(path)
        .ok_or("is missing from the weights")?;
    if array.shape() != shape {
        return Err(format!(
            "the model needs shape {shape:?}, the weights hold {:?}",
            array.shape()
        ));
    }
    Ok(array.as_f32().map_err(|e| e.to_string())?.to_vec())
}

/// The weights and buffers of a model. Clones share them.
///
/// Networks make theirs when they first run ([`Net`](crate::Net)); once that is over ([`Params::finish`]), what a network asks for must be there.
#[derive(Clone, Debug)]
pub struct Params {
    store: Arc<Store>,
}

#[derive(Debug)]
struct Store {
    device: Device,
    source: Source,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// What networks compute once, such as masks.
    constants: Mutex<BTreeMap<String, Tensor>>,
    /// Whether what is missing is made, and buffers stay as they are.
    making: AtomicBool,
    /// Whether something starts from the first batch.
    from_data: AtomicBool,
}

/// Where the values come from.
#[derive(Debug)]
enum Source {
    /// Drawn by the stream of each path.
    Fresh(Stream),
    /// Given; what remains after a model is made is left over.
    Given(Mutex<Tensors>),
    /// Given at and below a path, drawn elsewhere.
    Partly {
        given: Mutex<Tensors>,
        part: String,
        stream: Stream,
    },
}

impl Source {
    /// The given weights where the parameter at `path` is among them, else the stream that it is drawn from.
    fn at(&self, path: &str) -> Result<&Mutex<Tensors>, &Stream> {
        match self {
            Self::Fresh(stream) => Err(stream),
            Self::Partly { part, stream, .. } if !is_below(path, part) => Err(stream),
            Self::Given(given) | Self::Partly { given, .. } => Ok(given),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub var: Var,
    /// Buffers are not.
    pub trainable: bool,
}

/// A tensor that is saved with the weights but not trained, such as a running mean.
#[derive(Clone, Debug)]
pub struct Buffer {
    var: Var,
    path: Arc<str>,
    params: Params,
}

impl Buffer {
    /// Its value of the moment.
    pub fn value(&self) -> Value {
        Value::with_origin(
            self.var.as_detached_tensor(),
            Origin::Param(self.path.clone()),
        )
    }

    /// Replaces it; while a network runs to make its parameters, it stays.
    pub fn set(&self, value: &Value) -> Result<()> {
        let tensor = value.tensor()?;
        if !self.params.is_making() {
            self.var.set(&tensor.detach().contiguous()?)?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Params {
    /// Fresh weights: each is drawn by its own path and the seed, so that adding one layer changes no other.
    pub fn fresh(seed: u64, device: &Device) -> Self {
        Self::over(Source::Fresh(Stream::new(seed).named("params")), device)
    }

    /// Given weights. Call [`Params::finish`] when all networks have run.
    pub fn given(weights: Tensors, device: &Device) -> Self {
        Self::over(Source::Given(Mutex::new(weights)), device)
    }

    /// Given weights at and below the path `part`, fresh ones elsewhere.
    pub(crate) fn partly(weights: Tensors, part: &str, seed: u64, device: &Device) -> Self {
        let source = Source::Partly {
            given: Mutex::new(weights),
            part: part.into(),
            stream: Stream::new(seed).named("params"),
        };
        Self::over(source, device)
    }

    fn over(source: Source, device: &Device) -> Self {
        let store = Store {
            device: device.clone(),
            source,
            entries: Mutex::default(),
            constants: Mutex::default(),
            making: AtomicBool::new(true),
            from_data: AtomicBool::new(false),
        };
        Self {
            store: Arc::new(store),
        }
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    /// Whether what networks ask for is made where it is missing.
    pub(crate) fn is_making(&self) -> bool {
        self.store.making.load(Ordering::Relaxed)
    }

    /// Whether the parameter at `path` is to be set by the first batch, as one that is not given.
    pub(crate) fn starts_from_data(&self, path: &str) -> bool {
        let starts = self.store.source.at(path).is_err();
        self.store.from_data.fetch_or(starts, Ordering::Relaxed);
        starts
    }

    /// Whether parameters are to be set by the first batch.
    pub(crate) fn wait_for_data(&self) -> bool {
        self.store.from_data.load(Ordering::Relaxed)
    }

    /// What `make` gave when it was first asked for at `path`.
    pub(crate) fn constant(
        &self,
        path: &str,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut constants = lock(&self.store.constants);
        if let Some(known) = constants.get(path) {
            return Ok(known.clone());
        }
        let made = make()?.to_device(self.device())?;
        constants.insert(path.into(), made.clone());
        Ok(made)
    }

    /// The trainable parameter at `path`, made by `init` where no weights are given.
    pub(crate) fn get(&self, path: &str, shape: &[usize], init: Init) -> Result<Var> {
        self.entry(path, shape, init, true)
    }

    /// The buffer at `path`.
    pub(crate) fn buffer(&self, path: &str, shape: &[usize], value: f64) -> Result<Buffer> {
        Ok(Buffer {
            var: self.entry(path, shape, Init::Constant(value), false)?,
            path: path.into(),
            params: self.clone(),
        })
    }

    fn entry(&self, path: &str, shape: &[usize], init: Init, trainable: bool) -> Result<Var> {
        let problem = |message: String| Error::Param {
            name: path.into(),
            message,
        };
        let mut entries = lock(&self.store.entries);
        if let Some(entry) = entries.get(path) {
            return if entry.var.dims() == shape && entry.trainable == trainable {
                Ok(entry.var.clone())
            } else {
                Err(problem(format!(
                    "is asked for with shape {shape:?}, but was made with {:?}: give each layer a name of its own",
                    entry.var.dims()
                )))
            };
        }
        if !self.is_making() {
            return Err(problem(
                "was not there when the networks first ran: losses and graphs must ask for the same parameters always".into(),
            ));
        }
        let values = match self.store.source.at(path) {
            Ok(weights) => taken(weights, path, shape).map_err(problem)?,
            Err(stream) => init.draw(stream.named(path), shape),
        };
        let var = Var::from_vec(values, shape, &self.store.device)?;
        entries.insert(
            path.into(),
            Entry {
                var: var.clone(),
                trainable,
            },
        );
        Ok(var)
    }

    /// Nothing more is made from now on. An error if a given weight is left over.
    pub fn finish(&self) -> Result<()> {
        self.store.making.store(false, Ordering::Relaxed);
        let weights = match &self.store.source {
            Source::Fresh(_) => return Ok(()),
            Source::Given(weights) | Source::Partly { given: weights, .. } => weights,
        };
        match lock(weights).keys().next() {
            Some(name) => Err(Error::Param {
                name: name.clone(),
                message: "is in the weights, but the model has no such parameter".into(),
            }),
            None => Ok(()),
        }
    }

    /// All parameters and buffers in the order of their paths.
    pub(crate) fn entries(&self) -> BTreeMap<String, Entry> {
        lock(&self.store.entries).clone()
    }

    /// The same parameters and buffers apart from these: with their values, or with those given.
    pub(crate) fn twin(&self, values: Option<&Tensors>) -> Result<Self> {
        let values = values.cloned().map_or_else(|| self.snapshot(), Ok)?;
        let twin = Self::given(values, self.device());
        for (path, entry) in self.entries() {
            twin.entry(
                &path,
                entry.var.dims(),
                Init::Constant(0.0),
                entry.trainable,
            )?;
        }
        twin.finish()?;
        Ok(twin)
    }

    /// Takes the values of its twin.
    pub(crate) fn copy_from(&self, twin: &Self) -> Result<()> {
        let from = twin.entries();
        for (path, entry) in self.entries() {
            if let Some(source) = from.get(&path) {
                entry.var.set(&source.var.as_detached_tensor())?;
            }
        }
        Ok(())
    }

    /// Number of trainable values.
    pub fn trainable_values(&self) -> u64 {
        self.entries()
            .values()
            .filter(|e| e.trainable)
            .map(|e| e.var.elem_count() as u64)
            .sum()
    }

    /// A copy of all weights and buffers.
    pub fn snapshot(&self) -> Result<Tensors> {
        self.entries()
            .into_iter()
            .map(|(name, entry)| Ok((name, array_of(entry.var.as_tensor())?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(params: &Params) -> Result<[Vec<f32>; 2]> {
        let part = |path| {
            let tensor = params.get(path, &[2], Init::Normal(1.0))?.to_vec1::<f32>();
            Ok::<_, Error>(tensor?)
        };
        Ok([part("encoder.weight")?, part("decoder.weight")?])
    }

    #[test]
    fn a_part_of_the_weights_is_given_and_the_rest_drawn_as_if_none_were() {
        let device = Device::Cpu;
        let fresh = both(&Params::fresh(7, &device)).unwrap();
        let given = |name: &str| {
            let array = zoo_sdk::Array::f32([2], vec![5.0, 6.0]).unwrap();
            Tensors::from([(name.to_owned(), array)])
        };
        let params = Params::partly(given("decoder.weight"), "decoder", 7, &device);
        assert_eq!(both(&params).unwrap(), [fresh[0].clone(), vec![5.0, 6.0]]);
        params.finish().unwrap();

        let params = Params::partly(given("decoder.bias"), "decoder", 7, &device);
        let missing = both(&params).unwrap_err().to_string();
        assert!(missing.contains("decoder.weight"), "{missing}");
        let left = params.finish().unwrap_err().to_string();
        assert!(left.contains("decoder.bias"), "{left}");
    }
}
