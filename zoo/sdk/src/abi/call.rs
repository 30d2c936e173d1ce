//! Calls and answers: the only code that follows the pointers of a message.
//!
//! Both sides are callers and answerers, so each direction is written once. Nothing of the other side is believed: numbers,
//! alignment, lengths, UTF-8 and element counts are checked before a slice or an [`Array`] is made. What cannot be checked
//! is whether a pointer that is neither null nor misaligned points to as many bytes as its length says.
#![allow(unsafe_code)]

use std::{
    any::Any,
    collections::BTreeSet,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::{Mutex, MutexGuard},
};

use zoo_graph::Data;

use super::{Call, Peer, Reply, Tensor, Text, dtype_code, dtype_of, op, status};
use crate::{Array, DType, Error, Result};

/// A tensor that somebody else owns.
#[derive(Clone, Debug)]
pub struct TensorRef<'a> {
    /// Its name.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<u64>,
    /// Elements, little-endian; their number fits the shape.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// `array` under a name.
    pub fn of(name: &'a str, array: &'a Array) -> Self {
        Self {
            name,
            dtype: array.dtype(),
            shape: array.shape().iter().map(|&d| d as u64).collect(),
            bytes: bytes_of(array),
        }
    }

    /// A copy that owns its elements.
    pub fn to_array(&self) -> Result<Array> {
        let shape: Vec<usize> = self.shape.iter().map(|&d| d as usize).collect();
        Ok(Array::from_le_bytes(self.dtype, shape, self.bytes)?)
    }
}

/// The elements as they are in memory.
fn bytes_of(array: &Array) -> &[u8] {
    match array.data() {
        Data::F32(v) => bytemuck::cast_slice(v),
        Data::F64(v) => bytemuck::cast_slice(v),
        Data::F16(v) => bytemuck::cast_slice(v),
        Data::I64(v) => bytemuck::cast_slice(v),
        Data::I32(v) => bytemuck::cast_slice(v),
        Data::U8(v) | Data::Bool(v) => v,
    }
}

/// What a call gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// JSON.
    pub json: String,
    /// Tensors by name.
    pub tensors: Vec<(String, Array)>,
}

/// The most that is taken from the other side in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of JSON.
    pub json: u64,
    /// Number of tensors.
    pub tensors: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
}

/// Dimensions of a tensor.
const MOST_DIMENSIONS: u32 = 16;
/// Bytes of a tensor's name.
const LONGEST_NAME: u64 = 4096;

impl Default for Limits {
    fn default() -> Self {
        Self {
            json: 64 << 20,
            tensors: 1 << 20,
            bytes: 64 << 30,
        }
    }
}

impl Limits {
    /// The bytes of a tensor of this type and shape, where `left` bytes may still come.
    pub(crate) fn size(dtype: DType, shape: &[u64], left: u64) -> Result<u64, String> {
        if shape.len() > MOST_DIMENSIONS as usize {
            return Err(format!("it has {} dimensions", shape.len()));
        }
        shape
            .iter()
            .try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= left)
            .ok_or_else(|| format!("{dtype}{shape:?} is larger than the {left} bytes allowed"))
    }
}

fn lend(text: &str) -> Text {
    Text {
        ptr: text.as_ptr(),
        len: text.len() as u64,
    }
}

/// The C forms of tensors; they point into `tensors`.
fn table(tensors: &[TensorRef<'_>]) -> Vec<Tensor> {
    let entry = |t: &TensorRef<'_>| Tensor {
        name: lend(t.name),
        dtype: dtype_code(t.dtype),
        rank: t.shape.len() as u32,
        shape: t.shape.as_ptr(),
        data: t.bytes.as_ptr().cast(),
        bytes: t.bytes.len() as u64,
        device: 0,
        reserved: 0,
    };
    tensors.iter().map(entry).collect()
}

/// The bytes of a text.
///
/// # Safety
/// Where `text.ptr` is not null, it points to `text.len` bytes that live and stay as they are for `'a`.
unsafe fn bytes<'a>(text: Text, most: u64) -> Result<&'a [u8], String> {
    if text.len == 0 {
        return Ok(&[]);
    }
    if text.ptr.is_null() {
        return Err(format!("a text of {} bytes is a null pointer", text.len));
    }
    if text.len > most {
        return Err(format!(
            "a text of {} bytes is longer than the {most} allowed",
            text.len
        ));
    }
    // SAFETY: not null, and the caller vouches for the rest; `most` is far below isize::MAX.
    Ok(unsafe { slice::from_raw_parts(text.ptr, text.len as usize) })
}

/// As [`bytes`], and UTF-8.
///
/// # Safety
/// As for [`bytes`].
unsafe fn text<'a>(text: Text, most: u64) -> Result<&'a str, String> {
    // SAFETY: passed on.
    let bytes = unsafe { bytes(text, most)? };
    str::from_utf8(bytes).map_err(|e| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        format!("a text is not UTF-8 from byte {}: {shown}", e.valid_up_to())
    })
}

/// The tensors of a message, checked.
///
/// # Safety
/// Where `first` is not null, it points to `count` tensors; these and all they point to live for `'a`.
unsafe fn tensors<'a>(
    first: *const Tensor,
    count: u64,
    limits: &Limits,
) -> Result<Vec<TensorRef<'a>>, String> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if first.is_null() || !first.is_aligned() {
        return Err(format!("the list of {count} tensors is no valid pointer"));
    }
    if count > limits.tensors {
        return Err(format!(
            "{count} tensors are more than the {} allowed",
            limits.tensors
        ));
    }
    // SAFETY: not null, aligned, and the caller vouches for the rest.
    let list = unsafe { slice::from_raw_parts(first, count as usize) };
    let (mut left, mut names) = (limits.bytes, BTreeSet::new());
    let mut found = Vec::with_capacity(list.len());
    for (i, raw) in list.iter().enumerate() {
        // SAFETY: the caller vouches for what the tensors point to.
        let tensor =
            unsafe { tensor(raw, left) }.map_err(|e| format!("tensor {i} of {count}: {e}"))?;
        left -= tensor.bytes.len() as u64;
        if !names.insert(tensor.name) {
            return Err(format!("two tensors are named {:?}", tensor.name));
        }
        found.push(tensor);
    }
    Ok(found)
}

/// # Safety
/// What `raw` points to lives for `'a`.
unsafe fn tensor<'a>(raw: &Tensor, left: u64) -> Result<TensorRef<'a>, String> {
    // SAFETY: the caller vouches for it.
    let name = unsafe { text(raw.name, LONGEST_NAME) }.map_err(|e| format!("its name: {e}"))?;
    let named = |e: String| format!("{name:?}: {e}");
    let dtype =
        dtype_of(raw.dtype).ok_or_else(|| named(format!("{} is no element type", raw.dtype)))?;
    if raw.device != 0 {
        return Err(named(format!("it is on the unknown device {}", raw.device)));
    }
    if raw.rank > MOST_DIMENSIONS {
        return Err(named(format!("it has {} dimensions", raw.rank)));
    }
    let shape: Vec<u64> = if raw.rank == 0 {
        Vec::new()
    } else if raw.shape.is_null() || !raw.shape.is_aligned() {
        return Err(named("its shape is no valid pointer".into()));
    } else {
        // SAFETY: not null, aligned, and the caller vouches for `rank` sizes.
        unsafe { slice::from_raw_parts(raw.shape, raw.rank as usize) }.to_vec()
    };
    let expected = Limits::size(dtype, &shape, left).map_err(named)?;
    if raw.bytes != expected {
        return Err(named(format!(
            "{dtype}{shape:?} takes {expected} bytes, not {}",
            raw.bytes
        )));
    }
    let bytes = if expected == 0 {
        &[]
    } else if raw.data.is_null() || !(raw.data as usize).is_multiple_of(dtype.size()) {
        return Err(named("its elements are no valid pointer".into()));
    } else {
        // SAFETY: not null, and the caller vouches for `bytes` bytes.
        unsafe { slice::from_raw_parts(raw.data.cast::<u8>(), raw.bytes as usize) }
    };
    Ok(TensorRef {
        name,
        dtype,
        shape,
        bytes,
    })
}

/// A call as the answerer sees it.
#[derive(Clone, Debug)]
pub(crate) struct Caller<'a> {
    pub op: u32,
    pub session: u64,
    pub json: &'a str,
    pub tensors: Vec<TensorRef<'a>>,
    /// Whom to call back.
    pub host: Option<&'a Peer>,
}

/// Reads and checks a call.
///
/// # Safety
/// `call` is null or points to a [`Call`] of `size` bytes; it and all it points to live for `'a`.
pub(crate) unsafe fn read_call<'a>(call: *const Call, limits: &Limits) -> Result<Caller<'a>> {
    let wrong = |e: String| Error::Internal(format!("a call cannot be read: {e}"));
    if call.is_null() || !call.is_aligned() {
        return Err(wrong("it is no valid pointer".into()));
    }
    // SAFETY: not null, aligned; every version's struct begins with its size.
    let size = unsafe { (*call).size };
    if (size as usize) < size_of::<Call>() {
        return Err(wrong(format!("it has {size} bytes")));
    }
    // SAFETY: at least as large as ours.
    let call = unsafe { &*call };
    let host = if call.host.is_null() || !call.host.is_aligned() {
        None
    } else {
        // SAFETY: not null, aligned, lent for the call.
        Some(unsafe { &*call.host }).filter(|p| p.size as usize >= size_of::<Peer>())
    };
    Ok(Caller {
        op: call.op,
        session: call.session,
        // SAFETY: lent for the call.
        json: unsafe { text(call.json, limits.json) }.map_err(wrong)?,
        // SAFETY: lent for the call.
        tensors: unsafe { tensors(call.tensors, call.n_tensors, limits) }.map_err(wrong)?,
        host,
    })
}

/// What a reply of ours points to, freed by [`release`].
struct Owned {
    json: String,
    tensors: Vec<(String, Array)>,
    shapes: Vec<Vec<u64>>,
    table: Vec<Tensor>,
}

unsafe extern "C" fn release(owner: *mut c_void) {
    if !owner.is_null() {
        // SAFETY: `answer` made it with `Box::into_raw`, and a caller releases an answer once. Plain data: no drop can panic.
        drop(unsafe { Box::from_raw(owner.cast::<Owned>()) });
    }
}

/// Computes an answer and writes it to `reply`. Nothing unwinds out of here.
///
/// # Safety
/// `reply` is null or points to a [`Reply`] of `size` bytes that may be written.
pub(crate) unsafe fn answer(reply: *mut Reply, compute: impl FnOnce() -> Result<Answer>) {
    // SAFETY: not null, aligned; every version's struct begins with its size.
    if reply.is_null()
        || !reply.is_aligned()
        || (unsafe { (*reply).size } as usize) < size_of::<Reply>()
    {
        return;
    }
    // The whole answer is made inside the guard: serialising is code that may panic too.
    let made = catch_unwind(AssertUnwindSafe(|| match compute() {
        Ok(answer) => (status::OK, answer),
        Err(error) => (status::ERROR, of_error(&error)),
    }));
    let (status, Answer { json, tensors }) = made.unwrap_or_else(|payload| {
        let error = Error::Internal(describe_panic(payload));
        (status::ERROR, of_error(&error))
    });
    let shape = |(_, array): &(String, Array)| array.shape().iter().map(|&d| d as u64).collect();
    let mut owned = Box::new(Owned {
        shapes: tensors.iter().map(shape).collect(),
        json,
        tensors,
        table: Vec::new(),
    });
    let entries = owned.tensors.iter().zip(&owned.shapes);
    owned.table = entries
        .map(|((name, array), shape)| Tensor {
            name: lend(name),
            dtype: dtype_code(array.dtype()),
            rank: shape.len() as u32,
            shape: shape.as_ptr(),
            data: bytes_of(array).as_ptr().cast(),
            bytes: bytes_of(array).len() as u64,
            device: 0,
            reserved: 0,
        })
        .collect();
    let owner = Box::into_raw(owned);
    // SAFETY: just made, and nobody else has it.
    let owned = unsafe { &*owner };
    // SAFETY: `reply` is as large as ours; the caller lets us write it. Its size stays what the caller wrote.
    unsafe {
        (*reply).json = lend(&owned.json);
        (*reply).tensors = owned.table.as_ptr();
        (*reply).n_tensors = owned.table.len() as u64;
        (*reply).owner = owner.cast();
        (*reply).release = Some(release);
        (*reply).status = status;
    }
}

fn of_error(error: &Error) -> Answer {
    Answer {
        // An enum of strings always serialises.
        json: serde_json::to_string(error).unwrap_or_default(),
        tensors: Vec::new(),
    }
}

/// Where the last panic happened, where the hook of [`crate::guest`] is installed.
pub(crate) fn last_panic() -> MutexGuard<'static, Option<String>> {
    static LAST: Mutex<Option<String>> = Mutex::new(None);
    LAST.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// A panic as a sentence.
pub(crate) fn describe_panic(payload: Box<dyn Any + Send>) -> String {
    let message = match payload
        .downcast::<&str>()
        .map_err(|p| p.downcast::<String>())
    {
        Ok(text) => (*text).to_owned(),
        Err(Ok(text)) => *text,
        Err(Err(other)) => {
            // It may panic in its drop, and nothing would be left to catch that.
            std::mem::forget(other);
            "without a message".to_owned()
        }
    };
    match last_panic().take() {
        Some(place) => format!("it panicked at {place}: {message}"),
        None => format!("it panicked: {message}"),
    }
}

/// Calls the other side and takes its answer over.
///
/// # Errors
/// What the other side says, and [`Error::Internal`] with `label` where its answer is not one.
///
/// # Safety
/// `peer` keeps the contract of the C ABI.
pub(crate) unsafe fn invoke(
    peer: &Peer,
    label: &str,
    limits: &Limits,
    request: &Caller<'_>,
) -> Result<Answer> {
    let broken = |e: String| {
        Error::Internal(format!(
            "{label}: the answer to `{}` is broken: {e}",
            op::name(request.op)
        ))
    };
    let call_fn = peer
        .call
        .ok_or_else(|| broken("it has no function to call".into()))?;
    let table = table(&request.tensors);
    let call = Call {
        size: size_of::<Call>() as u32,
        op: request.op,
        session: request.session,
        json: lend(request.json),
        tensors: table.as_ptr(),
        n_tensors: table.len() as u64,
        host: request.host.map_or(ptr::null(), ptr::from_ref),
    };
    let mut reply = Reply {
        size: size_of::<Reply>() as u32,
        status: status::UNANSWERED,
        json: Text {
            ptr: ptr::null(),
            len: 0,
        },
        tensors: ptr::null(),
        n_tensors: 0,
        owner: ptr::null_mut(),
        release: None,
    };
    // SAFETY: the caller vouches for the peer; call and reply live until it returns.
    unsafe { call_fn(peer.state, &call, &mut reply) };
    // Released however this function ends.
    let _release = Release(reply);
    // SAFETY: the peer vouches for what its answer points to until it is released.
    unsafe { take(&reply, limits) }.unwrap_or_else(|e| Err(broken(e)))
}

/// # Safety
/// What `reply` points to lives until this returns.
unsafe fn take(reply: &Reply, limits: &Limits) -> Result<Result<Answer>, String> {
    match reply.status {
        status::OK => {
            // SAFETY: the caller vouches for it.
            let json = unsafe { text(reply.json, limits.json)? };
            // SAFETY: the caller vouches for it.
            let tensors = unsafe { tensors(reply.tensors, reply.n_tensors, limits)? };
            let own = |t: TensorRef<'_>| match t.to_array() {
                Ok(array) => Ok((t.name.to_owned(), array)),
                Err(e) => Err(format!("{:?}: {e}", t.name)),
            };
            Ok(Ok(Answer {
                json: json.to_owned(),
                tensors: tensors.into_iter().map(own).collect::<Result<_, _>>()?,
            }))
        }
        status::ERROR => {
            // SAFETY: the caller vouches for it.
            let json = unsafe { text(reply.json, limits.json) }
                .map_err(|e| format!("its error cannot be read: {e}"))?;
            Ok(Err(read_error(json)?))
        }
        status::UNANSWERED => Err("there is none".into()),
        other => Err(format!("{other} is no status")),
    }
}

/// An error from the other side, with nothing in it that could confuse a terminal.
pub(crate) fn read_error(json: &str) -> Result<Error, String> {
    const LONGEST: usize = 16 << 10;
    let error: Error = serde_json::from_str(json).map_err(|e| {
        let shown: String = json.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("its error cannot be read: {e}: {shown}")
    })?;
    let tame = |text: String| {
        let mut text: String = text
            .chars()
            .map(|c| {
                if c.is_control() && c != '\n' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .take(LONGEST)
            .collect();
        if text.trim().is_empty() {
            text = "an error without a message".into();
        }
        text
    };
    Ok(match error {
        Error::Input(m) => Error::Input(tame(m)),
        Error::Diverged(m) => Error::Diverged(tame(m)),
        Error::Host(m) => Error::Host(tame(m)),
        Error::Internal(m) => Error::Internal(tame(m)),
    })
}

struct Release(Reply);

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: once for each answer, with the owner that came with it.
            unsafe { release(self.0.owner) };
        }
    }
}

/// Answers call-backs.
#[cfg(feature = "host")]
pub(crate) type Back<'a> = dyn FnMut(&Caller<'_>) -> Result<Answer> + Send + 'a;

/// A peer whose calls go to a closure, while `lend` runs.
#[cfg(feature = "host")]
pub(crate) fn lent<T>(limits: &Limits, back: &mut Back<'_>, lend: impl FnOnce(&Peer) -> T) -> T {
    /// One caller at a time, whatever threads a library calls from.
    struct Lent<'a> {
        limits: Limits,
        call: Mutex<&'a mut Back<'a>>,
    }

    unsafe extern "C" fn thunk(state: *mut c_void, call: *const Call, reply: *mut Reply) {
        // SAFETY: `reply` is the library's to vouch for; `state` is the `Lent` below, which lives as long as the peer is lent.
        unsafe {
            answer(reply, || {
                let back = &*state.cast::<Lent<'_>>().cast_const();
                let call = read_call(call, &back.limits)?;
                let mut function = back
                    .call
                    .lock()
                    .map_err(|_| Error::Host("an earlier call-back panicked".into()))?;
                function(&call)
            });
        }
    }

    let state = Lent {
        limits: *limits,
        call: Mutex::new(back),
    };
    let peer = Peer {
        size: size_of::<Peer>() as u32,
        major: super::MAJOR,
        minor: super::MINOR,
        reserved: 0,
        state: ptr::from_ref(&state).cast_mut().cast(),
        call: Some(thunk),
    };
    lend(&peer)
}
