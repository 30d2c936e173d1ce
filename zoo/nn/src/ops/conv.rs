//! Convolutions, pooling and normalisation over images `[N,C,H,W]`.

use candle_core::Tensor;

use super::{
    fused,
    kernels::{self, Windows},
};
use crate::{Error, Result, Value, tape::by_candle, value::record};

impl Value {
    #[track_caller]
    fn image_dims(&self, op: &'static str) -> Result<[usize; 4]> {
        match self.dims().try_into() {
            Ok(dims) => Ok(dims),
            Err(_) => Err(Error::usage(
                op,
                format!("takes images [N,C,H,W], not shape {:?}", self.dims()),
            )),
        }
    }

    /// Cross-correlation of `x [N,C,H,W]` with `weight [O,C/groups,K,K]` plus `bias [O]`.
    #[track_caller]
    pub fn conv2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Result<Self> {
        self.conv(
            weight,
            bias,
            Windows {
                stride: [stride; 2],
                padding: [padding; 2],
                output_padding: 0,
                groups,
            },
        )
    }

    /// Cross-correlation with weights under a constant `mask` of zeros and ones, `[1 or O, 1 or C, KH, KW]`: of stride 1, with `padding` zeros above
    /// and below, and left and right. What the mask hides is not computed (van den Oord et al., 2016, masks A and B).
    #[track_caller]
    pub fn masked_conv2d(
        &self,
        weight: &Self,
        mask: &Self,
        bias: Option<&Self>,
        padding: [usize; 2],
    ) -> Result<Self> {
        self.image_dims("Conv")?;
        let windows = Windows::padded(padding);
        // Only outside a trace, which needs the parts.
        match fused(|| kernels::masked_conv2d(self, weight, mask, bias, windows)) {
            Some(computed) => record(computed, "Conv", |_| Ok(())),
            None => self.conv(&weight.mul(mask)?, bias, windows),
        }
    }

    /// [`Value::conv2d`] of stride 1 with `padding` zeros above and below, and left and right.
    #[track_caller]
    pub fn padded_conv2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        padding: [usize; 2],
    ) -> Result<Self> {
        self.conv(weight, bias, Windows::padded(padding))
    }

    /// Cross-correlation over windows anywhere.
    #[track_caller]
    pub(crate) fn conv(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        windows: Windows,
    ) -> Result<Self> {
        self.image_dims("Conv")?;
        let kernel = kernel_of(weight, "Conv")?;
        let Windows {
            stride,
            padding: [rows, columns],
            groups,
            ..
        } = windows;
        let computed = kernels::conv2d(self, weight, bias, windows);
        record(computed, "Conv", |node| {
            node.input(self)?.input(weight)?;
            if let Some(bias) = bias {
                node.input(bias)?;
            }
            node.int_list("kernel_shape", &kernel)
                .int_list("strides", &stride)
                .int_list("pads", &[rows, columns, rows, columns]);
            node.int_list("dilations", &[1, 1])
                .int("group", groups as i64);
            Ok(())
        })
    }

    /// Transposed convolution of `x [N,C,H,W]` with `weight [C,O,K,K]` plus `bias [O]`: sizes `(H - 1) stride - 2 padding + K + output_padding`.
    #[track_caller]
    pub fn conv_transpose2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        stride: usize,
        padding: usize,
        output_padding: usize,
    ) -> Result<Self> {
        self.image_dims("ConvTranspose")?;
        let windows = Windows {
            stride: [stride; 2],
            padding: [padding; 2],
            output_padding,
            groups: 1,
        };
        let computed = kernels::conv_transpose2d(self, weight, bias, windows);
        let kernel = kernel_of(weight, "ConvTranspose")?;
        record(computed, "ConvTranspose", |node| {
            node.input(self)?.input(weight)?;
            if let Some(bias) = bias {
                node.input(bias)?;
            }
            node.int_list("kernel_shape", &kernel)
                .int_list("strides", &[stride; 2])
                .int_list("pads", &[padding; 4]);
            node.int_list("output_padding", &[output_padding; 2])
                .int_list("dilations", &[1, 1])
                .int("group", 1);
            Ok(())
        })
    }

    /// Largest of each `size` x `size` window, without overlap; rows and columns left over are dropped.
    #[track_caller]
    pub fn max_pool2d(&self, size: usize) -> Result<Self> {
        let [n, c, h, w] = self.image_dims("MaxPool")?;
        if size == 0 || h < size || w < size {
            return Err(Error::usage(
                "MaxPool",
                format!("windows of {size} do not fit images of {h}x{w}"),
            ));
        }
        // Not candle's max_pool2d: its gradient is divided by the size of the window.
        let (rows, cols) = (h / size, w / size);
        let computed = by_candle(&[self], |t| {
            let x = t[0].narrow(2, 0, rows * size)?.narrow(3, 0, cols * size)?;
            x.reshape((n, c, rows, size, cols, size))?.max(5)?.max(3) // [N,C,H/s,W/s]
        });
        record(computed, "MaxPool", |node| {
            node.input(self)?
                .int_list("kernel_shape", &[size; 2])
                .int_list("strides", &[size; 2])
                .int_list("pads", &[0; 4]);
            Ok(())
        })
    }

    /// Mean of each `size` x `size` window, without overlap.
    #[track_caller]
    pub fn avg_pool2d(&self, size: usize) -> Result<Self> {
        self.image_dims("AveragePool")?;
        let computed = by_candle(&[self], |t| t[0].avg_pool2d(size));
        record(computed, "AveragePool", |node| {
            node.input(self)?
                .int_list("kernel_shape", &[size; 2])
                .int_list("strides", &[size; 2])
                .int_list("pads", &[0; 4]);
            Ok(())
        })
    }

    /// Each pixel repeated `scale` times in height and width.
    #[track_caller]
    pub fn upsample_nearest2d(&self, scale: usize) -> Result<Self> {
        let [n, c, h, w] = self.image_dims("Resize")?;
        // Not candle's upsample_nearest2d: its gradient overwrites what its input's other uses added.
        let computed = (|| {
            let x = kernels::reshape(self, &[n, c, h, 1, w, 1])?; // [N,C,H,1,W,1]
            let x = kernels::expand(&x, &(n, c, h, scale, w, scale).into())?;
            kernels::reshape(&x, &[n, c, h * scale, w * scale]) // [N,C,sH,sW]
        })();
        record(computed, "Resize", |node| {
            let scale = scale as f32;
            node.input(self)?
                .skip()
                .floats("scales", &[1.0, 1.0, scale, scale])?;
            node.text("mode", "nearest")
                .text("coordinate_transformation_mode", "asymmetric")
                .text("nearest_mode", "floor");
            Ok(())
        })
    }

    /// Batch normalisation with given statistics: `scale (x - mean) / sqrt(variance + epsilon) + shift`, all `[C]`.
    #[track_caller]
    pub fn batch_norm(
        &self,
        scale: &Self,
        shift: &Self,
        mean: &Self,
        variance: &Self,
        epsilon: f64,
    ) -> Result<Self> {
        let computed = kernels::batch_norm(self, [scale, shift, mean, variance], epsilon);
        record(computed, "BatchNormalization", |node| {
            node.input(self)?
                .input(scale)?
                .input(shift)?
                .input(mean)?
                .input(variance)?
                .float("epsilon", epsilon);
            Ok(())
        })
    }
}

impl Value {
    /// Batch normalisation by the batch's own statistics; also gives their mean and (biased) variance, `[C]`. Not for a trace: a
    /// recorded network normalises by its running statistics.
    pub(crate) fn batch_norm_train(
        &self,
        scale: &Self,
        shift: &Self,
        epsilon: f64,
    ) -> Result<(Self, Tensor, Tensor)> {
        Ok(kernels::batch_norm_train(self, scale, shift, epsilon)?)
    }
}

/// `[C] -> [1,C,1,...]`
pub(crate) fn channels(x: &Tensor, rank: usize) -> candle_core::Result<Tensor> {
    let mut shape = vec![1; rank];
    shape[1] = x.elem_count();
    x.reshape(shape)
}

#[track_caller]
fn kernel_of(weight: &Value, op: &'static str) -> Result<[usize; 2]> {
    let [_, _, height, width] = weight.image_dims(op)?;
    Ok([height, width])
}
