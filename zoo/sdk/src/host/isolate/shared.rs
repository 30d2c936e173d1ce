//! The file that tensors go through.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::FileExt,
    },
    ptr::NonNull,
    slice,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::frame::Placed;
use crate::{
    Array,
    abi::{Limits, TensorRef},
};

/// Tensors begin at multiples of this: enough for every element type.
const ALIGNMENT: u64 = 64;

/// One direction's file. It has no name, and is gone with its processes.
#[derive(Debug)]
pub(super) struct Area(File);

impl Area {
    /// A new file, in memory where the system can.
    pub fn create() -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use nix::sys::memfd::{MFdFlags, memfd_create};
            if let Ok(fd) = memfd_create(c"zoo plugin", MFdFlags::MFD_CLOEXEC) {
                return Ok(Self(fd.into()));
            }
        }
        Self::unnamed()
    }

    /// A file whose name is removed at once.
    fn unnamed() -> io::Result<Self> {
        use std::{
            os::unix::fs::OpenOptionsExt,
            sync::atomic::{AtomicU64, Ordering},
        };
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zoo-plugin-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        // `create_new` follows no link that somebody else put there.
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self(file))
    }

    /// The file that was left open for this process.
    ///
    /// # Safety
    /// `fd` is open, and nobody else has it.
    pub unsafe fn inherited(fd: RawFd) -> Self {
        use std::os::fd::FromRawFd;
        // SAFETY: the caller vouches for it.
        Self(unsafe { File::from_raw_fd(fd) })
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Writes tensors from the file's beginning on.
    pub fn place(&self, tensors: &[TensorRef<'_>]) -> io::Result<Vec<Placed>> {
        let mut at = 0u64;
        let mut placed = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            self.0.write_all_at(tensor.bytes, at)?;
            placed.push(Placed {
                name: tensor.name.to_owned(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                at,
            });
            at = (at + tensor.bytes.len() as u64).next_multiple_of(ALIGNMENT);
        }
        Ok(placed)
    }

    /// Copies of tensors that the other side placed. Reading a file that has become shorter is an error; a mapping would be SIGBUS.
    pub fn fetch(
        &self,
        placed: &[Placed],
        limits: &Limits,
    ) -> Result<Vec<(String, Array)>, String> {
        let mut left = limits.bytes;
        let len = self.0.metadata().map_err(|e| e.to_string())?.len();
        let mut found: Vec<(String, Array)> = Vec::with_capacity(placed.len());
        for tensor in placed {
            let wrong = |e: String| format!("tensor {:?}: {e}", tensor.name);
            let size = Limits::size(tensor.dtype, &tensor.shape, left).map_err(wrong)?;
            left -= size;
            if tensor.at.checked_add(size).is_none_or(|end| end > len) {
                return Err(wrong("it is not in the shared file".into()));
            }
            let mut bytes = vec![0; size as usize];
            self.0
                .read_exact_at(&mut bytes, tensor.at)
                .map_err(|e| wrong(e.to_string()))?;
            let shape: Vec<usize> = tensor.shape.iter().map(|&d| d as usize).collect();
            let array = Array::from_le_bytes(tensor.dtype, shape, &bytes)
                .map_err(|e| wrong(e.to_string()))?;
            found.push((tensor.name.clone(), array));
        }
        let mut names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("two tensors are named {:?}", pair[0])),
            None => Ok(found),
        }
    }

    /// Maps the tensors that the host placed: for the process with the library, which trusts the host.
    pub fn map(&self, placed: &[Placed]) -> io::Result<Map> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut end = 0;
        for tensor in placed {
            let size = Limits::size(tensor.dtype, &tensor.shape, u64::MAX >> 1)
                .map_err(io::Error::other)?;
            let tensor_end = tensor.at.checked_add(size);
            end = end.max(tensor_end.ok_or_else(|| wrong("a tensor is too large"))?);
        }
        if end > self.0.metadata()?.len() {
            return Err(wrong("a tensor is not in the shared file"));
        }
        let Some(len) = NonZeroUsize::new(end as usize) else {
            return Ok(Map(None));
        };
        // SAFETY: a new mapping, at no given address, of a file that is open and at least as long.
        let start = unsafe {
            mmap(
                None,
                len,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED,
                &self.0,
                0,
            )?
        };
        Ok(Map(Some((start, len.get()))))
    }
}

/// The beginning of the shared file in memory.
pub(super) struct Map(Option<(NonNull<std::ffi::c_void>, usize)>);

impl Map {
    /// The tensors that the map was made for.
    pub fn tensors<'a>(&'a self, placed: &'a [Placed]) -> Vec<TensorRef<'a>> {
        let bytes: &[u8] = match self.0 {
            None => &[],
            // SAFETY: mapped as long as `self` lives, and the host writes nothing while it waits for the answer.
            Some((start, len)) => unsafe { slice::from_raw_parts(start.as_ptr().cast(), len) },
        };
        let tensor = |t: &'a Placed| {
            let size = Limits::size(t.dtype, &t.shape, u64::MAX >> 1).unwrap_or(0) as usize;
            let bytes = if size == 0 {
                &[]
            } else {
                &bytes[t.at as usize..t.at as usize + size]
            };
            TensorRef {
                name: &t.name,
                dtype: t.dtype,
                shape: t.shape.clone(),
                bytes,
            }
        };
        placed.iter().map(tensor).collect()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Some((start, len)) = self.0 {
            // SAFETY: what `Area::map` mapped; nothing borrows from it any more.
            let _ = unsafe { munmap(start, len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn tensors_go_through_either_kind_of_file() {
        let arrays = [
            Array::f32([2, 1], [1.5, -2.0]).unwrap(),
            Array::u8([0, 3], []).unwrap(),
            Array::i64([], [7]).unwrap(),
        ];
        let names = ["a", "empty", "scalar"];
        let refs: Vec<_> = names
            .iter()
            .zip(&arrays)
            .map(|(name, array)| TensorRef::of(name, array))
            .collect();
        for area in [Area::create().unwrap(), Area::unnamed().unwrap()] {
            let placed = area.place(&refs).unwrap();
            let fetched = area.fetch(&placed, &Limits::default()).unwrap();
            let map = area.map(&placed).unwrap();
            for (i, tensor) in map.tensors(&placed).iter().enumerate() {
                assert_eq!(fetched[i], (names[i].to_owned(), arrays[i].clone()));
                assert_eq!(tensor.to_array().unwrap(), arrays[i]);
            }
        }
    }

    #[test]
    fn nothing_is_read_that_is_not_there() {
        let area = Area::create().unwrap();
        let array = Array::f32([2], [0.0; 2]).unwrap();
        let placed = area.place(&[TensorRef::of("x", &array)]).unwrap();
        let wrong = |change: &dyn Fn(&mut Placed)| {
            let mut placed = placed.clone();
            change(&mut placed[0]);
            (
                area.fetch(&placed, &Limits::default()),
                area.map(&placed).is_ok(),
            )
        };
        for change in [
            (|p| p.shape = vec![3]) as fn(&mut Placed),
            |p| p.at = 4,
            |p| p.at = u64::MAX,
            |p| p.shape = vec![u64::MAX, 2],
            |p| p.shape = vec![1; 40],
            |p| p.dtype = DType::F64,
        ] {
            let (fetched, mapped) = wrong(&change);
            assert!(fetched.is_err() && !mapped, "{fetched:?}");
        }
        let twice = [placed.clone(), placed].concat();
        assert!(area.fetch(&twice, &Limits::default()).is_err());
    }
}
