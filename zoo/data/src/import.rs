//! Converting any readable source into one archive.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};
use zoo_files::create_new;

use crate::file::io_error;
use crate::{DataInfo, DataSettings, Images, Result, Source, content, info, load, npy};

/// Reads `source` and writes it to `out`, a deflated `.npz` with the arrays x_train, target_train, y_train, x_valid, ..., and `classes`.
/// The new file is complete or not there at all, and the same input gives the same bytes. It loads as the same data set:
/// its SHA-256 is that of the source.
///
/// # Errors
/// Those of [`load`]; and where `out` exists, has another extension, or cannot be written.
pub fn import(source: &Source, settings: &DataSettings, out: &Path) -> Result<DataInfo> {
    let refuse = |problem: &str, hint: &str| Err(content(out.display(), "file", problem, hint));
    if out.extension().is_none_or(|e| e != "npz") {
        return refuse(
            "its name does not end in .npz",
            "give the new file such a name",
        );
    }
    if out.symlink_metadata().is_ok() {
        return refuse(
            "it exists already",
            "choose another name or remove it first",
        );
    }
    let data = load(source, settings)?;
    create_new(out, |file| write(&data, BufWriter::new(file))).map_err(|e| io_error(out, e))?;
    Ok(info(&data))
}

fn write(data: &crate::OwnedDataset, out: impl Write + io::Seek) -> io::Result<()> {
    let mut zip = ZipWriter::new(out);
    let mut array =
        |name: String, descr: &str, shape: &[usize], bytes: &mut dyn Iterator<Item = u8>| {
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .last_modified_time(DateTime::default())
                .large_file(true);
            zip.start_file(format!("{name}.npy"), options)?;
            zip.write_all(&npy::header(descr, shape))?;
            let mut chunk = Vec::with_capacity(1 << 16);
            loop {
                chunk.clear();
                chunk.extend(Iterator::take(&mut *bytes, 1 << 16));
                if chunk.is_empty() {
                    return io::Result::Ok(());
                }
                zip.write_all(&chunk)?;
            }
        };
    let (image, target) = (data.spec.image, data.spec.target.unwrap_or_default());
    for (name, split) in data.splits() {
        let images = [
            ("x", Some(&split.images), image),
            ("target", split.targets.as_ref(), target),
        ];
        for (role, images, [c, h, w]) in images {
            let (name, shape) = (format!("{role}_{name}"), [split.count, c, h, w]);
            match images {
                Some(Images::U8(v)) => array(name, "|u1", &shape, &mut v.iter().copied())?,
                Some(Images::F32(v)) => {
                    let mut bytes = v.iter().flat_map(|x| x.to_le_bytes());
                    array(name, "<f4", &shape, &mut bytes)?;
                }
                None => {}
            }
        }
        if let Some(labels) = &split.labels {
            let mut bytes = labels.iter().flat_map(|l| l.to_le_bytes());
            array(format!("y_{name}"), "<i8", &[labels.len()], &mut bytes)?;
        }
    }
    let classes = &data.spec.classes;
    if !classes.is_empty() {
        let width = classes
            .iter()
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
            .max(1);
        let mut bytes = classes.iter().flat_map(|class| {
            let padded = class.chars().chain(std::iter::repeat('\0')).take(width);
            padded.flat_map(|c| (c as u32).to_le_bytes())
        });
        array(
            "classes".to_owned(),
            &format!("<U{width}"),
            &[classes.len()],
            &mut bytes,
        )?;
    }
    zip.finish()?.flush()
}
