//! Picking elements by index.

use super::axis_of;
use crate::{Error, Result, Value, tape::by_candle, value::record};

impl Value {
    /// Rows of this table `[V, D]` by `index` i64 `[...]`: `[..., D]`.
    #[track_caller]
    pub fn lookup(&self, index: &Self) -> Result<Self> {
        let [_, width] = self.dims() else {
            return Err(Error::usage(
                "Gather",
                format!("the table has shape {:?}, not [rows, width]", self.dims()),
            ));
        };
        let mut shape = index.dims().to_vec();
        shape.push(*width);
        let computed = by_candle(&[self, index], |t| {
            let flat = t[1].flatten_all()?;
            t[0].index_select(&flat, 0)?.reshape(shape.as_slice())
        });
        record(computed, "Gather", |node| {
            node.input(self)?
                .input(index)
                .map(|node| node.int("axis", 0))
                .map(|_| ())
        })
    }

    /// Along `axis`, the element that `index` i64 names at each place.
    #[track_caller]
    pub fn gather(&self, axis: i64, index: &Self) -> Result<Self> {
        let axis = axis_of(self, "GatherElements", axis)?;
        let computed = by_candle(&[self, index], |t| {
            t[0].contiguous()?.gather(&t[1].contiguous()?, axis)
        });
        record(computed, "GatherElements", |node| {
            node.input(self)?
                .input(index)
                .map(|node| node.int("axis", axis as i64))
                .map(|_| ())
        })
    }
}
