//! A Row LSTM (van den Oord et al., 2016): the state goes from row to row, a convolution along each.

use zoo_nn::{
    Batch, Buffer, DataSpec, GraphFn, Info, Init, Losses, Metrics, Model, Params, Phase, Result,
    StepCx, Value,
    layers::{Conv2d, ConvConfig},
};

use super::{
    Settings, info,
    masked::{Mask, MaskedConv},
    no_metrics, only,
    pixelcnn::mean_bce,
};

const CHANNELS: usize = 32;

/// One layer of 32 channels.
pub struct RowLstm {
    x: Buffer,
    input: MaskedConv,
    to_gates: MaskedConv,
    state_weight: Value,
    state_bias: Value,
    out: Conv2d,
}

impl Model for RowLstm {
    type Config = Settings;

    const INFO: Info = info("row-lstm", "Row LSTM of 32 channels");

    fn new(settings: &Settings, data: &DataSpec, params: &Params) -> Result<Self> {
        const C: usize = CHANNELS;
        let m = params.at("m");
        let state = m.at("s2s");
        let init = Init::fan_in(C * 3);
        let point = ConvConfig {
            kernel: 1,
            padding: 0,
            ..ConvConfig::default()
        };
        let (strict, seen) = (
            Mask::Horizontal { strict: true },
            Mask::Horizontal { strict: false },
        );
        Ok(Self {
            x: settings.images(data, params)?,
            input: MaskedConv::new(&m.at("iin"), 1, C, 7, strict)?,
            to_gates: MaskedConv::new(&m.at("i2s"), C, 4 * C, 3, seen)?,
            state_weight: state.get("weight", &[4 * C, C, 3], init)?,
            state_bias: state.get("bias", &[4 * C], init)?,
            out: Conv2d::new(&m.at("out"), C, 1, point)?,
        })
    }

    fn loss(&self, _: &Phase, _: &Batch, _: &mut StepCx) -> Result<Losses> {
        let x = self.x.value(); // (N,1,H,W)
        let gates = self.to_gates.forward(&self.input.forward(&x)?)?; // (N,4C,H,W)
        let states = gates.row_lstm(&self.state_weight, &self.state_bias)?; // (N,C,H,W)
        Ok(only(mean_bce(&self.out.forward(&states)?, &x)?))
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}
