//! Frames: a header of fixed size, JSON, and a list that says where in the shared file each tensor is.

use std::io::{self, ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

use crate::{DType, abi::Limits};

const MAGIC: [u8; 4] = *b"zoo1";
const HEADER: usize = 32;
/// Bytes of the list of tensors: far more than any model has weights.
const LONGEST_LIST: u64 = 64 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Process to host, once: ready, or why not.
    Hello,
    /// Host to process.
    Call,
    /// Process to host, while a call lasts.
    Back,
    /// Host to process: the answer to a `Back`.
    BackReply,
    /// Process to host: the answer to a `Call`.
    Reply,
}

const KINDS: [Kind; 5] = [
    Kind::Hello,
    Kind::Call,
    Kind::Back,
    Kind::BackReply,
    Kind::Reply,
];

/// Where a tensor is in the shared file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<u64>,
    pub at: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    pub kind: Kind,
    pub op: u32,
    /// As in a reply of the C ABI; 0 in calls.
    pub status: u32,
    pub session: u64,
    pub json: String,
    pub tensors: Vec<Placed>,
}

impl Frame {
    /// The bytes of the frame.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let list = if self.tensors.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.tensors)?
        };
        let kind = KINDS.iter().position(|kind| *kind == self.kind);
        let length = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let mut bytes = Vec::with_capacity(HEADER + self.json.len() + list.len());
        bytes.extend(MAGIC);
        bytes.extend((kind.unwrap_or_default() as u32).to_le_bytes());
        bytes.extend(self.op.to_le_bytes());
        bytes.extend(self.status.to_le_bytes());
        bytes.extend(self.session.to_le_bytes());
        bytes.extend(length(self.json.len())?.to_le_bytes());
        bytes.extend(length(list.len())?.to_le_bytes());
        bytes.extend(self.json.as_bytes());
        bytes.extend(list);
        Ok(bytes)
    }

    /// Writes the frame.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.to_bytes()?)?;
        to.flush()
    }

    /// Reads a frame; `None` at the end of the stream.
    pub fn read(from: &mut impl Read, limits: &Limits) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER];
        let mut got = 0;
        while got < HEADER {
            match from.read(&mut header[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let garbage = |what: String| io::Error::new(ErrorKind::InvalidData, what);
        if header[..4] != MAGIC {
            return Err(garbage("what came is no message".into()));
        }
        let word =
            |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let kind = *KINDS
            .get(word(4) as usize)
            .ok_or_else(|| garbage(format!("{} is no kind of message", word(4))))?;
        let (json_len, list_len) = (u64::from(word(24)), u64::from(word(28)));
        if json_len > limits.json || list_len > LONGEST_LIST {
            return Err(garbage(format!(
                "a message of {json_len} and {list_len} bytes is larger than allowed"
            )));
        }
        let mut part = |len: u64| -> io::Result<Vec<u8>> {
            // Memory grows with what arrives, not with what is announced.
            let mut bytes = Vec::new();
            if from.by_ref().take(len).read_to_end(&mut bytes)? as u64 != len {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Ok(bytes)
        };
        let json = String::from_utf8(part(json_len)?)
            .map_err(|e| garbage(format!("a message is not UTF-8: {e}")))?;
        let list = part(list_len)?;
        let tensors: Vec<Placed> = if list.is_empty() {
            Vec::new()
        } else {
            serde_json::from_slice(&list)
                .map_err(|e| garbage(format!("a list of tensors cannot be read: {e}")))?
        };
        if tensors.len() as u64 > limits.tensors {
            return Err(garbage(format!("{} tensors are too many", tensors.len())));
        }
        Ok(Some(Self {
            kind,
            op: word(8),
            status: word(12),
            session: u64::from(word(16)) | u64::from(word(20)) << 32,
            json,
            tensors,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> Frame {
        Frame {
            kind: Kind::Back,
            op: 102,
            status: 0,
            session: u64::MAX - 1,
            json: "{\"step\":3}".into(),
            tensors: vec![Placed {
                name: "model/w".into(),
                dtype: DType::F32,
                shape: vec![2, 3],
                at: 64,
            }],
        }
    }

    #[test]
    fn frames_travel_whole_and_in_order() {
        let mut stream = frame().to_bytes().unwrap();
        let second = Frame {
            kind: Kind::Reply,
            tensors: Vec::new(),
            ..frame()
        };
        second.write(&mut stream).unwrap();
        let mut from = stream.as_slice();
        let mut read = || Frame::read(&mut from, &Limits::default()).unwrap();
        assert_eq!(read(), Some(frame()));
        assert_eq!(read(), Some(second));
        assert_eq!(read(), None);
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = frame().to_bytes().unwrap();
        for len in 1..bytes.len() {
            assert!(
                Frame::read(&mut &bytes[..len], &Limits::default()).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn sizes_are_capped_before_memory_is_taken() {
        let mut bytes = frame().to_bytes().unwrap();
        bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = Frame::read(&mut bytes.as_slice(), &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("larger than allowed"), "{error}");
        let few = Limits {
            tensors: 0,
            ..Limits::default()
        };
        let error = Frame::read(&mut frame().to_bytes().unwrap().as_slice(), &few).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            if real && bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&MAGIC);
                let kind = bytes[4] % 6;
                bytes[4..8].copy_from_slice(&[kind, 0, 0, 0]);
            }
            let _ = Frame::read(&mut bytes.as_slice(), &Limits::default());
        }
    }
}
