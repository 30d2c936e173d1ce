//! A Row LSTM (van den Oord et al., 2016): the state goes from row to row, a convolution along each.

use zoo_nn::{
    Batch, Buffer, DType, DataSpec, Device, GraphFn, Info, Init, Losses, Metrics, Model, Params,
    Phase, Result, StepCx, Tensor, Value, concat,
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
    /// The state is not masked: a row sees all of the one above.
    every_tap: Value,
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
            every_tap: Value::constant(Tensor::ones((1, 1, 1, 3), DType::F32, &Device::Cpu)?),
            state_bias: state.get("bias", &[4 * C], init)?,
            out: Conv2d::new(&m.at("out"), C, 1, point)?,
        })
    }

    fn loss(&self, _: &Phase, _: &Batch, _: &mut StepCx) -> Result<Losses> {
        let x = self.x.value(); // (N,1,H,W)
        let &[n, _, rows, columns] = x.dims() else {
            return Err(zoo_nn::Error::input("images are (N,1,H,W)"));
        };
        let gates = self.to_gates.forward(&self.input.forward(&x)?)?; // (N,4C,H,W)
        let weight = self.state_weight.unsqueeze(2)?; // (4C,C,1,3)
        let zeros = Tensor::zeros((n, CHANNELS, 1, columns), x.dtype(), &Device::Cpu)?;
        let mut hidden = Value::constant(zeros); // (N,C,1,W)
        let mut cell = hidden.clone(); // (N,C,1,W)
        let mut states = Vec::with_capacity(rows);
        for row in 0..rows {
            let bias = Some(&self.state_bias);
            let from_above = hidden.masked_conv2d(&weight, &self.every_tap, bias, [0, 1])?; // (N,4C,1,W)
            let all = gates.slice(2, row, row + 1)?.add(&from_above)?;
            let parts = all.chunk(4, 1)?; // input, forget, output, new: (N,C,1,W)
            let kept = parts[1].sigmoid()?.mul(&cell)?;
            cell = kept.add(&parts[0].sigmoid()?.mul(&parts[3].tanh()?)?)?;
            hidden = parts[2].sigmoid()?.mul(&cell.tanh()?)?;
            states.push(hidden.clone());
        }
        let states = concat(&states.iter().collect::<Vec<_>>(), 2)?; // (N,C,H,W)
        Ok(only(mean_bce(&self.out.forward(&states)?, &x)?))
    }

    fn evaluate(&self, _: &Batch, _: &mut StepCx) -> Result<Metrics> {
        no_metrics()
    }

    fn graphs(&self) -> Vec<GraphFn<Self>> {
        Vec::new()
    }
}
