//! The messages of the traits as JSON and named tensors.
//!
//! A tensor's name is its place in the message: `images`, or `weights/<parameter path>` for a group.
#![cfg_attr(not(feature = "host"), allow(dead_code, unused_imports))] // Half of it is the host's.

mod graph;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

pub(crate) use graph::{decode_graph, encode_graph};

use crate::{
    Array, Checkpoint, DType, DataSpec, Dataset, Elements, Error, EvaluateRequest, OpenRequest,
    Result, Split, StateRecord, Tensors, TrainRequest, View, abi::TensorRef,
};

/// The request of [`op::TRAIN`](crate::abi::op::TRAIN). Tensors: two splits, `resume.<group>/..`, `init/..`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrainCall {
    pub plugin: usize,
    pub model: Json,
    pub train: Json,
    pub seed: u64,
    pub threads: usize,
    pub device: String,
    pub data: DataSpec,
    pub resume: Option<CheckpointHead>,
    pub init_from: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_part: Option<String>,
}

/// The request of [`op::CHECKPOINT`](crate::abi::op::CHECKPOINT). Tensors: `model/..`, `ema/..`, `optimizer/..`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CheckpointHead {
    pub step: u64,
    pub ema: bool,
    pub state: StateRecord,
}

/// The request of [`op::OPEN`](crate::abi::op::OPEN). Tensors: `weights/..`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenCall {
    pub plugin: usize,
    pub model: Json,
    pub data: DataSpec,
    pub threads: usize,
    pub device: String,
}

/// The answer of [`op::OPEN`](crate::abi::op::OPEN).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub session: u64,
}

/// The request of [`op::RUN`](crate::abi::op::RUN) and [`op::EXPORT`](crate::abi::op::EXPORT).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GraphCall {
    pub graph: String,
}

/// The request of [`op::EVALUATE`](crate::abi::op::EVALUATE). Tensors: one split.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EvaluateCall {
    pub request: EvaluateRequest,
    #[serde(flatten)]
    pub shapes: Shapes,
}

/// Channels, height and width of what a split holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Shapes {
    pub image: [usize; 3],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<[usize; 3]>,
}

impl Shapes {
    pub fn of(spec: &DataSpec) -> Self {
        Self {
            image: spec.image,
            target: spec.target,
        }
    }
}

/// The request of [`op::IMAGES`](crate::abi::op::IMAGES). Tensor: `images`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImagesCall {
    pub step: u64,
    pub name: String,
}

/// JSON of a message.
pub(crate) fn write(message: &impl Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|e| Error::Internal(format!("cannot write JSON: {e}")))
}

/// A message from JSON.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|e| format!("its JSON cannot be read: {e}"))
}

/// Tensors on their way out, with names of their own.
#[derive(Default)]
pub(crate) struct Outgoing<'a> {
    entries: Vec<(String, DType, Vec<u64>, &'a [u8])>,
}

impl<'a> Outgoing<'a> {
    pub fn group(&mut self, group: &str, tensors: &'a Tensors) {
        for (name, array) in tensors {
            self.array(format!("{group}/{name}"), array);
        }
    }

    pub fn array(&mut self, name: String, array: &'a Array) {
        let TensorRef {
            dtype,
            shape,
            bytes,
            ..
        } = TensorRef::of("", array);
        self.entries.push((name, dtype, shape, bytes));
    }

    pub fn checkpoint(&mut self, prefix: &str, checkpoint: &'a Checkpoint) -> CheckpointHead {
        self.group(&format!("{prefix}model"), &checkpoint.model);
        if let Some(ema) = &checkpoint.ema {
            self.group(&format!("{prefix}ema"), ema);
        }
        self.group(&format!("{prefix}optimizer"), &checkpoint.optimizer);
        CheckpointHead {
            step: checkpoint.step,
            ema: checkpoint.ema.is_some(),
            state: checkpoint.state.clone(),
        }
    }

    /// `<split>.images`, `<split>.labels` and `<split>.targets`, by pointer.
    pub fn split(&mut self, name: &str, split: &Split<'a>, shapes: Shapes) {
        self.images(format!("{name}.images"), &split.images, shapes.image);
        if let Some((targets, shape)) = split.targets.zip(shapes.target) {
            self.images(format!("{name}.targets"), &targets, shape);
        }
        if let Some(labels) = split.labels {
            let (shape, bytes) = (vec![labels.len() as u64], bytemuck::cast_slice(labels));
            self.entries
                .push((format!("{name}.labels"), DType::I64, shape, bytes));
        }
    }

    fn images(&mut self, name: String, images: &View<'a>, shape: [usize; 3]) {
        let batch = std::iter::once(images.count as u64);
        let shape = batch.chain(shape.map(|d| d as u64)).collect();
        let (dtype, bytes): (_, &[u8]) = match images.elements {
            Elements::U8(bytes) => (DType::U8, bytes),
            Elements::F32(values) => (DType::F32, bytemuck::cast_slice(values)),
        };
        self.entries.push((name, dtype, shape, bytes));
    }

    /// What goes into a call. A view whose length is not what its count says is refused here, before anyone reads past its end.
    pub fn refs(&self) -> Result<Vec<TensorRef<'_>>> {
        let check = |(name, dtype, shape, bytes): &(String, DType, Vec<u64>, &'a [u8])| {
            let wanted = shape
                .iter()
                .try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d));
            if wanted == Some(bytes.len() as u64) {
                return Ok(());
            }
            Err(Error::input(format!(
                "{name}: {} bytes are not {dtype}{shape:?}",
                bytes.len()
            )))
        };
        self.entries.iter().try_for_each(check)?;
        let entries = self.entries.iter();
        Ok(entries
            .map(|(name, dtype, shape, bytes)| TensorRef {
                name,
                dtype: *dtype,
                shape: shape.clone(),
                bytes,
            })
            .collect())
    }
}

/// Tensors that came in, taken out by name.
pub(crate) struct Incoming<'a> {
    entries: BTreeMap<&'a str, &'a TensorRef<'a>>,
}

impl<'a> Incoming<'a> {
    pub fn new(tensors: &'a [TensorRef<'a>]) -> Self {
        Self {
            entries: tensors.iter().map(|t| (t.name, t)).collect(),
        }
    }

    /// Copies of all tensors named `<group>/..`.
    pub fn group(&mut self, group: &str) -> Result<Tensors, String> {
        let prefix = format!("{group}/");
        let mut found = Tensors::new();
        let taken: Vec<_> = self
            .entries
            .extract_if(.., |name, _| name.starts_with(&prefix))
            .collect();
        for (name, tensor) in taken {
            let array = tensor
                .to_array()
                .map_err(|e| format!("tensor {name:?}: {e}"))?;
            found.insert(name[prefix.len()..].to_owned(), array);
        }
        Ok(found)
    }

    pub fn checkpoint(&mut self, prefix: &str, head: CheckpointHead) -> Result<Checkpoint, String> {
        if head.step != head.state.step {
            return Err(format!(
                "a checkpoint of step {} holds the state of step {}",
                head.step, head.state.step
            ));
        }
        Ok(Checkpoint {
            step: head.step,
            model: self.group(&format!("{prefix}model"))?,
            ema: head
                .ema
                .then(|| self.group(&format!("{prefix}ema")))
                .transpose()?,
            optimizer: self.group(&format!("{prefix}optimizer"))?,
            state: head.state,
        })
    }

    /// The split called `name`, by pointer; `None` where there is none.
    pub fn split(&mut self, name: &str, shapes: Shapes) -> Result<Option<Split<'a>>, String> {
        let Some(images) = self.images(&format!("{name}.images"), shapes.image)? else {
            return Ok(None);
        };
        let count = images.count;
        let labels = format!("{name}.labels");
        let labels = match self.entries.remove(labels.as_str()) {
            None => None,
            Some(t) if t.dtype == DType::I64 && t.shape == [count as u64] => {
                let labels_are = aligned(t.bytes);
                Some(labels_are.ok_or_else(|| format!("tensor {labels:?} is not aligned"))?)
            }
            Some(t) => {
                return Err(format!(
                    "tensor {labels:?} is {}{:?}, not i64[{count}]",
                    t.dtype, t.shape
                ));
            }
        };
        let targets = match shapes.target {
            Some(shape) => self.images(&format!("{name}.targets"), shape)?,
            None => None,
        };
        if let Some(other) = targets.filter(|targets| targets.count != count) {
            return Err(format!("{} targets for {count} images", other.count));
        }
        Ok(Some(Split {
            images,
            labels,
            targets,
        }))
    }

    fn images(&mut self, name: &str, shape: [usize; 3]) -> Result<Option<View<'a>>, String> {
        let Some(tensor) = self.entries.remove(name) else {
            return Ok(None);
        };
        let wrong = |what: &str| format!("tensor {name:?} is {what}");
        let count = match tensor.shape[..] {
            [n, c, h, w] if [c, h, w] == shape.map(|d| d as u64) => n as usize,
            _ => {
                return Err(wrong(&format!(
                    "{:?}, not images of {shape:?}",
                    tensor.shape
                )));
            }
        };
        let elements = match tensor.dtype {
            DType::U8 => Elements::U8(tensor.bytes),
            DType::F32 => Elements::F32(aligned(tensor.bytes).ok_or_else(|| wrong("not aligned"))?),
            other => return Err(wrong(&format!("{other}, neither u8 nor f32"))),
        };
        Ok(Some(View { count, elements }))
    }

    /// An error where something is left that nobody asked for.
    pub fn finish(self) -> Result<(), String> {
        match self.entries.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("tensor {name:?} belongs nowhere")),
        }
    }
}

/// `bytes` as elements, where they are aligned. No bytes are, wherever they are.
fn aligned<T: bytemuck::Pod>(bytes: &[u8]) -> Option<&[T]> {
    match bytes {
        [] => Some(&[]),
        _ => bytemuck::try_cast_slice(bytes).ok(),
    }
}

impl TrainCall {
    /// A training as a message.
    pub fn new<'a>(
        plugin: usize,
        request: &'a TrainRequest,
        data: &Dataset<'a>,
        out: &mut Outgoing<'a>,
    ) -> Self {
        let shapes = Shapes::of(data.spec);
        out.split("train", &data.train, shapes);
        if let Some(valid) = &data.valid {
            out.split("valid", valid, shapes);
        }
        let resume = request.resume.as_ref();
        if let Some(weights) = &request.init_from {
            out.group("init", weights);
        }
        Self {
            plugin,
            model: request.model.clone(),
            train: request.train.clone(),
            seed: request.seed,
            threads: request.threads,
            device: request.device.clone(),
            data: data.spec.clone(),
            resume: resume.map(|checkpoint| out.checkpoint("resume.", checkpoint)),
            init_from: request.init_from.is_some(),
            init_part: request.init_part.clone(),
        }
    }
}

impl OpenCall {
    /// An opening as a message.
    pub fn new<'a>(plugin: usize, request: &'a OpenRequest, out: &mut Outgoing<'a>) -> Self {
        out.group("weights", &request.weights);
        Self {
            plugin,
            model: request.model.clone(),
            data: request.data.clone(),
            threads: request.threads,
            device: request.device.clone(),
        }
    }
}
