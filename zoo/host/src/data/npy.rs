//! NumPy's array format: a header that is a Python literal, then elements.
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::Read;

use super::file::{Budget, read_header, read_rest};
use super::{Result, content};

/// Longest header text; NumPy itself refuses to read more than 10,000 characters.
const MAX_HEADER: usize = 1 << 16;

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
    let [m @ .., major, _minor] = read_header::<8>(reader, file, name)?;
    if m != *b"\x93NUMPY" {
        return Err(bad("it does not start like a NumPy array".to_owned()));
    }
    let (length, prefix) = match major {
        1 => (
            usize::from(u16::from_le_bytes(read_header(reader, file, name)?)),
            10,
        ),
        2 | 3 => (
            u32::from_le_bytes(read_header(reader, file, name)?) as usize,
            12,
        ),
        _ => return Err(bad(format!("version {major} of the format is unknown"))),
    };
    if length > MAX_HEADER {
        return Err(bad(format!("the header claims to be {length} bytes long")));
    }
    let mut text = vec![0; length];
    reader
        .read_exact(&mut text)
        .map_err(|_| bad("it ends within its header".to_owned()))?;
    let (descr, fortran, shape) = parse_header(&text).map_err(|e| bad(format!("header: {e}")))?;
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
    let promised = bytes as u64 + (prefix + length) as u64;
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
        Some(size) if known && (1..=MAX_HEADER).contains(&size) => Ok(Kind { letter, size, big }),
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

/// The three entries of the header's dictionary: `descr`, `fortran_order`, `shape`.
pub(crate) fn parse_header(text: &[u8]) -> Result<(String, bool, Vec<usize>), String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
    let mut rest = text
        .trim()
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .ok_or("it is no dictionary")?
        .trim();
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest).ok_or("a key is not in quotes")?;
        let value = after
            .trim_start()
            .strip_prefix(':')
            .ok_or("a key has no value")?
            .trim_start();
        rest = match key {
            "descr" => {
                let (text, after) = quoted(value).ok_or("arrays of records are not read")?;
                descr = Some(text.to_owned());
                after
            }
            "fortran_order" => {
                let (flag, after) = match value.strip_prefix("True") {
                    Some(after) => (true, after),
                    None => (
                        false,
                        value
                            .strip_prefix("False")
                            .ok_or("fortran_order is neither True nor False")?,
                    ),
                };
                fortran = Some(flag);
                after
            }
            "shape" => {
                let inner = value.strip_prefix('(').and_then(|v| v.split_once(')'));
                let (inner, after) = inner.ok_or("shape is no tuple")?;
                let sizes = inner.split(',').map(str::trim).filter(|s| !s.is_empty());
                let sizes: Result<Vec<usize>, _> = sizes.map(str::parse).collect();
                shape = Some(sizes.map_err(|_| format!("shape ({inner}) holds no sizes"))?);
                after
            }
            other => return Err(format!("it has the unknown key {other:?}")),
        };
        rest = rest.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok((
        descr.ok_or("descr is missing")?,
        fortran.ok_or("fortran_order is missing")?,
        shape.ok_or("shape is missing")?,
    ))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// The header of an array in C order, padded as NumPy pads it.
pub(crate) fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Magic, version and length take 10 bytes; the whole is a multiple of 64.
    let whole = (10 + text.len() + 1).next_multiple_of(64);
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(((whole - 10) as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.resize(whole - 1, b' ');
    out.push(b'\n');
    out
}
