//! NumPy's array format: a header that is a Python literal, then elements.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

mod array;
mod header;
mod member;

pub use array::{Error, read_npy, write_npy};
pub(crate) use header::write as header;
pub(crate) use member::{Npy, Values, read};
