//! Reading files that may lie about their size.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::{Error, Result, content};

/// What is left of the memory that decoded data may take.
#[derive(Debug)]
pub(crate) struct Budget {
    allowed_mb: u64,
    spent: u64,
}

const MB: u64 = 1_000_000;

impl Budget {
    pub(crate) fn new(allowed_mb: u64) -> Self {
        Self {
            allowed_mb,
            spent: 0,
        }
    }

    /// Takes the product of `factors` bytes off, before they are read; returns that product.
    pub(crate) fn take(
        &mut self,
        file: impl std::fmt::Display,
        field: &str,
        factors: &[usize],
    ) -> Result<usize> {
        let bytes = factors
            .iter()
            .try_fold(1u64, |n, &f| n.checked_mul(f as u64))
            .and_then(|n| Some((n, n.checked_add(self.spent)?)))
            .filter(|&(_, sum)| sum <= isize::MAX as u64)
            .ok_or_else(|| {
                content(
                    &file,
                    field,
                    format!("the product of the sizes {factors:?} is larger than any memory"),
                    "the header is damaged: fetch or write the file again",
                )
            })?;
        let (bytes, sum) = bytes;
        if sum > self.allowed_mb.saturating_mul(MB) {
            return Err(Error::Budget {
                file: file.to_string(),
                field: field.to_owned(),
                needed_mb: sum.div_ceil(MB),
                allowed_mb: self.allowed_mb,
            });
        }
        self.spent = sum;
        Ok(bytes as usize)
    }
}

pub(crate) fn io_error(path: &Path, cause: io::Error) -> Error {
    Error::Io {
        file: path.display().to_string(),
        cause,
    }
}

pub(crate) fn metadata(path: &Path) -> Result<Metadata> {
    path.metadata().map_err(|e| io_error(path, e))
}

/// Opens a regular file; a pipe or a device would be read without end.
pub(crate) fn open(path: &Path) -> Result<BufReader<File>> {
    if !metadata(path)?.is_file() {
        return Err(content(
            path.display(),
            "file",
            "it is no regular file",
            "give a file on disk",
        ));
    }
    let file = File::open(path).map_err(|e| io_error(path, e))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// Entries of a folder in the order of their names, hidden ones left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in folder.read_dir().map_err(|e| io_error(folder, e))? {
        let entry = entry.map_err(|e| io_error(folder, e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads the `expected` bytes that are left, neither fewer nor more. Memory grows with what arrives, not with what was
/// promised.
pub(crate) fn read_rest(
    reader: &mut dyn Read,
    expected: usize,
    file: &str,
    field: &str,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(expected.min(1 << 24));
    reader
        .take(expected as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| damaged(file, field, &e))?;
    let problem = match bytes.len() {
        n if n < expected => format!("the header promises {expected} bytes, only {n} are there"),
        n if n > expected => {
            format!("there are more bytes than the {expected} that the header promises")
        }
        _ => return Ok(bytes),
    };
    Err(content(
        file,
        field,
        problem,
        "the file is cut short or damaged: fetch or write it again",
    ))
}

/// Reads a header of fixed size.
pub(crate) fn read_header<const N: usize>(
    reader: &mut dyn Read,
    file: &str,
    field: &str,
) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = reader.read_exact(&mut bytes);
    read.map_err(|e| header_error(file, field, &e))?;
    Ok(bytes)
}

/// What keeps a header from being read.
pub(crate) fn header_error(file: &str, field: &str, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::UnexpectedEof => content(
            file,
            field,
            "the file ends within its header",
            "it is cut short: fetch or write it again",
        ),
        _ => damaged(file, field, cause),
    }
}

fn damaged(file: &str, field: &str, cause: &io::Error) -> Error {
    content(
        file,
        field,
        format!("cannot be read: {cause}"),
        "if the disk is sound, the file is damaged: fetch or write it again",
    )
}
