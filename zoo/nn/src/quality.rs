//! How near images come to what they should be.

use zoo_sdk::Picture;

use crate::{Error, Result, Value, array::array_of, array::tensor_of};

/// PSNR and SSIM of images, means over a batch, of their luma as super-resolution is measured: Y of ITU-R BT.601 with 16/255 for black and 235/255 for white.
/// Grey images are measured as they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Peak signal-to-noise ratio in decibels, `-10 log10(mse)`; at most 100, for images that are equal.
    pub psnr: f64,
    /// Structural similarity (Wang et al., 2004): windows of 11x11 (of less in smaller images) with Gaussian weights of deviation 1.5, K1 = 0.01, K2 = 0.03,
    /// over whole windows alone.
    pub ssim: f64,
}

impl Quality {
    /// Of images `[N,C,H,W]` in [0, 1] beside their targets; so many rows and columns at each border do not count.
    ///
    /// # Errors
    /// Where shapes differ, channels are neither 1 nor 3, or no pixel lies within the border.
    pub fn of(made: &Value, targets: &Value, border: usize) -> Result<Self> {
        let (made, targets) = (lumas(made)?, lumas(targets)?);
        let pairs = made.iter().zip(&targets);
        let (mut psnr, mut ssim) = (0.0, 0.0);
        for (made, target) in pairs {
            if made.sides != target.sides {
                let message = format!(
                    "images of {:?} beside targets of {:?}",
                    made.sides, target.sides
                );
                return Err(Error::input(message));
            }
            let (made, target) = (made.inside(border)?, target.inside(border)?);
            psnr += made.psnr(&target);
            ssim += made.ssim(&target);
        }
        if made.len() != targets.len() || made.is_empty() {
            let message = format!("{} images beside {} targets", made.len(), targets.len());
            return Err(Error::input(message));
        }
        let count = made.len() as f64;
        Ok(Self {
            psnr: psnr / count,
            ssim: ssim / count,
        })
    }
}

/// Images `[N,C,H,W]` in [0, 1] of so many times the height and width, by bicubic interpolation: what a network is held against. Without gradient.
pub fn enlarged(x: &Value, scale: usize) -> Result<Value> {
    let (pictures, device) = (pictures(x)?, x.tensor()?.device().clone());
    let larger = pictures
        .iter()
        .map(|p| p.resized([p.shape[1] * scale, p.shape[2] * scale]));
    let larger: Vec<Picture> = larger.collect();
    let [c, h, w] = larger.first().map_or([0; 3], |picture| picture.shape);
    let values = larger.into_iter().flat_map(|picture| picture.values);
    let array = zoo_graph::Array::f32([pictures.len(), c, h, w], values.collect::<Vec<_>>())?;
    Ok(tensor_of(&array, &device)?.into())
}

/// `[N,C,H,W]` as pictures.
fn pictures(x: &Value) -> Result<Vec<Picture>> {
    let array = array_of(x.tensor()?)?;
    let &[_, c, h, w] = array.shape() else {
        return Err(Error::input(format!(
            "images [N,C,H,W] are wanted, not {array:?}"
        )));
    };
    let chunks = array.as_f32()?.chunks((c * h * w).max(1));
    let picture = |values: &[f32]| Picture {
        shape: [c, h, w],
        values: values.to_vec(),
    };
    Ok(chunks.map(picture).collect())
}

fn lumas(x: &Value) -> Result<Vec<Plane>> {
    pictures(x)?.iter().map(Plane::luma).collect()
}

/// One channel of an image.
struct Plane {
    sides: [usize; 2],
    values: Vec<f64>,
}

impl Plane {
    fn luma(picture: &Picture) -> Result<Self> {
        let [channels, h, w] = picture.shape;
        let values = picture.values.iter().map(|&v| f64::from(v));
        let values: Vec<f64> = match channels {
            1 => values.collect(),
            3 => {
                let all: Vec<f64> = values.collect();
                let (red, rest) = all.split_at(h * w);
                let (green, blue) = rest.split_at(h * w);
                let colours = red.iter().zip(green).zip(blue);
                let luma = |((r, g), b): ((&f64, &f64), &f64)| {
                    (16.0 + 65.481 * r + 128.553 * g + 24.966 * b) / 255.0
                };
                colours.map(luma).collect()
            }
            other => {
                return Err(Error::input(format!(
                    "images of 1 or 3 channels are wanted, not {other}"
                )));
            }
        };
        Ok(Self {
            sides: [h, w],
            values,
        })
    }

    fn inside(&self, border: usize) -> Result<Self> {
        let [h, w] = self.sides;
        if h.min(w) <= 2 * border {
            return Err(Error::input(format!(
                "images of {h}x{w} cannot be measured: nothing lies within a border of {border} pixels"
            )));
        }
        let sides = [h - 2 * border, w - 2 * border];
        let rows = self.values.chunks(w).skip(border).take(sides[0]);
        Ok(Self {
            sides,
            values: rows
                .flat_map(|row| &row[border..w - border])
                .copied()
                .collect(),
        })
    }

    fn psnr(&self, other: &Self) -> f64 {
        let pairs = self.values.iter().zip(&other.values);
        let mse = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>() / self.values.len() as f64;
        -10.0 * mse.max(1e-10).log10()
    }

    fn ssim(&self, other: &Self) -> f64 {
        let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
        let product = |a: &Self, b: &Self| Self {
            sides: a.sides,
            values: a.values.iter().zip(&b.values).map(|(a, b)| a * b).collect(),
        };
        let (mean_a, mean_b) = (self.blurred(), other.blurred());
        let [aa, bb, ab] = [
            product(self, self),
            product(other, other),
            product(self, other),
        ]
        .map(|plane| plane.blurred());
        let each = (0..mean_a.len()).map(|i| {
            let (a, b) = (mean_a[i], mean_b[i]);
            let (var_a, var_b, covariance) = (aa[i] - a * a, bb[i] - b * b, ab[i] - a * b);
            (2.0 * a * b + c1) * (2.0 * covariance + c2)
                / ((a * a + b * b + c1) * (var_a + var_b + c2))
        });
        each.sum::<f64>() / mean_a.len() as f64
    }

    /// Gaussian means over each whole window.
    fn blurred(&self) -> Vec<f64> {
        let [h, w] = self.sides;
        // An odd number, so that there is a middle.
        let window = WINDOW.min((h.min(w) - 1) / 2 * 2 + 1);
        let weights: Vec<f64> = (0..window)
            .map(|i| (-(i as f64 - (window / 2) as f64).powi(2) / (2.0 * 1.5 * 1.5)).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        let (rows, columns) = (h - window + 1, w - window + 1);
        let mean = |at: &dyn Fn(usize) -> f64| {
            weights
                .iter()
                .enumerate()
                .map(|(k, weight)| weight * at(k))
                .sum::<f64>()
                / total
        };
        let mut wide = Vec::with_capacity(h * columns);
        for y in 0..h {
            wide.extend((0..columns).map(|x| mean(&|k| self.values[y * w + x + k])));
        }
        let mut out = Vec::with_capacity(rows * columns);
        for y in 0..rows {
            out.extend((0..columns).map(|x| mean(&|k| wide[(y + k) * columns + x])));
        }
        out
    }
}

/// Rows and columns of a window of SSIM.
const WINDOW: usize = 11;

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    /// Values ((7 i + 3 j + 5 c + k (i j mod 4)) mod 11) / 10 of an image of 3x20x24.
    fn image(k: usize) -> Value {
        let value = |p: usize| {
            let (c, i, j) = (p / 480, p / 24 % 20, p % 24);
            ((7 * i + 3 * j + 5 * c + k * (i * j % 4)) % 11) as f32 / 10.0
        };
        let values: Vec<f32> = (0..3 * 480).map(value).collect();
        Tensor::from_vec(values, (1, 3, 20, 24), &Device::Cpu)
            .unwrap()
            .into()
    }

    /// Border, PSNR and SSIM of the two images.
    const SCIKIT_IMAGE: [(usize, f64, f64); 2] =
        [(0, 16.573_274, 0.351_390), (2, 16.316_768, 0.335_672)];

    /// scikit-image: `peak_signal_noise_ratio` and `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)` of the luma.
    #[test]
    fn psnr_and_ssim_are_those_of_scikit_image() {
        for (border, psnr, ssim) in SCIKIT_IMAGE {
            let quality = Quality::of(&image(0), &image(1), border).unwrap();
            assert!((quality.psnr - psnr).abs() < 1e-4, "{quality:?}");
            assert!((quality.ssim - ssim).abs() < 1e-5, "{quality:?}");
        }
    }

    #[test]
    fn equal_images_are_as_near_as_can_be() {
        let same = Quality::of(&image(1), &image(1), 0).unwrap();
        assert_eq!(same.psnr, 100.0);
        assert!((same.ssim - 1.0).abs() < 1e-9);
        assert!(
            Quality::of(&image(1), &image(1), 10).is_err(),
            "nothing is left"
        );
        assert!(Quality::of(&image(1), &image(1).slice(2, 0, 10), 0).is_err());
    }
}
