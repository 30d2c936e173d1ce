//! Sums and their kin.

use candle_core::Tensor;

use super::{axis_of, by_candle, kernels, may_fuse};
use crate::{
    Value,
    value::{Computed, Outcome, op},
};

/// The axes counted from the front, in order.
fn axes_of(dims: &[usize], axes: &[i64]) -> Outcome<Vec<usize>> {
    let mut resolved = Vec::with_capacity(axes.len());
    for &axis in axes {
        resolved.push(axis_of(dims, axis)?);
    }
    resolved.sort_unstable();
    resolved.dedup();
    if resolved.len() != axes.len() || axes.is_empty() {
        return Err(format!("axes {axes:?} must be different and at least one").into());
    }
    Ok(resolved)
}

/// Axes for a node: of a value that has them.
fn listed(value: &Value, axes: &[i64]) -> Vec<i64> {
    let axes = axes_of(value.dims(), axes).unwrap_or_default();
    axes.into_iter().map(|axis| axis as i64).collect()
}

impl Value {
    /// Sums over `axes`; `keep` leaves them with size 1.
    #[track_caller]
    pub fn sum(&self, axes: &[i64], keep: bool) -> Self {
        op(
            "ReduceSum",
            [self],
            |[x]| Ok(kernels::sum(x, &axes_of(x.dims(), axes)?, keep, false)?),
            |node| {
                node.ints("axes", &listed(self, axes))?
                    .int("keepdims", keep.into())
                    .done()
            },
        )
    }

    /// Means over `axes`; `keep` leaves them with size 1.
    #[track_caller]
    pub fn mean(&self, axes: &[i64], keep: bool) -> Self {
        op(
            "ReduceMean",
            [self],
            |[x]| Ok(kernels::sum(x, &axes_of(x.dims(), axes)?, keep, true)?),
            |node| {
                node.i64_list("axes", &listed(self, axes))
                    .int("keepdims", keep.into())
                    .done()
            },
        )
    }

    /// What was broadcast from `dims`, summed over all places that an element went to.
    pub(crate) fn sum_to(&self, dims: &[usize]) -> Self {
        let own = self.dims();
        if own == dims || own.len() < dims.len() {
            return self.clone();
        }
        let missing = own.len() - dims.len();
        let repeated = |i: &usize| *i < missing || (dims[i - missing] == 1 && own[*i] != 1);
        let axes: Vec<i64> = (0..own.len()).filter(repeated).map(|i| i as i64).collect();
        self.sum(&axes, true).shaped(dims)
    }

    /// Largest elements over `axis`; `keep` leaves it with size 1.
    #[track_caller]
    pub fn max(&self, axis: i64, keep: bool) -> Self {
        self.extreme("ReduceMax", axis, keep, |t, axis| t.max_keepdim(axis))
    }

    /// Smallest elements over `axis`; `keep` leaves it with size 1.
    #[track_caller]
    pub fn min(&self, axis: i64, keep: bool) -> Self {
        self.extreme("ReduceMin", axis, keep, |t, axis| t.min_keepdim(axis))
    }

    #[track_caller]
    fn extreme(
        &self,
        name: &'static str,
        axis: i64,
        keep: bool,
        compute: fn(&Tensor, usize) -> candle_core::Result<Tensor>,
    ) -> Self {
        op(
            name,
            [self],
            |[x]| {
                let axis = axis_of(x.dims(), axis)?;
                let held = by_candle(&[x], |t| {
                    let extreme = compute(&t[0], axis)?;
                    if keep {
                        Ok(extreme)
                    } else {
                        extreme.squeeze(axis)
                    }
                })?;
                Ok(Computed::tracked(held, &[x], move |p| {
                    p.give(0, |p| {
                        let mut with_one = p.x(0).dims().to_vec();
                        with_one[axis] = 1;
                        // Where several are the largest, each gets its share.
                        let y = p.y().detach().shaped(&with_one);
                        let is = p.x(0).detach().equal(&y).cast(p.g().dtype());
                        let share = &is / is.sum(&[axis as i64], true);
                        p.g().shaped(&with_one) * share
                    });
                }))
            },
            |node| {
                node.i64_list("axes", &listed(self, &[axis]))
                    .int("keepdims", keep.into())
                    .done()
            },
        )
    }

    /// Place of the largest element along `axis`, i64.
    #[track_caller]
    pub fn argmax(&self, axis: i64) -> Self {
        op(
            "ArgMax",
            [self],
            |[x]| {
                let axis = axis_of(x.dims(), axis)?;
                let held = by_candle(&[x], |t| {
                    t[0].argmax(axis)?.to_dtype(candle_core::DType::I64)
                })?;
                Ok(Computed::untracked(held))
            },
            |node| {
                node.int("axis", front(self, axis))
                    .int("keepdims", 0)
                    .done()
            },
        )
    }

    /// e^x over its sum along `axis`.
    #[track_caller]
    pub fn softmax(&self, axis: i64) -> Self {
        op(
            "Softmax",
            [self],
            |[x]| Ok(kernels::softmax(x, axis_of(x.dims(), axis)?, false)?),
            |node| node.int("axis", front(self, axis)).done(),
        )
    }

    /// The logarithm of [`Value::softmax`].
    #[track_caller]
    pub fn log_softmax(&self, axis: i64) -> Self {
        op(
            "LogSoftmax",
            [self],
            |[x]| Ok(kernels::softmax(x, axis_of(x.dims(), axis)?, true)?),
            |node| node.int("axis", front(self, axis)).done(),
        )
    }

    /// -log p of the class of each row, i64 or u32 `[N]`, under these logits `[N,K]`: `[N]`.
    #[track_caller]
    pub fn cross_entropy_rows(&self, classes: &Self) -> Self {
        if matches!(self.dims(), [_, classes] if *classes > 0) && may_fuse(&[self]) {
            let fused = |[x, classes]: [&Computed; 2]| Ok(kernels::cross_entropy(x, classes)?);
            return op("cross_entropy", [self, classes], fused, |_| Ok(()));
        }
        let picked = self.log_softmax(1).gather(1, &classes.unsqueeze(1));
        -picked.squeeze(1)
    }

    /// log sum e^x along `axis`, which goes; the largest element is taken out first, so nothing overflows.
    #[track_caller]
    pub fn logsumexp(&self, axis: i64) -> Self {
        let largest = self.detach().max(axis, true);
        let sum = (self - &largest).exp().sum(&[axis], true);
        (sum.log() + largest).squeeze(axis)
    }

    /// Running sums along `axis`.
    #[track_caller]
    pub fn cumsum(&self, axis: i64) -> Self {
        op(
            "CumSum",
            [self],
            |[x]| {
                let at = axis_of(x.dims(), axis)?;
                let held = by_candle(&[x], |t| t[0].cumsum(at))?;
                Ok(Computed::tracked(held, &[x], move |p| {
                    // An element is part of its own sum and of those after it.
                    p.give(0, |p| {
                        p.g().sum(&[at as i64], true) - p.g().cumsum(at as i64) + p.g()
                    });
                }))
            },
            |node| node.index("axis", front(self, axis))?.done(),
        )
    }
}

/// The axis of a value that has it, for a node.
fn front(value: &Value, axis: i64) -> i64 {
    if axis < 0 {
        axis + value.rank() as i64
    } else {
        axis
    }
}
