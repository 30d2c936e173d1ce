//! What stands before the elements: magic, version, and a Python dictionary as text.

use std::io::{self, Read};

/// How every array begins.
pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest text; NumPy itself does not read more than 10,000 characters unless told to.
pub(super) const MAX: usize = 1 << 16;

/// What a header says.
pub(super) struct Header {
    /// The element type: `<f4`.
    pub descr: String,
    /// Whether the first index runs fastest.
    pub fortran: bool,
    pub shape: Vec<usize>,
    /// Its own length.
    pub bytes: usize,
}

/// What is wrong with a header.
pub(super) enum Fault {
    /// It ends before its text, or cannot be read.
    Io(io::Error),
    /// It is not what it should be.
    Content(String),
}

/// Reads a header.
pub(super) fn read(reader: &mut dyn Read) -> Result<Header, Fault> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(Fault::Io)?;
    let [magic @ .., version, _minor] = start;
    if magic != *MAGIC {
        return Err(Fault::Content(
            "it does not start like a NumPy array".into(),
        ));
    }
    let size = match version {
        1 => 2,
        2 | 3 => 4,
        _ => {
            let problem = format!("version {version} of the format is unknown");
            return Err(Fault::Content(problem));
        }
    };
    let mut length = [0; 4];
    reader.read_exact(&mut length[..size]).map_err(Fault::Io)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX {
        let problem = format!("the header claims to be {length} bytes long");
        return Err(Fault::Content(problem));
    }
    let mut text = vec![0; length];
    let cut = |_| Fault::Content("it ends within its header".into());
    reader.read_exact(&mut text).map_err(cut)?;
    let (descr, fortran, shape) =
        parse(&text).map_err(|problem| Fault::Content(format!("header: {problem}")))?;
    Ok(Header {
        descr,
        fortran,
        shape,
        bytes: start.len() + size + length,
    })
}

/// The three entries of the header's dictionary: `descr`, `fortran_order`, `shape`.
fn parse(text: &[u8]) -> Result<(String, bool, Vec<usize>), String> {
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
pub(crate) fn write(descr: &str, shape: &[usize]) -> Vec<u8> {
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
