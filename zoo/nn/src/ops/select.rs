//! Picking elements by index.

use super::{axis_of, by_candle};
use crate::{
    Value,
    value::{Computed, op},
};

impl Value {
    /// Rows of this table `[V, D]` by `index` i64 `[...]`: `[..., D]`.
    #[track_caller]
    pub fn lookup(&self, index: &Self) -> Self {
        op(
            "Gather",
            [self, index],
            |[table, index]| {
                let &[_, width] = table.dims() else {
                    let dims = table.dims();
                    return Err(format!("the table has shape {dims:?}, not [rows, width]").into());
                };
                let mut shape = index.dims().to_vec();
                shape.push(width);
                let held = by_candle(&[table, index], |t| {
                    let flat = t[1].flatten_all()?;
                    t[0].index_select(&flat, 0)?.reshape(shape.as_slice())
                })?;
                Ok(Computed::tracked(held, &[table, index], |p| {
                    p.give(0, |p| p.g().added_to_rows(p.x(1), p.x(0).dims()));
                }))
            },
            |node| node.int("axis", 0).done(),
        )
    }

    /// Zeros of `shape [V, D]` with these rows `[..., D]` added where `index` says: the gradient of [`Value::lookup`].
    fn added_to_rows(&self, index: &Self, shape: &[usize]) -> Self {
        let (rows, width) = (shape[0], shape[1]);
        op(
            "gradient of Gather",
            [self, index],
            |[g, index]| {
                let held = by_candle(&[g, index], |t| {
                    let g = t[0].reshape(((), width))?;
                    let zeros = candle_core::Tensor::zeros((rows, width), g.dtype(), g.device())?;
                    zeros.index_add(&t[1].flatten_all()?, &g, 0)
                })?;
                Ok(Computed::tracked(held, &[g, index], |p| {
                    p.give(0, |p| p.g().lookup(p.x(1)));
                }))
            },
            |_| Err(not_exported()),
        )
    }

    /// Along `axis`, the element that `index` i64 names at each place.
    #[track_caller]
    pub fn gather(&self, axis: i64, index: &Self) -> Self {
        let from_front = axis_of(self.dims(), axis).unwrap_or(0); // an error below
        op(
            "GatherElements",
            [self, index],
            |[x, index]| {
                let axis = axis_of(x.dims(), axis)?;
                let held = by_candle(&[x, index], |t| {
                    t[0].contiguous()?.gather(&t[1].contiguous()?, axis)
                })?;
                Ok(Computed::tracked(held, &[x, index], move |p| {
                    p.give(0, |p| p.g().added_along(axis, p.x(1), p.x(0).dims()));
                }))
            },
            |node| node.int("axis", from_front as i64).done(),
        )
    }

    /// Zeros of `shape` with these elements added along `axis` where `index` says: the gradient of [`Value::gather`].
    fn added_along(&self, axis: usize, index: &Self, shape: &[usize]) -> Self {
        op(
            "gradient of GatherElements",
            [self, index],
            |[g, index]| {
                let held = by_candle(&[g, index], |t| {
                    let zeros = candle_core::Tensor::zeros(shape, t[0].dtype(), t[0].device())?;
                    zeros.scatter_add(&t[1].contiguous()?, &t[0].contiguous()?, axis)
                })?;
                Ok(Computed::tracked(held, &[g, index], move |p| {
                    p.give(0, |p| p.g().gather(axis as i64, p.x(1)));
                }))
            },
            |_| Err(not_exported()),
        )
    }
}

fn not_exported() -> crate::Error {
    crate::Error::input("gradients of look-ups are not exported")
}
