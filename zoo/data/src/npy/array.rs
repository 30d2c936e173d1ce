//! NumPy arrays as files, with exactly the element type that they were saved with.

use std::fs;
use std::path::{Path, PathBuf};

use zoo_sdk::{Array, DType};

use super::header::{self, Fault, Header};

/// What can go wrong with a file that holds one array.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] zoo_files::Error),
    /// It is no array that can be read.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        problem: String,
    },
}

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
pub fn read_npy(path: &Path) -> Result<Array, Error> {
    let bytes = fs::read(path).map_err(zoo_files::Error::io::<zoo_files::Error>("read", path))?;
    parse(&bytes).map_err(|problem| Error::Content {
        path: path.to_owned(),
        problem,
    })
}

fn parse(bytes: &[u8]) -> Result<Array, String> {
    const AGAIN: &str = "write it again with numpy.save";
    if !bytes.starts_with(header::MAGIC) {
        return Err(format!("is no NumPy array; {AGAIN}"));
    }
    let mut elements = bytes;
    let Header {
        descr,
        fortran,
        shape,
        ..
    } = header::read(&mut elements).map_err(|fault| match fault {
        Fault::Io(_) => format!("it ends within its header; {AGAIN}"),
        Fault::Content(problem) => format!("{problem}; {AGAIN}"),
    })?;
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
pub fn write_npy(path: &Path, array: &Array) -> zoo_files::Result<()> {
    let dtype = array.dtype();
    let name = TYPES.iter().find(|(_, known)| *known == dtype);
    let name = name.map_or("f4", |(name, _)| name);
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let mut bytes = header::write(&format!("{order}{name}"), array.shape());
    bytes.extend(array.to_le_bytes());
    zoo_files::replace(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_survive_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        for array in [
            Array::f32([2, 3], [0.0, -1.5, f32::MAX, 1e-30, 4.0, 5.0]).unwrap(),
            Array::i64([3], [1, -2, i64::MAX]).unwrap(),
            Array::bool([2], [0, 1]).unwrap(),
            Array::from_le_bytes(DType::F16, [2], &[0, 0x3c, 0, 0xc0]).unwrap(),
            Array::from_le_bytes(DType::F64, [1, 1], &2.5f64.to_le_bytes()).unwrap(),
            Array::from_le_bytes(DType::I32, [1], &(-7i32).to_le_bytes()).unwrap(),
            Array::f32(Vec::<usize>::new(), [3.0]).unwrap(),
        ] {
            write_npy(&path, &array).unwrap();
            assert_eq!(read_npy(&path).unwrap(), array);
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "no temporary files");
    }

    /// A file with this header and these elements.
    fn npy(header: &str, elements: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn other_byte_orders_and_layouts_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let header = "{'descr': '>i4', 'fortran_order': True, 'shape': (2, 3), }";
        let elements: Vec<u8> = (0..6i32).flat_map(i32::to_be_bytes).collect();
        fs::write(&path, npy(header, &elements)).unwrap();
        // numpy: arange(6).reshape(2, 3, order="F")
        let array = read_npy(&path).unwrap();
        assert_eq!(array.shape(), [2, 3]);
        assert_eq!(array.to_f64(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }

    #[test]
    fn damaged_arrays_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let header = |descr: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")
        };
        for (bytes, told) in [
            (vec![], "is no NumPy array"),
            (b"\x93NUMPY".to_vec(), "ends within its header"),
            (
                b"\x93NUMPY\x01\x00\xff\x00{".to_vec(),
                "ends within its header",
            ),
            (b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version 9"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "4294967295"),
            (npy("nonsense", &[]), "no dictionary"),
            (npy(&header("<f4", "(2,)"), &[0; 7]), "7 bytes follow"),
            (
                npy(&header("<f4", "(18446744073709551615, 3)"), &[]),
                "promises",
            ),
            (npy(&header("|O", "(1,)"), &[0; 8]), "pickle"),
            (npy(&header("<c8", "(1,)"), &[0; 8]), ".astype()"),
        ] {
            fs::write(&path, bytes).unwrap();
            let error = read_npy(&path).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("a.npy"), "{error}");
        }
    }
}
