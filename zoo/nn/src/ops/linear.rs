//! Matrix products.

use super::kernels;
use crate::{
    Value,
    value::{op, op_list},
};

impl Value {
    /// `[..., M, K] x [..., K, P] -> [..., M, P]`, broadcasting over the leading dimensions.
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Self {
        op(
            "MatMul",
            [self, other],
            |[a, b]| kernels::matmul(a, b),
            |_| Ok(()),
        )
    }

    /// The last two dimensions in the opposite order.
    #[track_caller]
    pub(crate) fn transposed(&self) -> Self {
        let rank = self.rank();
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank.saturating_sub(2), rank.saturating_sub(1));
        self.permute(&order)
    }

    /// `x [N, I]`, `weight [O, I]`, `bias [O]` -> `x weight^T + bias [N, O]`.
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Self {
        let inputs: Vec<&Self> = [self, weight].into_iter().chain(bias).collect();
        op_list(
            "Gemm",
            &inputs,
            |all| match (all[0].dims(), all[1].dims()) {
                (&[_, inner], &[_, expected]) if inner == expected => kernels::linear(all),
                (&[_, inner], &[_, expected]) => Err(format!(
                    "the layer takes {expected} values a row, the input has {inner}"
                )
                .into()),
                (x, w) => {
                    Err(format!("takes x [N, I] and weight [O, I], not {x:?} and {w:?}").into())
                }
            },
            |node| {
                if bias.is_none() {
                    // Written out, because candle-onnx needs it.
                    node.floats("bias", &vec![0.0; weight.dims()[0]])?;
                }
                node.int("transB", 1).done()
            },
        )
    }
}
