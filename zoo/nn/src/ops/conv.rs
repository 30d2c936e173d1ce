//! Convolutions, pooling and normalisation over images `[N,C,H,W]`.

use std::panic::Location;

use zoo_kernels::Conv2dShape;

use super::{
    kernels::{self, Convolution},
    may_fuse,
};
use crate::{
    Value, recorder,
    value::{Computed, Outcome, attempt, op, op_list, op_results},
};

/// Where windows lie: rows, then columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    /// Convolutions only.
    pub groups: usize,
}

impl Windows {
    /// At every place, with zeros around the image; of one group.
    pub fn padded(padding: [usize; 2]) -> Self {
        Self {
            stride: [1; 2],
            padding,
            groups: 1,
        }
    }

    fn over(self, x: [usize; 4], w: [usize; 4]) -> Convolution {
        let ([batch, in_channels, height, width], [out_channels, _, rows, columns]) = (x, w);
        Convolution(Conv2dShape {
            batch,
            in_channels,
            out_channels,
            height,
            width,
            kernel: [rows, columns],
            stride: self.stride,
            padding: self.padding,
            dilation: [1; 2],
            groups: self.groups,
        })
    }
}

fn image_dims(dims: &[usize]) -> Outcome<[usize; 4]> {
    dims.try_into()
        .map_err(|_| format!("takes images [N,C,H,W], not shape {dims:?}").into())
}

impl Value {
    /// Cross-correlation of `x [N,C,H,W]` with `weight [O,C/groups,K,K]` plus `bias [O]`.
    #[track_caller]
    pub fn conv2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Self {
        self.conv(
            weight,
            bias,
            Windows {
                stride: [stride; 2],
                padding: [padding; 2],
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
    ) -> Self {
        let windows = Windows::padded(padding);
        // Where weights of a live tap are hidden for some channels, they are multiplied.
        let by_tap = mask.rank() == 4
            && weight.rank() == 4
            && mask.dims()[..2] == [1, 1]
            && mask.dims()[2..] == weight.dims()[2..];
        let inputs: Vec<&Self> = [self, weight].into_iter().chain(bias).collect();
        if !by_tap || !may_fuse(&inputs) {
            return self.conv(&(weight * mask), bias, windows);
        }
        op_list(
            "Conv",
            &inputs,
            |all| {
                let live = mask.to_vec()?.iter().map(|&m| m != 0.0).collect::<Vec<_>>();
                let (x, w) = (image_dims(all[0].dims())?, image_dims(all[1].dims())?);
                Ok(windows.over(x, w).masked(all, &live)?)
            },
            |_| Ok(()),
        )
    }

    /// [`Value::conv2d`] of stride 1 with `padding` zeros above and below, and left and right.
    #[track_caller]
    pub fn padded_conv2d(&self, weight: &Self, bias: Option<&Self>, padding: [usize; 2]) -> Self {
        self.conv(weight, bias, Windows::padded(padding))
    }

    /// Cross-correlation over windows anywhere.
    #[track_caller]
    pub(crate) fn conv(&self, weight: &Self, bias: Option<&Self>, windows: Windows) -> Self {
        let inputs: Vec<&Self> = [self, weight].into_iter().chain(bias).collect();
        op_list(
            "Conv",
            &inputs,
            |all| {
                let (x, w) = (image_dims(all[0].dims())?, image_dims(all[1].dims())?);
                Ok(windows.over(x, w).forward(all)?)
            },
            |node| {
                let [rows, columns] = windows.padding;
                node.int_list("kernel_shape", &weight.dims()[2..])
                    .int_list("strides", &windows.stride)
                    .int_list("pads", &[rows, columns, rows, columns])
                    .int_list("dilations", &[1, 1])
                    .int("group", windows.groups as i64)
                    .done()
            },
        )
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
    ) -> Self {
        let inputs: Vec<&Self> = [self, weight].into_iter().chain(bias).collect();
        op_list(
            "ConvTranspose",
            &inputs,
            |all| {
                let ([n, c, h, w], [from, to, kh, kw]) =
                    (image_dims(all[0].dims())?, image_dims(all[1].dims())?);
                let grown = |size: usize, kernel: usize| {
                    (size.max(1) - 1)
                        .checked_mul(stride)
                        .and_then(|s| (s + kernel + output_padding).checked_sub(2 * padding))
                };
                let (Some(height), Some(width), true) = (
                    grown(h, kh),
                    grown(w, kw),
                    c == from && stride > output_padding,
                ) else {
                    return Err(format!(
                        "images {:?} do not fit weights {:?} with stride {stride}, padding {padding} and output padding {output_padding}",
                        all[0].dims(),
                        all[1].dims()
                    )
                    .into());
                };
                let windows = Windows {
                    stride: [stride; 2],
                    padding: [padding; 2],
                    groups: 1,
                };
                let convolution = windows.over([n, to, height, width], [c, to, kh, kw]);
                Ok(convolution.transposed(all)?)
            },
            |node| {
                node.int_list("kernel_shape", &weight.dims()[2..])
                    .int_list("strides", &[stride; 2])
                    .int_list("pads", &[padding; 4])
                    .int_list("output_padding", &[output_padding; 2])
                    .int_list("dilations", &[1, 1])
                    .int("group", 1)
                    .done()
            },
        )
    }

    /// Largest of each `size` x `size` window, without overlap; rows and columns left over are dropped.
    #[track_caller]
    pub fn max_pool2d(&self, size: usize) -> Self {
        let [rows, columns] = attempt!("MaxPool", self.windows_of(size));
        // Not candle's max_pool2d: its gradient is divided by the size of the window.
        let pooled = |x: &Self| {
            x.slice(2, 0, rows * size)
                .slice(3, 0, columns * size)
                .cut_into(rows, columns, size)
                .max(5, false)
                .max(3, false) // [N,C,H/s,W/s]
        };
        self.pooled("MaxPool", size, pooled)
    }

    /// Mean of each `size` x `size` window, without overlap; rows and columns left over are dropped.
    #[track_caller]
    pub fn avg_pool2d(&self, size: usize) -> Self {
        let [rows, columns] = attempt!("AveragePool", self.windows_of(size));
        let pooled = |x: &Self| {
            x.slice(2, 0, rows * size)
                .slice(3, 0, columns * size)
                .cut_into(rows, columns, size)
                .mean(&[3, 5], false) // [N,C,H/s,W/s]
        };
        self.pooled("AveragePool", size, pooled)
    }

    fn windows_of(&self, size: usize) -> Outcome<[usize; 2]> {
        let [_, _, h, w] = image_dims(self.get()?.dims())?;
        if size == 0 || h < size || w < size {
            return Err(format!("windows of {size} do not fit images of {h}x{w}").into());
        }
        Ok([h / size, w / size])
    }

    /// `[N,C,H,W] -> [N,C,H/s,s,W/s,s]`
    fn cut_into(&self, rows: usize, columns: usize, size: usize) -> Self {
        let [rows, columns, size] = [rows, columns, size].map(|n| n as i64);
        self.reshape(&[0, 0, rows, size, columns, size])
    }

    #[track_caller]
    fn pooled(&self, name: &'static str, size: usize, parts: impl FnOnce(&Self) -> Self) -> Self {
        self.one_node(name, parts, |node| {
            node.int_list("kernel_shape", &[size; 2])
                .int_list("strides", &[size; 2])
                .int_list("pads", &[0; 4])
                .done()
        })
    }

    /// What `parts` compute, which a trace records as a single node.
    #[track_caller]
    fn one_node(
        &self,
        name: &'static str,
        parts: impl FnOnce(&Self) -> Self,
        describe: impl FnOnce(&mut recorder::NodeBuilder<'_>) -> crate::Result<()>,
    ) -> Self {
        let apart = |[x]: [&Computed; 1]| {
            let x = recorder::paused(|| parts(&Self::from(x.clone())));
            Ok(x.into_computed()?)
        };
        op(name, [self], apart, describe)
    }

    /// Each pixel repeated `scale` times in height and width.
    #[track_caller]
    pub fn upsample_nearest2d(&self, scale: usize) -> Self {
        let [_, _, h, w] = attempt!(
            "Resize",
            self.get()
                .map_err(Into::into)
                .and_then(|x| image_dims(x.dims()))
        );
        // Not candle's upsample_nearest2d: its gradient overwrites what its input's other uses added.
        let parts = |x: &Self| {
            let [h, w, s] = [h, w, scale].map(|n| n as i64);
            x.reshape(&[0, 0, h, 1, w, 1]) // [N,C,H,1,W,1]
                .expand(&[1, 1, 1, scale, 1, scale])
                .reshape(&[0, 0, h * s, w * s]) // [N,C,sH,sW]
        };
        self.one_node("Resize", parts, |node| {
            let scale = scale as f32;
            node.skip().floats("scales", &[1.0, 1.0, scale, scale])?;
            node.text("mode", "nearest")
                .text("coordinate_transformation_mode", "asymmetric")
                .text("nearest_mode", "floor")
                .done()
        })
    }

    /// Channels become pixels, `[N,C s^2,H,W] -> [N,C,sH,sW]`: channel `s^2 c + s i + j` holds the pixels of row `i` and column `j` of each
    /// square of `s x s` (the sub-pixel convolution of Shi et al., 2016, equation 4).
    #[track_caller]
    pub fn pixel_shuffle(&self, scale: usize) -> Self {
        let [_, c, h, w] = attempt!(
            "DepthToSpace",
            self.get()
                .map_err(Into::into)
                .and_then(|x| image_dims(x.dims()))
        );
        if scale == 0 || c % (scale * scale) != 0 {
            let what = format!("{c} channels are no squares of {scale} x {scale} pixels");
            return Self::refused("DepthToSpace", what);
        }
        let parts = |x: &Self| {
            let [c, h, w, s] = [c, h, w, scale].map(|n| n as i64);
            x.reshape(&[0, c / (s * s), s, s, h, w]) // [N,C,s,s,H,W]
                .permute(&[0, 1, 4, 2, 5, 3]) // [N,C,H,s,W,s]
                .reshape(&[0, c / (s * s), h * s, w * s]) // [N,C,sH,sW]
        };
        self.one_node("DepthToSpace", parts, |node| {
            node.int("blocksize", scale as i64)
                .text("mode", "CRD")
                .done()
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
    ) -> Self {
        op(
            "BatchNormalization",
            [self, scale, shift, mean, variance],
            |all| {
                if all[0].rank() < 2 {
                    return Err(
                        format!("takes values [N,C,...], not shape {:?}", all[0].dims()).into(),
                    );
                }
                let fixed = |v: &&Computed| v.held.is_ours() && v.node_of().is_none();
                if all.iter().all(fixed) {
                    return Ok(kernels::batch_norm(all, epsilon)?);
                }
                let [x, scale, shift, mean, variance] = all.map(|v| Self::from(v.clone()));
                let normal = recorder::paused(|| {
                    let factor = scale / (variance + epsilon).sqrt();
                    let offset = shift - mean * &factor;
                    &x * factor.channels(x.rank()) + offset.channels(x.rank())
                });
                Ok(normal.into_computed()?)
            },
            |node| node.float("epsilon", epsilon).done(),
        )
    }

    /// Batch normalisation by the batch's own statistics; also gives their mean and (biased) variance, `[C]`, without history. Not for a trace: a
    /// recorded network normalises by its running statistics.
    #[track_caller]
    pub(crate) fn batch_norm_train(&self, scale: &Self, shift: &Self, epsilon: f64) -> [Self; 3] {
        let inputs = [self, scale, shift];
        if self.rank() >= 2 && may_fuse(&inputs) {
            let fused = op_results(
                "BatchNormalization",
                Location::caller(),
                &inputs,
                |all| Ok(kernels::batch_norm_train([all[0], all[1], all[2]], epsilon)?.into()),
                |_| Ok(()),
            );
            return match fused.map(<[Self; 3]>::try_from) {
                Ok(Ok(three)) => three,
                Ok(Err(_)) => std::array::from_fn(|_| {
                    Self::refused("BatchNormalization", "results were lost")
                }),
                Err(error) => {
                    let failed = Self::failed(error);
                    std::array::from_fn(|_| failed.clone())
                }
            };
        }
        let others: Vec<i64> = (0..self.rank() as i64).filter(|&axis| axis != 1).collect();
        let mean = self.mean(&others, true); // [1,C,1,1]
        let centred = self - &mean;
        let variance = centred.sqr().mean(&others, true); // [1,C,1,1]
        let normal = centred / (&variance + epsilon).sqrt() * scale.channels(self.rank())
            + shift.channels(self.rank());
        [
            normal,
            mean.detach().flatten(0),
            variance.detach().flatten(0),
        ]
    }

    /// `[C] -> [1,C,1,...]`
    #[track_caller]
    fn channels(&self, rank: usize) -> Self {
        let mut shape = vec![1; rank.max(2)];
        shape[1] = -1;
        self.reshape(&shape)
    }
}
