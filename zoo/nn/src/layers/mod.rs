//! Layers: parameters and how they are applied.

mod causal;
mod masked;

pub use causal::CausalLinear;
pub use masked::{
    Carried, LayersAtPixel, Mask, MaskedConfig, MaskedConv2d, Neighbourhood, RowByRow,
    RowByRowLayers, RowPart, check_masked,
};

use candle_core::Tensor;

use crate::{Buffer, Error, Init, Mode, Params, Result, StepCx, Value};

/// `x [N, I] -> x W^T + b [N, O]`, with `weight [O, I]` and `bias [O]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Value,
    bias: Option<Value>,
}

impl Linear {
    /// With bias and PyTorch's default start.
    pub fn new(params: &Params, inputs: usize, outputs: usize) -> Result<Self> {
        let init = Init::fan_in(inputs);
        let bias = Some(params.get("bias", &[outputs], init)?);
        Ok(Self {
            weight: params.get("weight", &[outputs, inputs], init)?,
            bias,
        })
    }

    /// Without bias, for a layer that a normalisation follows.
    pub fn without_bias(
        params: &Params,
        inputs: usize,
        outputs: usize,
        init: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: params.get("weight", &[outputs, inputs], init)?,
            bias: None,
        })
    }

    /// `[N, I] -> [N, O]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Result<Value> {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// What a convolution layer is made of.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Transposed convolutions: rows and columns added at the bottom and right.
    pub output_padding: usize,
    /// Convolutions: groups of channels that do not see each other.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// How the weight starts; PyTorch's default where `None`.
    pub init: Option<Init>,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            kernel: 3,
            stride: 1,
            padding: 1,
            output_padding: 0,
            groups: 1,
            bias: true,
            init: None,
        }
    }
}

/// Convolution `[N,C,H,W] -> [N,O,H',W']` with `weight [O,C/groups,K,K]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Value,
    bias: Option<Value>,
    config: ConvConfig,
}

impl Conv2d {
    /// From `inputs` to `outputs` channels.
    pub fn new(params: &Params, inputs: usize, outputs: usize, config: ConvConfig) -> Result<Self> {
        let ConvConfig { kernel, groups, .. } = config;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            return Err(Error::input(format!(
                "{inputs} and {outputs} channels do not fall into {groups} groups"
            )));
        }
        let default = Init::fan_in(inputs / groups * kernel * kernel);
        let weight = params.get(
            "weight",
            &[outputs, inputs / groups, kernel, kernel],
            config.init.unwrap_or(default),
        )?;
        let bias = if config.bias {
            Some(params.get("bias", &[outputs], default)?)
        } else {
            None
        };
        Ok(Self {
            weight,
            bias,
            config,
        })
    }

    /// `[N,C,H,W] -> [N,O,(H + 2 padding - K) / stride + 1, ...]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Result<Value> {
        let ConvConfig {
            stride,
            padding,
            groups,
            ..
        } = self.config;
        x.conv2d(&self.weight, self.bias.as_ref(), stride, padding, groups)
    }
}

/// Transposed convolution `[N,C,H,W] -> [N,O,H',W']` with `weight [C,O,K,K]`.
#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    weight: Value,
    bias: Option<Value>,
    config: ConvConfig,
}

impl ConvTranspose2d {
    /// From `inputs` to `outputs` channels.
    pub fn new(params: &Params, inputs: usize, outputs: usize, config: ConvConfig) -> Result<Self> {
        let ConvConfig { kernel, .. } = config;
        // PyTorch takes the fan-in of a transposed convolution from the second dimension.
        let default = Init::fan_in(outputs * kernel * kernel);
        let weight = params.get(
            "weight",
            &[inputs, outputs, kernel, kernel],
            config.init.unwrap_or(default),
        )?;
        let bias = if config.bias {
            Some(params.get("bias", &[outputs], default)?)
        } else {
            None
        };
        Ok(Self {
            weight,
            bias,
            config,
        })
    }

    /// `[N,C,H,W] -> [N,O,(H - 1) stride - 2 padding + K + output_padding, ...]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Result<Value> {
        let ConvConfig {
            stride,
            padding,
            output_padding,
            ..
        } = self.config;
        x.conv_transpose2d(
            &self.weight,
            self.bias.as_ref(),
            stride,
            padding,
            output_padding,
        )
    }
}

/// Batch normalisation over dimension 1 (Ioffe & Szegedy, 2015), with PyTorch's epsilon and momentum.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Value,
    bias: Value,
    running_mean: Buffer,
    running_var: Buffer,
}

impl BatchNorm {
    const EPSILON: f64 = 1e-5;
    const MOMENTUM: f64 = 0.1;

    /// Over `channels`; the scale starts as `init`, or as 1.
    pub fn new(params: &Params, channels: usize, init: Option<Init>) -> Result<Self> {
        Ok(Self {
            weight: params.get("weight", &[channels], init.unwrap_or(Init::Constant(1.0)))?,
            bias: params.get("bias", &[channels], Init::Constant(0.0))?,
            running_mean: params.buffer("running_mean", &[channels], 0.0)?,
            running_var: params.buffer("running_var", &[channels], 1.0)?,
        })
    }

    /// `[N,C,...] -> [N,C,...]`. In training by the batch's statistics, which also move the running ones; else by those.
    #[track_caller]
    pub fn forward(&self, x: &Value, mode: Mode) -> Result<Value> {
        match mode {
            Mode::Eval => {
                let (mean, var) = (self.running_mean.value(), self.running_var.value());
                x.batch_norm(&self.weight, &self.bias, &mean, &var, Self::EPSILON)
            }
            Mode::Train => {
                let (normal, mean, var) =
                    x.batch_norm_train(&self.weight, &self.bias, Self::EPSILON)?;
                let count = (x.held().peek().elem_count() / mean.elem_count().max(1)) as f64;
                // The running variance is the unbiased one, as in PyTorch.
                let unbiased = (var * (count / (count - 1.0).max(1.0)))?;
                self.running_mean.set(&mix(
                    self.running_mean.value().tensor(),
                    &mean,
                    Self::MOMENTUM,
                )?)?;
                self.running_var.set(&mix(
                    self.running_var.value().tensor(),
                    &unbiased,
                    Self::MOMENTUM,
                )?)?;
                Ok(normal)
            }
        }
    }
}

/// `(1 - momentum) old + momentum new`
fn mix(old: &Tensor, new: &Tensor, momentum: f64) -> candle_core::Result<Tensor> {
    (old * (1.0 - momentum))? + (new * momentum)?
}

/// Layer normalisation over the last dimension (Ba et al., 2016).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Value,
    bias: Value,
}

impl LayerNorm {
    /// Over `size` values.
    pub fn new(params: &Params, size: usize) -> Result<Self> {
        let weight = params.get("weight", &[size], Init::Constant(1.0))?;
        Ok(Self {
            weight,
            bias: params.get("bias", &[size], Init::Constant(0.0))?,
        })
    }

    /// `[..., size] -> [..., size]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Result<Value> {
        normalise(x, -1)?.mul(&self.weight)?.add(&self.bias)
    }
}

/// Group normalisation over images (Wu & He, 2018).
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Value,
    bias: Value,
    groups: usize,
}

impl GroupNorm {
    /// `channels` in `groups` equal groups.
    pub fn new(params: &Params, groups: usize, channels: usize) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::input(format!(
                "{channels} channels do not fall into {groups} groups"
            )));
        }
        let weight = params.get("weight", &[channels, 1, 1], Init::Constant(1.0))?;
        Ok(Self {
            weight,
            bias: params.get("bias", &[channels, 1, 1], Init::Constant(0.0))?,
            groups,
        })
    }

    /// `[N,C,H,W] -> [N,C,H,W]`
    #[track_caller]
    pub fn forward(&self, x: &Value) -> Result<Value> {
        let &[_, c, h, w] = x.dims() else {
            return Err(Error::input(format!(
                "group normalisation takes images [N,C,H,W], not shape {:?}",
                x.dims()
            )));
        };
        let grouped = x.reshape(&[0, self.groups as i64, -1])?; // [N,G,C/G*H*W]
        let normal = normalise(&grouped, -1)?.reshape(&[0, c as i64, h as i64, w as i64])?; // [N,C,H,W]
        normal.mul(&self.weight)?.add(&self.bias)
    }
}

/// Zero mean and unit variance along `axis`.
#[track_caller]
fn normalise(x: &Value, axis: i64) -> Result<Value> {
    let centred = x.sub(&x.mean(&[axis], true)?)?;
    let variance = centred.sqr()?.mean(&[axis], true)?;
    centred.div(&variance.add_scalar(1e-5)?.sqrt()?)
}

/// A learned vector for each class.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Value,
}

impl Embedding {
    /// `classes` vectors of `size`, starting as N(0, 1).
    pub fn new(params: &Params, classes: usize, size: usize) -> Result<Self> {
        Ok(Self {
            weight: params.get("weight", &[classes, size], Init::Normal(1.0))?,
        })
    }

    /// i64 `[...] -> [..., size]`
    #[track_caller]
    pub fn forward(&self, index: &Value) -> Result<Value> {
        self.weight.lookup(index)
    }
}

/// In training, each element of `x [N, ...]` dropped with probability `rate`, and what stays made larger by 1/(1 - rate) (Srivastava et al., 2014);
/// elsewhere, and without a step, `x` as it is. `name` is the layer's own: within a step the same name drops the same elements.
#[track_caller]
pub fn dropout(x: &Value, rate: f64, name: &str, step: Option<&StepCx>) -> Result<Value> {
    let step = match step {
        Some(step) if step.mode == Mode::Train && rate > 0.0 => step,
        _ => return Ok(x.clone()),
    };
    let dims = x.dims().get(1..).unwrap_or_default();
    let kept = step.uniform(name, dims)?.less_scalar(1.0 - rate)?;
    let factors = kept.cast(x.dtype())?.mul_scalar(1.0 / (1.0 - rate))?;
    x.mul(&factors)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Stream;

    #[test]
    fn dropout_keeps_the_mean_and_only_acts_in_training() {
        let x: Value = Tensor::ones((4, 50, 40), candle_core::DType::F32, &Device::Cpu)
            .unwrap()
            .into();
        let step =
            |mode, at| StepCx::new(mode, at, Stream::new(at), (0..4).collect(), &Device::Cpu);
        let values = |rate, name, cx: Option<&StepCx>| -> Vec<f32> {
            let x = dropout(&x, rate, name, cx).unwrap();
            x.tensor().flatten_all().unwrap().to_vec1().unwrap()
        };
        let train = step(Mode::Train, 1);
        let dropped = values(0.25, "a", Some(&train));
        assert!(
            dropped
                .iter()
                .all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6)
        );
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        // Again the same, and another for each image, layer and step.
        assert_eq!(dropped, values(0.25, "a", Some(&train)));
        assert_ne!(dropped[..2000], dropped[2000..4000]);
        assert_ne!(dropped, values(0.25, "b", Some(&train)));
        assert_ne!(dropped, values(0.25, "a", Some(&step(Mode::Train, 2))));
        let ones = vec![1.0; 8000];
        assert_eq!(ones, values(0.25, "a", Some(&step(Mode::Eval, 1))));
        assert_eq!(ones, values(0.25, "a", None));
        assert_eq!(ones, values(0.0, "a", Some(&train)));
    }
}
