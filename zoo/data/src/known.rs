//! Data sets that are known by name or by hash.

use std::path::{Path, PathBuf};

use zoo_files::default_data_dir;

use crate::{Error, Result};

/// A data set that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What `--data` takes.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Its licence.
    pub licence: &'static str,
    pub(crate) place: Place,
}

/// Where a data set that comes with the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the binary. Training images, training labels, test images, test labels: gzipped IDX files.
    Embedded([(&'static str, &'static [u8]); 4]),
    /// Below one of [`folders`], since it would make the binary large: an archive.
    Beside(&'static str),
}

impl Known {
    /// Whether it can be read here: it is in the binary, or its file is found.
    pub fn is_here(&self) -> bool {
        match self.place {
            Place::Embedded(_) => true,
            Place::Beside(file) => self.find(file, &folders()).is_ok(),
        }
    }

    /// `file` in the first of `folders` that has it.
    pub(crate) fn find(&self, file: &str, folders: &[PathBuf]) -> Result<PathBuf> {
        let paths = || folders.iter().map(|folder| folder.join(file));
        paths().find(|path| path.is_file()).ok_or_else(|| {
            let looked: Vec<_> = paths().map(|path| path.display().to_string()).collect();
            let copy_to = paths().next().unwrap_or_default();
            Error::Absent {
                name: self.name,
                file: file.to_owned(),
                copy_to: copy_to.display().to_string(),
                looked: looked.join(", "),
            }
        })
    }
}

/// Where what comes with the program is looked for, first of all: the user's data folder, beside the program, and the
/// sources that it was built from.
pub fn folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let all = [default_data_dir(), beside.map(PathBuf::from), Some(sources)];
    all.into_iter().flatten().collect()
}

macro_rules! fashion {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../fixtures/fashion-mnist/", $name)) as &[u8],
        )
    };
}

/// All data sets that come with the program.
pub const KNOWN: [Known; 3] = [
    Known {
        name: "fashion-small",
        summary: "5,000 training and 1,000 test images of Fashion-MNIST: 28x28, grey, ten classes of garments",
        licence: "MIT, (c) 2017 Zalando SE",
        place: Place::Embedded([
            fashion!("train-images-idx3-ubyte.gz"),
            fashion!("train-labels-idx1-ubyte.gz"),
            fashion!("t10k-images-idx3-ubyte.gz"),
            fashion!("t10k-labels-idx1-ubyte.gz"),
        ]),
    },
    Known {
        name: "emoji",
        summary: "1,706 training and 200 test emoji: 32x32, colour, on white, eight classes and flags",
        licence: NOTO,
        place: Place::Beside("emoji/emoji.npz"),
    },
    Known {
        name: "emoji-64",
        summary: "the images of emoji at 64x64, from which they were halved",
        licence: NOTO,
        place: Place::Beside("emoji/emoji-64.npz"),
    },
];

/// Of Noto Emoji's images.
const NOTO: &str = "Apache-2.0, (c) 2013 Google Inc.";

/// Classes of Fashion-MNIST, in label order.
pub(crate) const FASHION: [&str; 10] = [
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
];

/// Classes of MNIST.
pub(crate) const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Classes of CIFAR-10, in label order.
pub(crate) const CIFAR10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Data sets that share file names and shape are told apart by the SHA-256 of their training labels, decompressed and
/// without the header: hash, class names, licence.
pub(crate) const BY_LABELS: [(&str, [&str; 10], &str); 3] = [
    (
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        FASHION,
        "MIT, (c) 2017 Zalando SE",
    ),
    (
        "4e5c0e8f28b58a4a5a035b2c3ca5c4e9b9dcd1ae36ad28d9ac24bdc36dc09cf1",
        FASHION,
        "MIT, (c) 2017 Zalando SE",
    ),
    (
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        DIGITS,
        "CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
    ),
];
