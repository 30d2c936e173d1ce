//! A library in a process of its own: it may crash, hang, exit, print or run out of memory, and the host goes on.
//!
//! Every training and every session has its own process, so that one that dies takes nothing else with it. Frames go over
//! pipes, tensors through two shared files, one for each direction: whoever writes a file waits for the answer before it writes again.

mod frame;
mod process;
mod serve;
mod shared;

pub use process::isolate;
pub use serve::serve;
