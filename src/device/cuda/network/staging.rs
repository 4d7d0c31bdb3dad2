//! Page-locked buffers of the host, to and from which a GPU copies in a second stream.

use super::{changed, seen};
use crate::device::check;
use crate::device::cuda::gpu::{failed, Gpu};
use crate::device::cuda::transfer::Locked;
use crate::device::network::{Slice, SliceMut, Staging};
use crate::error::{Error, Result};
use cudarc::driver::{result, CudaEvent, CudaStream, DevicePtr, DevicePtrMut};
use std::sync::Arc;

/// What a slot holds.
enum State {
    /// Nothing, or what is on its way back to the GPU.
    Left,
    /// So many numbers are on their way from the GPU; they are there when the event has happened.
    Coming(usize, CudaEvent),
    /// So many numbers.
    Here(usize),
}

/// Slots of one length.
pub(super) struct Slots {
    gpu: Arc<Gpu>,
    copies: Arc<CudaStream>,
    /// Moments of the GPU's own stream.
    marks: Vec<CudaEvent>,
    slots: Vec<(Locked<f32>, State)>,
    length: usize,
}

impl Slots {
    pub(super) fn new(gpu: &Arc<Gpu>, slots: usize, length: usize) -> Result<Slots> {
        let copies = gpu.second_stream()?;
        let mut own = Slots { gpu: gpu.clone(), copies, marks: Vec::new(), slots: Vec::new(), length };
        own.bind()?;
        for _ in 0..slots {
            own.slots.push((Locked::new(length)?, State::Left));
        }
        Ok(own)
    }

    fn bind(&self) -> Result<()> {
        self.copies.context().bind_to_thread().map_err(|e| failed("bind", e))
    }
}

impl Staging for Slots {
    fn mark(&mut self) -> Result<usize> {
        self.marks.push(self.gpu.stream().record_event(None).map_err(|e| failed("mark", e))?);
        Ok(self.marks.len() - 1)
    }

    fn fetch(&mut self, slot: usize, from: Slice, mark: usize) -> Result<()> {
        let length = from.len();
        check("fetch", "the slot, at most,", length.min(self.length), length)?;
        self.bind()?;
        let (view, stream) = (seen(&from)?, &self.copies);
        stream.wait(&self.marks[mark]).map_err(|e| failed("fetch", e))?;
        let (memory, state) = &mut self.slots[slot];
        let to = memory.numbers(length);
        let (address, _guard) = view.device_ptr(stream);
        // SAFETY: the view holds `length` numbers, as the slot does; its buffer outlives the copy, as the GPU's stream,
        // in whose order it is given back, waits for this one in `end`. The slot is not looked at before the event, and
        // a copy from it that may be under way comes before this one in the stream.
        unsafe { result::memcpy_dtoh_async(to, address, stream.cu_stream()) }
            .map_err(|e| failed("fetch", e))?;
        *state = State::Coming(length, stream.record_event(None).map_err(|e| failed("fetch", e))?);
        Ok(())
    }

    fn fetched(&mut self, slot: usize) -> Result<&mut [f32]> {
        let (memory, state) = &mut self.slots[slot];
        if let State::Coming(length, event) = state {
            event.synchronize().map_err(|e| failed("fetch", e))?;
            *state = State::Here(*length);
        }
        let State::Here(length) = *state else {
            return Err(Error::failed(
                "device, cuda",
                "nothing was fetched into a slot",
                "please report this",
            ));
        };
        // The copy that wrote them has ended, and no other is under way in this slot.
        Ok(memory.numbers(length))
    }

    fn send(&mut self, slot: usize, to: SliceMut) -> Result<()> {
        let length = self.fetched(slot)?.len();
        check("send", "to", length, to.len())?;
        self.bind()?;
        let (mut view, stream, (memory, state)) = (changed(to)?, &self.copies, &mut self.slots[slot]);
        *state = State::Left;
        let from = memory.numbers(length);
        let (to, _guard) = view.device_ptr_mut(stream);
        // SAFETY: the view holds `length` numbers, as the slot does, which nobody changes before a later fetch has
        // come: it comes after this copy in the stream.
        unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) }.map_err(|e| failed("send", e))
    }

    fn end(&mut self) -> Result<()> {
        self.marks.clear();
        self.gpu.order(&self.copies, self.gpu.stream())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // After an error of the GPU nothing is under way any more.
        if self.bind().is_ok() {
            let _ = self.copies.synchronize();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::device::cuda::{count, Cuda};
    use crate::device::network::Network;

    #[test]
    fn what_is_fetched_is_sent_where_it_is_wanted() {
        if count() == 0 {
            println!("no GPU and nothing that stands for one");
            return;
        }
        let cuda = Cuda::open(0, false).unwrap();
        let mut values = cuda.values(5).unwrap();
        cuda.write(&[1.0, 2.0, 3.0, 4.0, 5.0], values.whole_mut()).unwrap();
        let mut staging = cuda.gpus().unwrap().staging(2, 3).unwrap();
        let now = staging.mark().unwrap();
        staging.fetch(0, values.part(0..2), now).unwrap();
        staging.fetch(1, values.part(2..5), now).unwrap();
        assert!(staging.fetch(0, values.part(0..4), now).is_err(), "longer than a slot");
        staging.fetched(0).unwrap().iter_mut().for_each(|x| *x *= 10.0);
        assert!(staging.send(0, values.part_mut(0..3)).is_err(), "another length");
        staging.send(0, values.part_mut(1..3)).unwrap();
        assert_eq!(staging.fetched(1).unwrap(), [3.0, 4.0, 5.0]);
        assert!(staging.fetched(0).is_err(), "it was sent");
        staging.end().unwrap();
        let mut found = [0.0; 5];
        cuda.read(values.whole(), &mut found).unwrap();
        assert_eq!(found, [1.0, 10.0, 20.0, 4.0, 5.0]);
    }
}
