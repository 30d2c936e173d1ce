//! Event files for TensorBoard: TFRecord frames around `tensorflow.Event` messages, both encoded by hand.
//!
//! Frame: length u64, masked CRC-32C of it, message, masked CRC-32C of that; all little-endian.
//! Fields are those of tensorflow's `event.proto` and `summary.proto`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::metrics::now;
use crate::{Error, Result};

/// An event file of this session of a run.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a new file in `folder`. Points of earlier files after `step` are hidden, as a resumed run draws them anew.
    pub(crate) fn create(folder: &Path, step: u64) -> Result<Self> {
        let time = now();
        let mut attempt = 0;
        let (path, file) = loop {
            let path = folder.join(format!(
                "events.out.tfevents.{:010}.zoo.{attempt}",
                time as u64
            ));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(Error::io("create", &path)(e)),
            }
        };
        let mut this = Self { path, file };
        this.write(event(None).bytes(3, b"brain.Event:2"))?;
        // SessionLog {status: START}: TensorBoard forgets what it read for this step and later ones.
        this.write(event(Some(step + 1)).bytes(7, &Message::default().varint(1, 1).0))?;
        Ok(this)
    }

    pub(crate) fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let summary = values.fold(Message::default(), |summary, (tag, value)| {
            let value = Message::default()
                .bytes(1, tag.as_bytes())
                .fixed32(2, (value as f32).to_bits());
            summary.bytes(1, &value.0)
        });
        self.write(event(Some(step)).bytes(5, &summary.0))
    }

    pub(crate) fn image(
        &mut self,
        step: u64,
        tag: &str,
        (width, height): (u32, u32),
        png: &[u8],
    ) -> Result<()> {
        const RGB: u64 = 3;
        let image = Message::default()
            .varint(1, height.into())
            .varint(2, width.into())
            .varint(3, RGB)
            .bytes(4, png);
        let value = Message::default()
            .bytes(1, tag.as_bytes())
            .bytes(4, &image.0);
        let summary = Message::default().bytes(1, &value.0);
        self.write(event(Some(step)).bytes(5, &summary.0))
    }

    fn write(&mut self, message: Message) -> Result<()> {
        self.file
            .write_all(&frame(&message.0))
            .map_err(Error::io("write", &self.path))
    }
}

fn event(step: Option<u64>) -> Message {
    let event = Message::default().fixed64(1, now().to_bits());
    match step {
        Some(step) => event.varint(2, step),
        None => event,
    }
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn varint(mut self, field: u64, value: u64) -> Self {
        self.number(field << 3);
        self.number(value);
        self
    }

    fn fixed64(mut self, field: u64, bits: u64) -> Self {
        self.number(field << 3 | 1);
        self.0.extend(bits.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.number(field << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn fixed32(mut self, field: u64, bits: u32) -> Self {
        self.number(field << 3 | 5);
        self.0.extend(bits.to_le_bytes());
        self
    }
}

fn frame(message: &[u8]) -> Vec<u8> {
    let len = (message.len() as u64).to_le_bytes();
    let mut frame = len.to_vec();
    frame.extend(masked(crc32c(&len)).to_le_bytes());
    frame.extend(message);
    frame.extend(masked(crc32c(message)).to_le_bytes());
    frame
}

/// TFRecord stores checksums rotated and shifted, so that a checksum of data with checksums stays useful.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's polynomial, reflected.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// The messages in a file, every checksum verified.
    fn read_frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
            let (crc, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_le_bytes(*crc), masked(crc32c(len)));
            let (message, rest) = rest.split_at(u64::from_le_bytes(*len) as usize);
            let (crc, rest) = rest.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_le_bytes(*crc), masked(crc32c(message)));
            messages.push(message.to_vec());
            bytes = rest;
        }
        messages
    }

    #[test]
    fn files_hold_the_events_in_whole_frames() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 6).unwrap();
        file.scalars(300, [("loss", 0.5), ("lr", 1.0)].into_iter())
            .unwrap();
        file.image(300, "samples", (4, 2), b"png").unwrap();
        let second = EventFile::create(folder.path(), 0).unwrap();
        assert_ne!(second.path, file.path);

        let messages = read_frames(&std::fs::read(&file.path).unwrap());
        assert_eq!(messages.len(), 4);
        // After the wall time: tag 1 and eight bytes.
        assert_eq!(&messages[0][9..], b"\x1a\x0dbrain.Event:2");
        assert_eq!(&messages[1][9..], b"\x10\x07\x3a\x02\x08\x01");
        assert_eq!(
            &messages[2][9..],
            b"\x10\xac\x02\x2a\x18\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f\x0a\x09\x0a\x02lr\x15\x00\x00\x80\x3f"
        );
        assert_eq!(
            &messages[3][9..],
            b"\x10\xac\x02\x2a\x18\x0a\x16\x0a\x07samples\x22\x0b\x08\x02\x10\x04\x18\x03\x22\x03png"
        );
    }
}
