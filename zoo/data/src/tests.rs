use super::*;

mod archives;
mod formats;
mod hostile;
mod known;
mod pairs;
