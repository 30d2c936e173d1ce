//! A data set small enough to train on in a moment, and different enough to learn.

use zoo_sdk::{
    Binarization, DataSpec, Dataset, Degradations, Description, Elements, Split, Stream, Task, View,
};

/// Grey images with a bright disc whose place depends on the class.
#[derive(Clone, Debug)]
pub struct Synthetic {
    spec: DataSpec,
    images: Vec<u8>,
    labels: Vec<i64>,
}

fn noise() -> Degradations {
    "noise 0.1".parse().unwrap_or_default()
}

const CLASSES: usize = 4;
const IMAGES: usize = 96;
/// The last images are held out.
const VALID: usize = 32;

impl Synthetic {
    /// The same for a model of this description: as pairs for one that maps images to images, made as its settings recommend.
    pub fn for_model(size: usize, description: &Description) -> Self {
        let mut made = Self::new(size);
        if description.task == Task::ImageToImage {
            let recommended = description.defaults["data"]["degrade"].as_str();
            let recommended = recommended.and_then(|text| text.parse().ok());
            made.spec.degrade = recommended.unwrap_or_else(noise);
        }
        made
    }

    /// Images of `size` x `size`.
    pub fn new(size: usize) -> Self {
        let labels: Vec<i64> = (0..IMAGES).map(|i| (i % CLASSES) as i64).collect();
        let mut images = Vec::with_capacity(IMAGES * size * size);
        for (i, &label) in labels.iter().enumerate() {
            let jitter = Stream::new(9).at(i as u64).uniform(2);
            let centre = |cell: i64, jitter: f32| {
                (0.25 + 0.5 * cell as f32 + 0.1 * (jitter - 0.5)) * size as f32
            };
            let (cx, cy) = (centre(label % 2, jitter[0]), centre(label / 2, jitter[1]));
            for y in 0..size {
                for x in 0..size {
                    let distance =
                        ((x as f32 + 0.5 - cx).powi(2) + (y as f32 + 0.5 - cy).powi(2)).sqrt();
                    let bright = 1.0 - (distance / (0.25 * size as f32)).min(1.0);
                    images.push((230.0 * bright + 10.0) as u8);
                }
            }
        }
        let spec = DataSpec {
            name: "conformance".into(),
            image: [1, size, size],
            classes: (0..CLASSES).map(|c| format!("corner {c}")).collect(),
            binarization: Binarization::None,
            sha256: "0".repeat(64),
            ..DataSpec::default()
        };
        Self {
            spec,
            images,
            labels,
        }
    }

    /// What it is.
    pub fn spec(&self) -> &DataSpec {
        &self.spec
    }

    /// The whole set, borrowed.
    pub fn view(&self) -> Dataset<'_> {
        Dataset {
            spec: &self.spec,
            train: self.split(0, IMAGES - VALID),
            valid: Some(self.valid()),
        }
    }

    /// The images held out.
    pub fn valid(&self) -> Split<'_> {
        self.split(IMAGES - VALID, IMAGES)
    }

    fn split(&self, from: usize, to: usize) -> Split<'_> {
        let pixels = self.spec.pixels();
        let images = View {
            count: to - from,
            elements: Elements::U8(&self.images[from * pixels..to * pixels]),
        };
        Split {
            images,
            labels: Some(&self.labels[from..to]),
            targets: None,
        }
    }
}
