//! What a data set holds, in figures and in a picture.

use serde::Serialize;
use zoo_sdk::{Array, Binarization};

use crate::{Images, OwnedDataset, OwnedSplit, Result};

/// Summary of a data set, for people and for `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataInfo {
    /// Its name.
    pub name: String,
    /// Channels, height, width.
    pub image: [usize; 3],
    /// Channels, height, width of the targets, where each image has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<[usize; 3]>,
    /// Class names; empty where images are unlabelled.
    pub classes: Vec<String>,
    /// How a model's Bernoulli likelihood will see it.
    pub binarization: Binarization,
    /// The splits, in order.
    pub splits: Vec<SplitInfo>,
    /// SHA-256 over the decoded images and labels.
    pub sha256: String,
    /// Its licence, where known.
    pub licence: Option<String>,
    /// What a person should know of how it was read.
    pub notes: Vec<String>,
}

/// Summary of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitInfo {
    /// `train`, `valid` or `test`.
    pub name: &'static str,
    /// Number of images.
    pub images: usize,
    /// Number of images of each class, in label order; empty where they are unlabelled.
    pub per_class: Vec<usize>,
    /// `u8` or `f32`.
    pub dtype: &'static str,
    /// Smallest and largest value, scaled to [0, 1].
    pub range: [f64; 2],
    /// Mean value, scaled to [0, 1].
    pub mean: f64,
    /// Standard deviation of the values, scaled to [0, 1].
    pub std: f64,
}

/// Counts and measures a data set.
pub fn info(data: &OwnedDataset) -> DataInfo {
    let spec = &data.spec;
    DataInfo {
        name: spec.name.clone(),
        image: spec.image,
        target: spec.target,
        classes: spec.classes.clone(),
        binarization: spec.binarization,
        splits: data
            .splits()
            .into_iter()
            .map(|(name, split)| split_info(name, split, spec.classes.len()))
            .collect(),
        sha256: spec.sha256.clone(),
        licence: spec.licence.clone(),
        notes: data.notes.clone(),
    }
}

fn split_info(name: &'static str, split: &OwnedSplit, classes: usize) -> SplitInfo {
    let mut per_class = vec![0; if split.labels.is_some() { classes } else { 0 }];
    for &label in split.labels.iter().flatten() {
        if let Some(count) = per_class.get_mut(label as usize) {
            *count += 1;
        }
    }
    let (dtype, moments) = match &split.images {
        Images::U8(v) => ("u8", moments(v.iter().map(|&b| f64::from(b) / 255.0))),
        Images::F32(v) => ("f32", moments(v.iter().map(|&x| f64::from(x)))),
    };
    let [min, max, mean, std] = moments;
    SplitInfo {
        name,
        images: split.count,
        per_class,
        dtype,
        range: [min, max],
        mean,
        std,
    }
}

/// Smallest, largest, mean, standard deviation.
fn moments(values: impl ExactSizeIterator<Item = f64>) -> [f64; 4] {
    let n = values.len().max(1) as f64;
    let start = [f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0];
    let [min, max, sum, squares] = values.fold(start, |[lo, hi, s, q], x| {
        [lo.min(x), hi.max(x), s + x, q + x * x]
    });
    let mean = sum / n;
    [min, max, mean, (squares / n - mean * mean).max(0.0).sqrt()]
}

/// Images to look at, `[N,C,H,W]` in [0, 1], for a grid of `columns`: a row for each class where there are at most
/// `rows` classes, else the first images.
///
/// # Errors
/// [`Error::NoSplit`](crate::Error::NoSplit).
pub fn preview(data: &OwnedDataset, split: &str, columns: usize, rows: usize) -> Result<Array> {
    let whole = data.split(split)?;
    let classes = data.spec.classes.len();
    let indices: Vec<usize> = match whole.labels {
        Some(labels) if (1..=rows).contains(&classes) => {
            let of = |class: i64| (0..labels.len()).filter(move |&i| labels[i] == class);
            let rows: Vec<Vec<usize>> = (0..classes)
                .map(|class| of(class as i64).take(columns).collect())
                .collect();
            // A short row would shift those below it.
            let full = rows.iter().all(|row| row.len() == columns);
            if full {
                rows.concat()
            } else {
                (0..columns * rows.len()).collect()
            }
        }
        _ => (0..columns.saturating_mul(rows).min(whole.len())).collect(),
    };
    data.images(split, &indices)
}
