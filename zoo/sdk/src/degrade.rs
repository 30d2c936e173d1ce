//! What is done to an image so that the image becomes the answer: inputs for maps from images to images.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Stream;

/// A step from a target to its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Degradation {
    /// A window of so many rows and columns, cut out of input and target alike.
    Crop([usize; 2]),
    /// Height and width divided by a number, by [`bicubic`] interpolation. Rows and columns that remain are cut off both images first, at the bottom and right.
    Shrink(usize),
    /// One channel, the luma of ITU-R BT.601.
    Grey,
    /// Normal noise of this standard deviation, where 1 is the whole range.
    Noise(f32),
}

/// Steps from a target to its input, in order. Written with commas: `crop 48x48, shrink 2, noise 0.05`; `none` is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Degradations(Vec<Degradation>);

/// An image `[C,H,W]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// Grey values in [0, 1].
    pub values: Vec<f32>,
}

impl Degradations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shapes of input and target that images of `shape` give.
    ///
    /// # Errors
    /// Where an image is too small for a step.
    pub fn shapes(&self, shape: [usize; 3]) -> Result<[[usize; 3]; 2], String> {
        let (mut input, mut target) = (shape, shape);
        for step in &self.0 {
            let [c, h, w] = input;
            match *step {
                Degradation::Crop([rows, columns]) if rows > h || columns > w => {
                    return Err(format!("{step}: the images are only {h}x{w}"));
                }
                Degradation::Crop([rows, columns]) => {
                    input = [c, rows, columns];
                    target = [target[0], rows, columns];
                }
                Degradation::Shrink(by) if h < by || w < by => {
                    return Err(format!("{step}: the images are only {h}x{w}"));
                }
                Degradation::Shrink(by) => {
                    // A pixel of the input is a square of the target.
                    let square = target[1] / h;
                    input = [c, h / by, w / by];
                    target = [target[0], h / by * by * square, w / by * by * square];
                }
                Degradation::Grey if c != 3 => {
                    return Err(format!("{step}: the images have {c} channels, not 3"));
                }
                Degradation::Grey => input = [1, h, w],
                Degradation::Noise(_) => {}
            }
        }
        Ok([input, target])
    }

    /// Input and target that an image gives. `stream` is the image's own: the same one gives the same pair, whoever trains or measures.
    /// The image has a shape that [`Self::shapes`] takes.
    pub fn pair(&self, image: Picture, stream: Stream) -> [Picture; 2] {
        let mut input = image.clone();
        let mut target = image;
        for (i, step) in self.0.iter().enumerate() {
            let stream = stream.at(i as u64);
            match *step {
                Degradation::Crop([rows, columns]) => {
                    let place = |free: usize, u: f32| ((u * (free + 1) as f32) as usize).min(free);
                    let u = stream.uniform(2);
                    let [_, h, w] = input.shape;
                    let (top, left) = (place(h - rows, u[0]), place(w - columns, u[1]));
                    input = input.window([top, left], [rows, columns]);
                    target = target.window([top, left], [rows, columns]);
                }
                Degradation::Shrink(by) => {
                    let [_, h, w] = input.shape;
                    let square = target.shape[1] / h;
                    let whole = [h / by * by, w / by * by];
                    input = input
                        .window([0, 0], whole)
                        .resized(whole.map(|side| side / by));
                    target = target.window([0, 0], whole.map(|side| side * square));
                }
                Degradation::Grey => input = input.luma(),
                Degradation::Noise(deviation) => {
                    let noise = stream.normal(input.values.len());
                    let pairs = input.values.iter_mut().zip(noise);
                    pairs.for_each(|(x, e)| *x = (*x + deviation * e).clamp(0.0, 1.0));
                }
            }
        }
        [input, target]
    }
}

impl Picture {
    /// The part of `rows` and `columns` that begins at `top` and `left`.
    fn window(&self, [top, left]: [usize; 2], [rows, columns]: [usize; 2]) -> Self {
        let [c, h, w] = self.shape;
        if [rows, columns] == [h, w] {
            return self.clone();
        }
        let row = |plane: usize, y: usize| {
            let start = (plane * h + top + y) * w + left;
            &self.values[start..start + columns]
        };
        let places = (0..c).flat_map(|plane| (0..rows).map(move |y| (plane, y)));
        Self {
            shape: [c, rows, columns],
            values: places
                .flat_map(|(plane, y)| row(plane, y))
                .copied()
                .collect(),
        }
    }

    /// Pictures of one height from left to right, in colour where one of them is.
    pub(crate) fn beside(parts: &[Self]) -> Self {
        let channels = parts.iter().map(|part| part.shape[0]).max().unwrap_or(1);
        let height = parts.first().map_or(0, |part| part.shape[1]);
        let mut values = Vec::new();
        for plane in 0..channels {
            for y in 0..height {
                for part in parts {
                    let [c, _, w] = part.shape;
                    let start = (plane.min(c - 1) * height + y) * w;
                    values.extend_from_slice(&part.values[start..start + w]);
                }
            }
        }
        Self {
            shape: [
                channels,
                height,
                parts.iter().map(|part| part.shape[2]).sum(),
            ],
            values,
        }
    }

    /// One channel, 0.299 R + 0.587 G + 0.114 B.
    fn luma(&self) -> Self {
        let [_, h, w] = self.shape;
        let (red, rest) = self.values.split_at(h * w);
        let (green, blue) = rest.split_at(h * w);
        let luma = red.iter().zip(green).zip(blue);
        Self {
            shape: [1, h, w],
            values: luma
                .map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b)
                .collect(),
        }
    }

    /// Another height and width, by [`bicubic`] interpolation, kept in [0, 1].
    pub fn resized(&self, to: [usize; 2]) -> Self {
        let [c, h, w] = self.shape;
        let planes = self.values.chunks_exact((h * w).max(1));
        let values = planes.flat_map(|plane| bicubic(plane, [h, w], to));
        Self {
            shape: [c, to[0], to[1]],
            values: values.map(|v| v.clamp(0.0, 1.0)).collect(),
        }
    }
}

/// A plane of `from` rows and columns at another size, by Keys' cubic convolution (1981, a = -0.5). Where it shrinks the kernel is stretched as much, so
/// that no frequency folds; beyond the edges nothing counts. This is what Pillow's `BICUBIC` computes.
pub fn bicubic(plane: &[f32], [h, w]: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let (rows, columns) = (taps(h, to[0]), taps(w, to[1]));
    let mut wide = Vec::with_capacity(h * to[1]);
    for line in plane.chunks_exact(w.max(1)) {
        let at = |(first, weights): &(usize, Vec<f32>)| {
            let seen = line[*first..].iter().zip(weights);
            seen.map(|(x, weight)| x * weight).sum::<f32>()
        };
        wide.extend(columns.iter().map(at));
    }
    let mut out = Vec::with_capacity(to[0] * to[1]);
    for (first, weights) in &rows {
        let column = |x: usize| {
            let lines = weights.iter().enumerate();
            lines
                .map(|(k, weight)| wide[(first + k) * to[1] + x] * weight)
                .sum::<f32>()
        };
        out.extend((0..to[1]).map(column));
    }
    out
}

/// For each place of the result: the first place of the source that counts, and the weights from there on, whose sum is 1.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    let place = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - 2.0 * stretch + 0.5).max(0.0) as usize;
        let last = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
        let weights = (first..last).map(|k| kernel((k as f64 + 0.5 - centre) / stretch));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        (first, weights.iter().map(|v| (v / sum) as f32).collect())
    };
    (0..to).map(place).collect()
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crop([rows, columns]) => write!(f, "crop {rows}x{columns}"),
            Self::Shrink(by) => write!(f, "shrink {by}"),
            Self::Grey => f.write_str("grey"),
            Self::Noise(deviation) => write!(f, "noise {deviation}"),
        }
    }
}

impl FromStr for Degradation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (name, value, rest) = (words.next(), words.next(), words.next());
        let side = |text: &str| text.parse().ok().filter(|side| *side > 0);
        let crop = |value: &str| {
            let sides = value.split_once('x').unwrap_or((value, value));
            let sides = side(sides.0).zip(side(sides.1));
            sides.map(|(h, w)| Self::Crop([h, w]))
        };
        let shrink = |value| {
            let by = side(value).filter(|by| (2..=16).contains(by));
            by.map(Self::Shrink)
        };
        let noise = |value: &str| {
            let deviation = value.parse().ok().filter(|d| (0.0..=1.0).contains(d));
            deviation.map(Self::Noise)
        };
        let called = |known| name == Some(known);
        let [crops, shrinks, greys, adds_noise] = ["crop", "shrink", "grey", "noise"].map(called);
        let step = match value {
            Some(value) if crops => crop(value),
            Some(value) if shrinks => shrink(value),
            Some(value) if adds_noise => noise(value),
            None if greys => Some(Self::Grey),
            _ => None,
        };
        step.filter(|_| rest.is_none()).ok_or_else(|| {
            format!(
                "{text:?} is no degradation: write `crop HEIGHTxWIDTH`, `shrink 2` (to 16), `grey` or `noise 0.1` (the standard deviation, to 1)"
            )
        })
    }
}

impl FromStr for Degradations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        let steps = text
            .split(',')
            .map(str::trim)
            .filter(|step| !step.is_empty());
        let steps: Vec<Degradation> = steps.map(str::parse).collect::<Result<_, _>>()?;
        let shrinks = steps
            .iter()
            .position(|step| matches!(step, Degradation::Shrink(_)));
        let crops = steps
            .iter()
            .rposition(|step| matches!(step, Degradation::Crop(_)));
        match (shrinks, crops) {
            (Some(shrinks), Some(crops)) if crops > shrinks => Err(
                "a crop must stand before what shrinks, so that it is one window of both images"
                    .into(),
            ),
            _ => Ok(Self(steps)),
        }
    }
}

impl fmt::Display for Degradations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            write!(f, "{}{step}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Degradations {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Degradations> for String {
    fn from(steps: Degradations) -> Self {
        steps.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes, and the first values in them.
    const PILLOW: [([usize; 2], &[f32]); 3] = [
        (
            [3, 4],
            &[
                0.478920, 0.565064, 0.386081, 0.602974, 0.610933, 0.485993, 0.433261, 0.613344,
                0.554390, 0.378351, 0.566592, 0.496404,
            ],
        ),
        (
            [2, 3],
            &[0.543008, 0.461734, 0.544401, 0.542674, 0.437568, 0.560809],
        ),
        (
            [9, 10],
            &[
                -0.059033, 0.143216, 0.440132, 0.758564, 0.880958, 0.096048, 0.280715, 0.580839,
                0.831890, 1.039297, 0.339960, 0.588863, 0.507721, 0.452824, 0.733265, 0.484088,
                0.212491, 0.280147, 0.594323, 0.851075, 0.670728, 0.961325, 0.641233, 0.240092,
            ],
        ),
    ];

    fn steps(text: &str) -> Degradations {
        text.parse().unwrap()
    }

    fn picture(shape: [usize; 3]) -> Picture {
        let values = Stream::new(5).uniform(shape.iter().product());
        Picture { shape, values }
    }

    #[test]
    fn text_and_back() {
        for text in ["", "shrink 2", "crop 48x32, shrink 3, noise 0.05", "grey"] {
            assert_eq!(steps(text).to_string(), text);
        }
        assert_eq!(steps("crop 8").to_string(), "crop 8x8");
        assert!(steps("none").is_empty());
        for bad in [
            "shrink",
            "shrink 1",
            "grey 3",
            "noise 2",
            "blur 1",
            "crop 0",
            "shrink 2 3",
            "shrink 2, crop 8",
        ] {
            assert!(bad.parse::<Degradations>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shapes_are_those_of_the_pair() {
        for (text, shape) in [
            ("shrink 2", [3, 9, 12]),
            ("shrink 3", [1, 10, 11]),
            ("shrink 2, shrink 2", [1, 15, 16]),
            ("crop 6x4, shrink 2, noise 0.1", [3, 9, 12]),
            ("grey, shrink 2", [3, 8, 8]),
        ] {
            let steps = steps(text);
            let pair = steps.pair(picture(shape), Stream::new(1));
            let shapes = pair.each_ref().map(|picture| picture.shape);
            assert_eq!(steps.shapes(shape), Ok(shapes), "{text}");
            for picture in pair {
                assert_eq!(
                    picture.values.len(),
                    picture.shape.iter().product::<usize>()
                );
                assert!(picture.values.iter().all(|x| (0.0..=1.0).contains(x)));
            }
        }
        assert!(steps("crop 9").shapes([1, 8, 8]).is_err());
        assert!(steps("grey").shapes([1, 8, 8]).is_err());
        assert!(steps("shrink 4").shapes([1, 3, 8]).is_err());
    }

    #[test]
    fn a_stream_gives_one_pair() {
        let steps = steps("crop 4, noise 0.2");
        let pair = |seed| steps.pair(picture([1, 8, 8]), Stream::new(seed));
        assert_eq!(pair(1), pair(1));
        assert_ne!(pair(1), pair(2));
        let windows: Vec<Vec<f32>> = (0..20).map(|seed| pair(seed)[1].values.clone()).collect();
        assert!(
            windows.iter().any(|window| window != &windows[0]),
            "windows lie in several places"
        );
    }

    /// Pillow: `Image.fromarray(x, "F").resize((w, h), Image.BICUBIC)` of x[i][j] = ((7 i + 3 j) mod 11) / 10.
    #[test]
    fn bicubic_is_that_of_pillow() {
        let plane: Vec<f32> = (0..48)
            .map(|k| ((7 * (k / 8) + 3 * (k % 8)) % 11) as f32 / 10.0)
            .collect();
        for (to, expected) in PILLOW {
            let got = bicubic(&plane, [6, 8], to);
            assert_eq!(got.len(), to[0] * to[1]);
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() < 1e-5,
                    "{to:?}: {got} for {expected}"
                );
            }
        }
    }
}
