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

/// Reads frames as a process may write them, and fetches what they place. For [`super::fuzz`].
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn read_frames(mut bytes: &[u8]) {
    use crate::{Array, abi::Limits, abi::TensorRef};

    let limits = Limits {
        bytes: 1 << 20,
        ..Limits::default()
    };
    let area = shared::Area::create().and_then(|area| {
        let tensor = Array::u8([256], vec![7; 256]).map_err(std::io::Error::other)?;
        area.place(&[TensorRef::of("x", &tensor)])?;
        Ok(area)
    });
    while let Ok(Some(frame)) = frame::Frame::read(&mut bytes, &limits) {
        let again = frame.to_bytes().map(|bytes| {
            let again = frame::Frame::read(&mut bytes.as_slice(), &limits);
            assert_eq!(again.ok().flatten().as_ref(), Some(&frame));
        });
        assert!(again.is_ok());
        if let Ok(area) = &area {
            let _ = area.fetch(&frame.tensors, &limits);
        }
    }
}
