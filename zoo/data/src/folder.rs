//! A folder of PNG or JPEG images: `[train|valid|test/][class/]picture.png`; or of pairs of them with the same names:
//! `[train|valid|test/]input/picture.png` and `[train|valid|test/]target/picture.png`.

use std::collections::BTreeSet;
use std::io::{BufRead, Seek};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use crate::assemble::{Raw, RawSplit, resize_plane};
use crate::file::{Budget, list, open};
use crate::{Images, MAX_SIDE, Result, Size, content};

/// Names of the folders of each split.
const TRAIN: [&str; 2] = ["train", "training"];
const VALID: [&str; 3] = ["valid", "val", "validation"];
const TEST: [&str; 2] = ["test", "testing"];

/// Names of the folders of a pair.
const PAIR: [&str; 2] = ["input", "target"];

/// Reads a folder of pictures. The class is the sub-folder, in the order of the names; so are the pictures. Folders called `input` and `target` hold
/// pairs with the same names.
pub(crate) fn load(root: &Path, size: Option<Size>, budget: &mut Budget) -> Result<Raw> {
    let level = |names: &[&str]| names.iter().map(|n| root.join(n)).find(|p| p.is_dir());
    let train = level(&TRAIN).unwrap_or_else(|| root.to_owned());
    if !PAIR.iter().all(|side| train.join(side).is_dir()) {
        return load_side(root, None, size, budget);
    }
    if size.is_some() {
        return Err(content(
            root.display(),
            "pairs",
            "data.size would resize inputs and targets alike",
            "leave it out, and bring the pictures to their sizes before",
        ));
    }
    for split in [Some(train), level(&VALID), level(&TEST)]
        .into_iter()
        .flatten()
    {
        same_names(&split)?;
    }
    let mut inputs = load_side(root, Some(PAIR[0]), None, budget)?;
    let targets = load_side(root, Some(PAIR[1]), None, budget)?;
    inputs.train.targets = Some(Box::new(targets.train));
    for (input, target) in [
        (&mut inputs.valid, targets.valid),
        (&mut inputs.test, targets.test),
    ] {
        if let Some(input) = input {
            input.targets = target.map(Box::new);
        }
    }
    inputs.notes.extend(targets.notes);
    Ok(inputs)
}

/// Checks that each input of a split has a target of the same name, and each target an input.
fn same_names(split: &Path) -> Result<()> {
    let names = |side: &str| -> Result<BTreeSet<String>> {
        let files = list(&split.join(side))?.into_iter();
        let stem = |path: PathBuf| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        Ok(files.filter(|path| is_picture(path)).map(stem).collect())
    };
    let [inputs, targets] = [names(PAIR[0])?, names(PAIR[1])?];
    match inputs.symmetric_difference(&targets).next() {
        None => Ok(()),
        Some(alone) => {
            let side = PAIR[usize::from(inputs.contains(alone))];
            Err(content(
                split.join(side).display(),
                alone,
                "there is no picture of this name",
                format!(
                    "give each picture of {} and {} the name of its partner",
                    PAIR[0], PAIR[1]
                ),
            ))
        }
    }
}

/// Reads the pictures of every split, or those in the sub-folder `side` of each.
fn load_side(
    root: &Path,
    side: Option<&str>,
    size: Option<Size>,
    budget: &mut Budget,
) -> Result<Raw> {
    let within = |folder: PathBuf| side.map_or(folder.clone(), |side| folder.join(side));
    let level = |names: &[&str]| {
        let mut folders = names.iter().map(|n| root.join(n));
        folders.find(|p| p.is_dir()).map(within)
    };
    let (train, valid, test) = (level(&TRAIN), level(&VALID), level(&TEST));
    if train.is_none() && (valid.is_some() || test.is_some()) {
        return Err(content(
            root.display(),
            "train",
            "there is a folder for another split, but none of this name",
            "put the training images into it",
        ));
    }
    let mut reader = Pictures {
        size,
        budget,
        first: None,
        translucent: 0,
        skipped: 0,
    };
    let mut read = |path: &Path| reader.split(path);
    let mut splits = match train {
        Some(train) => vec![
            Some(read(&train)?),
            valid.map(|p| read(&p)).transpose()?,
            test.map(|p| read(&p)).transpose()?,
        ],
        None => vec![Some(read(&within(root.to_owned()))?), None, None],
    };

    let classes: BTreeSet<&str> = splits
        .iter()
        .flatten()
        .flat_map(|s| s.pictures.iter().filter_map(|(class, _)| class.as_deref()))
        .collect();
    let classes: Vec<String> = classes.into_iter().map(str::to_owned).collect();
    let channels = splits
        .iter()
        .flatten()
        .flat_map(|s| s.pictures.iter().map(|(_, p)| p.channels))
        .max()
        .unwrap_or(1);
    let grey = splits.iter().flatten().flat_map(|s| &s.pictures);
    let repeated = grey.map(|(_, p)| p.bytes.len() * (channels / p.channels - 1));
    reader
        .budget
        .take(root.display(), "pixels", &[repeated.sum()])?;
    let mut take = |i: usize| {
        splits[i]
            .take()
            .map(|s: Pile| s.into_raw(channels, &classes))
    };
    let (train, valid, test) = (take(0), take(1), take(2));
    let train = train.ok_or_else(|| no_images(root))?;
    let mut notes = vec![];
    if reader.skipped > 0 {
        notes.push(format!(
            "{} files that are neither PNG nor JPEG by their names were left out",
            reader.skipped
        ));
    }
    if reader.translucent > 0 {
        notes.push(format!(
            "{} pictures have transparent parts, shown on white",
            reader.translucent
        ));
    }
    Ok(Raw {
        train,
        valid,
        test,
        classes,
        licence: None,
        notes,
    })
}

fn no_images(folder: &Path) -> crate::Error {
    content(
        folder.display(),
        "images",
        "there are none",
        "give a folder of IDX files, CIFAR-10 binary batches, or PNG or JPEG images (one sub-folder a class), or an .npz file",
    )
}

struct Pictures<'a> {
    size: Option<Size>,
    budget: &'a mut Budget,
    /// The first picture and its size, which all must have.
    first: Option<(PathBuf, Size)>,
    translucent: usize,
    skipped: usize,
}

/// Pictures of one split, each with its class.
struct Pile {
    origin: String,
    size: Size,
    pictures: Vec<(Option<String>, Decoded)>,
}

impl Pictures<'_> {
    fn split(&mut self, folder: &Path) -> Result<Pile> {
        let (folders, files): (Vec<_>, Vec<_>) =
            list(folder)?.into_iter().partition(|p| p.is_dir());
        let mut pictures = Vec::new();
        for path in self.pictures_of(files) {
            pictures.push((None, self.read(&path)?));
        }
        if let (false, Some(class)) = (pictures.is_empty(), folders.first()) {
            return Err(content(
                folder.display(),
                "classes",
                format!(
                    "there are pictures beside the sub-folder {}",
                    class.display()
                ),
                "put every picture into the sub-folder of its class, or none",
            ));
        }
        for class in folders {
            let name = class.file_name().unwrap_or_default().to_string_lossy();
            let (nested, files): (Vec<_>, Vec<_>) =
                list(&class)?.into_iter().partition(|p| p.is_dir());
            if let Some(inner) = nested.first() {
                return Err(content(
                    inner.display(),
                    "classes",
                    "it is a folder within a class",
                    "keep the pictures of a class in one folder",
                ));
            }
            let files = self.pictures_of(files);
            if files.is_empty() {
                return Err(content(
                    class.display(),
                    "images",
                    "this class has no PNG or JPEG",
                    "add some or remove the folder",
                ));
            }
            for path in files {
                pictures.push((Some(name.to_string()), self.read(&path)?));
            }
        }
        match &self.first {
            Some((_, size)) if !pictures.is_empty() => Ok(Pile {
                origin: folder.display().to_string(),
                size: *size,
                pictures,
            }),
            _ => Err(no_images(folder)),
        }
    }

    fn pictures_of(&mut self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let all = files.len();
        let pictures: Vec<_> = files.into_iter().filter(|p| is_picture(p)).collect();
        self.skipped += all - pictures.len();
        pictures
    }

    fn read(&mut self, path: &Path) -> Result<Decoded> {
        let mut picture = decode_image(path)?;
        self.translucent += usize::from(picture.translucent);
        if let Some(size) = self.size
            && size != picture.size
        {
            let from = [picture.size.height, picture.size.width];
            picture.bytes = picture
                .bytes
                .chunks_exact(from[0] * from[1])
                .flat_map(|plane| {
                    let floats: Vec<f32> = plane.iter().map(|&b| f32::from(b) / 255.0).collect();
                    resize_plane(&floats, from, size)
                })
                .map(|v| (v * 255.0).round() as u8)
                .collect();
            picture.size = size;
        }
        match &self.first {
            None => self.first = Some((path.to_owned(), picture.size)),
            Some((first, size)) if *size != picture.size => {
                return Err(content(
                    path.display(),
                    "size",
                    format!("it is {}, but {} is {size}", picture.size, first.display()),
                    format!("bring all to one size with --set data.size={size}"),
                ));
            }
            Some(_) => {}
        }
        self.budget
            .take(path.display(), "pixels", &[picture.bytes.len()])?;
        Ok(picture)
    }
}

impl Pile {
    fn into_raw(self, channels: usize, classes: &[String]) -> RawSplit {
        let count = self.pictures.len();
        let labelled = self.pictures.iter().all(|(class, _)| class.is_some());
        let mut images = Vec::with_capacity(count * channels * self.size.height * self.size.width);
        let mut labels = Vec::new();
        for (class, picture) in self.pictures {
            let index = class.and_then(|c| classes.binary_search(&c).ok());
            labels.extend(index.map(|i| i as i64));
            // A grey picture among coloured ones.
            for _ in 0..channels / picture.channels {
                images.extend_from_slice(&picture.bytes);
            }
        }
        RawSplit {
            origin: self.origin,
            shape: [count, channels, self.size.height, self.size.width],
            images: Images::U8(images),
            labels: labelled.then_some(labels),
            targets: None,
        }
    }
}

fn is_picture(path: &Path) -> bool {
    let end = path.extension().unwrap_or_default().to_string_lossy();
    ["png", "jpg", "jpeg"].contains(&end.to_ascii_lowercase().as_str())
}

/// A picture as bytes `[C,H,W]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// 1 where every pixel is grey, else 3.
    pub channels: usize,
    /// Height and width.
    pub size: Size,
    /// The values, plane after plane.
    pub bytes: Vec<u8>,
    /// Whether some pixel was not opaque; such pixels are shown on white.
    pub translucent: bool,
}

/// Decodes a PNG or JPEG file.
///
/// # Errors
/// Names the file: for one that is no picture, is damaged, or is too large.
pub fn decode_image(path: &Path) -> Result<Decoded> {
    decode(open(path)?, &path.display().to_string())
}

pub(crate) fn decode(reader: impl BufRead + Seek, file: &str) -> Result<Decoded> {
    let damaged = |problem: String| {
        content(
            file,
            "picture",
            problem,
            "give a sound PNG or JPEG, or take the file away",
        )
    };
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| damaged(e.to_string()))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        return Err(damaged("it is neither PNG nor JPEG".to_owned()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(256 << 20);
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| match e {
        image::ImageError::Limits(_) => damaged(format!(
            "its header promises sides or memory beyond {MAX_SIDE}x{MAX_SIDE}"
        )),
        other => damaged(format!("it cannot be decoded ({other})")),
    })?;
    Ok(planar(&picture))
}

fn planar(picture: &DynamicImage) -> Decoded {
    let rgba = picture.to_rgba8();
    let size = Size {
        height: rgba.height() as usize,
        width: rgba.width() as usize,
    };
    let over_white = |value: u8, alpha: u8| {
        let (v, a) = (u32::from(value), u32::from(alpha));
        ((v * a + 255 * (255 - a) + 127) / 255) as u8
    };
    let grey = rgba.pixels().all(|p| p[0] == p[1] && p[1] == p[2]);
    let channels = if grey { 1 } else { 3 };
    let mut bytes = Vec::with_capacity(channels * size.height * size.width);
    for c in 0..channels {
        bytes.extend(rgba.pixels().map(|p| over_white(p[c], p[3])));
    }
    Decoded {
        channels,
        size,
        bytes,
        translucent: rgba.pixels().any(|p| p[3] != 255),
    }
}
