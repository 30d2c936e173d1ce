//! Data sets that are known by name or by hash.

/// A data set inside the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// What `--data` takes.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// Training images, training labels, test images, test labels: gzipped IDX files.
    pub(crate) files: [(&'static str, &'static [u8]); 4],
}

macro_rules! fashion {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../fixtures/fashion-mnist/", $name)) as &[u8],
        )
    };
}

/// All data sets inside the binary.
pub const EMBEDDED: [Embedded; 1] = [Embedded {
    name: "fashion-small",
    summary: "5,000 training and 1,000 test images of Fashion-MNIST: 28x28, grey, ten classes of garments",
    licence: "MIT, (c) 2017 Zalando SE",
    files: [
        fashion!("train-images-idx3-ubyte.gz"),
        fashion!("train-labels-idx1-ubyte.gz"),
        fashion!("t10k-images-idx3-ubyte.gz"),
        fashion!("t10k-labels-idx1-ubyte.gz"),
    ],
}];

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
