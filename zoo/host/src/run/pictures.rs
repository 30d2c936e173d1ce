//! Pictures of a run: sample grids and the plot of losses.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat};
use zoo_sdk::Array;

use super::dir::Layout;
use super::disk::Disk;
use super::metrics::{Record, read_metrics};
use crate::picture::{self, Scale, Series};
use crate::{Error, Result};

/// Images `[N,C,H,W]` as a PNG of rows and columns, with its width and height.
pub(crate) fn grid_png(images: &Array) -> Result<(Vec<u8>, (u32, u32))> {
    let columns = (images.shape().first().copied().unwrap_or(1) as f64)
        .sqrt()
        .ceil() as usize;
    let grid = picture::grid(images, columns.max(1), None)?;
    Ok((png(&grid)?, (grid.width(), grid.height())))
}

fn png(picture: &DynamicImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::Encode(e.to_string()))?;
    Ok(bytes.into_inner())
}

/// The run's losses over its steps; none where there is no record.
pub(crate) fn losses(layout: &Layout) -> Result<Vec<Series>> {
    let metrics = layout.metrics();
    if !metrics.exists() {
        return Ok(Vec::new());
    }
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for record in read_metrics(&metrics)? {
        if let Record::Step { step, losses, .. } = record {
            for (name, value) in losses {
                let Some(value) = value else { continue };
                curves.entry(name).or_default().push((step as f64, value));
            }
        }
    }
    let series = curves
        .into_iter()
        .map(|(name, points)| Series { name, points });
    Ok(series.collect())
}

/// Draws the run's losses over its steps; nothing where there is no record.
pub(super) fn loss_plot(disk: &Disk, layout: &Layout) -> Result<Option<PathBuf>> {
    let series = losses(layout)?;
    if series.is_empty() {
        return Ok(None);
    }
    let plot = picture::plot("losses", "step", &series, Scale::Linear);
    let path = layout.loss_plot();
    disk.replace(&path, &png(&plot)?)?;
    Ok(Some(path))
}
