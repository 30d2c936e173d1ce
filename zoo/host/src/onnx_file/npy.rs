//! NumPy arrays as files, with exactly the element type that they were saved with.

use std::fs;
use std::io::Write;
use std::path::Path;

use zoo_sdk::{Array, DType};

use super::{Error, Result};
use crate::data::npy::{header, parse_header};

/// NumPy itself refuses to read longer headers.
const MAX_HEADER: usize = 10_000;

/// NumPy's names of element types, without the byte order.
const TYPES: [(&str, DType); 7] = [
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("f2", DType::F16),
    ("i8", DType::I64),
    ("i4", DType::I32),
    ("u1", DType::U8),
    ("b1", DType::Bool),
];

/// Reads an array that `numpy.save` wrote.
///
/// # Errors
/// Names the file: for one that is no array, is cut short, or holds elements that no port takes.
pub fn read_npy(path: &Path) -> Result<Array> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes).map_err(|problem| Error::content(path, problem))
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    const AGAIN: &str = "write it again with numpy.save";
    let rest = bytes
        .strip_prefix(b"\x93NUMPY")
        .ok_or_else(|| format!("is no NumPy array; {AGAIN}"))?;
    let cut = || format!("ends within its header; {AGAIN}");
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [1..=3, ..] | [] => return Err(cut()),
        [version, ..] => return Err(format!("version {version} of the format is unknown")),
    };
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes; {AGAIN}"));
    }
    let (text, elements) = rest.split_at_checked(length).ok_or_else(cut)?;
    let (descr, fortran, shape) =
        parse_header(text).map_err(|problem| format!("header: {problem}; {AGAIN}"))?;
    let (dtype, big) = element(&descr)?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if count.and_then(|n| n.checked_mul(dtype.size())) != Some(elements.len()) {
        return Err(format!(
            "its header promises {dtype} of shape {shape:?}, but {} bytes follow; {AGAIN}",
            elements.len()
        ));
    }
    let mut elements = elements.to_vec();
    if big {
        elements
            .chunks_exact_mut(dtype.size())
            .for_each(<[u8]>::reverse);
    }
    if dtype == DType::Bool {
        elements.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    if fortran {
        elements = row_major(&elements, &shape, dtype.size());
    }
    Array::from_le_bytes(dtype, shape, &elements).map_err(|e| e.to_string())
}

/// The type of `<f4`, and whether its bytes stand the other way round.
fn element(descr: &str) -> Result<(DType, bool), String> {
    let name = descr.trim_start_matches(['<', '>', '|', '=']);
    if name.starts_with('O') {
        return Err(
            "holds Python objects (a pickle), which could run code when read; save numbers".into(),
        );
    }
    let found = TYPES.iter().find(|(known, _)| *known == name);
    let (_, dtype) = found.ok_or_else(|| {
        format!("holds elements of type {descr:?}; convert it with .astype(), for example to \"float32\" or \"int64\"")
    })?;
    Ok((*dtype, descr.starts_with('>')))
}

/// Elements whose first index runs fastest, with the last one fastest.
fn row_major(elements: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(elements.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..elements.len() / size.max(1) {
        let at = index
            .iter()
            .zip(shape)
            .rev()
            .fold(0, |at, (i, d)| at * d + i);
        out.extend_from_slice(&elements[at * size..(at + 1) * size]);
        for (i, d) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *d {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// Writes an array as `numpy.save` does. A file that is there already is replaced, whole or not at all.
///
/// # Errors
/// Where it cannot be written.
pub fn write_npy(path: &Path, array: &Array) -> Result<()> {
    let dtype = array.dtype();
    let name = TYPES.iter().find(|(_, known)| *known == dtype);
    let name = name.map_or("f4", |(name, _)| name);
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let failed = || Error::io("write", path);
    let mut file_name = std::ffi::OsString::from(".tmp-");
    file_name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(file_name);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(&header(&format!("{order}{name}"), array.shape()))?;
        file.write_all(&array.to_le_bytes())?;
        file.flush()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed())
}
