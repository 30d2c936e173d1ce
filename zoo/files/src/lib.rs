//! Files on a disk that may be full, slow or shared: written whole or not at all, hashed, and named in errors.

mod data_dir;
mod disk;
mod error;
mod hash;

pub use data_dir::default_data_dir;
pub use disk::{Disk, TEMPORARY, create_new, replace, temporary_beside};
pub use error::{Error, Result};
pub use hash::{Hasher, sha256, sha256_of};
