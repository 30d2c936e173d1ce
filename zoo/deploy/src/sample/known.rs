//! The known part of an image that a model completes.

use std::path::{Path, PathBuf};

use zoo_sdk::{Array, Data, PortRole, Tensors};

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
    pub(super) fn read(&self, image: [usize; 3], binary: bool) -> Result<Tensors> {
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
            (PortRole::Given.to_string(), array(given)?),
            (PortRole::Mask.to_string(), array(mask)?),
        ]))
    }
}

/// The picture at `path` as values in [0, 1], channel by channel; a grey one serves for every colour.
fn read(path: &Path, [channels, height, width]: [usize; 3]) -> Result<Vec<f32>> {
    let picture = zoo_pictures::read_image(path)?;
    let (&[c, h, w], Data::F32(values)) = (picture.shape(), picture.data()) else {
        return Err(Error::Usage(format!("{}: no picture", path.display())));
    };
    if (h, w) != (height, width) {
        return Err(Error::Usage(format!(
            "{}: it is {h}x{w}, the model's images are {height}x{width}; scale the picture to that size",
            path.display()
        )));
    }
    if c > channels {
        return Err(Error::Usage(format!(
            "{}: it has colours, the model's images have none; make the picture grey",
            path.display()
        )));
    }
    Ok(values.repeat(channels / c))
}
