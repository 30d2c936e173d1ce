//! The known part of an image that a model completes.

use std::path::{Path, PathBuf};

use zoo_sdk::{Array, Tensors};

use crate::data::decode_image;
use crate::{Error, Result};

/// The files of a partly given image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// A PNG or JPEG of the image's size.
    pub given: PathBuf,
    /// A PNG or JPEG of the same size: white where the given image is kept, black where the model draws.
    pub mask: PathBuf,
}

impl Known {
    /// The ports `given` and `mask` `[1,C,H,W]` for images `[C,H,W]`. A model of binary images is given binary ones.
    ///
    /// # Errors
    /// For files that are no pictures, and pictures of another size or with colours where there are none.
    pub(crate) fn read(&self, image: [usize; 3], binary: bool) -> Result<Tensors> {
        let step = |value: f32| f32::from(u8::from(value > 0.5));
        let mut given = read(&self.given, image)?;
        if binary {
            given = given.into_iter().map(step).collect();
        }
        let mask: Vec<f32> = read(&self.mask, image)?.into_iter().map(step).collect();
        let [c, h, w] = image;
        let array =
            |values| Array::f32([1, c, h, w], values).map_err(|e| Error::Usage(e.to_string()));
        Ok(Tensors::from([
            ("given".to_owned(), array(given)?),
            ("mask".to_owned(), array(mask)?),
        ]))
    }
}

/// The picture at `path` as values in [0, 1], channel by channel; a grey one serves for every colour.
fn read(path: &Path, [channels, height, width]: [usize; 3]) -> Result<Vec<f32>> {
    let decoded = decode_image(path)?;
    if (decoded.size.height, decoded.size.width) != (height, width) {
        return Err(Error::Usage(format!(
            "{}: it is {}x{}, the model's images are {height}x{width}; scale the picture to that size",
            path.display(),
            decoded.size.height,
            decoded.size.width
        )));
    }
    if decoded.channels > channels {
        return Err(Error::Usage(format!(
            "{}: it has colours, the model's images have none; make the picture grey",
            path.display()
        )));
    }
    let values: Vec<f32> = decoded
        .bytes
        .iter()
        .map(|&v| f32::from(v) / 255.0)
        .collect();
    Ok(values.repeat(channels / decoded.channels))
}
