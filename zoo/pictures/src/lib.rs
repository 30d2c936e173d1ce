//! Pictures: grids of images, comparison sheets, plots, text thumbnails.
//!
//! Everything is drawn with an embedded font and plain arithmetic, so that the same input gives the same pixels on every
//! machine.

use std::path::Path;

use image::{DynamicImage, ImageFormat};
use zoo_sdk::Array;

mod animation;
mod canvas;
mod grid;
mod plot;
mod thumbnail;

pub use animation::{drawing, save_gif};
pub use grid::{beside, grid, single, square, strip};
pub use plot::{Scale, Series, plot};
pub use thumbnail::thumbnail;

/// What can go wrong with a picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The array is no batch of images, or no image.
    #[error("{what}: expected f32 {expected} with 1 or 3 channels, got {got}")]
    Shape {
        /// The picture to be drawn.
        what: &'static str,
        /// The shape wanted.
        expected: &'static str,
        /// Type and shape given.
        got: String,
    },
    /// The images of one sheet differ in size.
    #[error(
        "comparison sheet: the images of row {row:?} are {got:?}, those of the first row {expected:?} (height, width)"
    )]
    Mixed {
        /// The row's label.
        row: String,
        /// Height and width of the first row's images.
        expected: [usize; 2],
        /// Height and width of this row's.
        got: [usize; 2],
    },
    /// The picture would be too large.
    #[error("{what}: {width}x{height} pixels are too many; draw fewer images or a smaller scale")]
    TooLarge {
        /// The picture to be drawn.
        what: &'static str,
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
    },
    /// The file cannot be written.
    #[error("{file}: cannot be written: {cause}")]
    Write {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// The picture cannot be encoded.
    #[error("cannot encode a picture: {0}")]
    Encode(String),
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] zoo_data::Error),
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A picture as the bytes of a PNG.
///
/// # Errors
/// [`Error::Encode`].
pub fn png(picture: &DynamicImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::Encode(e.to_string()))?;
    Ok(bytes.into_inner())
}

/// Writes a PNG. Nobody sees half a picture: a file that is there already is replaced, or stays as it is.
///
/// # Errors
/// [`Error::Write`].
pub fn save_png(picture: &DynamicImage, path: &Path) -> Result<()> {
    write(&png(picture)?, path, "png")
}

fn write(bytes: &[u8], path: &Path, extension: &str) -> Result<()> {
    check_destination(path, &[extension])?;
    zoo_files::replace(path, bytes).map_err(|error| failed(path, error.source.to_string()))
}

/// Says whether a picture could be written at `path`, before one is computed.
///
/// # Errors
/// There is no such folder, `path` is a folder itself, or its name ends in none of `extensions`.
pub fn check_destination(path: &Path, extensions: &[&str]) -> Result<()> {
    let folder = folder_of(path);
    let cause = if path.is_dir() {
        let inside = path.join("grid.png");
        format!("it is a folder; name a file, such as {}", inside.display())
    } else if !extensions.iter().any(|e| has_extension(path, e)) {
        let names: Vec<_> = extensions
            .iter()
            .map(|e| path.with_extension(e).display().to_string())
            .collect();
        format!(
            "its name says another format; name it {}",
            names.join(" or ")
        )
    } else if folder.is_dir() {
        return Ok(());
    } else if folder.exists() {
        format!("{} is a file, no folder", folder.display())
    } else {
        format!("there is no folder {}; make it first", folder.display())
    };
    Err(failed(path, cause))
}

/// Whether the name of `path` ends so, in small letters or large.
pub fn has_extension(path: &Path, extension: &str) -> bool {
    let own = path.extension().and_then(|e| e.to_str());
    own.is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failed(path: &Path, cause: String) -> Error {
    Error::Write {
        file: path.display().to_string(),
        cause,
    }
}

/// Reads a PNG or JPEG as `[C,H,W]` in [0, 1]; C is 1 where every pixel is grey, else 3.
///
/// # Errors
/// [`Error::Read`], naming the file.
pub fn read_image(path: &Path) -> Result<Array> {
    let picture = zoo_data::decode_image(path)?;
    let shape = [picture.channels, picture.size.height, picture.size.width];
    let values: Vec<f32> = picture
        .bytes
        .iter()
        .map(|&b| f32::from(b) / 255.0)
        .collect();
    Array::f32(shape, values).map_err(|e| Error::Shape {
        what: "picture",
        expected: "[C,H,W]",
        got: e.to_string(),
    })
}

#[cfg(test)]
mod tests;
