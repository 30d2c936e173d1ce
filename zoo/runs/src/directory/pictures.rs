//! Pictures of a run: sample grids and the plot of losses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zoo_files::Disk;
use zoo_pictures::{Scale, Series};
use zoo_sdk::Array;

use super::metrics::{Record, read_metrics};
use super::run_dir::Layout;
use crate::Result;

/// Images `[N,C,H,W]` as a PNG of rows and columns, with its width and height.
///
/// # Errors
/// For an array that is no batch of images.
pub fn grid_png(images: &Array) -> Result<(Vec<u8>, (u32, u32))> {
    let grid = zoo_pictures::square(images)?;
    Ok((zoo_pictures::png(&grid)?, (grid.width(), grid.height())))
}

/// The run's losses over its steps; none where there is no record.
///
/// # Errors
/// For a record that cannot be read.
pub fn losses(layout: &Layout) -> Result<Vec<Series>> {
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
pub(crate) fn loss_plot(disk: &Disk, layout: &Layout) -> Result<Option<PathBuf>> {
    let series = losses(layout)?;
    if series.is_empty() {
        return Ok(None);
    }
    let plot = zoo_pictures::plot("losses", "step", &series, Scale::Linear);
    let path = layout.loss_plot();
    disk.replace(&path, &zoo_pictures::png(&plot)?)?;
    Ok(Some(path))
}
