//! Matrix products.

use super::kernels;
use crate::{Error, Result, Value, value::record};

impl Value {
    /// `[..., M, K] x [..., K, P] -> [..., M, P]`, broadcasting over the leading dimensions.
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        record(kernels::matmul(self, other), "MatMul", |node| {
            node.input(self)?.input(other).map(|_| ())
        })
    }

    /// `x [N, I]`, `weight [O, I]`, `bias [O]` -> `x weight^T + bias [N, O]`.
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Result<Self> {
        let (&[_, inner], &[out, expected]) = (self.dims(), weight.dims()) else {
            return Err(Error::usage(
                "Gemm",
                format!(
                    "takes x [N, I] and weight [O, I], not {:?} and {:?}",
                    self.dims(),
                    weight.dims()
                ),
            ));
        };
        if inner != expected {
            return Err(Error::usage(
                "Gemm",
                format!("the layer takes {expected} values a row, the input has {inner}"),
            ));
        }
        let computed = kernels::linear(self, weight, bias);
        record(computed, "Gemm", |node| {
            node.input(self)?.input(weight)?;
            match bias {
                Some(bias) => node.input(bias)?,
                // Written out, because candle-onnx needs it.
                None => node.floats("bias", &vec![0.0; out])?,
            };
            node.int("transB", 1);
            Ok(())
        })
    }
}
