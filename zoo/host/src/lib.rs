//! What stands between plugins and people: data sets, run directories, evaluation, pictures, export and verification as
//! library calls. The `zoo` command is a thin layer over this crate.

pub mod data;
pub mod picture;
pub mod run;
