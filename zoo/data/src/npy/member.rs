//! Arrays in archives: elements as what images, labels and names are made of.

use std::io::Read;

use super::header::{self, Fault, Header};
use crate::file::{Budget, header_error, read_rest};
use crate::{Result, content};

/// Elements of an array, in the file's order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// `u1`, `b1`.
    U8(Vec<u8>),
    /// `f4`, `f8` (rounded).
    F32(Vec<f32>),
    /// Other integers.
    I64(Vec<i64>),
    /// `U`, `S`.
    Text(Vec<String>),
}

/// An array as stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Npy {
    pub(crate) values: Values,
    pub(crate) shape: Vec<usize>,
    /// Whether the first index runs fastest.
    pub(crate) fortran: bool,
}

/// Element types that are read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    letter: u8,
    size: usize,
    big: bool,
}

/// Reads an array. `stored` is the whole size that the archive promises, headers included.
pub(crate) fn read(
    reader: &mut dyn Read,
    stored: u64,
    file: &str,
    name: &str,
    budget: &mut Budget,
) -> Result<Npy> {
    let bad = |problem: String| {
        content(
            file,
            name,
            problem,
            "write the array again with numpy.savez",
        )
    };
    let Header {
        descr,
        fortran,
        shape,
        bytes: before,
    } = header::read(reader).map_err(|fault| match fault {
        Fault::Content(problem) => bad(problem),
        Fault::Io(cause) => header_error(file, name, &cause),
    })?;
    let kind = parse_kind(&descr).map_err(|e| {
        content(
            file,
            name,
            e,
            "convert it with .astype(), to uint8 or float32 for images and int64 for labels",
        )
    })?;
    let mut factors = shape.clone();
    factors.push(kind.size);
    let bytes = budget.take(file, name, &factors)?;
    let promised = bytes as u64 + before as u64;
    if stored != promised {
        return Err(bad(format!(
            "its header promises {promised} bytes in all, the archive {stored}"
        )));
    }
    let bytes = read_rest(reader, bytes, file, name)?;
    let values = convert(bytes, kind).ok_or_else(|| bad("its text is no Unicode".to_owned()))?;
    Ok(Npy {
        values,
        shape,
        fortran,
    })
}

fn parse_kind(descr: &str) -> Result<Kind, String> {
    let unsupported = || match descr.trim_start_matches(['|', '<', '>', '=']) {
        o if o.starts_with('O') => {
            "it holds Python objects (a pickle), which could run code when read".to_owned()
        }
        _ => format!("elements of type {descr:?} are not read"),
    };
    let bytes = descr.as_bytes();
    let (big, rest) = match bytes.first() {
        Some(b'>') => (true, &descr[1..]),
        Some(b'<' | b'|' | b'=') => (false, &descr[1..]),
        _ => (false, descr),
    };
    let letter = *rest.as_bytes().first().ok_or_else(unsupported)?;
    // A letter that is not ASCII has no place to cut the text behind it.
    let count = rest.get(1..).and_then(|s| s.parse::<usize>().ok());
    let count = count.ok_or_else(unsupported)?;
    let known = match letter {
        b'b' | b'S' if letter == b'S' || count == 1 => true,
        b'u' | b'i' => [1, 2, 4, 8].contains(&count),
        b'f' => [4, 8].contains(&count),
        b'U' => true,
        _ => false,
    };
    let size = match letter {
        b'U' => count.checked_mul(4),
        _ => Some(count),
    };
    match size {
        Some(size) if known && (1..=header::MAX).contains(&size) => Ok(Kind { letter, size, big }),
        _ => Err(unsupported()),
    }
}

fn convert(bytes: Vec<u8>, kind: Kind) -> Option<Values> {
    let items = || bytes.chunks_exact(kind.size);
    // Little-endian bytes of an item, widened to eight with `fill`.
    let wide = |item: &[u8], fill: u8| {
        let mut out = [fill; 8];
        out[..item.len()].copy_from_slice(item);
        if kind.big {
            out[..item.len()].reverse();
        }
        out
    };
    Some(match (kind.letter, kind.size) {
        (b'b', _) => Values::U8(bytes.into_iter().map(|b| u8::from(b != 0)).collect()),
        (b'u', 1) => Values::U8(bytes),
        (b'f', 4) => Values::F32(
            items()
                .map(|b| f32::from_bits(u64::from_le_bytes(wide(b, 0)) as u32))
                .collect(),
        ),
        (b'f', _) => Values::F32(
            items()
                .map(|b| f64::from_le_bytes(wide(b, 0)) as f32)
                .collect(),
        ),
        (b'U', _) => Values::Text(
            items()
                .map(|item| {
                    let chars = item
                        .chunks_exact(4)
                        .map(|c| char::from_u32(u64::from_le_bytes(wide(c, 0)) as u32));
                    let text: Option<String> = chars.collect();
                    text.map(|t| t.trim_end_matches('\0').to_owned())
                })
                .collect::<Option<_>>()?,
        ),
        (b'S', _) => Values::Text(
            items()
                .map(|item| {
                    let text = std::str::from_utf8(item).ok()?;
                    Some(text.trim_end_matches('\0').to_owned())
                })
                .collect::<Option<_>>()?,
        ),
        (letter, size) => Values::I64(
            items()
                .map(|b| {
                    let most = if kind.big { b[0] } else { b[size - 1] };
                    let negative = letter == b'i' && most >= 0x80;
                    i64::from_le_bytes(wide(b, if negative { 0xff } else { 0 }))
                })
                .collect(),
        ),
    })
}
