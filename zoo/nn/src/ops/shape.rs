//! Shapes: nothing here changes an element.

use super::{axis_of, kernels};
use crate::{Error, Result, Value, value::record};

impl Value {
    /// Another shape for the same elements, in ONNX's words: 0 keeps the dimension at that place, -1 (once) takes what remains.
    #[track_caller]
    pub fn reshape(&self, shape: &[i64]) -> Result<Self> {
        let resolved = match resolve(self.dims(), shape) {
            Ok(resolved) => resolved,
            Err(message) => return Err(Error::usage("Reshape", message)),
        };
        record(kernels::reshape(self, &resolved), "Reshape", |node| {
            node.input(self)?.ints("shape", shape).map(|_| ())
        })
    }

    /// Everything from `axis` on in one dimension, `[N, ...] -> [N, D]` for 1. Only 0 and 1 are possible.
    #[track_caller]
    pub fn flatten(&self, axis: usize) -> Result<Self> {
        match axis {
            0 => self.reshape(&[-1]),
            1 => self.reshape(&[0, -1]),
            _ => Err(Error::usage(
                "Reshape",
                "flatten starts at dimension 0 or 1",
            )),
        }
    }

    /// Dimensions in another order: the result's dimension i is this one's `order[i]`.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        record(kernels::permute(self, order), "Transpose", |node| {
            node.input(self)
                .map(|node| node.int_list("perm", order))
                .map(|_| ())
        })
    }

    /// Elements `start..end` along `axis`; negative counts from the end.
    #[track_caller]
    pub fn slice(&self, axis: i64, start: usize, end: usize) -> Result<Self> {
        let axis = axis_of(self, "Slice", axis)?;
        if start > end {
            return Err(Error::usage(
                "Slice",
                format!("starts at {start} and ends at {end}"),
            ));
        }
        let computed = kernels::slice(self, axis, start, end - start);
        record(computed, "Slice", |node| {
            node.input(self)?
                .ints("starts", &[start as i64])?
                .ints("ends", &[end as i64])?
                .ints("axes", &[axis as i64])
                .map(|_| ())
        })
    }

    /// `count` equal parts along `axis`.
    #[track_caller]
    pub fn chunk(&self, count: usize, axis: i64) -> Result<Vec<Self>> {
        let index = axis_of(self, "Slice", axis)?;
        let size = self.dims()[index];
        if count == 0 || !size.is_multiple_of(count) {
            return Err(Error::usage(
                "Slice",
                format!("dimension {index} of {size} does not fall into {count} equal parts"),
            ));
        }
        let part = size / count;
        let mut parts = Vec::with_capacity(count);
        for i in 0..count {
            parts.push(self.slice(axis, i * part, (i + 1) * part)?);
        }
        Ok(parts)
    }

    /// Without dimension `axis`, which has size 1.
    #[track_caller]
    pub fn squeeze(&self, axis: i64) -> Result<Self> {
        let axis = axis_of(self, "Squeeze", axis)?;
        if self.dims()[axis] != 1 {
            return Err(Error::usage(
                "Squeeze",
                format!("dimension {axis} of {:?} is not 1", self.dims()),
            ));
        }
        let mut shape = self.dims().to_vec();
        shape.remove(axis);
        record(kernels::reshape(self, &shape), "Squeeze", |node| {
            node.input(self)?.ints("axes", &[axis as i64]).map(|_| ())
        })
    }

    /// With a new dimension of size 1 at `axis`.
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Result<Self> {
        if axis > self.rank() {
            return Err(Error::usage(
                "Unsqueeze",
                format!("axis {axis} is outside a value of shape {:?}", self.dims()),
            ));
        }
        let mut shape = self.dims().to_vec();
        shape.insert(axis, 1);
        record(kernels::reshape(self, &shape), "Unsqueeze", |node| {
            node.input(self)?.ints("axes", &[axis as i64]).map(|_| ())
        })
    }

    /// Dimensions of size 1 repeated to `shape`; 1 in `shape` keeps what is there.
    #[track_caller]
    pub fn expand(&self, shape: &[usize]) -> Result<Self> {
        let target = candle_core::Shape::from(shape);
        let computed = self
            .held()
            .peek()
            .shape()
            .broadcast_shape_binary_op(&target, "expand")
            .and_then(|shape| kernels::expand(self, &shape));
        let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        record(computed, "Expand", |node| {
            node.input(self)?.ints("shape", &shape).map(|_| ())
        })
    }
}

/// The values one after the other along `axis`; negative counts from the end.
#[track_caller]
pub fn concat(values: &[&Value], axis: i64) -> Result<Value> {
    let Some(first) = values.first() else {
        return Err(Error::usage("Concat", "needs at least one value"));
    };
    let axis = axis_of(first, "Concat", axis)?;
    record(kernels::concat(values, axis), "Concat", |node| {
        for value in values {
            node.input(value)?;
        }
        node.int("axis", axis as i64);
        Ok(())
    })
}

/// The values side by side along a new dimension `axis`.
#[track_caller]
pub fn stack(values: &[&Value], axis: usize) -> Result<Value> {
    let mut parts = Vec::with_capacity(values.len());
    for value in values {
        parts.push(value.unsqueeze(axis)?);
    }
    concat(&parts.iter().collect::<Vec<_>>(), axis as i64)
}

/// ONNX's Reshape: 0 keeps, -1 infers.
fn resolve(dims: &[usize], shape: &[i64]) -> std::result::Result<Vec<usize>, String> {
    let problem = |what: &str| format!("a value of shape {dims:?} cannot become {shape:?}: {what}");
    let mut resolved = Vec::with_capacity(shape.len());
    let mut inferred = None;
    for (i, &size) in shape.iter().enumerate() {
        resolved.push(match size {
            0 => *dims
                .get(i)
                .ok_or_else(|| problem("0 keeps a dimension that is not there"))?,
            -1 if inferred.replace(i).is_some() => return Err(problem("only one size may be -1")),
            -1 => 1,
            size => usize::try_from(size).map_err(|_| problem("sizes are positive, 0 or -1"))?,
        });
    }
    let (from, to): (usize, usize) = (dims.iter().product(), resolved.iter().product());
    if let Some(i) = inferred {
        // What is kept cancels, an empty batch too.
        let kept = |j: usize| shape.get(j) == Some(&0);
        let others = |sizes: &[usize]| -> usize {
            let each = sizes.iter().enumerate().filter(|(j, _)| !kept(*j));
            each.map(|(_, &size)| size).product()
        };
        let (from, to) = (others(dims), others(&resolved));
        if to == 0 || from % to != 0 {
            return Err(problem("the elements do not divide evenly"));
        }
        resolved[i] = from / to;
    } else if from != to {
        return Err(problem(&format!("{from} elements are not {to}")));
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn reshape_speaks_onnx() {
        assert_eq!(resolve(&[4, 6], &[0, -1]), Ok(vec![4, 6]));
        assert_eq!(resolve(&[4, 6], &[-1, 3, 2]), Ok(vec![4, 3, 2]));
        assert_eq!(resolve(&[4, 6], &[0, 2, 0]).ok(), None);
        assert_eq!(resolve(&[0, 6, 2], &[0, -1]), Ok(vec![0, 12]));
        assert_eq!(resolve(&[0, 6], &[0, -1, 2]), Ok(vec![0, 3, 2]));
        assert_eq!(resolve(&[0, 6], &[-1, 2]), Ok(vec![0, 2]));
        for bad in [&[-1i64, -1][..], &[5, -1], &[4, 5], &[-2, 12]] {
            assert!(resolve(&[4, 6], bad).is_err(), "{bad:?}");
        }
    }
}
