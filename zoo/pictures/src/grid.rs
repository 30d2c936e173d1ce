//! Images side by side.

use image::DynamicImage;
use zoo_sdk::Array;

use crate::canvas::{Canvas, Colour, INK, Text, WHITE};
use crate::{Error, Result};

/// Between the images; neither black nor white, so that the edges of both are seen.
const GAP_COLOUR: Colour = [118, 118, 118];
/// For values that are not finite.
const ALARM: Colour = [255, 0, 200];
const GAP: u64 = 2;

/// A batch of images, its shape checked.
struct Batch<'a> {
    values: &'a [f32],
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a> Batch<'a> {
    fn new(what: &'static str, images: &'a Array) -> Result<Self> {
        match (images.shape(), images.as_f32()) {
            (&[count, channels @ (1 | 3), height, width], Ok(values)) => Ok(Self {
                values,
                count,
                channels,
                height,
                width,
            }),
            _ => Err(Error::Shape {
                what,
                expected: "[N,C,H,W]",
                got: format!("{images:?}"),
            }),
        }
    }

    fn colour(&self, image: usize, y: usize, x: usize) -> Colour {
        let plane = self.height * self.width;
        let value =
            |c: usize| self.values[(image * self.channels + c) * plane + y * self.width + x];
        let rgb = match self.channels {
            1 => [value(0); 3],
            _ => [value(0), value(1), value(2)],
        };
        if rgb.iter().all(|v| v.is_finite()) {
            rgb.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8)
        } else {
            ALARM
        }
    }

    /// Draws one image, each pixel a square of `scale`.
    fn draw(&self, canvas: &mut Canvas, image: usize, left: u64, top: u64, scale: u64) {
        for y in 0..self.height {
            for x in 0..self.width {
                let colour = self.colour(image, y, x);
                let (px, py) = (left + x as u64 * scale, top + y as u64 * scale);
                canvas.fill(px as i64, py as i64, scale as i64, scale as i64, colour);
            }
        }
    }
}

/// A scale at which small images are seen well.
fn fitting_scale(height: usize, width: usize) -> u64 {
    (84 / height.max(width).max(1) as u64).clamp(1, 12)
}

/// As [`grid()`], with about as many rows as columns.
///
/// # Errors
/// Those of [`grid()`].
pub fn square(images: &Array) -> Result<DynamicImage> {
    let count = images.shape().first().copied().unwrap_or(1);
    grid(images, (count as f64).sqrt().ceil() as usize, None)
}

/// Draws images `[N,C,H,W]` in [0, 1] in rows of `columns`, with thin gaps. Every pixel becomes a square of `scale`;
/// `None` chooses one at which images of 28x28 are seen well. Values outside [0, 1] are clipped, values that are not finite
/// are magenta.
///
/// # Errors
/// [`Error::Shape`]; [`Error::TooLarge`] beyond 100 million pixels.
pub fn grid(images: &Array, columns: usize, scale: Option<u32>) -> Result<DynamicImage> {
    let batch = Batch::new("grid", images)?;
    let scale = scale.map_or_else(
        || fitting_scale(batch.height, batch.width),
        |s| u64::from(s.max(1)),
    );
    let columns = columns.clamp(1, batch.count.max(1));
    let rows = batch.count.div_ceil(columns);
    let cell = |pixels: usize| (pixels as u64).saturating_mul(scale).saturating_add(GAP);
    let side =
        |n: usize, pixels: usize| (n as u64).saturating_mul(cell(pixels)).saturating_add(GAP);
    let (width, height) = (side(columns, batch.width), side(rows, batch.height));
    let mut canvas = Canvas::new("grid", width, height, GAP_COLOUR)?;
    for i in 0..batch.count {
        let left = GAP + (i % columns) as u64 * cell(batch.width);
        let top = GAP + (i / columns) as u64 * cell(batch.height);
        batch.draw(&mut canvas, i, left, top, scale);
    }
    Ok(canvas.finish())
}

/// The first of images `[N,C,H,W]` in [0, 1], pixel by pixel, with nothing around it.
///
/// # Errors
/// Those of [`grid`].
pub fn single(images: &Array) -> Result<DynamicImage> {
    let batch = Batch::new("picture", images)?;
    let (width, height) = (batch.width as u64, batch.height as u64);
    let mut canvas = Canvas::new("picture", width, height, GAP_COLOUR)?;
    if batch.count > 0 {
        batch.draw(&mut canvas, 0, 0, 0, 1);
    }
    Ok(canvas.finish())
}

/// All images `[N,C,H,W]` in one row.
///
/// # Errors
/// Those of [`grid`].
pub fn strip(images: &Array, scale: Option<u32>) -> Result<DynamicImage> {
    grid(images, usize::MAX, scale)
}

/// A comparison sheet: a row of images `[N,C,H,W]` for each label, as `candle`, `tract`, `ort`, `difference`; images of one
/// column stand under each other. A label may have several lines.
///
/// # Errors
/// Those of [`grid`]; [`Error::Mixed`] where rows differ in the images' size.
pub fn beside(title: &str, rows: &[(&str, &Array)]) -> Result<DynamicImage> {
    const WHAT: &str = "comparison sheet";
    const MARGIN: u64 = 12;
    const SIZE: Text = Text::Small;
    let batches = rows
        .iter()
        .map(|(label, images)| Ok((*label, Batch::new(WHAT, images)?)))
        .collect::<Result<Vec<_>>>()?;
    let size = batches.first().map_or([0, 0], |(_, b)| [b.height, b.width]);
    if let Some((row, b)) = batches.iter().find(|(_, b)| [b.height, b.width] != size) {
        return Err(Error::Mixed {
            row: (*row).to_owned(),
            expected: size,
            got: [b.height, b.width],
        });
    }
    let scale = fitting_scale(size[0], size[1]);
    let columns = batches.iter().map(|(_, b)| b.count).max().unwrap_or(0) as u64;
    let labels = rows.iter().flat_map(|(label, _)| label.lines());
    let label_width = labels.map(|l| SIZE.width(l) as u64).max().unwrap_or(0);
    let heading = if title.is_empty() {
        0
    } else {
        Text::Large.line() as u64 + MARGIN
    };
    // A row is as high as its images or its label.
    let row_height = |label: &str| {
        let lines = label.lines().count() as u64 * SIZE.line() as u64;
        lines.max(size[0] as u64 * scale)
    };
    let left = MARGIN + label_width + MARGIN;
    let cell = (size[1] as u64 * scale).saturating_add(GAP);
    let width = (left + MARGIN)
        .saturating_add(columns.saturating_mul(cell))
        .max(Text::Large.width(title) as u64 + 2 * MARGIN);
    let heights: u64 = rows.iter().map(|(label, _)| row_height(label) + GAP).sum();
    let mut canvas = Canvas::new(WHAT, width, heights + heading + 2 * MARGIN, WHITE)?;
    canvas.text(MARGIN as i64, MARGIN as i64, title, Text::Large, INK);
    let mut top = MARGIN + heading;
    for (label, batch) in &batches {
        let height = row_height(label);
        let lines = label.lines().count() as u64 * SIZE.line() as u64;
        let text_top = (top + (height - lines) / 2) as i64;
        for (i, line) in (0i64..).zip(label.lines()) {
            canvas.text(MARGIN as i64, text_top + i * SIZE.line(), line, SIZE, INK);
        }
        for i in 0..batch.count {
            batch.draw(&mut canvas, i, left + i as u64 * cell, top, scale);
        }
        top += height + GAP;
    }
    Ok(canvas.finish())
}
