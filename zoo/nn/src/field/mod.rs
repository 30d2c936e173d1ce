//! What a causal network computes on: a whole image or, while one is drawn, a row or a pixel of it.
//!
//! A network that predicts pixels from those before them is written once, as a function from [`Field`] to [`Field`]. In training and for `log_prob` it computes
//! whole images. [`draw`] runs the same function for each row and each pixel of an image that comes to be, with what earlier ones left, so that work for a
//! pixel does not grow with the image (Ramachandran et al., "Fast Generation for Convolutional Autoregressive Models", 2017):
//!
//! 1. Once, to see which layers there are. What each needs is computed here, such as weights under their masks.
//! 2. For each row: what knows rows above only, such as a vertical stack, is computed for the whole row, and so is what layers see of the rows above.
//! 3. For each pixel: the rest. Where what rows gave meets it, it is read as the pixel's context.
//! 4. For each pixel, once its colours are drawn: what layers keep of the image itself.
//!
//! Layers are told apart by their order, which is the same in every run. See [`Layer`](layer::Layer) for how one is written.

mod draw;
mod grid;
mod layer;
mod list;
mod masked;
mod recurrent;
mod resize;
mod run;
mod together;
mod window;
mod windowed;

use std::{
    ops::{Add, Mul},
    rc::Rc,
};

pub use draw::draw;
pub use list::{List, draw_list};
pub use window::{Columns, Window};

use crate::{Error, Value, concat};
use layer::Layer;
use run::{Drawn, Phase, Run};

/// Feature maps of an image, as far as they are known: of all of it, of a row, or of a pixel.
///
/// Operations are those of causal networks. Elementwise ones act alike on all forms; layers are methods of [`Net`](crate::Net) and of this.
#[derive(Clone, Debug)]
pub struct Field(Form);

#[derive(Clone, Debug)]
enum Form {
    /// `[N,C,H,W]`
    Whole(Value),
    Drawn(Drawn),
}

impl From<&Value> for Field {
    /// A whole image `[N,C,H,W]`.
    fn from(image: &Value) -> Self {
        Self(Form::Whole(image.clone()))
    }
}

impl From<Drawn> for Field {
    fn from(drawn: Drawn) -> Self {
        Self(Form::Drawn(drawn))
    }
}

impl Field {
    /// The maps of a whole image, `[N,C,H,W]`.
    pub fn value(&self) -> Value {
        match &self.0 {
            Form::Whole(value) => value.clone(),
            Form::Drawn(_) => Value::failed(Error::input(
                "while an image is drawn, no value holds all of it: compute on the field",
            )),
        }
    }

    /// Whether the network's layers are known, as they are after its first run of a drawing.
    fn is_planned(&self) -> bool {
        matches!(&self.0, Form::Drawn(drawn) if drawn.run.phase.get() != Phase::Plan)
    }

    /// The number of feature maps.
    pub fn maps(&self) -> usize {
        match &self.0 {
            Form::Whole(value) => value.dims().get(1).copied().unwrap_or(0),
            Form::Drawn(drawn) => drawn.maps,
        }
    }

    /// What `f` makes of each element; it keeps the shape.
    #[track_caller]
    pub fn map(&self, f: impl FnOnce(&Value) -> Value) -> Self {
        self.unary(self.maps(), f)
    }

    #[track_caller]
    fn unary(&self, maps: usize, f: impl FnOnce(&Value) -> Value) -> Self {
        match &self.0 {
            Form::Whole(value) => Self(Form::Whole(f(value))),
            Form::Drawn(x) => Run::combine(&[x], maps, |all| f(&all[0])).into(),
        }
    }

    /// max(x, 0)
    #[track_caller]
    pub fn relu(&self) -> Self {
        self.map(Value::relu)
    }

    /// tanh(a) sigmoid(b) of the first and the second half of the maps.
    #[track_caller]
    pub fn gated_tanh(&self) -> Self {
        self.unary(self.maps() / 2, Value::gated_tanh)
    }

    /// elu(x) and elu(-x) side by side (Shang et al., 2016): twice the maps.
    #[track_caller]
    pub fn concat_elu(&self) -> Self {
        self.unary(2 * self.maps(), |x| concat(&[x.elu(1.0), (-x).elu(1.0)], 1))
    }

    /// Both halves of the maps.
    #[track_caller]
    pub fn halves(&self) -> [Self; 2] {
        let (half, all) = (self.maps() / 2, self.maps());
        [
            self.unary(half, |x| x.slice(1, 0, half)),
            self.unary(all - half, |x| x.slice(1, half, all)),
        ]
    }

    /// So many maps of ones.
    #[track_caller]
    pub fn ones(&self, maps: usize) -> Self {
        self.unary(maps, |x| {
            let mut dims = x.dims().get(1..).unwrap_or_default().to_vec();
            if let Some(own) = dims.first_mut() {
                *own = maps;
            }
            x.zeros_like_batch(&dims) + 1.0
        })
    }

    /// Maps side by side.
    #[track_caller]
    pub fn concat(fields: &[&Self]) -> Self {
        let maps = fields.iter().map(|field| field.maps()).sum();
        Self::combined(fields, maps, |all| concat(all, 1))
    }

    /// A value for each image and map, `[N,C]`, added everywhere; `vector` is computed once for a drawing.
    #[track_caller]
    pub fn plus_vector(&self, vector: impl FnOnce() -> Value) -> Self {
        let vector = match &self.0 {
            Form::Whole(_) => vector(),
            Form::Drawn(x) => x.run.prepared(vector),
        };
        self.map(|x| {
            let wide = |vector: Value, axis| vector.unsqueeze(axis);
            x + (2..x.rank()).fold(vector, wide)
        })
    }

    /// What `f` makes of fields that are all of one form.
    #[track_caller]
    fn combined(fields: &[&Self], maps: usize, f: impl FnOnce(&[Value]) -> Value) -> Self {
        let mut whole = Vec::new();
        let mut drawn = Vec::new();
        for field in fields {
            match &field.0 {
                Form::Whole(value) => whole.push(value.clone()),
                Form::Drawn(x) => drawn.push(x),
            }
        }
        match (whole.is_empty(), drawn.is_empty()) {
            (_, true) => Self(Form::Whole(f(&whole))),
            (true, false) => Run::combine(&drawn, maps, f).into(),
            (false, false) => {
                drawn[0].run.fail(Error::input(
                    "a field that is drawn meets one that holds a whole image: give the network's function what it computes with as fields",
                ));
                fields[0].clone()
            }
        }
    }

    /// A layer: `whole` computes it on an image, `make` gives it for drawing.
    #[track_caller]
    fn layer(
        &self,
        whole: impl FnOnce(&Value) -> Value,
        make: impl FnOnce(&Drawn) -> crate::Result<Rc<dyn Layer>>,
    ) -> Self {
        match &self.0 {
            Form::Whole(value) if value.check().is_err() => self.clone(),
            Form::Whole(value) => Self(Form::Whole(whole(value))),
            Form::Drawn(x) => Run::apply(x, make).into(),
        }
    }
}

macro_rules! between_fields {
    ($($trait:ident, $method:ident, $fields:path;)*) => {$(
        between_fields! { @ $trait, $method, $fields, Field, Field }
        between_fields! { @ $trait, $method, $fields, Field, &Field }
        between_fields! { @ $trait, $method, $fields, &Field, Field }
        between_fields! { @ $trait, $method, $fields, &Field, &Field }
    )*};
    (@ $trait:ident, $method:ident, $fields:path, $left:ty, $right:ty) => {
        impl $trait<$right> for $left {
            type Output = Field;

            #[track_caller]
            fn $method(self, other: $right) -> Field {
                $fields(&self, &other)
            }
        }
    };
}

between_fields! {
    Add, add, sum;
    Mul, mul, product;
}

#[track_caller]
fn sum(a: &Field, b: &Field) -> Field {
    match (&a.0, &b.0) {
        (Form::Drawn(a), Form::Drawn(b)) => Run::sum(a, b).into(),
        _ => Field::combined(&[a, b], a.maps(), |all| &all[0] + &all[1]),
    }
}

#[track_caller]
fn product(a: &Field, b: &Field) -> Field {
    Field::combined(&[a, b], a.maps(), |all| &all[0] * &all[1])
}

#[cfg(test)]
mod tests;
