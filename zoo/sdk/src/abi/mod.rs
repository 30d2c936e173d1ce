//! The C ABI, version 1: the only thing that a shared library and its host share.
//!
//! A library exports two symbols: [`Meta`] as `ZOO_PLUGIN_META`, which is read from the file without running anything, and the
//! entry function `zoo_plugin_v1`, which gives a [`Peer`]. From then on there is one kind of message in both directions: a
//! [`Call`] (an operation, JSON, borrowed tensors) is answered by a [`Reply`] (JSON, tensors that the answerer owns until
//! they are released). The host calls the library's peer; while a call lasts, the library calls the host's peer to report
//! progress, checkpoints and pictures. `include/zoo_plugin_v1.h` says the same in C; README.md says what each operation means.
//!
//! Version 1 is frozen: [`Text`] and [`Tensor`] never change, the other structs grow at their end only, and whoever reads one
//! looks at its `size` first.

mod call;
mod meta;

use std::ffi::c_void;

use crate::DType;

pub use call::{Answer, Limits, TensorRef};
#[cfg(feature = "host")]
pub(crate) use call::{Back, lent, read_error};
pub(crate) use call::{Caller, answer, describe_panic, invoke, last_panic, read_call};
pub use meta::{MAGIC, META_LEN, Meta};

#[cfg(not(target_endian = "little"))]
compile_error!("tensors cross the plugin boundary as little-endian bytes");

/// Changes when old libraries can no longer be loaded.
pub const MAJOR: u32 = 1;
/// Grows with each addition; a library built against a smaller one keeps working.
pub const MINOR: u32 = 1;

/// Name of the exported [`Meta`].
pub const META_SYMBOL: &str = "ZOO_PLUGIN_META";
/// Name of the exported entry function, an [`Entry`].
pub const ENTRY_SYMBOL: &str = "zoo_plugin_v1";

/// The entry function: given the host's minor version, it answers with a table that lives for ever.
pub type Entry = unsafe extern "C" fn(host_minor: u32) -> *const Peer;
/// Answers `call` into `reply`, whose `size` and `status` the caller has set.
pub type CallFn = unsafe extern "C" fn(state: *mut c_void, call: *const Call, reply: *mut Reply);
/// Frees what a reply points to.
pub type ReleaseFn = unsafe extern "C" fn(owner: *mut c_void);

/// What [`Call::op`] can be.
pub mod op {
    /// Host to library: `{}` gives an array of [`Description`](crate::Description)s, one for each model.
    pub const DESCRIBE: u32 = 1;
    /// Host to library: trains a model.
    pub const TRAIN: u32 = 2;
    /// Host to library: opens trained weights, gives the session's id.
    pub const OPEN: u32 = 3;
    /// Host to library: closes a session.
    pub const CLOSE: u32 = 4;
    /// Host to library: a session's graphs.
    pub const GRAPHS: u32 = 5;
    /// Host to library: computes a graph.
    pub const RUN: u32 = 6;
    /// Host to library: metrics over a split.
    pub const EVALUATE: u32 = 7;
    /// Host to library: a graph with its weights.
    pub const EXPORT: u32 = 8;
    /// Library to host: an [`Event`](crate::Event); the answer is a [`Control`](crate::Control).
    pub const PROGRESS: u32 = 101;
    /// Library to host: keep a checkpoint.
    pub const CHECKPOINT: u32 = 102;
    /// Library to host: show pictures.
    pub const IMAGES: u32 = 103;

    /// The operation's name, for messages.
    pub fn name(op: u32) -> &'static str {
        match op {
            DESCRIBE => "describe",
            TRAIN => "train",
            OPEN => "open",
            CLOSE => "close",
            GRAPHS => "graphs",
            RUN => "run",
            EVALUATE => "evaluate",
            EXPORT => "export",
            PROGRESS => "progress",
            CHECKPOINT => "checkpoint",
            IMAGES => "images",
            _ => "an unknown operation",
        }
    }
}

/// What [`Reply::status`] can be.
pub mod status {
    /// The JSON and tensors are the result.
    pub const OK: u32 = 0;
    /// The JSON is an [`Error`](crate::Error).
    pub const ERROR: u32 = 1;
    /// What the caller writes before the call, so that silence is noticed.
    pub const UNANSWERED: u32 = u32::MAX;
}

/// UTF-8 without a terminating zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// May be null where `len` is 0.
    pub ptr: *const u8,
    /// Bytes.
    pub len: u64,
}

/// A dense tensor, row-major, little-endian.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    /// Its name; unique in a message.
    pub name: Text,
    /// A code of [`dtype_code`].
    pub dtype: u32,
    /// Number of dimensions.
    pub rank: u32,
    /// `rank` sizes.
    pub shape: *const u64,
    /// The elements, aligned for their type; may be null where `bytes` is 0.
    pub data: *const c_void,
    /// Bytes of the elements: the product of the shape times the element's size.
    pub bytes: u64,
    /// Where the elements are: 0 is the host's memory, and all that version 1 knows.
    pub device: u32,
    /// 0.
    pub reserved: u32,
}

/// A request. Everything it points to is lent until the call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Bytes of this struct as the caller knows it.
    pub size: u32,
    /// One of [`op`].
    pub op: u32,
    /// The session it is for; 0 where it is for none.
    pub session: u64,
    /// The request.
    pub json: Text,
    /// `n_tensors` tensors.
    pub tensors: *const Tensor,
    /// Their number.
    pub n_tensors: u64,
    /// Whom to call back while this call lasts; may be null in calls from library to host.
    pub host: *const Peer,
}

/// An answer. What it points to belongs to the answerer until the caller calls `release(owner)`, once.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Bytes of this struct as the caller knows it: no more may be written.
    pub size: u32,
    /// One of [`status`].
    pub status: u32,
    /// The result, or the error.
    pub json: Text,
    /// `n_tensors` tensors.
    pub tensors: *const Tensor,
    /// Their number.
    pub n_tensors: u64,
    /// Handed to `release`.
    pub owner: *mut c_void,
    /// Frees the answer; may be null where there is nothing to free.
    pub release: Option<ReleaseFn>,
}

/// Somebody who can be called.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Bytes of this struct as its owner knows it.
    pub size: u32,
    /// The owner's [`MAJOR`].
    pub major: u32,
    /// The owner's [`MINOR`].
    pub minor: u32,
    /// 0.
    pub reserved: u32,
    /// Handed to `call`.
    pub state: *mut c_void,
    /// May be called from any thread, also from several at once.
    pub call: Option<CallFn>,
}

/// The code of an element type in [`Tensor::dtype`].
pub fn dtype_code(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 1,
        DType::F64 => 2,
        DType::F16 => 3,
        DType::I64 => 4,
        DType::I32 => 5,
        DType::U8 => 6,
        DType::Bool => 7,
    }
}

/// The element type of a code.
pub fn dtype_of(code: u32) -> Option<DType> {
    let all = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::I64,
        DType::I32,
        DType::U8,
        DType::Bool,
    ];
    all.into_iter().find(|dtype| dtype_code(*dtype) == code)
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// What libraries out there were built with. A failure here means a new major version.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn version_1_is_frozen() {
        assert_eq!(size_of::<Text>(), 16);
        assert_eq!(size_of::<Tensor>(), 56);
        assert_eq!(
            (offset_of!(Tensor, dtype), offset_of!(Tensor, shape)),
            (16, 24)
        );
        assert_eq!(
            (offset_of!(Tensor, data), offset_of!(Tensor, bytes)),
            (32, 40)
        );
        assert_eq!((size_of::<Call>(), offset_of!(Call, json)), (56, 16));
        assert_eq!(
            (offset_of!(Call, tensors), offset_of!(Call, host)),
            (32, 48)
        );
        assert_eq!((size_of::<Reply>(), offset_of!(Reply, json)), (56, 8));
        assert_eq!(
            (offset_of!(Reply, owner), offset_of!(Reply, release)),
            (40, 48)
        );
        assert_eq!((size_of::<Peer>(), offset_of!(Peer, state)), (32, 16));
        assert_eq!((size_of::<Meta>(), META_LEN), (1024, 992));
        let codes: Vec<_> = (0..9).map(dtype_of).collect();
        assert_eq!(codes[1], Some(DType::F32));
        assert_eq!(codes[7], Some(DType::Bool));
        assert_eq!((codes[0], codes[8]), (None, None));
    }
}
