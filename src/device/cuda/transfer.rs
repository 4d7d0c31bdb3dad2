//! Large copies between the host's own memory and a GPU's, through two page-locked buffers: while one is on its way, the
//! other is filled or emptied. A copy from or to other memory goes at a fraction of the speed, and holds up the host.

use super::gpu::{failed, Gpu};
use crate::error::Result;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{result, CudaEvent, CudaStream, DeviceRepr};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a buffer.
const BUFFER: usize = 8 << 20;
/// From so many bytes on the buffers are worth their while.
pub(super) const LARGE: usize = 1 << 20;
/// Bytes that one thread copies at a time.
const PART: usize = 1 << 18;

/// Page-locked memory of the host.
pub(super) struct Locked<T> {
    memory: *mut T,
    length: usize,
}

// SAFETY: the memory belongs to this value alone, and any thread may use it.
unsafe impl<T: Send> Send for Locked<T> {}

impl<T: DeviceRepr> Locked<T> {
    /// So many numbers. The thread's current context is that of the GPU.
    pub(super) fn new(length: usize) -> Result<Locked<T>> {
        // SAFETY: no flag asks for anything but page-locked memory, which drop gives back.
        let memory = unsafe { result::malloc_host(length.max(1) * size_of::<T>(), 0) };
        Ok(Locked { memory: memory.map_err(|e| failed("allocate", e))?.cast(), length })
    }

    /// The first numbers. The caller sees to it that no copy to or from there is under way.
    pub(super) fn numbers(&mut self, length: usize) -> &mut [T] {
        assert!(length <= self.length, "{length} numbers of {}", self.length);
        // SAFETY: the memory holds `length` numbers, of which any bits are values, and is borrowed as this value is.
        unsafe { std::slice::from_raw_parts_mut(self.memory, length) }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the memory is that of malloc_host, and its owner has waited for the copies.
        let _ = unsafe { result::free_host(self.memory.cast()) };
    }
}

/// A buffer, and when the last copy from or to it has ended.
struct Buffer {
    locked: Locked<u8>,
    ended: Option<CudaEvent>,
}

impl Buffer {
    /// The first bytes, when no copy is under way any more.
    fn bytes(&mut self, length: usize) -> Result<&mut [u8]> {
        if let Some(ended) = self.ended.take() {
            ended.synchronize().map_err(|e| failed("copy", e))?;
        }
        Ok(self.locked.numbers(length))
    }
}

/// Two buffers and the stream of their copies.
pub(super) struct Transfer {
    stream: Arc<CudaStream>,
    buffers: [Buffer; 2],
}

impl Transfer {
    pub(super) fn new(gpu: &Gpu) -> Result<Transfer> {
        let stream = gpu.second_stream()?;
        let buffer = || Ok(Buffer { locked: Locked::new(BUFFER)?, ended: None });
        Ok(Transfer { stream, buffers: [buffer()?, buffer()?] })
    }

    /// The stream, to be ordered behind what makes the numbers and before what reads them.
    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Copies to the GPU. The last copies may be under way when it returns.
    ///
    /// # Safety
    /// There is room for all bytes at `to`, until the stream has done its work.
    pub(super) unsafe fn send(&mut self, from: &[u8], to: CUdeviceptr) -> Result<()> {
        for (number, part) in parts(from.len()).enumerate() {
            let buffer = &mut self.buffers[number % 2];
            let bytes = buffer.bytes(part.len())?;
            copy(&from[part.clone()], bytes);
            // SAFETY: the caller gives the room, and nobody writes to the buffer before the event.
            unsafe { result::memcpy_htod_async(to + part.start as u64, bytes, self.stream.cu_stream()) }
                .map_err(|e| failed("copy to the GPU", e))?;
            buffer.ended = Some(self.stream.record_event(None).map_err(|e| failed("copy to the GPU", e))?);
        }
        Ok(())
    }

    /// Copies from the GPU, and waits.
    ///
    /// # Safety
    /// `from` holds as many bytes as `to`.
    pub(super) unsafe fn fetch(&mut self, from: CUdeviceptr, to: &mut [u8]) -> Result<()> {
        let mut waiting: Option<(usize, Range<usize>)> = None;
        for (number, part) in parts(to.len()).enumerate() {
            let buffer = &mut self.buffers[number % 2];
            let bytes = buffer.bytes(part.len())?;
            // SAFETY: the caller says that the bytes are there, and nobody looks at the buffer before the event.
            unsafe { result::memcpy_dtoh_async(bytes, from + part.start as u64, self.stream.cu_stream()) }
                .map_err(|e| failed("copy from the GPU", e))?;
            buffer.ended = Some(self.stream.record_event(None).map_err(|e| failed("copy from the GPU", e))?);
            self.empty(waiting.replace((number % 2, part)), to)?;
        }
        self.empty(waiting, to)
    }

    /// Takes what has come into a buffer to its place.
    fn empty(&mut self, waiting: Option<(usize, Range<usize>)>, to: &mut [u8]) -> Result<()> {
        let Some((number, part)) = waiting else { return Ok(()) };
        copy(self.buffers[number].bytes(part.len())?, &mut to[part]);
        Ok(())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // After an error of the GPU nothing is under way any more.
        if self.stream.context().bind_to_thread().is_ok() {
            let _ = self.stream.synchronize();
        }
    }
}

/// The parts in which so many bytes are copied.
fn parts(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(BUFFER).map(move |start| start..(start + BUFFER).min(length))
}

/// By all threads: a single one is slower than what connects a GPU.
fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
}
