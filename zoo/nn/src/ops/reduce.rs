//! Sums and their kin.

use super::{axis_of, fused, kernels};
use crate::{Error, Result, Value, tape::by_candle, value::record};

impl Value {
    #[track_caller]
    fn axes_of(&self, op: &'static str, axes: &[i64]) -> Result<Vec<usize>> {
        let mut resolved = Vec::with_capacity(axes.len());
        for &axis in axes {
            resolved.push(axis_of(self, op, axis)?);
        }
        resolved.sort_unstable();
        resolved.dedup();
        if resolved.len() != axes.len() || axes.is_empty() {
            return Err(Error::usage(
                op,
                format!("axes {axes:?} must be different and at least one"),
            ));
        }
        Ok(resolved)
    }

    /// Sums over `axes`; `keep` leaves them with size 1.
    #[track_caller]
    pub fn sum(&self, axes: &[i64], keep: bool) -> Result<Self> {
        let axes = self.axes_of("ReduceSum", axes)?;
        let computed = kernels::sum(self, &axes, keep, false);
        let list: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        record(computed, "ReduceSum", |node| {
            node.input(self)?
                .ints("axes", &list)
                .map(|node| node.int("keepdims", keep.into()))
                .map(|_| ())
        })
    }

    /// Means over `axes`; `keep` leaves them with size 1.
    #[track_caller]
    pub fn mean(&self, axes: &[i64], keep: bool) -> Result<Self> {
        let axes = self.axes_of("ReduceMean", axes)?;
        let computed = kernels::sum(self, &axes, keep, true);
        record(computed, "ReduceMean", |node| {
            node.input(self)
                .map(|node| node.int_list("axes", &axes).int("keepdims", keep.into()))
                .map(|_| ())
        })
    }

    /// Largest elements over `axis`; `keep` leaves it with size 1.
    #[track_caller]
    pub fn max(&self, axis: i64, keep: bool) -> Result<Self> {
        let axis = axis_of(self, "ReduceMax", axis)?;
        let computed = by_candle(&[self], |t| {
            if keep {
                t[0].max_keepdim(axis)
            } else {
                t[0].max(axis)
            }
        });
        record(computed, "ReduceMax", |node| {
            node.input(self)
                .map(|node| node.int_list("axes", &[axis]).int("keepdims", keep.into()))
                .map(|_| ())
        })
    }

    /// Smallest elements over `axis`; `keep` leaves it with size 1.
    #[track_caller]
    pub fn min(&self, axis: i64, keep: bool) -> Result<Self> {
        let axis = axis_of(self, "ReduceMin", axis)?;
        let computed = by_candle(&[self], |t| {
            if keep {
                t[0].min_keepdim(axis)
            } else {
                t[0].min(axis)
            }
        });
        record(computed, "ReduceMin", |node| {
            node.input(self)
                .map(|node| node.int_list("axes", &[axis]).int("keepdims", keep.into()))
                .map(|_| ())
        })
    }

    /// Place of the largest element along `axis`, i64.
    #[track_caller]
    pub fn argmax(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "ArgMax", axis)?;
        let computed = by_candle(&[self], |t| {
            t[0].argmax(axis)?.to_dtype(candle_core::DType::I64)
        });
        record(computed, "ArgMax", |node| {
            node.input(self)
                .map(|node| node.int("axis", axis as i64).int("keepdims", 0))
                .map(|_| ())
        })
    }

    /// e^x over its sum along `axis`.
    #[track_caller]
    pub fn softmax(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "Softmax", axis)?;
        record(kernels::softmax(self, axis), "Softmax", |node| {
            node.input(self)
                .map(|node| node.int("axis", axis as i64))
                .map(|_| ())
        })
    }

    /// The logarithm of [`Value::softmax`].
    #[track_caller]
    pub fn log_softmax(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "LogSoftmax", axis)?;
        record(kernels::log_softmax(self, axis), "LogSoftmax", |node| {
            node.input(self)
                .map(|node| node.int("axis", axis as i64))
                .map(|_| ())
        })
    }

    /// -log p of the class of each row, i64 or u32 `[N]`, under these logits `[N,K]`: `[N]`.
    #[track_caller]
    pub fn cross_entropy_rows(&self, classes: &Self) -> Result<Self> {
        // Fused only outside a trace, which needs the parts.
        match fused(|| kernels::cross_entropy(self, classes)) {
            Some(fused) => record(fused, "cross_entropy", |_| Ok(())),
            None => {
                let picked = self.log_softmax(1)?.gather(1, &classes.unsqueeze(1)?)?;
                picked.squeeze(1)?.neg()
            }
        }
    }

    /// log sum e^x along `axis`, which goes; the largest element is taken out first, so nothing overflows.
    #[track_caller]
    pub fn logsumexp(&self, axis: i64) -> Result<Self> {
        let largest = self.detach().max(axis, true)?;
        let sum = self.sub(&largest)?.exp()?.sum(&[axis], true)?;
        sum.log()?.add(&largest)?.squeeze(axis)
    }

    /// Running sums along `axis`.
    #[track_caller]
    pub fn cumsum(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "CumSum", axis)?;
        let computed = by_candle(&[self], |t| t[0].cumsum(axis));
        record(computed, "CumSum", |node| {
            node.input(self)?.index("axis", axis as i64).map(|_| ())
        })
    }
}
