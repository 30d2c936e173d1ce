//! A Row LSTM (van den Oord et al., 2016): the state goes from row to row, a convolution along each.

use zoo_nn::{Batch, Info, Init, Losses, Model, Phase, Result, StepCx, layers::Conv};

use super::{
    Suite, info,
    masked::{Mask, masked_conv},
    pixelcnn::mean_bce,
    trained_only,
};

/// One layer of 32 channels.
pub struct RowLstm(Suite);

impl Model for RowLstm {
    trained_only!();

    const INFO: Info = info("row-lstm", "Row LSTM of 32 channels");

    fn loss(&self, _: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        const C: usize = 32;
        let (net, x) = (cx.net().at("m"), self.0.images(&cx.net())?); // (N,1,H,W)
        let (strict, seen) = (
            Mask::Horizontal { strict: true },
            Mask::Horizontal { strict: false },
        );
        let input = masked_conv(&net.at("iin"), &x, C, 7, strict); // (N,C,H,W)
        let gates = masked_conv(&net.at("i2s"), &input, 4 * C, 3, seen); // (N,4C,H,W)
        let (state, init) = (net.at("s2s"), Init::fan_in(C * 3));
        let weight = state.param("weight", &[4 * C, C, 3], init);
        let states = gates.row_lstm(&weight, &state.param("bias", &[4 * C], init)); // (N,C,H,W)
        let logits = net.conv2d("out", &states, Conv::pointwise(1)); // (N,1,H,W)
        Ok(Losses::one("loss", mean_bce(&logits, &x)))
    }
}
