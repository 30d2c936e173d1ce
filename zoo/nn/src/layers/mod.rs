//! Layers: parameters and how they are applied.
//!
//! A layer is a method of [`Net`] that takes its name, its input, and what it is made of; sizes of inputs follow from the input.

mod causal;
mod masked;

pub(crate) use causal::CausalLinear;
pub use masked::{Mask, MaskedConfig, MaskedConv2d, check_masked};

use crate::{Init, Mode, Net, Result, Value, value::Outcome};

/// A fully connected layer to so many outputs.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    outputs: usize,
    bias: bool,
    init: Option<Init>,
}

impl Linear {
    /// With bias and PyTorch's default start.
    pub const fn to(outputs: usize) -> Self {
        Self {
            outputs,
            bias: true,
            init: None,
        }
    }

    /// Without bias, as for a layer that a normalisation follows.
    pub const fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    /// With weights that start so.
    pub const fn init(self, init: Init) -> Self {
        Self {
            init: Some(init),
            ..self
        }
    }
}

impl From<usize> for Linear {
    fn from(outputs: usize) -> Self {
        Self::to(outputs)
    }
}

/// A convolution or transposed convolution to so many channels: 3x3 of stride 1 that keeps the size, unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    output_padding: usize,
    groups: usize,
    bias: bool,
    init: Option<Init>,
}

impl Conv {
    /// 3x3, stride 1, padding 1, with bias and PyTorch's default start.
    pub const fn to(outputs: usize) -> Self {
        Self {
            outputs,
            kernel: 3,
            stride: 1,
            padding: 1,
            output_padding: 0,
            groups: 1,
            bias: true,
            init: None,
        }
    }

    /// 1x1.
    pub const fn pointwise(outputs: usize) -> Self {
        Self::to(outputs).kernel(1).padding(0)
    }

    /// With a window of so many rows and columns.
    pub const fn kernel(self, kernel: usize) -> Self {
        Self { kernel, ..self }
    }

    /// With this step between windows.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With so many zeros around the image.
    pub const fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Transposed convolutions: with rows and columns added at the bottom and right.
    pub const fn output_padding(self, output_padding: usize) -> Self {
        Self {
            output_padding,
            ..self
        }
    }

    /// Convolutions: with groups of channels that do not see each other.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Without bias, as for a layer that a normalisation follows.
    pub const fn without_bias(self) -> Self {
        Self {
            bias: false,
            ..self
        }
    }

    /// With weights that start so.
    pub const fn init(self, init: Init) -> Self {
        Self {
            init: Some(init),
            ..self
        }
    }
}

impl From<usize> for Conv {
    fn from(outputs: usize) -> Self {
        Self::to(outputs)
    }
}

/// The size of dimension `axis`, of a value with `rank` dimensions.
fn size_of(x: &Value, layer: &str, axis: usize, rank: usize) -> Outcome<usize> {
    match x.get()?.dims() {
        dims if dims.len() == rank => Ok(dims[axis]),
        dims => {
            let wanted = if rank == 4 {
                "images [N,C,H,W]"
            } else {
                "rows [N,D]"
            };
            Err(format!("the layer {layer:?} takes {wanted}, not shape {dims:?}").into())
        }
    }
}

/// What a layer needs to begin, or its failed result.
macro_rules! size {
    ($op:literal, $net:expr, $name:expr, $x:expr, $axis:expr, $rank:expr) => {
        crate::value::attempt!($op, size_of($x, &$net.path($name), $axis, $rank))
    };
}

impl Net {
    /// `x [N, I] -> x W^T + b [N, O]`, with `weight [O, I]` and `bias [O]`.
    #[track_caller]
    pub fn linear(&self, name: &str, x: &Value, layer: impl Into<Linear>) -> Value {
        let layer = layer.into();
        let inputs = size!("Gemm", self, name, x, 1, 2);
        let (own, default) = (self.at(name), Init::fan_in(inputs));
        let weight = own.param(
            "weight",
            &[layer.outputs, inputs],
            layer.init.unwrap_or(default),
        );
        let bias = layer
            .bias
            .then(|| own.param("bias", &[layer.outputs], default));
        x.linear(&weight, bias.as_ref())
    }

    /// Convolution `[N,C,H,W] -> [N,O,(H + 2 padding - K) / stride + 1, ...]` with `weight [O,C/groups,K,K]` and `bias [O]`.
    #[track_caller]
    pub fn conv2d(&self, name: &str, x: &Value, layer: impl Into<Conv>) -> Value {
        let layer = layer.into();
        let inputs = size!("Conv", self, name, x, 1, 4);
        let Conv {
            outputs,
            kernel,
            groups,
            ..
        } = layer;
        if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            let message =
                format!("{inputs} and {outputs} channels do not fall into {groups} groups");
            return Value::refused("Conv", message);
        }
        let own = self.at(name);
        let default = Init::fan_in(inputs / groups * kernel * kernel);
        let shape = [outputs, inputs / groups, kernel, kernel];
        let weight = own.param("weight", &shape, layer.init.unwrap_or(default));
        let bias = layer.bias.then(|| own.param("bias", &[outputs], default));
        x.conv2d(&weight, bias.as_ref(), layer.stride, layer.padding, groups)
    }

    /// Transposed convolution `[N,C,H,W] -> [N,O,(H - 1) stride - 2 padding + K + output_padding, ...]` with `weight [C,O,K,K]` and `bias [O]`.
    #[track_caller]
    pub fn conv_transpose2d(&self, name: &str, x: &Value, layer: impl Into<Conv>) -> Value {
        let layer = layer.into();
        let inputs = size!("ConvTranspose", self, name, x, 1, 4);
        let Conv {
            outputs, kernel, ..
        } = layer;
        let own = self.at(name);
        // PyTorch takes the fan-in of a transposed convolution from the second dimension.
        let default = Init::fan_in(outputs * kernel * kernel);
        let shape = [inputs, outputs, kernel, kernel];
        let weight = own.param("weight", &shape, layer.init.unwrap_or(default));
        let bias = layer.bias.then(|| own.param("bias", &[outputs], default));
        x.conv_transpose2d(
            &weight,
            bias.as_ref(),
            layer.stride,
            layer.padding,
            layer.output_padding,
        )
    }

    /// Batch normalisation over dimension 1, `[N,C,...] -> [N,C,...]` (Ioffe & Szegedy, 2015), with PyTorch's epsilon and momentum. In training by the batch's
    /// statistics, which also move the running ones; else by those.
    #[track_caller]
    pub fn batch_norm(&self, name: &str, x: &Value) -> Value {
        const EPSILON: f64 = 1e-5;
        const MOMENTUM: f64 = 0.1;
        let Some(&channels) = x.dims().get(1) else {
            return match x.check() {
                Ok(()) => Value::refused(
                    "BatchNormalization",
                    format!("takes values [N,C,...], not shape {:?}", x.dims()),
                ),
                Err(error) => Value::failed(error),
            };
        };
        let own = self.at(name);
        let weight = own.param("weight", &[channels], Init::Constant(1.0));
        let bias = own.param("bias", &[channels], Init::Constant(0.0));
        let running = |what: &str, value| own.buffer(what, &[channels], value);
        let (mean, variance) = match (running("running_mean", 0.0), running("running_var", 1.0)) {
            (Ok(mean), Ok(variance)) => (mean, variance),
            (Err(error), _) | (_, Err(error)) => return Value::failed(error),
        };
        match self.mode() {
            Mode::Eval => x.batch_norm(&weight, &bias, &mean.value(), &variance.value(), EPSILON),
            Mode::Train => {
                let [normal, now, spread] = x.batch_norm_train(&weight, &bias, EPSILON);
                let count = x.dims().iter().product::<usize>() as f64 / channels.max(1) as f64;
                // The running variance is the unbiased one, as in PyTorch.
                let unbiased = spread * (count / (count - 1.0).max(1.0));
                let moved = || -> Result<()> {
                    let mix = |old: Value, new: Value| old * (1.0 - MOMENTUM) + new * MOMENTUM;
                    mean.set(&mix(mean.value(), now))?;
                    variance.set(&mix(variance.value(), unbiased))
                };
                match moved() {
                    Ok(()) => normal,
                    Err(error) => Value::failed(error),
                }
            }
        }
    }

    /// Layer normalisation over the last dimension (Ba et al., 2016).
    #[track_caller]
    pub fn layer_norm(&self, name: &str, x: &Value) -> Value {
        let size = x.dims().last().copied().unwrap_or(1);
        let own = self.at(name);
        let weight = own.param("weight", &[size], Init::Constant(1.0));
        normalise(x, &[-1]) * weight + own.param("bias", &[size], Init::Constant(0.0))
    }

    /// Group normalisation over images `[N,C,H,W]`, of channels in `groups` equal groups (Wu & He, 2018).
    #[track_caller]
    pub fn group_norm(&self, name: &str, x: &Value, groups: usize) -> Value {
        let channels = size!("GroupNormalization", self, name, x, 1, 4);
        if groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("{channels} channels do not fall into {groups} groups");
            return Value::refused("GroupNormalization", message);
        }
        let own = self.at(name);
        // Height and width may be open, so neither is written down: 0 keeps the one, -1 infers the other.
        let grouped = x.reshape(&[0, groups as i64, -1, 0]); // [N,G,C/G*H,W]
        let normal = normalise(&grouped, &[2, 3]).reshape(&[0, channels as i64, -1, 0]); // [N,C,H,W]
        let weight = own.param("weight", &[channels, 1, 1], Init::Constant(1.0));
        normal * weight + own.param("bias", &[channels, 1, 1], Init::Constant(0.0))
    }

    /// A learned vector of `size` for each of `classes`, starting as N(0, 1): i64 `[...] -> [..., size]`.
    #[track_caller]
    pub fn embedding(&self, name: &str, index: &Value, classes: usize, size: usize) -> Value {
        let table = self
            .at(name)
            .param("weight", &[classes, size], Init::Normal(1.0));
        table.lookup(index)
    }

    /// In training, each element of `x [N, ...]` dropped with probability `rate`, and what stays made larger by 1/(1 - rate) (Srivastava et al., 2014);
    /// elsewhere `x` as it is.
    #[track_caller]
    pub fn dropout(&self, name: &str, x: &Value, rate: f64) -> Value {
        let dice = match self.dice() {
            Some(dice) if self.mode() == Mode::Train && rate > 0.0 => dice,
            _ => return x.clone(),
        };
        let dims = x.dims().get(1..).unwrap_or_default();
        let drawn = dice.draw(&self.path(name), dims, zoo_sdk::Stream::fill_uniform);
        let kept = drawn.less_scalar(1.0 - rate).cast(x.dtype());
        x * (kept * (1.0 / (1.0 - rate)))
    }
}

/// Zero mean and unit variance along `axes`.
#[track_caller]
fn normalise(x: &Value, axes: &[i64]) -> Value {
    let centred = x - x.mean(axes, true);
    let variance = centred.sqr().mean(axes, true);
    centred / (variance + 1e-5).sqrt()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::{Params, Stream, net::Dice};

    #[test]
    fn dropout_keeps_the_mean_and_only_acts_in_training() {
        let x: Value = Tensor::ones((4, 50, 40), candle_core::DType::F32, &Device::Cpu)
            .unwrap()
            .into();
        let eval = Net::new(&Params::fresh(0, &Device::Cpu));
        let train =
            |at| eval.in_training(&Dice::new(Stream::new(at), (0..4).collect(), &Device::Cpu));
        let values = |rate, name: &str, net: &Net| net.dropout(name, &x, rate).to_vec().unwrap();
        let dropped = values(0.25, "a", &train(1));
        assert!(
            dropped
                .iter()
                .all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6)
        );
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        // Again the same, and another for each image, layer and step.
        assert_eq!(dropped, values(0.25, "a", &train(1)));
        assert_ne!(dropped[..2000], dropped[2000..4000]);
        assert_ne!(dropped, values(0.25, "b", &train(1)));
        assert_ne!(dropped, values(0.25, "a", &train(2)));
        let ones = vec![1.0; 8000];
        assert_eq!(ones, values(0.25, "a", &eval));
        assert_eq!(ones, values(0.0, "a", &train(1)));
    }

    #[test]
    fn a_name_is_used_once_in_a_visit() {
        let params = Params::fresh(0, &Device::Cpu);
        let x: Value = Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu)
            .unwrap()
            .into();
        let root = Net::new(&params);
        let part = |net: &Net| net.linear("fc", &x, 4);
        // Entered again, it has the same weights.
        let first = part(&root.at("a")).to_vec().unwrap();
        assert_eq!(first, part(&root.at("a")).to_vec().unwrap());
        let visit = root.at("a");
        part(&visit).check().unwrap();
        let error = part(&visit).check().unwrap_err().to_string();
        assert!(
            error.contains("\"a.fc\"") && error.contains("used twice"),
            "{error}"
        );
        // Of another shape it is another layer.
        let error = root.at("a").linear("fc", &x, 5).check().unwrap_err();
        assert!(error.to_string().contains("made with [4, 3]"), "{error}");
        params.finish().unwrap();
        let error = root.at("b").linear("fc", &x, 5).check().unwrap_err();
        assert!(error.to_string().contains("was not there"), "{error}");
    }
}
