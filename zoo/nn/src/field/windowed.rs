//! A layer that sees a window, while an image is drawn.

use std::any::Any;

use super::{
    grid::every,
    layer::{AtPixel, AtRow, Gives, Knows, Layer, part, unknown},
};
use crate::{Value, concat, ops::Windows};

/// A window in two parts: what rows give it, once for a whole row, and what the pixels to the left and the pixel itself do.
#[derive(Clone, Debug)]
pub(crate) struct Windowed {
    pub rows: Option<Rows>,
    /// `[O,(columns + own) * C]`, pixel by pixel; there is none where rows are all that is seen.
    pub own: Option<Value>,
    /// Added to what pixels give: where rows are seen too, the bias is theirs.
    pub bias: Option<Value>,
    /// Pixels to the left of its own.
    pub columns: usize,
    /// Whether it sees the pixel itself.
    pub sees_own: bool,
    pub inputs: usize,
    pub gives: Gives,
    /// The resolution of its input.
    pub level: usize,
}

/// What a window sees of whole rows.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    /// `[O,C/groups,R,K]`
    pub weight: Value,
    pub bias: Option<Value>,
    /// Zeros left of a row.
    pub pad: usize,
    pub groups: usize,
    /// Whether the last of them is the pixel's own: of maps that know rows above only.
    pub own: bool,
}

impl Rows {
    fn count(&self) -> usize {
        self.weight.dims().get(2).copied().unwrap_or(1)
    }

    /// What is carried before the first row: zeros with the batch of `like`, for rows of `width`.
    pub fn start(&self, like: &Value, inputs: usize, width: usize) -> Vec<Value> {
        match self.count() {
            1 => vec![],
            rows => vec![like.zeros_like_batch(&[inputs, rows - 1, width])],
        }
    }

    /// Goes on by the newest row that is seen `[N,C,1,W] -> [N,O,1,W]`; `keep` says what is carried instead of the newest row where it is not new.
    #[track_caller]
    pub fn forward(
        &self,
        newest: &Value,
        states: &[Value],
        next: &mut Vec<Value>,
        keep: impl FnOnce(&Value, Value) -> Value,
    ) -> Value {
        let rows = self.count();
        let seen = if rows == 1 {
            newest.clone()
        } else {
            let before = part(states, 0); // [N,C,R-1,W]
            let seen = concat(&[&before, newest], 2); // [N,C,R,W]
            next.push(keep(
                &before,
                match rows {
                    2 => newest.clone(),
                    _ => seen.slice(2, 1, rows),
                },
            ));
            seen
        };
        let windows = Windows {
            groups: self.groups,
            ..Windows::padded([0, self.pad])
        };
        let width = newest.dims().get(3).copied().unwrap_or(0);
        let out = seen.conv(&self.weight, self.bias.as_ref(), windows);
        corner(&out, 1, width) // [N,O,1,W]
    }
}

impl Windowed {
    /// Whether it sees more than its own pixel.
    pub fn has_neighbours(&self) -> bool {
        self.rows.is_some() || self.columns > 0
    }

    fn carries_row(&self) -> bool {
        self.level > 0 && self.rows.as_ref().is_some_and(|rows| !rows.own)
    }
}

impl Layer for Windowed {
    fn gives(&self) -> Gives {
        self.gives
    }

    fn reads_above(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| !rows.own)
    }

    fn reads_own(&self) -> bool {
        self.sees_own
    }

    fn start(&self, like: &Value, width: usize) -> Vec<Value> {
        let Some(rows) = &self.rows else {
            return vec![];
        };
        let width = width >> self.level;
        let mut states = rows.start(like, self.inputs, width);
        if self.carries_row() {
            states.push(like.zeros_like_batch(&[self.inputs, 1, width]));
        }
        states
    }

    fn start_row(&self, like: &Value) -> Vec<Value> {
        match self.columns {
            0 => vec![],
            columns => vec![like.zeros_like_batch(&[columns * self.inputs])],
        }
    }

    fn row(&self, at: &mut AtRow) -> Option<Value> {
        let rows = self.rows.as_ref()?;
        let new = self.level.checked_sub(1).and_then(|i| at.new.get(i));
        let newest = if rows.own {
            at.x.clone().unwrap_or_else(unknown)
        } else {
            let above = at.above.clone().unwrap_or_else(unknown).unsqueeze(2);
            let above = every(&above, 1 << self.level); // [N,C,1,W]
            match new {
                // The newest that there is at this resolution.
                Some(new) => new
                    .above
                    .choose(&above, &part(&at.states, at.states.len() - 1)),
                None => above,
            }
        };
        let keep = |before: &Value, next: Value| match new {
            Some(new) if rows.own => new.here.choose(&next, before),
            _ => next,
        };
        let seen = rows.forward(&newest, &at.states, &mut at.next, keep);
        if self.carries_row() {
            at.next.push(newest);
        }
        let seen = every(&seen, 1 << (self.gives.level - self.level));
        match self.gives.knows {
            Knows::Above => Some(seen),
            _ => {
                at.known = Some(seen);
                None
            }
        }
    }

    fn pixel(&self, x: Option<&Value>, at: &mut AtPixel) -> Value {
        let Some(weight) = &self.own else {
            return unknown();
        };
        let own = || x.cloned().unwrap_or_else(unknown);
        let seen = match (self.columns, self.sees_own) {
            (0, _) => own(),
            (_, false) => part(&at.states, 0),
            (_, true) => {
                let seen = concat(&[&part(&at.states, 0), &own()], 1); // [N,(columns+1)*C]
                at.seen = Some(seen.clone());
                seen
            }
        };
        seen.linear(weight, self.bias.as_ref()) // [N,O]
    }

    fn after(&self, x: &Value, at: &mut AtPixel) {
        let inputs = self.inputs;
        let next = match self.columns {
            0 => return,
            1 => x.clone(),
            columns => match &at.seen {
                Some(seen) => seen.slice(1, inputs, (columns + 1) * inputs),
                None => {
                    let older = part(&at.states, 0).slice(1, inputs, columns * inputs);
                    concat(&[&older, x], 1)
                }
            },
        };
        at.next.push(match self.level.checked_sub(1) {
            Some(i) => match at.new.get(i) {
                Some(new) => new.here.choose(&next, &part(&at.states, 0)),
                None => unknown(),
            },
            None => next,
        });
    }

    fn as_window(&self) -> Option<&dyn Any> {
        (self.level == 0 && self.gives.level == 0).then_some(self as &dyn Any)
    }
}

/// The upper left corner: (N,C,H',W') -> (N,C,H,W)
#[track_caller]
pub(super) fn corner(x: &Value, height: usize, width: usize) -> Value {
    let &[_, _, rows, columns] = x.dims() else {
        return x.clone(); // it failed
    };
    let x = match rows {
        rows if rows == height => x.clone(),
        _ => x.slice(2, 0, height),
    };
    match columns {
        columns if columns == width => x,
        _ => x.slice(3, 0, width),
    }
}
