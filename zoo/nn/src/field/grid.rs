//! Where coarser resolutions are new in the raster of the image's pixels.
//!
//! At resolution l a row is new in every 2^l-th row of the image, a pixel where its column is a multiple of 2^l too. Everything is computed everywhere, and
//! what is not new is dropped: what a layer keeps stays as it was.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Result, Value, concat};

/// What is told to the pixels of a row for each resolution but the first: whether its row is new; then one of four is 1 for where the pixel stands in the
/// two by two of the next finer resolution, the first of them if it is new itself.
const FLAGS: usize = 5;

/// Resolutions of a network, beyond the first.
#[derive(Debug)]
pub(crate) struct Grid {
    /// Which columns are multiples of 2^level and which are not, as the flags take them: `[1,FLAGS,1,W]`.
    columns: Vec<Value>,
}

/// At a row: whether it is new at a resolution, and whether the one above was, `[N,1,1,1]`.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub here: Value,
    pub above: Value,
}

/// At a pixel of a resolution.
#[derive(Clone, Debug)]
pub(crate) struct NewPixel {
    /// Whether it is new, `[N,1]`.
    pub here: Value,
    /// Whether its row is.
    pub row: Value,
    /// Its place in two by two, `[N,1,4]`.
    pub place: Value,
}

impl Grid {
    /// For `levels` resolutions beyond the first, and rows of `width`.
    pub fn new(width: usize, levels: usize, device: &Device) -> Result<Self> {
        let of_level = |level: usize| -> Result<Value> {
            if !width.is_multiple_of(1 << level) {
                return Err(Error::input(format!(
                    "rows of {width} pixels cannot be halved {level} times"
                )));
            }
            let mut flags = Vec::with_capacity(FLAGS * width);
            for flag in 0..FLAGS {
                flags.extend((0..width).map(|column| {
                    let is_new = column % (1 << level) == 0;
                    f32::from(u8::from(match flag {
                        0 => true,
                        1 | 3 => is_new,
                        _ => !is_new,
                    }))
                }));
            }
            let flags = Tensor::from_vec(flags, (1, FLAGS, 1, width), &Device::Cpu)?;
            Ok(Value::constant(flags.to_device(device)?))
        };
        Ok(Self {
            columns: (1..=levels).map(of_level).collect::<Result<_>>()?,
        })
    }

    /// At row `number [N,1,1,1]`: what is new, and the flags for its pixels `[N,FLAGS*levels,1,W]`.
    #[track_caller]
    pub fn row(&self, number: &Value) -> (Vec<NewRow>, Value) {
        let before = number - 1.0;
        let mut flags = Vec::new();
        let mut new = Vec::new();
        for (i, columns) in self.columns.iter().enumerate() {
            let here = new_at(number, i + 1);
            let yes = here.cast(DType::F32);
            let no = -&yes + 1.0;
            flags.push(concat(&[&yes, &yes, &yes, &no, &no], 1) * columns);
            new.push(NewRow {
                here,
                above: new_at(&before, i + 1),
            });
        }
        (new, concat(&flags, 1))
    }

    /// From a pixel's flags `[N,FLAGS*levels]`.
    #[track_caller]
    pub fn pixel(&self, flags: &Value) -> Vec<NewPixel> {
        let of_level = |level: usize| {
            let of = |from, to| flags.slice(1, level * FLAGS + from, level * FLAGS + to);
            NewPixel {
                here: of(1, 2).greater_scalar(0.5),
                row: of(0, 1).greater_scalar(0.5),
                place: of(1, FLAGS).unsqueeze(1),
            }
        };
        (0..self.columns.len()).map(of_level).collect()
    }
}

/// Whether row `number` is new at a resolution from the second on.
#[track_caller]
fn new_at(number: &Value, level: usize) -> Value {
    let part = number * (1.0 / (1 << level) as f64);
    (&part - part.floor()).less_scalar(0.25 / (1 << level) as f64)
}

/// Every `step`-th column of `[N,C,1,W]`.
#[track_caller]
pub(crate) fn every(x: &Value, step: usize) -> Value {
    let &[_, maps, rows, width] = x.dims() else {
        return x.clone(); // it failed
    };
    if step == 1 {
        return x.clone();
    }
    let apart = [0, (maps * rows) as i64, (width / step) as i64, step as i64];
    let first = x.reshape(&apart).slice(3, 0, 1);
    first.reshape(&[0, maps as i64, rows as i64, (width / step) as i64])
}

/// Columns of `[N,C,1,W']` repeated, without their row: `[N,C,W]`.
#[track_caller]
pub(crate) fn repeated(x: &Value, width: usize) -> Value {
    let &[_, maps, _, own] = x.dims() else {
        return x.clone(); // it failed
    };
    if own == width {
        return x.squeeze(2);
    }
    x.squeeze(2)
        .unsqueeze(3)
        .expand(&[1, maps, own, width / own])
        .reshape(&[0, maps as i64, width as i64])
}
