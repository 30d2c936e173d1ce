//! Sums and their kin.

use candle_core::Tensor;

use super::axis_of;
use crate::{Error, Result, Value, value::record};

/// Whether a reduced dimension stays, with size 1.
fn finish(tensor: Tensor, axes: &[usize], keep: bool) -> candle_core::Result<Tensor> {
    if keep {
        return Ok(tensor);
    }
    // From the last, so that the ones before keep their places.
    axes.iter()
        .rev()
        .try_fold(tensor, |t, &axis| t.squeeze(axis))
}

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
        let computed = self
            .tensor()
            .sum_keepdim(axes.as_slice())
            .and_then(|t| finish(t, &axes, keep));
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
        let computed = self
            .tensor()
            .mean_keepdim(axes.as_slice())
            .and_then(|t| finish(t, &axes, keep));
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
        let computed = self
            .tensor()
            .max_keepdim(axis)
            .and_then(|t| finish(t, &[axis], keep));
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
        let computed = self
            .tensor()
            .min_keepdim(axis)
            .and_then(|t| finish(t, &[axis], keep));
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
        let computed = self
            .tensor()
            .argmax(axis)
            .and_then(|t| t.to_dtype(candle_core::DType::I64));
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
        let computed =
            exponentials(self.tensor(), axis).and_then(|(_, exp, sum)| exp.broadcast_div(&sum));
        record(computed, "Softmax", |node| {
            node.input(self)
                .map(|node| node.int("axis", axis as i64))
                .map(|_| ())
        })
    }

    /// The logarithm of [`Value::softmax`].
    #[track_caller]
    pub fn log_softmax(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "LogSoftmax", axis)?;
        let computed = exponentials(self.tensor(), axis)
            .and_then(|(shifted, _, sum)| shifted.broadcast_sub(&sum.log()?));
        record(computed, "LogSoftmax", |node| {
            node.input(self)
                .map(|node| node.int("axis", axis as i64))
                .map(|_| ())
        })
    }

    /// log sum e^x along `axis`, which goes; the largest element is taken out first, so nothing overflows.
    #[track_caller]
    pub fn logsumexp(&self, axis: i64) -> Result<Self> {
        let largest = self.max(axis, true)?.detach();
        let sum = self.sub(&largest)?.exp()?.sum(&[axis], true)?;
        sum.log()?.add(&largest)?.squeeze(axis)
    }

    /// Running sums along `axis`.
    #[track_caller]
    pub fn cumsum(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "CumSum", axis)?;
        record(self.tensor().cumsum(axis), "CumSum", |node| {
            node.input(self)?.index("axis", axis as i64).map(|_| ())
        })
    }
}

/// x minus its largest, the exponentials of that, and their sum.
fn exponentials(x: &Tensor, axis: usize) -> candle_core::Result<(Tensor, Tensor, Tensor)> {
    let shifted = x.broadcast_sub(&x.max_keepdim(axis)?.detach())?;
    let exp = shifted.exp()?;
    let sum = exp.sum_keepdim(axis)?;
    Ok((shifted, exp, sum))
}
