//! Shapes: nothing here changes an element.

use candle_core::Tensor;

use super::{axis_of, kernels};
use crate::{
    Error, Value,
    value::{Computed, attempt, op, op_list},
};

impl Value {
    /// Another shape for the same elements, in ONNX's words: 0 keeps the dimension at that place, -1 (once) takes what remains.
    #[track_caller]
    pub fn reshape(&self, shape: &[i64]) -> Self {
        op(
            "Reshape",
            [self],
            |[x]| Ok(kernels::reshape(x, &resolve(x.dims(), shape)?)?),
            |node| node.ints("shape", shape)?.done(),
        )
    }

    /// The same elements in a shape that is known: for gradients, which no trace records.
    pub(crate) fn shaped(&self, dims: &[usize]) -> Self {
        if self.dims() == dims {
            return self.clone();
        }
        let shape: Vec<i64> = dims.iter().map(|&size| size as i64).collect();
        op(
            "Reshape",
            [self],
            |[x]| Ok(kernels::reshape(x, dims)?),
            |node| node.ints("shape", &shape)?.done(),
        )
    }

    /// Everything from `axis` on in one dimension, `[N, ...] -> [N, D]` for 1. Only 0 and 1 are possible.
    #[track_caller]
    pub fn flatten(&self, axis: usize) -> Self {
        match axis {
            0 => self.reshape(&[-1]),
            1 => self.reshape(&[0, -1]),
            _ => Self::refused("Reshape", "flatten starts at dimension 0 or 1"),
        }
    }

    /// Dimensions in another order: the result's dimension i is this one's `order[i]`.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Self {
        op(
            "Transpose",
            [self],
            |[x]| Ok(kernels::permute(x, order)?),
            |node| node.int_list("perm", order).done(),
        )
    }

    /// Elements `start..end` along `axis`; negative counts from the end.
    #[track_caller]
    pub fn slice(&self, axis: i64, start: usize, end: usize) -> Self {
        op(
            "Slice",
            [self],
            |[x]| {
                let axis = axis_of(x.dims(), axis)?;
                if start > end {
                    return Err(format!("starts at {start} and ends at {end}").into());
                }
                Ok(kernels::slice(x, axis, start, end - start)?)
            },
            |node| {
                let axis = axis_of(self.dims(), axis).unwrap_or(0); // it was computed above
                node.ints("starts", &[start as i64])?
                    .ints("ends", &[end as i64])?
                    .ints("axes", &[axis as i64])?
                    .done()
            },
        )
    }

    /// `count` equal parts along `axis`.
    #[track_caller]
    pub fn chunk(&self, count: usize, axis: i64) -> Vec<Self> {
        let part = self.part_of(count, axis);
        // Each with the author's line, which closures lose.
        let mut parts = Vec::with_capacity(count);
        for i in 0..count {
            parts.push(match &part {
                Ok(part) => self.slice(axis, i * part, (i + 1) * part),
                Err(message) => match self.check() {
                    Ok(()) => Self::refused("Slice", message.clone()),
                    Err(error) => Self::failed(error),
                },
            });
        }
        parts
    }

    /// Two equal parts along `axis`.
    #[track_caller]
    pub fn halves(&self, axis: i64) -> [Self; 2] {
        let mut parts = self.chunk(2, axis);
        let second = parts.pop().unwrap_or_else(|| self.clone());
        [parts.pop().unwrap_or_else(|| self.clone()), second]
    }

    fn part_of(&self, count: usize, axis: i64) -> Result<usize, String> {
        let rank = self.rank() as i64;
        let index = if axis < 0 { axis + rank } else { axis };
        match self.dims().get(index as usize) {
            Some(size) if count > 0 && size.is_multiple_of(count) => Ok(size / count),
            Some(size) => Err(format!(
                "dimension {index} of {size} does not fall into {count} equal parts"
            )),
            None => Err(format!(
                "axis {axis} is outside a value of shape {:?}",
                self.dims()
            )),
        }
    }

    /// Without dimension `axis`, which has size 1.
    #[track_caller]
    pub fn squeeze(&self, axis: i64) -> Self {
        op(
            "Squeeze",
            [self],
            |[x]| {
                let axis = axis_of(x.dims(), axis)?;
                let mut shape = x.dims().to_vec();
                if shape.remove(axis) != 1 {
                    return Err(format!("dimension {axis} of {:?} is not 1", x.dims()).into());
                }
                Ok(kernels::reshape(x, &shape)?)
            },
            |node| {
                let axis = axis_of(self.dims(), axis).unwrap_or(0); // it was computed above
                node.ints("axes", &[axis as i64])?.done()
            },
        )
    }

    /// With a new dimension of size 1 at `axis`.
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Self {
        op(
            "Unsqueeze",
            [self],
            |[x]| {
                let mut shape = x.dims().to_vec();
                if axis > shape.len() {
                    return Err(format!("axis {axis} is outside a value of shape {shape:?}").into());
                }
                shape.insert(axis, 1);
                Ok(kernels::reshape(x, &shape)?)
            },
            |node| node.ints("axes", &[axis as i64])?.done(),
        )
    }

    /// Dimensions of size 1 repeated to `shape`; 1 in `shape` keeps what is there.
    #[track_caller]
    pub fn expand(&self, shape: &[usize]) -> Self {
        op(
            "Expand",
            [self],
            |[x]| {
                let target = candle_core::Shape::from(shape);
                let own = x.held.peek().shape();
                let shape = own.broadcast_shape_binary_op(&target, "expand")?;
                Ok(kernels::expand(x, &shape)?)
            },
            |node| {
                let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                node.ints("shape", &shape)?.done()
            },
        )
    }

    /// The value between so many zeros along `axis`: for gradients, which no trace records.
    pub(crate) fn between_zeros(&self, axis: usize, before: usize, after: usize) -> Self {
        let zeros = |count| (count > 0).then(|| self.zeros_beside(axis, count));
        let parts = [zeros(before), Some(self.clone()), zeros(after)];
        let parts: Vec<Self> = parts.into_iter().flatten().collect();
        concat(&parts, axis as i64)
    }

    /// Zeros of this value's shape, but with `count` places along `axis`.
    fn zeros_beside(&self, axis: usize, count: usize) -> Self {
        let make = |x: &Computed| {
            let mut shape = x.dims().to_vec();
            shape[axis] = count;
            let like = x.held.peek();
            Tensor::zeros(shape, like.dtype(), like.device())
        };
        match self.get() {
            Ok(x) => make(x).map_err(Error::from).into(),
            Err(error) => Self::failed(error),
        }
    }
}

/// The values one after the other along `axis`; negative counts from the end. By reference or not.
#[track_caller]
pub fn concat<V: std::borrow::Borrow<Value>>(values: &[V], axis: i64) -> Value {
    let values: Vec<&Value> = values.iter().map(std::borrow::Borrow::borrow).collect();
    let first = attempt!("Concat", values.first().ok_or("needs at least one value"));
    let front = if axis < 0 {
        axis + first.rank() as i64
    } else {
        axis
    };
    op_list(
        "Concat",
        &values,
        |all| Ok(kernels::concat(all, axis_of(all[0].dims(), axis)?)?),
        |node| node.int("axis", front).done(),
    )
}

/// The values side by side along a new dimension `axis`.
#[track_caller]
pub fn stack<V: std::borrow::Borrow<Value>>(values: &[V], axis: usize) -> Value {
    let mut parts = Vec::with_capacity(values.len());
    for value in values {
        parts.push(value.borrow().unsqueeze(axis));
    }
    concat(&parts, axis as i64)
}

/// ONNX's Reshape: 0 keeps, -1 infers.
fn resolve(dims: &[usize], shape: &[i64]) -> Result<Vec<usize>, String> {
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
