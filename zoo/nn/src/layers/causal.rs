//! A linear layer over a list in which each output sees only the inputs before it.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Init, Params, Result, Value, concat};

/// y_i = sum_{j<i} W_ij x_j over lists of D values, with `weight [D,D]` that starts at 0.
#[derive(Clone, Debug)]
pub struct CausalLinear {
    weight: Value,
    /// 1 where W_ij counts: below the diagonal, and not too far.
    mask: Value,
}

impl CausalLinear {
    /// For lists of `size` values, of which an output sees the last `context` before it.
    pub fn new(params: &Params, size: usize, context: usize) -> Result<Self> {
        if size == 0 || context == 0 {
            return Err(Error::input(format!(
                "an output of a list of {size} values cannot see {context} of them"
            )));
        }
        let counts = |i: usize, j: usize| j < i && i - j <= context;
        let mask = (0..size * size).map(|at| f32::from(u8::from(counts(at / size, at % size))));
        let mask = Tensor::from_vec(mask.collect(), (size, size), &Device::Cpu)?;
        Ok(Self {
            weight: params.get("weight", &[size, size], Init::Constant(0.0))?,
            mask: Value::constant(mask.to_device(params.device())?),
        })
    }

    /// `[D,D]`, 0 where an output does not see an input.
    #[track_caller]
    pub fn weight(&self) -> Result<Value> {
        self.weight.mul(&self.mask)
    }

    /// For drawing value after value: row j is what x_j adds to outputs j+1, j+2, ..., `[D,D]`.
    #[track_caller]
    pub fn onward(&self) -> Result<Value> {
        // The transposed weights, each row moved left by its number and one. Read as rows of D + 1 they stand so already, and what moves in from the next
        // row is hidden by the mask.
        let columns = self.weight()?.permute(&[1, 0])?; // [D,D]
        let size = columns.dim(0)?;
        let end = Tensor::zeros(size, DType::F32, self.weight.tensor().device())?;
        concat(&[&columns.reshape(&[-1])?, &Value::constant(end)], 0)?
            .reshape(&[size as i64, size as i64 + 1])?
            .slice(1, 1, size + 1)
    }

    /// From the sums of the next output and those after it `[N,D]`, the same once its input is known to be `x [N,1]`; `onward` is the row of [`onward`](Self::onward)
    /// for it, `[D]`.
    #[track_caller]
    pub fn next(sums: &Value, onward: &Value, x: &Value) -> Result<Value> {
        // What moves in at the end is never read.
        let rest = match sums.dim(1)? {
            1 => x.clone(),
            size => concat(&[&sums.slice(1, 1, size)?, x], 1)?, // [N,D]
        };
        rest.add(&x.mul(&onward.unsqueeze(0)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;

    #[test]
    fn value_after_value_gives_what_the_whole_list_does() {
        for (size, context) in [(1, 1), (5, 5), (6, 2)] {
            let mut layer =
                CausalLinear::new(&Params::fresh(0, &Device::Cpu), size, context).unwrap();
            let numbers = |seed: u64, shape: (usize, usize)| -> Value {
                let numbers = Stream::new(seed).normal(shape.0 * shape.1);
                Tensor::from_vec(numbers, shape, &Device::Cpu)
                    .unwrap()
                    .into()
            };
            layer.weight = numbers(1, (size, size));
            let x = numbers(2, (3, size));
            let whole = x.linear(&layer.weight().unwrap(), None).unwrap(); // [N,D]
            let onward = layer.onward().unwrap();
            let mut sums = x.mul_scalar(0.0).unwrap();
            for i in 0..size {
                let column = |v: &Value| v.slice(1, i, i + 1).unwrap(); // [N,1]
                let apart = sums.slice(1, 0, 1).unwrap().sub(&column(&whole)).unwrap();
                let apart = apart
                    .abs()
                    .unwrap()
                    .flatten(0)
                    .unwrap()
                    .max(0, false)
                    .unwrap();
                assert!(apart.scalar().unwrap() < 1e-5, "{size} values, output {i}");
                let row = onward.slice(0, i, i + 1).unwrap().squeeze(0).unwrap();
                sums = CausalLinear::next(&sums, &row, &column(&x)).unwrap();
            }
        }
        assert!(CausalLinear::new(&Params::fresh(0, &Device::Cpu), 4, 0).is_err());
    }
}
