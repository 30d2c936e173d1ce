use super::*;

mod archives;
mod formats;
mod hostile;
