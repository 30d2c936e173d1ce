//! IDX, the format of MNIST and Fashion-MNIST: a big-endian header, then bytes.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use zoo_files::sha256;

use crate::assemble::{Raw, RawSplit};
use crate::file::{Budget, io_error, list, open, read_header, read_rest};
use crate::known::{BY_LABELS, FASHION};
use crate::{Images, MAX_SIDE, Result, content};

/// What a split's files are called before `-images` and `-labels`.
const TRAIN: [&str; 1] = ["train"];
const VALID: [&str; 2] = ["valid", "val"];
const TEST: [&str; 2] = ["t10k", "test"];

const AGAIN: &str = "fetch or write the file again";

/// The file of one part, as `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, plain or with `.gz`.
fn find(folder: &Path, splits: &[&str], part: &str, rank: usize) -> Option<PathBuf> {
    let names = splits.iter().flat_map(|split| {
        ["", ".gz"].into_iter().flat_map(move |end| {
            ["-", "."].map(|dot| format!("{split}-{part}{dot}idx{rank}-ubyte{end}"))
        })
    });
    names.map(|name| folder.join(name)).find(|p| p.exists())
}

/// Whether any file of the folder has a name of this format.
pub(crate) fn is_here(folder: &Path) -> Result<bool> {
    Ok(list(folder)?.iter().any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.ends_with("idx3-ubyte") || name.ends_with("idx1-ubyte")
    }))
}

/// Reads a folder of IDX files. A `classes.txt` beside them, one name a line, names the classes.
pub(crate) fn load(folder: &Path, budget: &mut Budget) -> Result<Raw> {
    let mut read = |splits: &[&str]| -> Result<Option<RawSplit>> {
        let Some(images) = find(folder, splits, "images", 3) else {
            return match find(folder, splits, "labels", 1) {
                Some(labels) => Err(content(
                    labels.display(),
                    "labels",
                    "there are no images to go with them",
                    format!("put {}-images-idx3-ubyte beside it", splits[0]),
                )),
                None => Ok(None),
            };
        };
        let labels = find(folder, splits, "labels", 1);
        let named = |path: &Path| path.display().to_string();
        let (name, mut reader) = (named(&images), open(&images)?);
        let (images, count, [h, w]) = parse_images(&mut reader, &name, budget)?;
        let labels = match labels {
            Some(path) => Some(parse_labels(
                &mut open(&path)?,
                &named(&path),
                count,
                budget,
            )?),
            None => None,
        };
        Ok(Some(split(name, images, count, [h, w], labels)))
    };
    let (train, valid, test) = (read(&TRAIN)?, read(&VALID)?, read(&TEST)?);
    let train = train.ok_or_else(|| {
        content(
            folder.display(),
            "train-images-idx3-ubyte",
            "there are IDX files in this folder, but not this one",
            "name the training images so (.gz at the end is fine)",
        )
    })?;
    let mut raw = named_by_labels(train, valid, test);
    let names = folder.join("classes.txt");
    if names.exists() {
        let text = std::fs::read_to_string(&names).map_err(|e| io_error(&names, e))?;
        raw.classes = text.lines().map(|l| l.trim().to_owned()).collect();
    }
    Ok(raw)
}

/// Decodes a data set that is part of the binary.
pub(crate) fn embedded(files: &[(&str, &[u8]); 4], budget: &mut Budget) -> Result<Raw> {
    let mut read = |images: usize| -> Result<RawSplit> {
        let ((name, mut bytes), (label_name, mut label_bytes)) = (files[images], files[images + 1]);
        let (images, count, size) = parse_images(&mut bytes, name, budget)?;
        let labels = parse_labels(&mut label_bytes, label_name, count, budget)?;
        Ok(split(name.to_owned(), images, count, size, Some(labels)))
    };
    let (train, test) = (read(0)?, read(2)?);
    let mut raw = named_by_labels(train, None, Some(test));
    raw.classes = FASHION.map(str::to_owned).to_vec();
    Ok(raw)
}

fn split(
    origin: String,
    images: Vec<u8>,
    count: usize,
    [h, w]: [usize; 2],
    labels: Option<Vec<u8>>,
) -> RawSplit {
    RawSplit {
        targets: None,
        origin,
        shape: [count, 1, h, w],
        images: Images::U8(images),
        labels: labels.map(|l| l.into_iter().map(i64::from).collect()),
    }
}

/// Names classes and licence where the training labels are those of a known data set.
fn named_by_labels(train: RawSplit, valid: Option<RawSplit>, test: Option<RawSplit>) -> Raw {
    let labels = train.labels.as_deref().unwrap_or_default();
    let bytes: Vec<u8> = labels.iter().map(|&l| l as u8).collect();
    let hash = sha256(&bytes);
    let known = BY_LABELS.iter().find(|(known, ..)| *known == hash);
    Raw {
        classes: known.map_or(vec![], |(_, names, _)| {
            names.iter().map(|&n| n.to_owned()).collect()
        }),
        licence: known.map(|(_, _, licence)| (*licence).to_owned()),
        train,
        valid,
        test,
        notes: vec![],
    }
}

/// The values, how many images, and their height and width.
pub(crate) fn parse_images(
    reader: &mut dyn BufRead,
    file: &str,
    budget: &mut Budget,
) -> Result<(Vec<u8>, usize, [usize; 2])> {
    let (values, [count, h, w]) = parse(reader, file, "images", budget)?;
    if count == 0 || !(1..=MAX_SIDE).contains(&h) || !(1..=MAX_SIDE).contains(&w) {
        return Err(content(
            file,
            "header",
            format!("it promises {count} images of {h}x{w}"),
            format!("there must be one at least, with sides from 1 to {MAX_SIDE}: {AGAIN}"),
        ));
    }
    Ok((values, count, [h, w]))
}

/// A label for each of `images` images.
pub(crate) fn parse_labels(
    reader: &mut dyn BufRead,
    file: &str,
    images: usize,
    budget: &mut Budget,
) -> Result<Vec<u8>> {
    let (values, [count]) = parse(reader, file, "labels", budget)?;
    if count != images {
        return Err(content(
            file,
            "labels",
            format!("there are {count}, but {images} images"),
            "use images and labels of the same split",
        ));
    }
    Ok(values)
}

fn parse<const RANK: usize>(
    reader: &mut dyn BufRead,
    file: &str,
    field: &str,
    budget: &mut Budget,
) -> Result<(Vec<u8>, [usize; RANK])> {
    let zipped = reader
        .fill_buf()
        .map_err(|e| io_error(Path::new(file), e))?
        .starts_with(&[0x1f, 0x8b]);
    let mut stream: Box<dyn Read + '_> = if zipped {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    let reader = stream.as_mut();
    let [a, b, kind, rank] = read_header(reader, file, "header")?;
    let problem = if [a, b] != [0, 0] {
        Some(("it does not start like an IDX file".to_owned(), AGAIN))
    } else if kind != 0x08 {
        Some((
            format!("its elements are of type 0x{kind:02x}, only bytes (0x08) are read"),
            "store other types as .npz",
        ))
    } else if usize::from(rank) != RANK {
        Some((
            format!("it has {rank} dimensions, {field} have {RANK}"),
            "images and labels may have been swapped",
        ))
    } else {
        None
    };
    if let Some((problem, hint)) = problem {
        return Err(content(file, "header", problem, hint));
    }
    let mut dims = [0; RANK];
    for dim in &mut dims {
        *dim = u32::from_be_bytes(read_header(reader, file, "header")?) as usize;
    }
    let bytes = budget.take(file, field, &dims)?;
    Ok((read_rest(reader, bytes, file, field)?, dims))
}
