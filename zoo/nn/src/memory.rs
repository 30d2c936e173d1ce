//! Memory of training steps, reused from step to step: fresh memory costs a page fault for every 4 KiB, more than many kernels take.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Shape, Storage, Tensor, bail};
use zoo_kernels::KernelError;

type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

/// Smaller buffers are left to the allocator.
const SMALLEST: usize = 4096;
/// Buffers that were not asked for during so many requests go back to the system.
const PATIENCE: u64 = 4096;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: BTreeMap::new(),
    requests: 0,
});

/// Free buffers by capacity, each with the number of the request before which it came back.
struct Pool {
    free: BTreeMap<usize, Vec<(u64, Vec<f32>)>>,
    requests: u64,
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A buffer with room for `len` floats, but not much more.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        self.requests += 1;
        if self.requests.is_multiple_of(PATIENCE) {
            let since = self.requests - PATIENCE;
            self.free.retain(|_, buffers| {
                buffers.retain(|(at, _)| *at > since);
                !buffers.is_empty()
            });
        }
        let (&capacity, buffers) = self.free.range_mut(len..=len + len / 4).next()?;
        let buffer = buffers.pop().map(|(_, buffer)| buffer);
        if buffers.is_empty() {
            self.free.remove(&capacity);
        }
        buffer
    }

    fn give(&mut self, buffer: Vec<f32>) {
        let at = self.requests;
        self.free
            .entry(buffer.capacity())
            .or_default()
            .push((at, buffer));
    }
}

/// Frees all buffers that wait for reuse.
pub(crate) fn release() {
    pool().free.clear();
}

/// Floats that go back to the pool when dropped.
#[derive(Debug, Default)]
pub(crate) struct Floats(Vec<f32>);

impl Floats {
    /// `len` floats of any content.
    pub fn stale(len: usize) -> Self {
        if len < SMALLEST {
            return Self(vec![0.0; len]);
        }
        // Apart from the match: the lock must not be held while the system finds new memory.
        let reused = pool().take(len);
        match reused {
            Some(mut buffer) => {
                buffer.resize(len, 0.0);
                Self(buffer)
            }
            None => Self(vec![0.0; len]),
        }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut floats = Self::stale(len);
        floats.fill(0.0);
        floats
    }

    /// A copy of `values`.
    pub fn copy(values: &[f32]) -> Self {
        let mut floats = Self::stale(values.len());
        floats.copy_from_slice(values);
        floats
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Floats {
    fn drop(&mut self) {
        if self.0.len() >= SMALLEST {
            pool().give(std::mem::take(&mut self.0));
        }
    }
}

/// A candle tensor whose memory may come from the pool, and goes back when the last of its clones and views is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    tensor: Tensor,
    buffer: Option<Arc<Buffer>>,
}

/// The memory behind a [`Held`].
#[derive(Debug)]
struct Buffer {
    tensor: Tensor,
    /// Whether the tensor was given out, so that others may still read it.
    lent: AtomicBool,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !*self.lent.get_mut() {
            // It fails only where the tensor is not ours, and then nothing is taken back.
            let _ = self.tensor.inplace_op1(&TakeBack);
        }
    }
}

/// Moves the floats out of a tensor that nobody will read again.
struct TakeBack;

impl InplaceOp1 for TakeBack {
    fn name(&self) -> &'static str {
        "take-back"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        if let CpuStorage::F32(values) = storage {
            drop(Floats(std::mem::take(values)));
        }
        Ok(())
    }
}

/// Moves the floats out of a tensor into the hands of its only owner.
struct MoveOut<'a>(&'a Mutex<Floats>);

impl InplaceOp1 for MoveOut<'_> {
    fn name(&self) -> &'static str {
        "move-out"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        if let CpuStorage::F32(values) = storage {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Floats(std::mem::take(values));
        }
        Ok(())
    }
}

impl From<Tensor> for Held {
    fn from(tensor: Tensor) -> Self {
        Self {
            tensor,
            buffer: None,
        }
    }
}

impl Held {
    /// A CPU tensor of these floats.
    pub fn new(mut floats: Floats, shape: impl Into<Shape>) -> Result<Self> {
        let pooled = floats.len() >= SMALLEST;
        let tensor = Tensor::from_vec(std::mem::take(&mut floats.0), shape.into(), &Device::Cpu)?;
        let buffer = pooled.then(|| {
            Arc::new(Buffer {
                tensor: tensor.clone(),
                lent: AtomicBool::new(false),
            })
        });
        Ok(Self { tensor, buffer })
    }

    /// A CPU tensor of `shape` that `fill` computes; it overwrites every element.
    pub fn fill(
        shape: &[usize],
        fill: impl FnOnce(&mut [f32]) -> Result<(), KernelError>,
    ) -> Result<Self> {
        let mut floats = Floats::stale(shape.iter().product());
        fill(&mut floats).map_err(candle_core::Error::wrap)?;
        Self::new(floats, shape)
    }

    /// The elements of a contiguous tensor to change: the memory itself if nothing else can see it, else a copy.
    pub fn into_floats(self) -> Result<Floats> {
        let lent = self
            .buffer
            .as_ref()
            .is_none_or(|buffer| buffer.lent.load(Ordering::Relaxed));
        let (start, end) = match self.tensor.layout().contiguous_offsets() {
            Some(offsets) => offsets,
            None => return self.contiguous()?.into_floats(),
        };
        let alone = self
            .buffer
            .as_ref()
            .is_some_and(|b| Arc::strong_count(b) == 1);
        if lent || !alone || start != 0 {
            return Ok(Floats::copy(&self.read()?));
        }
        let taken = Mutex::new(Floats::default());
        self.tensor.inplace_op1(&MoveOut(&taken))?;
        let mut floats = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        floats.0.truncate(end);
        Ok(floats)
    }

    /// Another view of the same memory.
    pub fn view(&self, view: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            tensor: view(&self.tensor)?,
            buffer: self.buffer.clone(),
        })
    }

    /// Without candle's history.
    pub fn detached(&self) -> Self {
        Self {
            tensor: self.tensor.detach(),
            buffer: self.buffer.clone(),
        }
    }

    /// The tensor, for looking at its shape, or for reading while this is borrowed.
    pub fn peek(&self) -> &Tensor {
        &self.tensor
    }

    /// The tensor, for any use: its memory will not be reused.
    pub fn lend(&self) -> &Tensor {
        if let Some(buffer) = &self.buffer {
            buffer.lent.store(true, Ordering::Relaxed);
        }
        &self.tensor
    }

    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// Whether our kernels take it: f32 on the CPU.
    pub fn is_ours(&self) -> bool {
        self.tensor.device().is_cpu() && self.tensor.dtype() == DType::F32
    }

    /// All of the storage, and the place of the first element in it.
    pub fn storage(&self) -> Result<(Read<impl Deref<Target = Storage> + '_>, usize)> {
        let (storage, layout) = self.tensor.storage_and_layout();
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) => {
                let all = 0..values.len();
                Ok((Read { storage, at: all }, layout.start_offset()))
            }
            _ => bail!("our kernels take f32 values on the CPU"),
        }
    }

    /// The elements of a contiguous tensor.
    pub fn read(&self) -> Result<Read<impl Deref<Target = Storage> + '_>> {
        let (storage, layout) = self.tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Read {
                storage,
                at: start..end,
            }),
            _ => bail!("our kernels take contiguous f32 values on the CPU"),
        }
    }

    /// The same elements, contiguous.
    pub fn contiguous(&self) -> Result<Self> {
        if self.tensor.is_contiguous() {
            return Ok(self.clone());
        }
        if !self.is_ours() {
            return Ok(self.tensor.contiguous()?.into());
        }
        let (values, start) = self.storage()?;
        Self::fill(self.dims(), |out| {
            let view = zoo_kernels::View {
                values: &values[start..],
                strides: self.tensor.stride(),
            };
            zoo_kernels::copy(self.dims(), view, 1.0, out)
        })
    }
}

/// Elements of a tensor, while its storage is locked for reading.
pub(crate) struct Read<G> {
    storage: G,
    at: Range<usize>,
}

impl<G: Deref<Target = Storage>> Deref for Read<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.at.clone()],
            _ => &[], // not made of others
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_unless_it_was_lent() {
        // Sizes that no other test uses: the pool is shared.
        let held = Held::fill(&[3, 7001], |out| {
            out.fill(2.0);
            Ok(())
        })
        .unwrap();
        let at = held.read().unwrap().as_ptr();
        let view = held.view(|t| t.narrow(0, 1, 2)).unwrap();
        drop(held);
        assert!(
            view.contiguous()
                .unwrap()
                .read()
                .unwrap()
                .iter()
                .all(|&v| v == 2.0)
        );
        drop(view);
        let again = Floats::stale(3 * 7001);
        assert_eq!(again.as_ptr(), at);
        let lent = Held::new(again, (3, 7001)).unwrap();
        let tensor = lent.lend().clone();
        drop(lent);
        assert_ne!(Floats::stale(3 * 7001).as_ptr(), at);
        assert_eq!(tensor.dims(), [3, 7001]);
        assert_eq!(
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[21_002],
            2.0
        );
    }

    #[test]
    fn buffers_much_too_large_are_left_alone() {
        let large = Floats::stale(90_001);
        let at = large.as_ptr();
        drop(large);
        assert_ne!(Floats::stale(50_000).as_ptr(), at);
        let smaller = Floats::zeros(89_000);
        assert!(smaller.iter().all(|&v| v == 0.0));
    }
}
