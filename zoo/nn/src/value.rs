//! Tensors that compute and record.

use std::{panic::Location, sync::Arc};

use candle_core::{DType, Tensor};

use crate::{
    Error, Result,
    error::here,
    memory::Held,
    tape::{Node, by_candle},
    trace::{self, NodeBuilder},
};

/// A candle tensor, and where it stands in the graph being recorded, if one is.
///
/// Operations are methods; each computes with candle and, in a trace, records the ONNX node that computes the same. Both stand in
/// one function (see `ops/`), so they cannot drift apart.
#[derive(Clone, Debug)]
pub struct Value {
    held: Held,
    origin: Origin,
    /// How it was computed, where gradients are wanted and our kernels did it.
    node: Option<Arc<Node>>,
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
        Self::with_origin(tensor, Origin::Constant)
    }

    pub(crate) fn with_origin(tensor: Tensor, origin: Origin) -> Self {
        Self {
            held: tensor.into(),
            origin,
            node: None,
        }
    }

    /// Without our own history.
    pub(crate) fn untracked(held: Held) -> Self {
        Self {
            held,
            origin: Origin::Unknown,
            node: None,
        }
    }

    /// Computed as `node` says.
    pub(crate) fn tracked(held: Held, node: Arc<Node>) -> Self {
        Self {
            held,
            origin: Origin::Unknown,
            node: Some(node),
        }
    }

    /// Our own history.
    pub(crate) fn own_node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The candle tensor, to read. No gradient flows through what is computed with it: for that there is [`Value::with_candle`].
    pub fn tensor(&self) -> &Tensor {
        self.held.lend()
    }

    /// What candle's own operations compute from `inputs`, for what `Value` has no operation for; gradients flow through it. It leaves no
    /// node, so it cannot be exported.
    pub fn with_candle(
        inputs: &[&Self],
        compute: impl Fn(&[Tensor]) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        Ok(by_candle(inputs, compute)?)
    }

    /// Sizes of the dimensions. In a trace the first is the batch of the moment: do not compute shapes from it, write 0 or -1.
    pub fn dims(&self) -> &[usize] {
        self.held.dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.held.peek().rank()
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
        self.held.peek().dtype()
    }

    /// The same value without its history: no gradient flows through it.
    pub fn detach(&self) -> Self {
        Self {
            held: self.held.detached(),
            origin: self.origin.clone(),
            node: None,
        }
    }

    /// The only element as a number.
    pub fn scalar(&self) -> Result<f64> {
        Ok(self
            .held
            .peek()
            .to_dtype(DType::F64)?
            .flatten_all()?
            .reshape(())?
            .to_scalar::<f64>()?)
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::with_origin(tensor, Origin::Unknown)
    }
}

/// Finishes an operation: names the author's line where candle refused it, and records its node where a trace is on.
/// `describe` gives the node's inputs and attributes; it runs only in a trace.
#[track_caller]
pub(crate) fn record(
    computed: candle_core::Result<Value>,
    op: &'static str,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Value> {
    let location = Location::caller();
    let value = computed.map_err(|source| Error::Op {
        op,
        at: here(location),
        source: Box::new(source),
    })?;
    match trace::record(op, location, &[value.held.peek()], describe)? {
        Some(mut origins) => Ok(Value {
            origin: origins.remove(0),
            ..value
        }),
        None => Ok(value),
    }
}

/// [`record`] for an operation with several results.
#[track_caller]
pub(crate) fn record_all(
    values: Vec<Value>,
    op: &'static str,
    describe: impl FnOnce(&mut NodeBuilder<'_>) -> Result<()>,
) -> Result<Vec<Value>> {
    let results: Vec<&Tensor> = values.iter().map(|v| v.held.peek()).collect();
    let Some(origins) = trace::record(op, Location::caller(), &results, describe)? else {
        return Ok(values);
    };
    let named = values.into_iter().zip(origins);
    Ok(named
        .map(|(value, origin)| Value { origin, ..value })
        .collect())
}
