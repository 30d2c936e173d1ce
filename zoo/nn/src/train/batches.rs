//! From stored images to batches.

use candle_core::{Device, Tensor};
use zoo_sdk::{Binarization, DataSpec, Elements, Split, Stream, View};

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
        let holds = |images: &View<'_>, shape: [usize; 3]| {
            let elements = match images.elements {
                Elements::U8(v) => v.len(),
                Elements::F32(v) => v.len(),
            };
            let pixels = shape.iter().product();
            images.count == split.len() && images.count.checked_mul(pixels) == Some(elements)
        };
        let targets = match (&split.targets, spec.target) {
            (Some(targets), Some(shape)) => holds(targets, shape),
            (targets, _) => targets.is_none(),
        };
        if !holds(&split.images, spec.image)
            || !targets
            || split.labels.is_some_and(|l| l.len() != split.len())
        {
            let message = format!(
                "the data set {:?} says {} images of {:?}, but its images, labels or targets are more or fewer",
                spec.name,
                split.len(),
                spec.image
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

    /// For training: what is random in the data is drawn anew in each epoch.
    pub fn training(&self, indices: &[usize], stream: Stream, epoch: u64) -> Result<Batch> {
        self.batch(indices, stream, Some(epoch))
    }

    /// For evaluation: one draw for each image.
    pub fn evaluation(&self, indices: &[usize], stream: Stream) -> Result<Batch> {
        self.batch(indices, stream, None)
    }

    fn batch(&self, indices: &[usize], stream: Stream, epoch: Option<u64>) -> Result<Batch> {
        let [image, target] = shapes(self.spec);
        let mut x = Vec::with_capacity(indices.len() * image.iter().product::<usize>());
        let mut y = Vec::new();
        for &index in indices {
            let example = self.split.example(self.spec, index, stream, epoch);
            x.extend(example.image.values);
            y.extend(example.target.into_iter().flat_map(|target| target.values));
        }
        let images = |values: Vec<f32>, [c, h, w]: [usize; 3]| {
            Tensor::from_vec(values, (indices.len(), c, h, w), self.device)
        };
        let mut batch = Batch::new(indices.len()).with(Role::Image, images(x, image)?);
        // A model that wants none is given none.
        if !y.is_empty() {
            batch = batch.with(Role::Target, images(y, target)?);
        }
        if let Some(labels) = self.split.labels {
            let labels: Vec<i64> = indices.iter().map(|&i| labels[i]).collect();
            let labels = Tensor::from_vec(labels, indices.len(), self.device)?;
            batch = batch.with(Role::Label, labels);
        }
        Ok(batch)
    }

    /// Two images of noise, as such data have them: for networks that run to make their parameters.
    pub fn probe(spec: &DataSpec, device: &Device) -> Result<Batch> {
        let images = |purpose: &str, [c, h, w]: [usize; 3]| {
            let mut x = Stream::new(0).named(purpose).uniform(2 * c * h * w);
            if spec.binarization != Binarization::None {
                x.iter_mut().for_each(|x| *x = x.round());
            }
            Tensor::from_vec(x, (2, c, h, w), device)
        };
        let [image, target] = shapes(spec);
        let mut batch = Batch::new(2).with(Role::Image, images("probe", image)?);
        if spec.pair().is_some() {
            batch = batch.with(Role::Target, images("probe target", target)?);
        }
        if spec.classes.is_empty() {
            return Ok(batch);
        }
        Ok(batch.with(Role::Label, Tensor::from_vec(vec![0i64; 2], 2, device)?))
    }
}

/// Shapes of images and targets; where there are no targets, those of images twice.
fn shapes(spec: &DataSpec) -> [[usize; 3]; 2] {
    spec.pair().unwrap_or([spec.image; 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    fn spec(binarization: Binarization) -> DataSpec {
        DataSpec {
            name: "test".into(),
            image: [1, 1, 4],
            classes: vec![],
            binarization,
            ..DataSpec::default()
        }
    }

    fn pixels(binarization: Binarization, epoch: u64) -> Vec<f32> {
        let split = Split {
            images: View {
                count: 2,
                elements: Elements::U8(&[0, 127, 128, 255, 0, 127, 128, 255]),
            },
            labels: None,
            targets: None,
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
    fn pairs_are_made_or_given() {
        let images = View {
            count: 2,
            elements: Elements::U8(&[0, 51, 102, 153, 204, 255, 0, 51]),
        };
        let targets = View {
            count: 2,
            elements: Elements::F32(&[0.25, 0.75]),
        };
        let mut split = Split {
            images,
            labels: None,
            targets: Some(targets),
        };
        let given = DataSpec {
            image: [1, 2, 2],
            target: Some([1, 1, 1]),
            ..DataSpec::default()
        };
        let batch = |split: &Split<'_>, spec: &DataSpec, epoch| {
            let batches = Batches::new(split, spec, &Device::Cpu).unwrap();
            let batch = batches.training(&[1, 0], Stream::new(1), epoch).unwrap();
            [batch.image(), batch.target()]
        };
        let [image, target] = batch(&split, &given, 0);
        assert_eq!(image.dims(), [2, 1, 2, 2]); // (N,C,H,W)
        assert_eq!(target.to_vec().unwrap(), [0.75, 0.25]);
        split.targets = None;
        let made = DataSpec {
            image: [1, 2, 2],
            degrade: "shrink 2, noise 0.2".parse().unwrap(),
            ..DataSpec::default()
        };
        let [image, target] = batch(&split, &made, 0);
        assert_eq!(image.dims(), [2, 1, 1, 1]);
        assert_eq!(target.to_vec().unwrap()[0], 204.0 / 255.0);
        let [again, _] = batch(&split, &made, 0);
        let [other, _] = batch(&split, &made, 1);
        let values = |value: Value| value.to_vec().unwrap();
        let (image, again, other) = (values(image), values(again), values(other));
        assert_eq!(image, again, "an epoch draws the same noise again");
        assert_ne!(image, other, "another epoch draws other noise");
    }

    #[test]
    fn refuses_a_split_that_lies() {
        let split = Split {
            images: View {
                count: 3,
                elements: Elements::U8(&[0; 8]),
            },
            labels: None,
            targets: None,
        };
        assert!(Batches::new(&split, &spec(Binarization::None), &Device::Cpu).is_err());
    }
}
