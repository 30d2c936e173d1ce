//! How a layer goes on by a row and by a pixel.

use std::any::Any;

use super::grid::{NewPixel, NewRow};
use crate::Value;

/// What is known of an image where a field's maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Knows {
    /// The rows above: maps are computed for a whole row at once, `[N,C,1,W]`.
    Above,
    /// Also the pixels to the left, and of the pixel its colours before the predicted one: `[N,C]`.
    Left,
    /// The pixel itself, `[N,C]`: the image, and what is computed from its own pixel alone.
    Own,
}

/// What a layer gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gives {
    pub knows: Knows,
    pub maps: usize,
    /// Its resolution: of each level the height and width are half of those of the one before.
    pub level: usize,
}

/// A layer while an image is drawn. It was made before, outside all loops.
///
/// It may carry states from row to row and from pixel to pixel, and keep maps of a pixel for the row below. What a row gives its pixels is
/// the sum that is added to their outputs, the sum that is added to their inputs, and further context.
pub(crate) trait Layer: std::fmt::Debug {
    fn gives(&self) -> Gives;

    /// Whether rows need the row above of its input, where that does not know whole rows.
    fn reads_above(&self) -> bool {
        false
    }

    /// Whether pixels need the pixel itself.
    fn reads_own(&self) -> bool {
        true
    }

    /// Maps that a row adds to the inputs of its pixels; 0 where it adds none.
    fn adds(&self) -> usize {
        0
    }

    /// Sizes of what pixels keep for the row below, beside their input.
    fn keeps(&self) -> Vec<usize> {
        vec![]
    }

    /// What is carried from row to row, before the first.
    fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        let _ = (like, width);
        vec![]
    }

    /// What is carried from pixel to pixel, before a row's first.
    fn start_row(&self, like: &Value) -> Vec<Value> {
        let _ = like;
        vec![]
    }

    /// Goes on by a row. Gives the row's maps `[N,O,1,W]` where it knows whole rows.
    fn row(&self, at: &mut AtRow) -> Option<Value>;

    /// The maps of a pixel, `[N,O]`, from its input `[N,C]`, without what the row adds to it.
    fn pixel(&self, x: Option<&Value>, at: &mut AtPixel) -> Value {
        let _ = at;
        x.cloned().unwrap_or_else(unknown)
    }

    /// Goes on by a pixel, whose input is known.
    fn after(&self, x: &Value, at: &mut AtPixel) {
        let _ = (x, at);
    }

    /// Itself, where it is a `Windowed` that may be drawn together with others that are alike.
    fn as_window(&self) -> Option<&dyn Any> {
        None
    }
}

/// A layer at the beginning of a row.
#[derive(Debug, Default)]
pub(crate) struct AtRow {
    /// Its input of this row, `[N,C,1,W]`, where that is known.
    pub x: Option<Value>,
    /// Its input of the row above, `[N,C,W]`, if it reads that.
    pub above: Option<Value>,
    /// What the pixels of the row above kept: each `[N,K,W]`.
    pub kept: Vec<Value>,
    pub states: Vec<Value>,
    /// For the next row.
    pub next: Vec<Value>,
    /// What is added to the pixels' outputs, `[N,O,1,W]`.
    pub known: Option<Value>,
    /// What is added to the pixels' inputs, `[N,C,1,W]`.
    pub added: Option<Value>,
    /// What else its pixels read: each `[N,K,1,W]`.
    pub context: Vec<Value>,
    /// Which resolutions are new here.
    pub new: Vec<NewRow>,
}

/// A layer at a pixel.
#[derive(Debug, Default)]
pub(crate) struct AtPixel {
    pub context: Vec<Value>,
    pub states: Vec<Value>,
    /// For the next pixel.
    pub next: Vec<Value>,
    /// For the row below: as many as [`Layer::keeps`] says.
    pub keep: Vec<Value>,
    /// What the window saw, if it was computed with this input.
    pub seen: Option<Value>,
    pub new: Vec<NewPixel>,
}

/// Stands for what should have been there.
pub(crate) fn unknown() -> Value {
    Value::failed(crate::Error::input(
        "a layer reads what is not known yet: a network that draws takes the image through a masked layer first",
    ))
}

/// The state or context at `index`.
pub(crate) fn part(values: &[Value], index: usize) -> Value {
    values.get(index).cloned().unwrap_or_else(unknown)
}
