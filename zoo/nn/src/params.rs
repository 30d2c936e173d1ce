//! Weights and buffers by path.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};
use zoo_graph::{Array, Data};
use zoo_sdk::{Stream, Tensors};

use crate::{Error, Result, Value, value::Origin};

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
}

/// A path into the weights of a model. Clones and sub-paths share the same weights.
#[derive(Clone, Debug)]
pub struct Params {
    store: Arc<Store>,
    prefix: String,
}

#[derive(Debug)]
struct Store {
    device: Device,
    source: Source,
    entries: Mutex<BTreeMap<String, Entry>>,
}

/// Where the values come from.
#[derive(Debug)]
enum Source {
    /// Drawn by the stream of each path.
    Fresh(Stream),
    /// Given; what remains after a model is made is left over.
    Given(Mutex<Tensors>),
    /// Zeros.
    Blank,
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
}

impl Buffer {
    /// Its value of the moment.
    pub fn value(&self) -> Value {
        Value::with_origin(
            self.var.as_detached_tensor(),
            Origin::Param(self.path.clone()),
        )
    }

    /// Replaces it.
    pub fn set(&self, tensor: &Tensor) -> Result<()> {
        Ok(self.var.set(&tensor.detach())?)
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

    /// Zeros, for a model of which only shapes matter.
    pub(crate) fn blank() -> Self {
        Self::over(Source::Blank, &Device::Cpu)
    }

    /// Given weights. Call [`Params::finish`] when the model is made.
    pub fn given(weights: Tensors, device: &Device) -> Self {
        Self::over(Source::Given(Mutex::new(weights)), device)
    }

    fn over(source: Source, device: &Device) -> Self {
        let store = Store {
            device: device.clone(),
            source,
            entries: Mutex::default(),
        };
        Self {
            store: Arc::new(store),
            prefix: String::new(),
        }
    }

    /// The path `name` below this one.
    pub fn at(&self, name: &str) -> Self {
        Self {
            store: self.store.clone(),
            prefix: self.path(name),
        }
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        &self.store.device
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.into()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// The trainable parameter `name`, made by `init` where no weights are given.
    pub fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Value> {
        let path = self.path(name);
        let var = self.entry(&path, shape, init, true)?;
        Ok(Value::with_origin(
            var.as_tensor().clone(),
            Origin::Param(path.into()),
        ))
    }

    /// The buffer `name`.
    pub fn buffer(&self, name: &str, shape: &[usize], value: f64) -> Result<Buffer> {
        let path = self.path(name);
        let var = self.entry(&path, shape, Init::Constant(value), false)?;
        Ok(Buffer {
            var,
            path: path.into(),
        })
    }

    fn entry(&self, path: &str, shape: &[usize], init: Init, trainable: bool) -> Result<Var> {
        let problem = |message: String| Error::Param {
            name: path.into(),
            message,
        };
        let mut entries = lock(&self.store.entries);
        if entries.contains_key(path) {
            return Err(problem(
                "is made twice: give each layer its own path with Params::at".into(),
            ));
        }
        let count = shape.iter().product();
        let values = match &self.store.source {
            Source::Blank => vec![0.0; count],
            Source::Given(weights) => {
                let array = lock(weights)
                    .remove(path)
                    .ok_or_else(|| problem("is missing from the weights".into()))?;
                if array.shape() != shape {
                    return Err(problem(format!(
                        "the model needs shape {shape:?}, the weights hold {:?}",
                        array.shape()
                    )));
                }
                array.as_f32().map_err(|e| problem(e.to_string()))?.to_vec()
            }
            Source::Fresh(stream) => {
                let stream = stream.named(path);
                match init {
                    Init::Constant(value) => vec![value as f32; count],
                    Init::Uniform(bound) => stream
                        .uniform(count)
                        .into_iter()
                        .map(|u| ((2.0 * f64::from(u) - 1.0) * bound) as f32)
                        .collect(),
                    Init::Normal(std) => stream
                        .normal(count)
                        .into_iter()
                        .map(|n| (f64::from(n) * std) as f32)
                        .collect(),
                }
            }
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

    /// Checks that no given weight is left over.
    pub fn finish(&self) -> Result<()> {
        let Source::Given(weights) = &self.store.source else {
            return Ok(());
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

/// A plain copy of a tensor.
pub(crate) fn array_of(tensor: &Tensor) -> Result<Array> {
    let shape = tensor.dims().to_vec();
    let flat = tensor.flatten_all()?;
    let data = match tensor.dtype() {
        DType::F32 => Data::F32(flat.to_vec1()?),
        DType::F64 => Data::F64(flat.to_vec1()?),
        DType::I64 => Data::I64(flat.to_vec1()?),
        DType::U8 => Data::U8(flat.to_vec1()?),
        other => {
            return Err(Error::input(format!(
                "a tensor of {other:?} cannot leave the network: cast it to f32 or i64"
            )));
        }
    };
    Ok(Array::new(shape, data)?)
}

/// A candle tensor with the elements of `array`.
pub(crate) fn tensor_of(array: &Array, device: &Device) -> Result<Tensor> {
    let shape = array.shape();
    Ok(match array.data() {
        Data::F32(values) => Tensor::from_slice(values, shape, device)?,
        Data::F64(values) => Tensor::from_slice(values, shape, device)?,
        Data::I64(values) => Tensor::from_slice(values, shape, device)?,
        Data::U8(values) | Data::Bool(values) => Tensor::from_slice(values, shape, device)?,
        Data::I32(_) | Data::F16(_) => {
            return Err(Error::input(format!(
                "{array:?} has no place in a network: use f32, i64 or u8"
            )));
        }
    })
}

/// Runs `f` on the f32 elements of a contiguous CPU tensor; `None` for any other tensor.
pub(crate) fn with_f32<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Option<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        return None;
    };
    Some(f(&values[start..end]))
}
