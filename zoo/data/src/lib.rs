//! Data sets: reading, decoding, splitting, summarising.
//!
//! [`load`] reads a set that comes with the program, or a path in one of four formats: a folder of IDX files, the CIFAR-10
//! binary batches, a folder of PNG or JPEG images, or an `.npz` archive. All of them end as an [`OwnedDataset`], from which
//! plugins borrow.
//! Files are not trusted: what a header says is checked against the file and against a budget before memory is taken.

use std::fmt;
use std::path::PathBuf;

use zoo_sdk::{Array, DataSpec, Dataset, Elements, Split, View};

use known::Place;

mod assemble;
mod cifar;
mod file;
mod folder;
mod idx;
mod import;
mod info;
mod known;
pub mod npy;
mod npz;
mod settings;

pub use folder::{Decoded, decode_image};
pub use import::import;
pub use info::{DataInfo, SplitInfo, info, preview};
pub use known::{KNOWN, Known, folders};
pub use settings::{DataSettings, Size};

/// Sides of an image beyond this are taken for a damaged header.
pub(crate) const MAX_SIDE: usize = 4096;

/// What can be wrong with a data set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{file}: {cause}")]
    Io {
        /// The file or folder.
        file: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The content is not what it should be.
    #[error("{file}: {field}: {problem}; {hint}")]
    Content {
        /// The file or folder.
        file: String,
        /// The part of it.
        field: String,
        /// What is wrong.
        problem: String,
        /// The way out.
        hint: String,
    },
    /// A setting does not fit the data.
    #[error("data.{setting}: {problem}")]
    Setting {
        /// The key, without `data.`.
        setting: &'static str,
        /// What is wrong, and the way out.
        problem: String,
    },
    /// More memory than allowed.
    #[error(
        "{file}: {field}: takes {needed_mb} MB in memory, but data.max_mb allows {allowed_mb}; if the file is sound, \
         use --set data.max_mb={needed_mb}"
    )]
    Budget {
        /// The file.
        file: String,
        /// The part of it.
        field: String,
        /// What would have to be allowed, rounded up.
        needed_mb: u64,
        /// What is allowed.
        allowed_mb: u64,
    },
    /// A data set that comes with the program, but was left behind.
    #[error(
        "{name}: {file} is not here; copy fixtures/{file} of zoo's sources to {copy_to} (looked for: {looked})"
    )]
    Absent {
        /// The data set.
        name: &'static str,
        /// Its file, below the folder of fixtures.
        file: String,
        /// Where it would be found.
        copy_to: String,
        /// Every place that was looked at.
        looked: String,
    },
    /// Neither a known set nor a path.
    #[error("{name:?} is neither a data set nor an existing path; {hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The way out.
        hint: String,
    },
    /// A split that the data set does not have.
    #[error("{data} has no split {name:?}; it has {have}")]
    NoSplit {
        /// The data set's name.
        data: String,
        /// What was asked for.
        name: String,
        /// The splits it has.
        have: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An [`Error::Content`].
pub(crate) fn content(
    file: impl fmt::Display,
    field: impl Into<String>,
    problem: impl Into<String>,
    hint: impl Into<String>,
) -> Error {
    Error::Content {
        file: file.to_string(),
        field: field.into(),
        problem: problem.into(),
        hint: hint.into(),
    }
}

/// Where a data set comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of [`KNOWN`].
    Known(&'static Known),
    /// A file or a folder.
    Path(PathBuf),
}

impl Source {
    /// What `--data` means: the name of a data set that comes with the program, else a path.
    ///
    /// # Errors
    /// [`Error::Unknown`], with the nearest name, where it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(known) = KNOWN.iter().find(|k| k.name == text) {
            return Ok(Self::Known(known));
        }
        let path = PathBuf::from(text);
        if path.symlink_metadata().is_ok() {
            return Ok(Self::Path(path));
        }
        let near = KNOWN
            .iter()
            .map(|k| (strsim::normalized_damerau_levenshtein(k.name, text), k.name))
            .filter(|(score, _)| *score > 0.6)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match near {
            Some((_, name)) => format!("did you mean {name}?"),
            None => format!(
                "give {}, a folder (IDX files, CIFAR-10 binary batches, PNG or JPEG images) or an .npz file",
                KNOWN.map(|k| k.name).join(", ")
            ),
        };
        let name = text.to_owned();
        Err(Error::Unknown { name, hint })
    }

    /// The known set's name, or the last part of the path.
    pub fn name(&self) -> String {
        match self {
            Self::Known(k) => k.name.to_owned(),
            Self::Path(path) => {
                // `.` and `..` have no last part of their own.
                let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
                let last = path.file_name().or(whole.file_name());
                last.map_or_else(
                    || path.display().to_string(),
                    |s| s.to_string_lossy().into_owned(),
                )
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(k) => f.write_str(k.name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Values of images, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    /// Grey values 0 to 255.
    U8(Vec<u8>),
    /// Grey values in [0, 1].
    F32(Vec<f32>),
}

impl Images {
    fn elements(&self) -> Elements<'_> {
        match self {
            Self::U8(v) => Elements::U8(v),
            Self::F32(v) => Elements::F32(v),
        }
    }

    fn view(&self, count: usize) -> View<'_> {
        View {
            count,
            elements: self.elements(),
        }
    }

    /// Values in `range`, scaled to [0, 1].
    fn floats(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; range.len()];
        self.elements().floats(range.start, &mut values);
        values
    }
}

/// One split, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedSplit {
    /// `count` images `[C,H,W]`, one after the other.
    pub images: Images,
    /// How many.
    pub count: usize,
    /// A class index for each.
    pub labels: Option<Vec<i64>>,
    /// A target `[C,H,W]` for each, one after the other.
    pub targets: Option<Images>,
}

impl OwnedSplit {
    /// What a plugin sees.
    pub fn view(&self) -> Split<'_> {
        Split {
            images: self.images.view(self.count),
            labels: self.labels.as_deref(),
            targets: self.targets.as_ref().map(|t| t.view(self.count)),
        }
    }
}

/// A data set in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedDataset {
    /// What it is.
    pub spec: DataSpec,
    /// For training.
    pub train: OwnedSplit,
    /// For choosing the best checkpoint.
    pub valid: Option<OwnedSplit>,
    /// For the final figures.
    pub test: OwnedSplit,
    /// What a person should know of how it was read: splits made up, values scaled, files left out.
    pub notes: Vec<String>,
}

impl OwnedDataset {
    /// What a plugin's training sees: everything but the test split.
    pub fn view(&self) -> Dataset<'_> {
        Dataset {
            spec: &self.spec,
            train: self.train.view(),
            valid: self.valid.as_ref().map(OwnedSplit::view),
        }
    }

    /// The splits there are, in order, with their names.
    pub fn splits(&self) -> Vec<(&'static str, &OwnedSplit)> {
        let mut splits = vec![("train", &self.train)];
        splits.extend(self.valid.as_ref().map(|v| ("valid", v)));
        splits.push(("test", &self.test));
        splits
    }

    /// The split called `name`: `train`, `valid` or `test`.
    ///
    /// # Errors
    /// [`Error::NoSplit`], with the names there are.
    pub fn split(&self, name: &str) -> Result<Split<'_>> {
        self.owned(name).map(OwnedSplit::view)
    }

    fn owned(&self, name: &str) -> Result<&OwnedSplit> {
        let splits = self.splits();
        let found = splits.iter().find(|(n, _)| *n == name);
        found.map(|(_, s)| *s).ok_or_else(|| Error::NoSplit {
            data: self.spec.name.clone(),
            name: name.to_owned(),
            have: splits
                .iter()
                .map(|(n, _)| *n)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The images at `indices` of a split as `[N,C,H,W]` in [0, 1]; indices beyond the last image are left out.
    ///
    /// # Errors
    /// [`Error::NoSplit`].
    pub fn images(&self, split: &str, indices: &[usize]) -> Result<Array> {
        let owned = self.owned(split)?;
        let pixels = self.spec.pixels();
        let there = indices.iter().filter(|&&i| i < owned.count);
        let values: Vec<f32> = there
            .flat_map(|&i| owned.images.floats(i * pixels..(i + 1) * pixels))
            .collect();
        let [c, h, w] = self.spec.image;
        let shape = [values.len() / pixels, c, h, w];
        Array::f32(shape, values).map_err(|e| {
            content(
                &self.spec.name,
                split,
                e.to_string(),
                "this is a defect of zoo",
            )
        })
    }
}

/// Reads a data set whole, and splits it as `settings` say.
///
/// - A source without a test split has a tenth of its images held out as one; one without a validation split gets
///   `settings.valid` images of the training split. Both choices depend on nothing but the number of images.
/// - Bytes that are all 0 or 1 are scaled to 0 and 255; floats in 0..255 are scaled to [0, 1].
///
/// # Errors
/// Each names the file, the field in it, and what to do.
pub fn load(source: &Source, settings: &DataSettings) -> Result<OwnedDataset> {
    let mut budget = file::Budget::new(settings.max_mb);
    let raw = match source {
        Source::Known(known) => {
            let mut raw = match &known.place {
                Place::Embedded(files) => idx::embedded(files, &mut budget)?,
                Place::Beside(file) => npz::load(&known.find(file, &folders())?, &mut budget)?,
            };
            raw.licence = Some(known.licence.to_owned());
            raw
        }
        Source::Path(path) => {
            let kind = file::metadata(path)?;
            if kind.is_dir() {
                from_folder(path, settings, &mut budget)?
            } else {
                npz::load(path, &mut budget)?
            }
        }
    };
    assemble::assemble(source, raw, settings)
}

fn from_folder(
    path: &std::path::Path,
    settings: &DataSettings,
    budget: &mut file::Budget,
) -> Result<assemble::Raw> {
    if idx::is_here(path)? {
        idx::load(path, budget)
    } else if let Some(batches) = cifar::find(path)? {
        cifar::load(&batches, budget)
    } else {
        folder::load(path, settings.size, budget)
    }
}

#[cfg(test)]
mod tests;
