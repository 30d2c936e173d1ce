//! NumPy archives: a zip of arrays.

use std::io::{Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::assemble::{Raw, RawSplit};
use crate::file::{Budget, open};
use crate::npy::{self, Npy, Values};
use crate::{Images, Result, content};

/// Names under which a split's images are found, by split; the first is the one that `import` writes.
const IMAGES: [&[&str]; 3] = [
    &["x_train", "train", "train_images", "images"],
    &["x_valid", "x_val", "valid", "valid_images", "val_images"],
    &["x_test", "test", "test_images"],
];
/// The same for labels.
const LABELS: [&[&str]; 3] = [
    &["y_train", "train_labels", "labels"],
    &["y_valid", "y_val", "valid_labels", "val_labels"],
    &["y_test", "test_labels"],
];
/// The same for targets, of maps from images to images.
const TARGETS: [&[&str]; 3] = [
    &["target_train", "train_targets", "targets"],
    &["target_valid", "target_val", "valid_targets", "val_targets"],
    &["target_test", "test_targets"],
];
/// Names of the classes, text.
const CLASSES: &str = "classes";

/// Reads an archive.
pub(crate) fn load(path: &Path, budget: &mut Budget) -> Result<Raw> {
    let file = path.display().to_string();
    let mut reader = open(path)?;
    let mut magic = Vec::new();
    let start = reader.by_ref().take(4).read_to_end(&mut magic);
    start.map_err(|e| crate::file::io_error(path, e))?;
    if !magic.starts_with(b"PK") {
        let hint = match magic.as_slice() {
            [0x1f, 0x8b, ..] | [0, 0, 8, _] => "give the folder that the IDX files are in",
            [0x93, b'N', ..] => {
                "put the array into an archive: numpy.savez(\"data.npz\", images=..., labels=...)"
            }
            [0x89, b'P', ..] | [0xff, 0xd8, ..] => "give the folder that the pictures are in",
            _ => {
                "give an .npz archive or a folder (IDX files, CIFAR-10 binary batches, PNG or JPEG images)"
            }
        };
        return Err(content(file, "format", "this is no .npz archive", hint));
    }
    reader
        .rewind()
        .map_err(|e| crate::file::io_error(path, e))?;
    parse(reader, &file, budget)
}

struct Archive<R> {
    zip: ZipArchive<R>,
    file: String,
    /// Names of the arrays, without `.npy`, with their places.
    arrays: Vec<(String, usize)>,
}

pub(crate) fn parse<R: Read + Seek>(reader: R, file: &str, budget: &mut Budget) -> Result<Raw> {
    let zip = ZipArchive::new(reader).map_err(|e| damaged(file, "archive", &e))?;
    let mut archive = Archive {
        zip,
        file: file.to_owned(),
        arrays: vec![],
    };
    for i in 0..archive.zip.len() {
        let Some(Ok(name)) = archive.zip.name_for_index(i) else {
            continue;
        };
        if let Some(name) = name.strip_suffix(".npy") {
            archive.arrays.push((name.to_owned(), i));
        }
    }
    let mut splits = [None, None, None];
    for (i, split) in splits.iter_mut().enumerate() {
        let images = archive.find(IMAGES[i])?;
        let labels = archive.find(LABELS[i])?;
        let targets = archive.find(TARGETS[i])?;
        *split = match (images, labels, targets) {
            (Some(images), labels, targets) => {
                Some(archive.split(images, labels, targets, budget)?)
            }
            (None, Some((name, _)), _) | (None, _, Some((name, _))) => {
                let what = match LABELS[i].contains(&name.as_str()) {
                    true => "labels",
                    false => "targets",
                };
                return Err(content(
                    file,
                    name,
                    format!("there are no images to go with these {what}"),
                    format!("add them as {}", IMAGES[i][0]),
                ));
            }
            (None, None, None) => None,
        };
    }
    let [train, valid, test] = splits;
    let Some(train) = train else {
        let names: Vec<_> = archive
            .arrays
            .iter()
            .map(|(n, _)| n.as_str())
            .take(10)
            .collect();
        return Err(content(
            file,
            "x_train",
            format!(
                "there are no training images; the arrays are [{}]",
                names.join(", ")
            ),
            "name them x_train, train or images (labels y_train or labels; targets target_train; test images x_test or test)",
        ));
    };
    let classes = match archive.find(&[CLASSES])? {
        Some(place) => match archive.read(&place, budget)?.values {
            Values::Text(names) => names,
            _ => {
                return Err(content(
                    file,
                    CLASSES,
                    "the names of the classes are no text",
                    "write them as an array of strings, or leave them out",
                ));
            }
        },
        None => vec![],
    };
    let known = |name: &str| {
        name == CLASSES
            || IMAGES
                .iter()
                .chain(&LABELS)
                .chain(&TARGETS)
                .any(|names| names.contains(&name))
    };
    let unknown = archive.arrays.iter().filter(|(name, _)| !known(name));
    let notes = unknown.map(|(name, _)| format!("array {name:?} was left out"));
    Ok(Raw {
        train,
        valid,
        test,
        classes,
        licence: None,
        notes: notes.take(10).collect(),
    })
}

fn damaged(file: &str, field: &str, cause: &ZipError) -> crate::Error {
    content(
        file,
        field,
        format!("cannot be read: {cause}"),
        "fetch it again, or write it again with numpy.savez or numpy.savez_compressed",
    )
}

type Place = (String, usize);

impl<R: Read + Seek> Archive<R> {
    /// The one array that has one of `names`.
    fn find(&self, names: &[&str]) -> Result<Option<Place>> {
        let mut there = self
            .arrays
            .iter()
            .filter(|(n, _)| names.contains(&n.as_str()));
        match (there.next(), there.next()) {
            (Some((a, _)), Some((b, _))) => Err(content(
                &self.file,
                a,
                format!("it means the same as {b}, which is there too"),
                "keep one of them",
            )),
            (one, _) => Ok(one.cloned()),
        }
    }

    fn read(&mut self, (name, index): &Place, budget: &mut Budget) -> Result<Npy> {
        let mut entry = self
            .zip
            .by_index(*index)
            .map_err(|e| damaged(&self.file, name, &e))?;
        let stored = entry.size();
        npy::read(&mut entry, stored, &self.file, name, budget)
    }

    fn split(
        &mut self,
        images: Place,
        labels: Option<Place>,
        targets: Option<Place>,
        budget: &mut Budget,
    ) -> Result<RawSplit> {
        let targets = targets.map(|place| self.split(place, None, None, budget));
        let targets = targets.transpose()?;
        let array = self.read(&images, budget)?;
        let name = &images.0;
        let ([n, c, h, w], strides) =
            layout(&array).map_err(|(problem, hint)| content(&self.file, name, problem, hint))?;
        let dims = [n, c, h, w];
        let images = match array.values {
            Values::U8(v) => Images::U8(ordered(v, dims, strides)),
            Values::F32(v) => Images::F32(ordered(v, dims, strides)),
            Values::I64(_) | Values::Text(_) => {
                return Err(content(
                    &self.file,
                    name,
                    "images are neither bytes nor floats",
                    "convert them with .astype(\"uint8\")",
                ));
            }
        };
        let labels = match labels {
            None => None,
            Some(place) => {
                let array = self.read(&place, budget)?;
                let column = matches!(array.shape.as_slice(), [_] | [_, 1]);
                match array.values {
                    Values::U8(v) if column => Some(v.into_iter().map(i64::from).collect()),
                    Values::I64(v) if column => Some(v),
                    _ => {
                        return Err(content(
                            &self.file,
                            place.0,
                            format!(
                                "labels must be integers [N], these have the shape {:?}",
                                array.shape
                            ),
                            "turn one-hot labels into indices with .argmax(1), floats with .astype(\"int64\")",
                        ));
                    }
                }
            }
        };
        Ok(RawSplit {
            origin: self.file.clone(),
            images,
            shape: [n, c, h, w],
            labels,
            targets: targets.map(Box::new),
        })
    }
}

type Layout = ([usize; 4], [usize; 4]);

/// N, C, H and W of an array, and how many elements apart neighbours of each lie.
fn layout(array: &Npy) -> Result<Layout, (String, &'static str)> {
    let shape = array.shape.as_slice();
    if shape.contains(&0) {
        return Err((
            format!("images have the shape {shape:?}, which holds none"),
            "give one image at least",
        ));
    }
    let mut strides = vec![1usize; shape.len()];
    let mut step = 1;
    let order: Vec<usize> = if array.fortran {
        (0..shape.len()).collect()
    } else {
        (0..shape.len()).rev().collect()
    };
    for i in order {
        strides[i] = step;
        step *= shape[i];
    }
    let coloured = |c: usize| c == 1 || c == 3;
    match *shape {
        [n, d] => {
            let side = d.isqrt();
            if side * side != d {
                return Err((
                    format!("rows of {d} values are no square images"),
                    "reshape them to [N, C, H, W]",
                ));
            }
            // Row-major pixels within a row, whatever the order of the rows.
            Ok((
                [n, 1, side, side],
                [strides[0], 0, strides[1] * side, strides[1]],
            ))
        }
        [n, h, w] => Ok(([n, 1, h, w], [strides[0], 0, strides[1], strides[2]])),
        [n, c, h, w] if coloured(c) => Ok((
            [n, c, h, w],
            [strides[0], strides[1], strides[2], strides[3]],
        )),
        [n, h, w, c] if coloured(c) => Ok((
            [n, c, h, w],
            [strides[0], strides[3], strides[1], strides[2]],
        )),
        _ => Err((
            format!("images have the shape {shape:?}"),
            "it must be [N, H, W], [N, C, H, W], [N, H, W, C] or [N, side * side], with 1 or 3 channels",
        )),
    }
}

/// Values in the order N, C, H, W.
fn ordered<T: Copy>(values: Vec<T>, [n, c, h, w]: [usize; 4], strides: [usize; 4]) -> Vec<T> {
    let [sn, sc, sh, sw] = strides;
    let planes_in_order = c == 1 || sc == h * w;
    if sn == c * h * w && planes_in_order && sh == w && sw == 1 {
        return values;
    }
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n {
        for k in 0..c {
            for y in 0..h {
                let row = i * sn + k * sc + y * sh;
                out.extend((0..w).map(|x| values[row + x * sw]));
            }
        }
    }
    out
}
