//! From stored images to batches.

use candle_core::{Device, Tensor};
use zoo_sdk::{Binarization, DataSpec, Elements, Split, Stream};

use crate::{Batch, Error, Result, Role};

/// Cuts batches out of a split, scaled to [0, 1] and binarised as the data's settings say.
pub(crate) struct Batches<'a> {
    split: &'a Split<'a>,
    spec: &'a DataSpec,
    device: &'a Device,
}

impl<'a> Batches<'a> {
    /// Checks that the split holds what it says.
    pub fn new(split: &'a Split<'a>, spec: &'a DataSpec, device: &'a Device) -> Result<Self> {
        let elements = match split.images.elements {
            Elements::U8(v) => v.len(),
            Elements::F32(v) => v.len(),
        };
        if split.images.count.checked_mul(spec.pixels()) != Some(elements)
            || split.labels.is_some_and(|l| l.len() != split.images.count)
        {
            let message = format!(
                "the data set {:?} says {} images of {:?}, but holds {elements} values",
                spec.name, split.images.count, spec.image
            );
            return Err(Error::input(message));
        }
        Ok(Self {
            split,
            spec,
            device,
        })
    }

    pub fn len(&self) -> usize {
        self.split.len()
    }

    /// For training: a dynamic binarisation is drawn anew in each epoch.
    pub fn training(&self, indices: &[usize], stream: Stream, epoch: u64) -> Result<Batch> {
        self.batch(indices, stream.named("binarize").at(epoch))
    }

    /// For evaluation: one draw for each image.
    pub fn evaluation(&self, indices: &[usize], stream: Stream) -> Result<Batch> {
        self.batch(indices, stream.named("binarize"))
    }

    fn batch(&self, indices: &[usize], stream: Stream) -> Result<Batch> {
        let pixels = self.spec.pixels();
        let mut x = vec![0.0f32; indices.len() * pixels];
        let mut uniform = vec![0.0f32; pixels];
        for (out, &index) in x.chunks_mut(pixels).zip(indices) {
            let at = index * pixels..(index + 1) * pixels;
            match self.split.images.elements {
                Elements::U8(bytes) => out
                    .iter_mut()
                    .zip(&bytes[at])
                    .for_each(|(x, &b)| *x = f32::from(b) / 255.0),
                Elements::F32(values) => out.copy_from_slice(&values[at]),
            }
            match self.spec.binarization {
                Binarization::None | Binarization::Static => {}
                Binarization::Threshold => out
                    .iter_mut()
                    .for_each(|x| *x = if *x >= 0.5 { 1.0 } else { 0.0 }),
                Binarization::Dynamic => {
                    stream.at(index as u64).fill_uniform(&mut uniform);
                    out.iter_mut()
                        .zip(&uniform)
                        .for_each(|(x, u)| *x = if u < x { 1.0 } else { 0.0 });
                }
            }
        }
        let [c, h, w] = self.spec.image;
        let x = Tensor::from_vec(x, (indices.len(), c, h, w), self.device)?;
        let mut batch = Batch::new(indices.len()).with(Role::Image, x);
        if let Some(labels) = self.split.labels {
            let labels: Vec<i64> = indices.iter().map(|&i| labels[i]).collect();
            let labels = Tensor::from_vec(labels, indices.len(), self.device)?;
            batch = batch.with(Role::Label, labels);
        }
        Ok(batch)
    }

    /// Two images of noise, as such data have them: for networks that run to make their parameters.
    pub fn probe(spec: &DataSpec, device: &Device) -> Result<Batch> {
        let [c, h, w] = spec.image;
        let mut x = Stream::new(0).named("probe").uniform(2 * c * h * w);
        if spec.binarization != Binarization::None {
            x.iter_mut().for_each(|x| *x = x.round());
        }
        let x = Tensor::from_vec(x, (2, c, h, w), device)?;
        let batch = Batch::new(2).with(Role::Image, x);
        if spec.classes.is_empty() {
            return Ok(batch);
        }
        Ok(batch.with(Role::Label, Tensor::from_vec(vec![0i64; 2], 2, device)?))
    }
}

#[cfg(test)]
mod tests {
    use zoo_sdk::View;

    use super::*;

    fn spec(binarization: Binarization) -> DataSpec {
        DataSpec {
            name: "test".into(),
            image: [1, 1, 4],
            classes: vec![],
            binarization,
            sha256: String::new(),
            licence: None,
        }
    }

    fn pixels(binarization: Binarization, epoch: u64) -> Vec<f32> {
        let split = Split {
            images: View {
                count: 2,
                elements: Elements::U8(&[0, 127, 128, 255, 0, 127, 128, 255]),
            },
            labels: None,
        };
        let spec = spec(binarization);
        let batches = Batches::new(&split, &spec, &Device::Cpu).unwrap();
        let batch = batches.training(&[1, 0], Stream::new(1), epoch).unwrap();
        batch.image().to_vec().unwrap()
    }

    #[test]
    fn scales_and_binarises() {
        assert_eq!(
            pixels(Binarization::None, 0)[..4],
            [0.0, 127.0 / 255.0, 128.0 / 255.0, 1.0]
        );
        assert_eq!(
            pixels(Binarization::Threshold, 0)[..4],
            [0.0, 0.0, 1.0, 1.0]
        );
        let epochs: Vec<Vec<f32>> = (0..16)
            .map(|epoch| pixels(Binarization::Dynamic, epoch))
            .collect();
        assert_eq!(
            epochs[3],
            pixels(Binarization::Dynamic, 3),
            "the same epoch draws the same"
        );
        assert!(
            epochs.iter().any(|e| *e != epochs[0]),
            "another epoch draws anew"
        );
        assert!(epochs.iter().flatten().all(|x| *x == 0.0 || *x == 1.0));
        assert!(
            epochs.iter().all(|e| e[0] == 0.0 && e[3] == 1.0),
            "black and white stay"
        );
    }

    #[test]
    fn refuses_a_split_that_lies() {
        let split = Split {
            images: View {
                count: 3,
                elements: Elements::U8(&[0; 8]),
            },
            labels: None,
        };
        assert!(Batches::new(&split, &spec(Binarization::None), &Device::Cpu).is_err());
    }
}
