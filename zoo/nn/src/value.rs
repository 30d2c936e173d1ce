//! Tensors that compute and record.

use std::{panic::Location, sync::Arc};

use candle_core::{DType, Tensor};

use crate::{
    Error, Result,
    error::here,
    trace::{self, NodeBuilder},
};

/// A candle tensor, and where it stands in the graph being recorded, if one is.
///
/// Operations are methods; each computes with candle and, in a trace, records the ONNX node that computes the same. Both stand in
/// one function (see `ops/`), so they cannot drift apart.
#[derive(Clone, Debug)]
pub struct Value {
    tensor: Tensor,
    origin: Origin,
}

/// Where a value comes from, as a trace sees it.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Computed outside any trace.
    Unknown,
    /// A parameter or buffer under this path.
    Param(Arc<str>),
    /// Declared constant by the author.
    Constant,
    /// A value of the trace with this serial number.
    Traced { trace: u64, name: Arc<str> },
}

impl Value {
    /// A constant of the network, such as a mask: recorded with its elements. It must not depend on the batch.
    pub fn constant(tensor: Tensor) -> Self {
        Self {
            tensor,
            origin: Origin::Constant,
        }
    }

    pub(crate) fn with_origin(tensor: Tensor, origin: Origin) -> Self {
        Self { tensor, origin }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The candle tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Sizes of the dimensions. In a trace the first is the batch of the moment: do not compute shapes from it, write 0 or -1.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.tensor.rank()
    }

    /// Size of dimension `axis`; an error where there is none.
    #[track_caller]
    pub fn dim(&self, axis: usize) -> Result<usize> {
        let dims = self.dims();
        match dims.get(axis) {
            Some(&size) => Ok(size),
            None => Err(Error::usage(
                "dim",
                format!("no dimension {axis} in a value of shape {dims:?}"),
            )),
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// The same value without its history: no gradient flows through it.
    pub fn detach(&self) -> Self {
        Self {
            tensor: self.tensor.detach(),
            origin: self.origin.clone(),
        }
    }

    /// The only element as a number.
    pub fn scalar(&self) -> Result<f64> {
        Ok(self
            .tensor
            .to_dtype(DType::F64)?
            .flatten_all()?
            .reshape(())?
            .to_scalar::<f64>()?)
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self {
            tensor,
            origin: Origin::Unknown,
        }
    }
}

/// Finishes an operation: names the author's line where candle refused it, and records its node where a trace is on.
/// `describe` gives the node's inputs and attributes; it runs only in a trace.
#[track_caller]
pub(crate) fn record(
    computed: candle_core::Result<Tensor>,
    op: &'static str,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Value> {
    let location = Location::caller();
    let tensor = computed.map_err(|source| Error::Op {
        op,
        at: here(location),
        source: Box::new(source),
    })?;
    match trace::record(op, location, &tensor, describe)? {
        Some(origin) => Ok(Value { tensor, origin }),
        None => Ok(Value::from(tensor)),
    }
}
