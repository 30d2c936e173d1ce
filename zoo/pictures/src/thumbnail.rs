//! Images as text, for snapshots that a person can read in a diff.

use zoo_sdk::Array;

use crate::{Error, Result};

/// From dark to light.
const RAMP: &[u8; 10] = b" .:-=+*#%@";
const COLUMNS: usize = 14;

/// A coarse grey-level picture of an image `[C,H,W]` in [0, 1], 14 columns wide, in a frame that keeps
/// blank lines visible, with rounded statistics below it.
///
/// A sign is the mean over a cell, about twice as high as wide, as signs are. The borders between grey levels lie where
/// means of a few bytes, and 0, 1/2 and 1, do not fall, so that noise of 1e-4 leaves the picture of such an image as it is;
/// for arbitrary values one cell in several hundred lies close enough to a border to flip. Cells with a value that is not
/// finite are `!`.
///
/// # Errors
/// [`Error::Shape`].
pub fn thumbnail(image: &Array) -> Result<String> {
    let wrong = || Error::Shape {
        what: "thumbnail",
        expected: "[C,H,W]",
        got: format!("{image:?}"),
    };
    let values = image.as_f32().map_err(|_| wrong())?;
    let &[channels @ (1 | 3), height, width] = image.shape() else {
        return Err(wrong());
    };
    if height == 0 || width == 0 {
        return Err(wrong());
    }
    let columns = COLUMNS.min(width);
    let rows = (height * columns).div_ceil(2 * width).clamp(1, height);
    let plane = height * width;
    let mut text = String::new();
    for row in 0..rows {
        let ys = row * height / rows..(row + 1) * height / rows;
        let line: String = (0..columns)
            .map(|column| {
                let xs = column * width / columns..(column + 1) * width / columns;
                let mut cell = Vec::with_capacity(channels * ys.len() * xs.len());
                for start in (0..channels).map(|c| c * plane) {
                    for y in ys.clone() {
                        let row = start + y * width;
                        cell.extend_from_slice(&values[row + xs.start..row + xs.end]);
                    }
                }
                let sum: f64 = cell.iter().map(|&v| f64::from(v)).sum();
                sign(sum / cell.len() as f64)
            })
            .collect();
        text.push_str(&format!("|{line}|\n"));
    }
    let means: Vec<String> = values
        .chunks_exact(plane)
        .map(|p| rounded(mean(p)))
        .collect();
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let lowest = finite().fold(f32::INFINITY, f32::min);
    let highest = finite().fold(f32::NEG_INFINITY, f32::max);
    text.push_str(&format!(
        "mean {} min {} max {}",
        means.join("/"),
        rounded(f64::from(lowest)),
        rounded(f64::from(highest))
    ));
    match values.len() - finite().count() {
        0 => {}
        n => text.push_str(&format!(", {n} values not finite")),
    }
    Ok(text)
}

fn mean(values: &[f32]) -> f64 {
    let (sum, n) = values
        .iter()
        .filter(|v| v.is_finite())
        .fold((0.0, 0usize), |(s, n), &v| (s + f64::from(v), n + 1));
    sum / n as f64
}

/// The level of a mean. Borders are at (k + 0.3625) / 9: in units of 1/2040, the spacing of means of eight bytes, they keep
/// 1/6 away from every integer.
fn sign(mean: f64) -> char {
    if !mean.is_finite() {
        return '!';
    }
    let level = (mean * 9.0 + 1.0 - 0.3625).floor().clamp(0.0, 9.0);
    char::from(RAMP[level as usize])
}

/// To two decimals, never -0.00.
fn rounded(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.as_str() {
        "-0.00" => "0.00".to_owned(),
        _ => text,
    }
}
