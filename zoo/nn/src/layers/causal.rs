//! A linear layer over a list in which each output sees only the inputs before it.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Init, Net, Result, Value, concat};

/// y_i = sum_{j<i} W_ij x_j over lists of D values, with `weight [D,D]` that starts at 0.
#[derive(Clone, Debug)]
pub(crate) struct CausalLinear {
    weight: Value,
    /// 1 where W_ij counts: below the diagonal, and not too far.
    mask: Value,
    /// Zeros `[D]`.
    end: Value,
    size: usize,
}

impl CausalLinear {
    /// At this place, for lists of `size` values, of which an output sees the last `context` before it.
    pub fn new(net: &Net, size: usize, context: usize) -> Result<Self> {
        if size == 0 || context == 0 {
            return Err(Error::input(format!(
                "an output of a list of {size} values cannot see {context} of them"
            )));
        }
        let counts = |i: usize, j: usize| j < i && i - j <= context;
        let mask = || {
            let mask = (0..size * size).map(|at| f32::from(u8::from(counts(at / size, at % size))));
            Ok(Tensor::from_vec(
                mask.collect(),
                (size, size),
                &Device::Cpu,
            )?)
        };
        Ok(Self {
            weight: net.param("weight", &[size, size], Init::Constant(0.0)),
            mask: net.constant("mask", mask),
            end: net.constant("end", || Ok(Tensor::zeros(size, DType::F32, &Device::Cpu)?)),
            size,
        })
    }

    /// D
    pub fn size(&self) -> usize {
        self.size
    }

    /// `[D,D]`, 0 where an output does not see an input.
    #[track_caller]
    pub fn weight(&self) -> Value {
        &self.weight * &self.mask
    }

    /// For drawing value after value: row j is what x_j adds to outputs j+1, j+2, ..., `[D,D]`.
    #[track_caller]
    pub fn onward(&self) -> Value {
        // The transposed weights, each row moved left by its number and one. Read as rows of D + 1 they stand so already, and what moves in from the next
        // row is hidden by the mask.
        let columns = self.weight().permute(&[1, 0]).reshape(&[-1]); // [D*D]
        concat(&[&columns, &self.end], 0)
            .reshape(&[self.size as i64, self.size as i64 + 1])
            .slice(1, 1, self.size + 1)
    }

    /// From the sums of the next output and those after it `[N,D]`, the same once its input is known to be `x [N,1]`; `onward` is the row of [`onward`](Self::onward)
    /// for it, `[D]`.
    #[track_caller]
    pub fn next(sums: &Value, onward: &Value, x: &Value) -> Value {
        // What moves in at the end is never read.
        let rest = match sums.dims() {
            [_, size] if *size > 1 => concat(&[&sums.slice(1, 1, *size), x], 1), // [N,D]
            _ => x.clone(),
        };
        rest + x * onward.unsqueeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Params, Stream};

    #[test]
    fn value_after_value_gives_what_the_whole_list_does() {
        for (size, context) in [(1, 1), (5, 5), (6, 2)] {
            let net = Net::new(&Params::fresh(0, &Device::Cpu));
            let mut layer = CausalLinear::new(&net, size, context).unwrap();
            let numbers = |seed: u64, shape: (usize, usize)| -> Value {
                let numbers = Stream::new(seed).normal(shape.0 * shape.1);
                Tensor::from_vec(numbers, shape, &Device::Cpu)
                    .unwrap()
                    .into()
            };
            layer.weight = numbers(1, (size, size));
            let x = numbers(2, (3, size));
            let whole = x.linear(&layer.weight(), None); // [N,D]
            let onward = layer.onward();
            let mut sums = &x * 0.0;
            for i in 0..size {
                let column = |v: &Value| v.slice(1, i, i + 1); // [N,1]
                let apart = sums.slice(1, 0, 1) - column(&whole);
                let apart = apart.abs().flatten(0).max(0, false);
                assert!(apart.scalar().unwrap() < 1e-5, "{size} values, output {i}");
                let row = onward.slice(0, i, i + 1).squeeze(0);
                sums = CausalLinear::next(&sums, &row, &column(&x));
            }
        }
        let net = Net::new(&Params::fresh(0, &Device::Cpu));
        assert!(CausalLinear::new(&net, 4, 0).is_err());
    }
}
