//! Images as they are drawn, value after value.

use std::io::Cursor;
use std::path::Path;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame};
use zoo_sdk::{Array, Data};

use crate::{Error, Result, failed, square, write};

/// Frames of an animation, the finished picture not counted.
const FRAMES: usize = 56;
/// What is not drawn yet.
const BLANK: [f32; 3] = [0.13, 0.19, 0.29];
/// How long a frame is seen, and the last one, in milliseconds.
const DELAYS: [u32; 2] = [70, 2500];

/// The pictures that show images `[N,C,H,W]` while they are drawn in raster order, all colours of a pixel at once, from nothing to the whole; as [`square`](crate::square). Where `known [1,C,H,W]` is above a half, an image was given and is seen from the beginning.
///
/// # Errors
/// Those of [`grid()`](crate::grid()).
pub fn drawing(images: &Array, known: Option<&Array>) -> Result<Vec<DynamicImage>> {
    let &[n, c @ (1 | 3), h, w] = images.shape() else {
        return square(images).map(|whole| vec![whole]);
    };
    let Data::F32(values) = images.data() else {
        return square(images).map(|whole| vec![whole]);
    };
    let known = match known.map(|known| (known.data(), known.shape())) {
        Some((Data::F32(mask), shape)) if shape.len() == 4 && shape[1..] == [c, h, w] => Some(mask),
        _ => None,
    };
    let pixels = h * w;
    let frames = FRAMES.min(pixels);
    let frame = |i: usize| {
        let drawn = i * pixels / frames.max(1);
        let mut shown = Vec::with_capacity(n * 3 * pixels);
        for image in values.chunks(c * pixels) {
            for (colour, blank) in BLANK.into_iter().enumerate() {
                let plane = (colour % c) * pixels;
                shown.extend((0..pixels).map(|p| {
                    let given = known.is_some_and(|mask| mask[plane + p] > 0.5);
                    match p < drawn || given {
                        true => image[plane + p],
                        false => blank,
                    }
                }));
            }
        }
        let shown = Array::f32([n, 3, h, w], shown).map_err(|error| Error::Shape {
            what: "animation",
            expected: "[N,C,H,W]",
            got: error.to_string(),
        })?;
        square(&shown)
    };
    (0..=frames).map(frame).collect()
}

/// Writes pictures of one size as a GIF that starts again, as [`save_png`](crate::save_png) writes a file.
///
/// # Errors
/// [`Error::Write`].
pub fn save_gif(pictures: &[DynamicImage], path: &Path) -> Result<()> {
    let encoding = |error: image::ImageError| failed(path, error.to_string());
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).map_err(encoding)?;
    for (i, picture) in pictures.iter().enumerate() {
        let delay = DELAYS[usize::from(i + 1 == pictures.len())];
        let delay = Delay::from_numer_denom_ms(delay, 1);
        let frame = Frame::from_parts(picture.to_rgba8(), 0, 0, delay);
        encoder.encode_frame(frame).map_err(encoding)?;
    }
    drop(encoder);
    write(bytes.get_ref(), path, "gif")
}

#[cfg(test)]
mod tests {
    use image::{AnimationDecoder, codecs::gif::GifDecoder};

    use super::*;

    #[test]
    fn frames_grow_pixel_by_pixel() {
        let images = Array::f32([1, 1, 2, 2], vec![1.0; 4]).unwrap();
        let known = Array::f32([1, 1, 2, 2], vec![0.0, 0.0, 0.0, 1.0]).unwrap();
        let white = |frame: &DynamicImage| {
            let frame = frame.to_rgb8();
            let quarter = frame.width() / 4;
            let seen = |x: u32, y: u32| {
                let at = |i: u32| quarter + 2 * quarter * i;
                frame.get_pixel(at(x), at(y)).0 == [255; 3]
            };
            [seen(0, 0), seen(1, 0), seen(0, 1), seen(1, 1)]
        };
        let frames = drawing(&images, None).unwrap();
        let grown: Vec<usize> = frames
            .iter()
            .map(|frame| white(frame).into_iter().filter(|&w| w).count())
            .collect();
        assert_eq!(grown, [0, 1, 2, 3, 4]);
        let frames = drawing(&images, Some(&known)).unwrap();
        assert_eq!(white(&frames[0]), [false, false, false, true]);
        assert_eq!(white(&frames[2]), [true, true, false, true]);
    }

    #[test]
    fn a_gif_has_all_frames() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("drawing.gif");
        let images = Array::f32([4, 3, 3, 3], vec![0.5; 108]).unwrap();
        let frames = drawing(&images, None).unwrap();
        assert_eq!(frames.len(), 10);
        save_gif(&frames, &path).unwrap();
        let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
        let read = GifDecoder::new(file).unwrap().into_frames();
        assert_eq!(read.collect_frames().unwrap().len(), 10);
        assert!(save_gif(&frames, &place.path().join("nowhere/a.gif")).is_err());
    }
}
