//! Hidden units whose sums grow by one input at a time.

use zoo_kernels::NadeShape;

use super::{fused, kernels};
use crate::{Error, Result, Value, value::record};

impl Value {
    /// The logits `[N,D]` of a neural autoregressive distribution estimator (Larochelle & Murray, 2011) without their bias, for this x `[N,D]`: logit i is
    /// `v_i . sigmoid(c + sum_{j<i} x_j w_j)`, with `w` and `v [D,H]` and `c [H]`.
    #[track_caller]
    pub fn nade(&self, w: &Self, c: &Self, v: &Self) -> Result<Self> {
        let shape = match (self.dims(), w.dims(), c.dims(), v.dims()) {
            (&[batch, inputs], &[rows, hidden], &[units], of_v)
                if rows == inputs && units == hidden && of_v == [rows, hidden] =>
            {
                NadeShape {
                    batch,
                    inputs,
                    hidden,
                }
            }
            (x, w, c, v) => {
                return Err(Error::usage(
                    "nade",
                    format!(
                        "takes x [N,D], w [D,H], c [H] and v [D,H], not {x:?}, {w:?}, {c:?} and {v:?}"
                    ),
                ));
            }
        };
        // Fused only outside a trace, which needs the parts.
        match fused(|| kernels::nade([self, w, c, v], shape)) {
            Some(computed) => record(computed, "nade", |_| Ok(())),
            None => {
                let each = self.unsqueeze(2)?.mul(&w.unsqueeze(0)?)?; // [N,D,H]
                let before = each.cumsum(1)?.sub(&each)?; // without the input's own
                let hidden = before.add(c)?.sigmoid()?;
                hidden.mul(&v.unsqueeze(0)?)?.sum(&[2], false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::Stream;

    #[test]
    fn both_forms_agree() {
        let (n, d, h) = (3, 6, 70);
        let draw = |seed, shape: &[usize]| {
            let values = Stream::new(seed).normal(shape.iter().product());
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let all = [
            draw(1, &[n, d]),
            draw(2, &[d, h]),
            draw(3, &[h]),
            draw(4, &[d, h]),
        ];
        let logits = |dtype: DType| {
            // Our kernels take f32 only: f64 is composed.
            let [x, w, c, v] = [0, 1, 2, 3].map(|i| Value::from(all[i].to_dtype(dtype).unwrap()));
            let out = x.nade(&w, &c, &v).unwrap();
            let out = out.tensor().to_dtype(DType::F64).unwrap();
            out.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        for (fused, composed) in logits(DType::F32).iter().zip(logits(DType::F64)) {
            assert!((fused - composed).abs() < 1e-4, "{fused} {composed}");
        }
        let [x, w, c, _] = [0, 1, 2, 3].map(|i| Value::from(all[i].clone()));
        let message = x.nade(&w, &c, &x).unwrap_err().to_string();
        assert!(
            message.contains("nade") && message.contains("[3, 6]"),
            "{message}"
        );
    }
}
