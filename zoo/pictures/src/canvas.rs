//! Rectangles, text and anti-aliased lines on an RGB image.

use image::{DynamicImage, Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::{Error, Result};

pub(crate) type Colour = [u8; 3];

pub(crate) const WHITE: Colour = [255; 3];
pub(crate) const INK: Colour = [40, 42, 48];

/// 100 million pixels are 300 MB.
const MAX_PIXELS: u64 = 100_000_000;

/// Text of 16 or 20 pixels a line.
#[derive(Clone, Copy)]
pub(crate) enum Text {
    Small,
    Large,
}

impl Text {
    fn raster(self) -> RasterHeight {
        match self {
            Self::Small => RasterHeight::Size16,
            Self::Large => RasterHeight::Size20,
        }
    }

    pub(crate) fn line(self) -> i64 {
        self.raster().val() as i64
    }

    /// Pixels that `text` takes across.
    pub(crate) fn width(self, text: &str) -> i64 {
        (get_raster_width(FontWeight::Regular, self.raster()) * text.chars().count()) as i64
    }
}

pub(crate) struct Canvas {
    pixels: RgbImage,
}

impl Canvas {
    /// An empty canvas of one colour; an error where it is too large.
    pub(crate) fn new(what: &'static str, width: u64, height: u64, colour: Colour) -> Result<Self> {
        let fits = width.max(height) <= 1 << 20 && width.max(1) * height.max(1) <= MAX_PIXELS;
        if !fits {
            return Err(Error::TooLarge {
                what,
                width,
                height,
            });
        }
        // Both fit: at most 2^20.
        let (width, height) = (width.max(1) as u32, height.max(1) as u32);
        Ok(Self::of(width, height, colour))
    }

    /// An empty canvas of a size known to be reasonable.
    pub(crate) fn of(width: u32, height: u32, colour: Colour) -> Self {
        Self {
            pixels: RgbImage::from_pixel(width, height, Rgb(colour)),
        }
    }

    /// Grey where no pixel has a colour.
    pub(crate) fn finish(self) -> DynamicImage {
        let grey = self.pixels.pixels().all(|p| p[0] == p[1] && p[1] == p[2]);
        let picture = DynamicImage::ImageRgb8(self.pixels);
        if grey {
            DynamicImage::ImageLuma8(picture.into_luma8())
        } else {
            picture
        }
    }

    /// Lays `colour` over the pixel with `opacity`; nothing outside.
    pub(crate) fn blend(&mut self, x: i64, y: i64, colour: Colour, opacity: f32) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else {
            return;
        };
        if let Some(pixel) = self.pixels.get_pixel_mut_checked(x, y) {
            for (old, new) in pixel.0.iter_mut().zip(colour) {
                let mixed = f32::from(*old) * (1.0 - opacity) + f32::from(new) * opacity;
                *old = mixed.round() as u8;
            }
        }
    }

    pub(crate) fn fill(&mut self, x: i64, y: i64, width: i64, height: i64, colour: Colour) {
        for row in y..y + height {
            for column in x..x + width {
                self.blend(column, row, colour, 1.0);
            }
        }
    }

    /// Writes one line with its top left corner at `x`, `y`. Signs outside ASCII appear as `?`.
    pub(crate) fn text(&mut self, x: i64, y: i64, text: &str, size: Text, colour: Colour) {
        let step = get_raster_width(FontWeight::Regular, size.raster()) as i64;
        for (i, c) in (0i64..).zip(text.chars()) {
            let glyph = get_raster(c, FontWeight::Regular, size.raster())
                .or_else(|| get_raster('?', FontWeight::Regular, size.raster()));
            let Some(glyph) = glyph else { continue };
            for (row, line) in (0i64..).zip(glyph.rows()) {
                for (column, &coverage) in (0i64..).zip(line) {
                    if coverage > 0 {
                        let opacity = f32::from(coverage) / 255.0;
                        self.blend(x + i * step + column, y + row, colour, opacity);
                    }
                }
            }
        }
    }

    /// Draws lines through runs of points, all of one series, so that crossings are no darker than the rest.
    pub(crate) fn lines(
        &mut self,
        runs: &[Vec<[f32; 2]>],
        width: f32,
        colour: Colour,
        opacity: f32,
        clip: [i64; 4],
    ) {
        let [left, top, right, bottom] = clip;
        let columns = (right - left).max(0) as usize;
        let mut coverage = vec![0.0f32; columns * (bottom - top).max(0) as usize];
        for run in runs {
            // A run of one point is a dot, large enough to be seen.
            let half = if run.len() == 1 { 2.5 } else { width / 2.0 };
            let ends = run.windows(2).map(|w| (w[0], w[1]));
            let dot = (run.len() == 1).then(|| (run[0], run[0]));
            for (a, b) in ends.chain(dot) {
                let reach = half + 1.0;
                let from = |i: usize| (a[i].min(b[i]) - reach).floor() as i64;
                let to = |i: usize| (a[i].max(b[i]) + reach).ceil() as i64 + 1;
                for y in from(1).max(top)..to(1).min(bottom) {
                    for x in from(0).max(left)..to(0).min(right) {
                        let far = distance([x as f32 + 0.5, y as f32 + 0.5], a, b);
                        let here = (half + 0.5 - far).clamp(0.0, 1.0);
                        let cell =
                            &mut coverage[(y - top) as usize * columns + (x - left) as usize];
                        *cell = cell.max(here);
                    }
                }
            }
        }
        for (i, &c) in coverage.iter().enumerate().filter(|(_, c)| **c > 0.0) {
            let (x, y) = ((i % columns) as i64, (i / columns) as i64);
            self.blend(left + x, top + y, colour, c * opacity);
        }
    }
}

/// From a point to the segment between `a` and `b`.
fn distance(p: [f32; 2], a: [f32; 2], b: [f32; 2]) -> f32 {
    let (ab, ap) = ([b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]);
    let length = ab[0] * ab[0] + ab[1] * ab[1];
    let along = if length > 0.0 {
        ((ap[0] * ab[0] + ap[1] * ab[1]) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let (dx, dy) = (ap[0] - along * ab[0], ap[1] - along * ab[1]);
    (dx * dx + dy * dy).sqrt()
}
