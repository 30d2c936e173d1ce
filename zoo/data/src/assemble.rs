//! From what a decoder gives to a checked data set: value range, size, splits, hash.

use image::imageops::{FilterType, resize};
use image::{ImageBuffer, Luma};
use zoo_files::Hasher;
use zoo_sdk::{Binarization, DataSpec, Degradations, Stream};

use crate::{
    DataSettings, Error, Images, MAX_SIDE, OwnedDataset, OwnedSplit, Result, Size, Source, content,
};

/// Labels beyond this are taken for something else than class indices.
const MAX_CLASSES: i64 = 1 << 16;

/// A split as a decoder leaves it.
#[derive(Debug)]
pub(crate) struct RawSplit {
    /// The file or folder, for messages.
    pub(crate) origin: String,
    /// Values `[N,C,H,W]`, any range.
    pub(crate) images: Images,
    pub(crate) shape: [usize; 4],
    pub(crate) labels: Option<Vec<i64>>,
    /// A target for each image, of their own shape.
    pub(crate) targets: Option<Box<RawSplit>>,
}

/// A data set as a decoder leaves it.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) train: RawSplit,
    pub(crate) valid: Option<RawSplit>,
    pub(crate) test: Option<RawSplit>,
    /// Class names, empty where the source has none.
    pub(crate) classes: Vec<String>,
    pub(crate) licence: Option<String>,
    pub(crate) notes: Vec<String>,
}

/// Images of several splits, and what they are called.
type Stacks<'a> = Vec<(String, &'a mut RawSplit)>;

impl Raw {
    fn splits(&self) -> impl Iterator<Item = (&'static str, &RawSplit)> {
        let train = std::iter::once(("train", &self.train));
        let valid = self.valid.iter().map(|s| ("valid", s));
        train
            .chain(valid)
            .chain(self.test.iter().map(|s| ("test", s)))
    }

    fn splits_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut RawSplit)> {
        let train = std::iter::once(("train", &mut self.train));
        let valid = self.valid.iter_mut().map(|s| ("valid", s));
        train
            .chain(valid)
            .chain(self.test.iter_mut().map(|s| ("test", s)))
    }

    /// The images of all splits, each with what it is called.
    fn images_mut(&mut self) -> Stacks<'_> {
        let splits = self.splits_mut();
        splits
            .map(|(name, split)| (format!("{name} images"), split))
            .collect()
    }

    fn targets_mut(&mut self) -> Stacks<'_> {
        let splits = self.splits_mut();
        let targets = splits.filter_map(|(name, split)| {
            let targets = split.targets.as_deref_mut()?;
            Some((format!("{name} targets"), targets))
        });
        targets.collect()
    }
}

pub(crate) fn assemble(
    source: &Source,
    mut raw: Raw,
    settings: &DataSettings,
) -> Result<OwnedDataset> {
    let [_, c, h, w] = raw.train.shape;
    for (name, split) in raw.splits() {
        check_split(name, split, [c, h, w])?;
    }
    let target = check_targets(&raw)?;
    let classes = class_names(&raw)?;
    let mut notes = std::mem::take(&mut raw.notes);
    scale(raw.images_mut(), &mut notes)?;
    scale(raw.targets_mut(), &mut notes)?;
    let mut image = [c, h, w];
    if let Some(size) = settings.size
        && [size.height, size.width] != [h, w]
    {
        let from = [h, w];
        raw.splits_mut()
            .for_each(|(_, s)| s.images = resize_all(&s.images, from, size));
        image = [c, size.height, size.width];
    }
    let pixels = Pixels {
        image: image.iter().product(),
        target: target.map_or(0, |target| target.iter().product()),
    };
    let licence = raw.licence.take();
    let mut degrade = settings.degrade.clone();
    if target.is_some() && !degrade.is_empty() {
        notes.push(format!(
            "data.degrade={degrade} has no effect: the source has targets of its own"
        ));
        degrade = Degradations::default();
    }
    let mut data = split(raw, pixels, notes)?;
    data.spec = DataSpec {
        name: source.name(),
        image,
        target,
        degrade,
        classes,
        binarization: settings.binarization,
        sha256: hash(&data, image, target),
        licence,
    };
    check_degrade(&data.spec)?;
    if settings.binarization == Binarization::Static {
        check_binary(&data, pixels.image)?;
    }
    hold_out_valid(&mut data, pixels, settings)?;
    Ok(data)
}

/// Values in each image and in each target; 0 where there are none.
#[derive(Clone, Copy)]
struct Pixels {
    image: usize,
    target: usize,
}

/// The shape of the targets, where every split has some.
fn check_targets(raw: &Raw) -> Result<Option<[usize; 3]>> {
    let Some(first) = &raw.train.targets else {
        return Ok(None);
    };
    let [_, c, h, w] = first.shape;
    for (name, split) in raw.splits() {
        let name = format!("{name} target");
        let Some(targets) = &split.targets else {
            return Err(content(
                &split.origin,
                name,
                "there are none, though the training images have some",
                "give a target for each image of every split",
            ));
        };
        check_split(&name, targets, [c, h, w])?;
        if targets.shape[0] != split.shape[0] {
            return Err(content(
                &targets.origin,
                name,
                format!(
                    "there are {}, but {} images",
                    targets.shape[0], split.shape[0]
                ),
                "give one target an image",
            ));
        }
    }
    Ok(Some([c, h, w]))
}

/// Whether the images can be degraded as the settings say.
fn check_degrade(spec: &DataSpec) -> Result<()> {
    let wrong = |problem: String| {
        Err(Error::Setting {
            setting: "degrade",
            problem,
        })
    };
    if spec.degrade.is_empty() {
        return Ok(());
    }
    if spec.binarization != Binarization::None {
        return wrong("it takes images as they are; leave data.binarization at none".to_owned());
    }
    match spec.degrade.shapes(spec.image) {
        Ok(_) => Ok(()),
        Err(problem) => wrong(problem),
    }
}

/// Brings values to bytes or to [0, 1].
fn scale(mut stacks: Stacks<'_>, notes: &mut Vec<String>) -> Result<()> {
    scale_bytes(&mut stacks, notes);
    scale_floats(&mut stacks, notes)
}

fn check_split(name: &str, split: &RawSplit, image: [usize; 3]) -> Result<()> {
    let [n, c, h, w] = split.shape;
    let wrong = |field: &str, problem: String, hint: &str| {
        Err(content(
            &split.origin,
            format!("{name} {field}"),
            problem,
            hint,
        ))
    };
    if n == 0 || !(1..=MAX_SIDE).contains(&h) || !(1..=MAX_SIDE).contains(&w) {
        return wrong(
            "images",
            format!("there are {n} of {h}x{w}"),
            &format!("there must be one at least, with sides from 1 to {MAX_SIDE}"),
        );
    }
    if [c, h, w] != image {
        return wrong(
            "images",
            format!(
                "they are {:?}, those of train {image:?} (channels, height, width)",
                [c, h, w]
            ),
            "bring all splits to one shape",
        );
    }
    let Some(labels) = &split.labels else {
        return Ok(());
    };
    if labels.len() != n {
        return wrong(
            "labels",
            format!("there are {}, but {n} images", labels.len()),
            "give one label an image, or none at all",
        );
    }
    match labels.iter().position(|l| !(0..MAX_CLASSES).contains(l)) {
        Some(i) => wrong(
            "labels",
            format!("label {i} is {}", labels[i]),
            &format!("labels are class indices from 0 to {}", MAX_CLASSES - 1),
        ),
        None => Ok(()),
    }
}

/// The source's names of the classes, or their numbers.
fn class_names(raw: &Raw) -> Result<Vec<String>> {
    let largest = raw
        .splits()
        .filter_map(|(_, s)| Some((s, s.labels.as_ref()?.iter().max().copied()?)))
        .max_by_key(|(_, largest)| *largest);
    match largest {
        None => Ok(vec![]),
        Some((_, largest)) if raw.classes.is_empty() => {
            Ok((0..=largest).map(|i| i.to_string()).collect())
        }
        Some((split, largest)) if largest as usize >= raw.classes.len() => Err(content(
            &split.origin,
            "labels",
            format!(
                "label {largest} occurs, but only {} classes are named",
                raw.classes.len()
            ),
            "name as many classes as there are, or none",
        )),
        Some(_) => Ok(raw.classes.clone()),
    }
}

/// Bytes that are all 0 or 1 are truth values, not nearly black.
fn scale_bytes(stacks: &mut Stacks<'_>, notes: &mut Vec<String>) {
    let bytes = || {
        stacks.iter().filter_map(|(_, stack)| match &stack.images {
            Images::U8(v) => Some(v),
            Images::F32(_) => None,
        })
    };
    let ones = bytes().any(|v| v.contains(&1));
    if !ones || bytes().any(|v| v.iter().any(|&b| b > 1)) {
        return;
    }
    for (_, stack) in stacks {
        if let Images::U8(v) = &mut stack.images {
            v.iter_mut().for_each(|b| *b *= 255);
        }
    }
    notes.push("all bytes are 0 or 1: read as black and white".to_owned());
}

/// Brings floats to [0, 1], from there or from 0..255.
fn scale_floats(stacks: &mut Stacks<'_>, notes: &mut Vec<String>) -> Result<()> {
    let mut largest = 0.0f32;
    for (name, stack) in stacks.iter() {
        let Images::F32(values) = &stack.images else {
            continue;
        };
        if let Some(i) = values.iter().position(|v| !(0.0..=255.0).contains(v)) {
            let pixels: usize = stack.shape[1..].iter().product();
            return Err(content(
                &stack.origin,
                name,
                format!("image {} holds the value {}", i / pixels, values[i]),
                "values must be in [0, 1] or in 0..255; bring values of [-1, 1] there with (x + 1) / 2",
            ));
        }
        largest = values.iter().fold(largest, |m, &v| m.max(v));
    }
    // Resampling leaves a little more than 1; no picture of 0..255 is as dark as 2.
    if largest > 1.0001 && largest < 2.0 {
        return Err(content(
            &stacks[0].1.origin,
            "images",
            format!("the largest value is {largest}, so the range is neither [0, 1] nor 0..255"),
            "clip the values to [0, 1]",
        ));
    }
    let divisor = if largest < 2.0 { 1.0 } else { 255.0 };
    for (_, stack) in stacks {
        if let Images::F32(v) = &mut stack.images {
            v.iter_mut().for_each(|x| *x = (*x / divisor).min(1.0));
        }
    }
    if divisor > 1.0 {
        notes.push("floats in 0..255 were divided by 255".to_owned());
    }
    Ok(())
}

fn resize_all(images: &Images, from: [usize; 2], to: Size) -> Images {
    let plane = from[0] * from[1];
    match images {
        Images::U8(v) => {
            let planes = v.chunks_exact(plane).flat_map(|p| {
                let floats: Vec<f32> = p.iter().map(|&b| f32::from(b) / 255.0).collect();
                resize_plane(&floats, from, to)
            });
            Images::U8(planes.map(|v| (v * 255.0).round() as u8).collect())
        }
        Images::F32(v) => Images::F32(
            v.chunks_exact(plane)
                .flat_map(|p| resize_plane(p, from, to))
                .collect(),
        ),
    }
}

/// Crops a plane of values in [0, 1] in the middle to the proportions of `to`, then scales it (triangle filter, which
/// averages where it shrinks).
pub(crate) fn resize_plane(plane: &[f32], [h, w]: [usize; 2], to: Size) -> Vec<f32> {
    // The largest crop of h:w as to.height:to.width; sides are at most MAX_SIDE, so nothing overflows.
    let crop_w = w.min((h * to.width / to.height).max(1));
    let crop_h = h.min((w * to.height / to.width).max(1));
    let (top, left) = ((h - crop_h) / 2, (w - crop_w) / 2);
    let crop = ImageBuffer::from_fn(crop_w as u32, crop_h as u32, |x, y| {
        Luma([plane[(top + y as usize) * w + left + x as usize]])
    });
    let (width, height) = (to.width as u32, to.height as u32);
    let scaled = resize(&crop, width, height, FilterType::Triangle);
    scaled
        .into_raw()
        .iter()
        .map(|v| v.clamp(0.0, 1.0))
        .collect()
}

/// Gives the set a test split where it has none; the choice depends only on the number of images.
fn split(mut raw: Raw, pixels: Pixels, mut notes: Vec<String>) -> Result<OwnedDataset> {
    let n = raw.train.shape[0];
    let test = match raw.test.take() {
        Some(test) => own(test),
        None if n < 2 => {
            return Err(content(
                &raw.train.origin,
                "images",
                "there is one image and no test split",
                "give two images at least",
            ));
        }
        None => {
            let held_out = n.div_ceil(10);
            let order = Stream::new(0).named("data.test").permutation(n);
            notes.push(format!(
                "the source has no test split: {held_out} of its {n} images were held out, the same each time"
            ));
            let whole = own(raw.train);
            let test = select(&whole, &order[..held_out], pixels);
            let train = select(&whole, &order[held_out..], pixels);
            return Ok(unnamed(train, raw.valid.map(own), test, notes));
        }
    };
    Ok(unnamed(own(raw.train), raw.valid.map(own), test, notes))
}

fn own(raw: RawSplit) -> OwnedSplit {
    OwnedSplit {
        images: raw.images,
        count: raw.shape[0],
        labels: raw.labels,
        targets: raw.targets.map(|targets| targets.images),
    }
}

fn unnamed(
    train: OwnedSplit,
    valid: Option<OwnedSplit>,
    test: OwnedSplit,
    notes: Vec<String>,
) -> OwnedDataset {
    OwnedDataset {
        spec: DataSpec::default(),
        train,
        valid,
        test,
        notes,
    }
}

/// The images at `indices`, in the order of the source.
fn select(split: &OwnedSplit, indices: &[usize], pixels: Pixels) -> OwnedSplit {
    fn pick<T: Copy>(values: &[T], indices: &[usize], width: usize) -> Vec<T> {
        let mut out = Vec::with_capacity(indices.len() * width);
        for &i in indices {
            out.extend_from_slice(&values[i * width..(i + 1) * width]);
        }
        out
    }
    let mut indices = indices.to_vec();
    indices.sort_unstable();
    let images = |images: &Images, width: usize| match images {
        Images::U8(v) => Images::U8(pick(v, &indices, width)),
        Images::F32(v) => Images::F32(pick(v, &indices, width)),
    };
    OwnedSplit {
        images: images(&split.images, pixels.image),
        count: indices.len(),
        labels: split.labels.as_ref().map(|l| pick(l, &indices, 1)),
        targets: split.targets.as_ref().map(|t| images(t, pixels.target)),
    }
}

fn hold_out_valid(data: &mut OwnedDataset, pixels: Pixels, settings: &DataSettings) -> Result<()> {
    let n = data.train.count;
    let held_out = match &data.valid {
        Some(valid) if settings.valid > 0 => {
            data.notes.push(format!(
                "data.valid={} has no effect: the source has {} validation images of its own",
                settings.valid, valid.count
            ));
            0
        }
        _ => settings.valid,
    };
    if held_out >= n {
        return Err(Error::Setting {
            setting: "valid",
            problem: format!(
                "{held_out} images cannot be held out of {n}; give at most {}",
                n - 1
            ),
        });
    }
    if settings.limit == Some(0) {
        return Err(Error::Setting {
            setting: "limit",
            problem: "0 images leave nothing to train on; give 1 at least, or leave it out"
                .to_owned(),
        });
    }
    let limit = settings.limit.unwrap_or(n).min(n - held_out);
    if held_out == 0 && limit == n {
        return Ok(());
    }
    let order = Stream::new(0).named("data.valid").permutation(n);
    if held_out > 0 {
        data.valid = Some(select(&data.train, &order[..held_out], pixels));
    }
    data.train = select(&data.train, &order[held_out..held_out + limit], pixels);
    Ok(())
}

fn check_binary(data: &OwnedDataset, pixels: usize) -> Result<()> {
    for (name, split) in data.splits() {
        let (other, value) = match &split.images {
            Images::U8(v) => {
                let other = v.iter().position(|&b| b != 0 && b != 255);
                (other, other.map(|i| f32::from(v[i]) / 255.0))
            }
            Images::F32(v) => {
                let other = v.iter().position(|&x| x != 0.0 && x != 1.0);
                (other, other.map(|i| v[i]))
            }
        };
        if let (Some(i), Some(value)) = (other, value) {
            return Err(Error::Setting {
                setting: "binarization",
                problem: format!(
                    "`static` says that the data are binary, but image {} of {name} holds the grey value {value:.3}; \
                     use `threshold` or `dynamic`",
                    i / pixels
                ),
            });
        }
    }
    Ok(())
}

/// SHA-256 over every split's shape, images, targets and labels, before validation images are held out: settings that only choose
/// among the images leave it as it is.
fn hash(data: &OwnedDataset, image: [usize; 3], target: Option<[usize; 3]>) -> String {
    let mut hash = Hasher::default();
    for (name, split) in data.splits() {
        let kind = match &split.images {
            Images::U8(_) => "u8",
            Images::F32(_) => "f32",
        };
        let labels = split.labels.as_ref().map_or(0, Vec::len);
        hash.update(format!(
            "{name} {kind} {} {image:?} {labels}\n",
            split.count
        ));
        let mut values = |images: &Images| match images {
            Images::U8(v) => hash.update(v),
            Images::F32(v) => v.iter().for_each(|x| hash.update(x.to_le_bytes())),
        };
        values(&split.images);
        let targets = split.targets.iter();
        targets.for_each(&mut values);
        let labels = split.labels.iter().flatten();
        labels.for_each(|l| hash.update(l.to_le_bytes()));
    }
    if let Some(target) = target {
        hash.update(format!("targets {target:?}\n"));
    }
    hash.text()
}
