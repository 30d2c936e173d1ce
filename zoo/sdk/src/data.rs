//! Data sets as a plugin sees them: whole, borrowed, undecoded no further than bytes or floats.

use serde::{Deserialize, Serialize};

use crate::{Array, Degradations, Error, Picture, Result, Stream};

/// How images become binary before a Bernoulli likelihood sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binarization {
    /// Grey values in [0, 1] as they are.
    #[default]
    None,
    /// 1 where the grey value is at least 0.5.
    Threshold,
    /// Each pixel drawn with its grey value as probability, anew each epoch in training, and once per image index in
    /// evaluation (Salakhutdinov & Murray, 2008).
    Dynamic,
    /// The data are binary already (Larochelle & Murray, 2011).
    Static,
}

impl Binarization {
    /// All of them, with the names that settings use.
    pub const ALL: [(&str, Self); 4] = [
        ("none", Self::None),
        ("threshold", Self::Threshold),
        ("dynamic", Self::Dynamic),
        ("static", Self::Static),
    ];

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("none", |(name, _)| name)
    }

    /// Makes the grey values of one image binary, or leaves them as they are. `stream` is the image's own: the same one gives
    /// the same draw, whoever trains or measures.
    pub fn apply(self, image: &mut [f32], stream: Stream) {
        let binary = |one: bool| f32::from(u8::from(one));
        match self {
            Self::None | Self::Static => {}
            Self::Threshold => image.iter_mut().for_each(|x| *x = binary(*x >= 0.5)),
            Self::Dynamic => {
                let mut uniform = vec![0.0; image.len()];
                stream.fill_uniform(&mut uniform);
                let pairs = image.iter_mut().zip(uniform);
                pairs.for_each(|(x, u)| *x = binary(u < *x));
            }
        }
    }
}

/// What is known of a data set before a pixel is read; saved with every run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// `fashion-small`, or the last part of the path.
    pub name: String,
    /// Channels, height, width of the images.
    pub image: [usize; 3],
    /// Those of the targets, where each image comes with what a map from images to images is to give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<[usize; 3]>,
    /// What makes an input of each image, whose target the image then is.
    #[serde(default, skip_serializing_if = "Degradations::is_empty")]
    pub degrade: Degradations,
    /// Names of the classes, empty where images are unlabelled.
    pub classes: Vec<String>,
    /// How to binarise.
    pub binarization: Binarization,
    /// SHA-256 over the decoded images and labels of every split, hex.
    pub sha256: String,
    /// The licence, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

impl DataSpec {
    /// Values in an image: C x H x W.
    pub fn pixels(&self) -> usize {
        self.image.iter().product()
    }

    /// Shapes `[C,H,W]` of input and target, where the data are pairs or are made into pairs.
    pub fn pair(&self) -> Option<[[usize; 3]; 2]> {
        match self.degrade.is_empty() {
            true => self.target.map(|target| [self.image, target]),
            false => self.degrade.shapes(self.image).ok(),
        }
    }
}

/// An image of a data set as a model sees it, and its target, where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The image, or the input of a pair.
    pub image: Picture,
    /// What a map from images to images is to give for it.
    pub target: Option<Picture>,
}

/// Borrowed elements.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// Grey values 0 to 255.
    U8(&'a [u8]),
    /// Grey values in [0, 1].
    F32(&'a [f32]),
}

/// Borrowed images `[N,C,H,W]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Number of images.
    pub count: usize,
    /// `count` times C x H x W values.
    pub elements: Elements<'a>,
}

/// One split.
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    /// The images.
    pub images: View<'a>,
    /// A class index for each image.
    pub labels: Option<&'a [i64]>,
    /// A target for each image.
    pub targets: Option<View<'a>>,
}

/// A data set, whole.
#[derive(Clone, Copy, Debug)]
pub struct Dataset<'a> {
    /// What it is.
    pub spec: &'a DataSpec,
    /// For training.
    pub train: Split<'a>,
    /// Held out of training, for choosing the best checkpoint.
    pub valid: Option<Split<'a>>,
}

impl Elements<'_> {
    /// Values from `start` on, scaled to [0, 1].
    pub fn floats(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::U8(bytes) => {
                let pairs = out.iter_mut().zip(&bytes[range]);
                pairs.for_each(|(x, &byte)| *x = f32::from(byte) / 255.0);
            }
            Self::F32(values) => out.copy_from_slice(&values[range]),
        }
    }
}

impl View<'_> {
    /// Image `index` of this shape.
    fn picture(&self, index: usize, shape: [usize; 3]) -> Picture {
        let mut values = vec![0.0; shape.iter().product()];
        self.elements.floats(index * values.len(), &mut values);
        Picture { shape, values }
    }
}

/// What a map from images to images made of the images at `indices` of a split, `[N,C,H,W]`, between the inputs, which are brought to the same size by bicubic
/// interpolation, and the targets: `[N,C,H,3W]`. `stream` is that which drew the inputs.
///
/// # Errors
/// Where there is not one result for each index.
pub fn side_by_side(
    split: &Split<'_>,
    spec: &DataSpec,
    indices: &[usize],
    stream: Stream,
    made: &Array,
) -> Result<Array> {
    let wrong = || Error::input(format!("{} images became {made:?}", indices.len()));
    let (&[count, c, h, w], Ok(values)) = (made.shape(), made.as_f32()) else {
        return Err(wrong());
    };
    if count != indices.len() {
        return Err(wrong());
    }
    let mut sheet = Vec::new();
    let mut shape = [c, h, 0];
    let results = values.chunks((c * h * w).max(1));
    for (&index, values) in indices.iter().zip(results) {
        let example = split.example(spec, index, stream, None);
        let result = Picture {
            shape: [c, h, w],
            values: values.to_vec(),
        };
        let mut parts = vec![example.image.resized([h, w]), result];
        parts.extend(example.target.map(|target| target.resized([h, w])));
        let row = Picture::beside(&parts);
        shape = row.shape;
        sheet.extend(row.values);
    }
    Ok(Array::f32([count, shape[0], shape[1], shape[2]], sheet)?)
}

impl Split<'_> {
    /// Image `index`, scaled to [0, 1], binarised and made into a pair as `spec` says. What is random is drawn from `stream`, in training anew in each
    /// `epoch`: whoever uses the same stream sees the same.
    pub fn example(
        &self,
        spec: &DataSpec,
        index: usize,
        stream: Stream,
        epoch: Option<u64>,
    ) -> Example {
        let mut image = self.images.picture(index, spec.image);
        let at = |purpose: &str| {
            let stream = stream.named(purpose);
            let stream = epoch.map_or(stream, |epoch| stream.at(epoch));
            stream.at(index as u64)
        };
        if !spec.degrade.is_empty() {
            let [image, target] = spec.degrade.pair(image, at("degrade"));
            return Example {
                image,
                target: Some(target),
            };
        }
        spec.binarization.apply(&mut image.values, at("binarize"));
        let target = self.targets.zip(spec.target);
        Example {
            image,
            target: target.map(|(targets, shape)| targets.picture(index, shape)),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.count
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_become_binary() {
        let stream = Stream::new(3).named("binarize").at(7);
        let uniform = stream.uniform(4);
        let made = |how: Binarization| {
            let mut image = [0.0, 0.25, 0.5, 1.0];
            how.apply(&mut image, stream);
            image
        };
        assert_eq!(made(Binarization::None), [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(made(Binarization::Threshold), [0.0, 0.0, 1.0, 1.0]);
        let drawn = |grey: f32, u: f32| f32::from(u8::from(u < grey));
        let expected = [0.0, drawn(0.25, uniform[1]), drawn(0.5, uniform[2]), 1.0];
        assert_eq!(made(Binarization::Dynamic), expected);
        assert_eq!(made(Binarization::Dynamic), expected);
    }
}
