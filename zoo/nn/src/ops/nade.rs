//! Hidden units whose sums grow by one input at a time.

use zoo_kernels::NadeShape;

use super::{kernels, may_fuse};
use crate::{
    Value,
    value::{Computed, Outcome, attempt, op},
};

fn shape_of([x, w, c, v]: [&Value; 4]) -> Outcome<NadeShape> {
    let [x, w, c, v] = [x.get()?, w.get()?, c.get()?, v.get()?];
    match (x.dims(), w.dims(), c.dims(), v.dims()) {
        (&[batch, inputs], &[rows, hidden], &[units], of_v)
            if rows == inputs && units == hidden && of_v == [rows, hidden] =>
        {
            Ok(NadeShape {
                batch,
                inputs,
                hidden,
            })
        }
        (x, w, c, v) => Err(format!(
            "takes x [N,D], w [D,H], c [H] and v [D,H], not {x:?}, {w:?}, {c:?} and {v:?}"
        )
        .into()),
    }
}

impl Value {
    /// The logits `[N,D]` of a neural autoregressive distribution estimator (Larochelle & Murray, 2011) without their bias, for this x `[N,D]`: logit i is
    /// `v_i . sigmoid(c + sum_{j<i} x_j w_j)`, with `w` and `v [D,H]` and `c [H]`.
    #[track_caller]
    pub fn nade(&self, w: &Self, c: &Self, v: &Self) -> Self {
        let shape = attempt!("nade", shape_of([self, w, c, v]));
        if may_fuse(&[self, w, c, v]) {
            let fused = |all: [&Computed; 4]| Ok(kernels::nade(all, shape)?);
            return op("nade", [self, w, c, v], fused, |_| Ok(()));
        }
        let each = self.unsqueeze(2) * w.unsqueeze(0); // [N,D,H]
        let before = each.cumsum(1) - each; // without the input's own
        let hidden = (before + c).sigmoid();
        (hidden * v.unsqueeze(0)).sum(&[2], false)
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
            let out = x.nade(&w, &c, &v);
            let out = out.tensor().unwrap().to_dtype(DType::F64).unwrap();
            out.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        for (fused, composed) in logits(DType::F32).iter().zip(logits(DType::F64)) {
            assert!((fused - composed).abs() < 1e-4, "{fused} {composed}");
        }
        let [x, w, c, _] = [0, 1, 2, 3].map(|i| Value::from(all[i].clone()));
        let message = x.nade(&w, &c, &x).check().unwrap_err().to_string();
        assert!(
            message.contains("nade") && message.contains("[3, 6]"),
            "{message}"
        );
    }
}
