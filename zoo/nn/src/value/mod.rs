//! Tensors that compute and record.

mod grad;
mod operation;
mod tape;

use std::sync::Arc;

use candle_core::{DType, Tensor};

pub use grad::{GradOptions, Gradients, grad};
pub(crate) use operation::{Outcome, attempt, op, op_list, op_results};
pub use tape::twice_differentiable;
pub(crate) use tape::{Node, Pull, Sink, without_gradients};

use crate::{Error, Result, memory::Held, recorder::Origin};

/// A candle tensor, how it was computed where gradients are wanted, and where it stands in the graph being recorded, if one is.
///
/// Operations are methods and operators; each computes and, in a trace, records the ONNX node that computes the same. Both stand in one function
/// (see `ops/`), so they cannot drift apart.
///
/// No operation returns a `Result`: one that fails gives a value that carries the error, with the author's file and line, through all that is computed
/// from it, to the first place that asks: [`Value::check`], [`Value::tensor`], [`Value::scalar`], [`Value::backward`], or a graph's output.
#[derive(Clone, Debug)]
pub struct Value(State);

#[derive(Clone, Debug)]
enum State {
    Computed(Computed),
    Failed(Arc<Error>),
}

/// A value that did not fail.
#[derive(Clone, Debug)]
pub(crate) struct Computed {
    pub held: Held,
    pub origin: Origin,
    /// How it was computed, where gradients are wanted.
    pub node: Option<Arc<Node>>,
}

impl Computed {
    /// Without history.
    pub fn untracked(held: impl Into<Held>) -> Self {
        Self {
            held: held.into(),
            origin: Origin::Unknown,
            node: None,
        }
    }

    pub fn dims(&self) -> &[usize] {
        self.held.dims()
    }

    pub fn rank(&self) -> usize {
        self.held.dims().len()
    }

    /// The tensor without candle's history, for candle's own operations.
    pub fn lent(&self) -> Tensor {
        self.held.lend().detach()
    }
}

impl Value {
    /// A constant of the network, such as a mask: recorded with its elements. It must not depend on the batch.
    pub fn constant(tensor: Tensor) -> Self {
        Self::with_origin(tensor, Origin::Constant)
    }

    /// What could not be made: the error shows where the value, or what is computed from it, is first asked for.
    pub fn failed(error: impl Into<Error>) -> Self {
        Self(State::Failed(match error.into() {
            Error::Failed(error) => error,
            error => Arc::new(error),
        }))
    }

    pub(crate) fn with_origin(tensor: Tensor, origin: Origin) -> Self {
        Computed {
            held: tensor.into(),
            origin,
            node: None,
        }
        .into()
    }

    /// What was computed, or why it was not.
    pub(crate) fn get(&self) -> Result<&Computed> {
        match &self.0 {
            State::Computed(computed) => Ok(computed),
            State::Failed(error) => Err(Error::Failed(error.clone())),
        }
    }

    /// An error if this value, or one it was computed from, failed: the first one.
    pub fn check(&self) -> Result<()> {
        self.get().map(|_| ())
    }

    /// The candle tensor, to read. No gradient flows through what is computed with it: for that there is [`Value::with_candle`].
    pub fn tensor(&self) -> Result<&Tensor> {
        Ok(self.get()?.held.lend())
    }

    /// Sizes of the dimensions; none of a failed value. In a trace the first is the batch of the moment: do not compute shapes from it, write 0 or -1.
    pub fn dims(&self) -> &[usize] {
        match &self.0 {
            State::Computed(computed) => computed.dims(),
            State::Failed(_) => &[],
        }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims().len()
    }

    /// Size of dimension `axis`; an error where there is none.
    #[track_caller]
    pub fn dim(&self, axis: usize) -> Result<usize> {
        let at = std::panic::Location::caller();
        let dims = self.get()?.dims();
        dims.get(axis).copied().ok_or_else(|| {
            Error::usage(
                "dim",
                at,
                format!("no dimension {axis} in a value of shape {dims:?}"),
            )
        })
    }

    /// Element type; f32 of a failed value.
    pub fn dtype(&self) -> DType {
        match &self.0 {
            State::Computed(computed) => computed.held.peek().dtype(),
            State::Failed(_) => DType::F32,
        }
    }

    /// The same value without its history: no gradient flows through it.
    pub fn detach(&self) -> Self {
        match &self.0 {
            State::Computed(computed) => Computed {
                held: computed.held.detached(),
                origin: computed.origin.clone(),
                node: None,
            }
            .into(),
            State::Failed(_) => self.clone(),
        }
    }

    /// The same value with its elements one after another, for a part of a weight that is read again and again: kernels would copy it
    /// each time. Nothing is recorded.
    pub(crate) fn packed(&self) -> Self {
        let packed = |computed: &Computed| -> Result<Computed> {
            Ok(Computed {
                held: computed.held.contiguous()?,
                ..computed.clone()
            })
        };
        self.get().and_then(packed).into()
    }

    /// The only element as a number.
    pub fn scalar(&self) -> Result<f64> {
        let tensor = self.get()?.held.peek();
        Ok(tensor
            .to_dtype(DType::F64)?
            .flatten_all()?
            .reshape(())?
            .to_scalar::<f64>()?)
    }

    /// All elements as f32, the last dimension the fastest.
    pub fn to_vec(&self) -> Result<Vec<f32>> {
        let tensor = self.get()?.held.peek();
        Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

impl From<Computed> for Value {
    fn from(computed: Computed) -> Self {
        Self(State::Computed(computed))
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::with_origin(tensor, Origin::Unknown)
    }
}

/// A failed value for an error.
impl<T: Into<Self>> From<Result<T>> for Value {
    fn from(made: Result<T>) -> Self {
        match made {
            Ok(value) => value.into(),
            Err(error) => Self::failed(error),
        }
    }
}
