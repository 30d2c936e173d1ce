//! Convolutions that see only pixels before the one they predict.

use zoo_nn::{Device, Init, Net, Tensor, Value};

/// Which windows see what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// `k x k`, the rows above; the row of the pixel too, unless the pixel itself must stay unseen.
    Vertical {
        /// Whether the row of the pixel is hidden.
        strict: bool,
    },
    /// `1 x k`, what stands left; the pixel too, unless it must stay unseen.
    Horizontal {
        /// Whether the pixel is hidden.
        strict: bool,
    },
}

impl Mask {
    /// Rows and columns of the window.
    fn window(self, k: usize) -> [usize; 2] {
        match self {
            Self::Vertical { .. } => [k, k],
            Self::Horizontal { .. } => [1, k],
        }
    }

    /// 1 where a tap is alive, `[1,1,rows,columns]`.
    fn taps(self, k: usize) -> Vec<f32> {
        let alive = |i: usize, strict: bool| f32::from(u8::from(i < k / 2 + usize::from(!strict)));
        match self {
            Self::Vertical { strict } => (0..k * k).map(|i| alive(i / k, strict)).collect(),
            Self::Horizontal { strict } => (0..k).map(|i| alive(i, strict)).collect(),
        }
    }
}

/// A convolution of stride 1 that keeps height and width, to `outputs` channels with a window of `k`, which is odd: (N,C,H,W) -> (N,O,H,W)
pub fn masked_conv(net: &Net, x: &Value, outputs: usize, k: usize, mask: Mask) -> Value {
    let [rows, columns] = mask.window(k);
    let inputs = x.dims().get(1).copied().unwrap_or_default();
    let init = Init::fan_in(inputs * rows * columns);
    let weight = net.param("weight", &[outputs, inputs, rows, columns], init);
    let bias = net.param("bias", &[outputs], init);
    let taps = net.constant("mask", || {
        Ok(Tensor::from_vec(
            mask.taps(k),
            (1, 1, rows, columns),
            &Device::Cpu,
        )?)
    });
    x.masked_conv2d(&weight, &taps, Some(&bias), [rows / 2, columns / 2])
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn masks_hide_what_comes_later() {
        let vertical = |strict| Mask::Vertical { strict }.taps(3);
        assert_eq!(vertical(true), [1., 1., 1., 0., 0., 0., 0., 0., 0.]);
        assert_eq!(vertical(false), [1., 1., 1., 1., 1., 1., 0., 0., 0.]);
        assert_eq!(Mask::Horizontal { strict: true }.taps(3), [1., 0., 0.]);
        assert_eq!(Mask::Horizontal { strict: false }.taps(3), [1., 1., 0.]);
    }
}
