//! PixelCNN (van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016) and gated PixelCNN (van den Oord et
//! al., "Conditional Image Generation with PixelCNN Decoders", NIPS 2016).
//!
//! An image is predicted pixel by pixel, row by row from the left, and in a pixel red before green before blue:
//!
//! ```text
//! p(x) = prod_i p(x_i | x_1 .. x_{i-1})                                  (eq. 1 of both)
//! ```
//!
//! One network gives all conditionals at once: convolutions whose masks hide what comes later. Mask A, in the first layer, hides the predicted
//! value too; mask B, in all others, does not, since feature maps of a value never saw it. The two networks differ in how they see:
//! [`PixelCnn`] misses a part of the rows above (its blind spot), [`GatedPixelCnn`] has a stack of its own for them.

mod gated;
mod plain;

pub use gated::GatedPixelCnn;
pub use plain::PixelCnn;

use zoo_nn::{ModelPlugin, Plugin};

/// The models of this crate.
pub fn plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(ModelPlugin::<PixelCnn>::default()),
        Box::new(ModelPlugin::<GatedPixelCnn>::default()),
    ]
}

#[cfg(test)]
mod tests;
