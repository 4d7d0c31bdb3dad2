//! GPUs that add up among themselves, by NCCL.

use super::changed;
use super::nccl::{self, Communicator, UniqueId};
use crate::device::cuda::gpu::{failed, Gpu};
use crate::device::network::{Ring, RingName, SliceMut};
use crate::error::{Error, Result};
use cudarc::driver::{CudaStream, DevicePtrMut};
use std::sync::Arc;

/// This rank's part of a ring.
pub(super) struct Joined {
    gpu: Arc<Gpu>,
    /// Where sums are made, beside what is computed.
    sums: Arc<CudaStream>,
    /// There until it is left.
    communicator: Option<Communicator>,
}

/// A fresh name.
pub(super) fn name() -> Result<RingName> {
    nccl::unique_id().map(|id| id.0).map_err(lost)
}

impl Joined {
    /// Joins as the `rank`-th of `size`. Collective, and waits for the others if it is to.
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        name: RingName,
        (rank, size): (usize, usize),
        waits: bool,
    ) -> Result<Joined> {
        let sums = gpu.second_stream()?;
        // NCCL takes the thread's current GPU.
        bind(&sums)?;
        let communicator = Communicator::join(UniqueId(name), rank, size, waits).map_err(lost)?;
        Ok(Joined { gpu: gpu.clone(), sums, communicator: Some(communicator) })
    }

    fn communicator(&self) -> &Communicator {
        self.communicator.as_ref().expect("there until it is left")
    }
}

impl Ring for Joined {
    fn is_idle(&self) -> Result<bool> {
        self.communicator().is_idle().map_err(lost)
    }

    fn begin(&self, values: SliceMut) -> Result<()> {
        bind(&self.sums)?;
        self.gpu.order(self.gpu.stream(), &self.sums)?;
        let mut values = changed(values)?;
        let count = values.len();
        let (numbers, _written) = values.device_ptr_mut(&self.sums);
        // SAFETY: the address is that of `count` numbers, and `end` orders whatever comes later behind the sum.
        unsafe { self.communicator().sum(numbers, count, self.sums.cu_stream().cast()) }.map_err(lost)
    }

    fn end(&self) -> Result<()> {
        self.gpu.order(&self.sums, self.gpu.stream())
    }

    fn give_up(mut self: Box<Self>) {
        if let (Some(communicator), Ok(())) = (self.communicator.take(), bind(&self.sums)) {
            communicator.abort();
        }
    }
}

impl Drop for Joined {
    /// All ranks of a ring come here, or none: what fails on one of them alone ends the job. Ranks of other machines
    /// need not be met before, as finalizing waits until the network has sent what they still receive.
    fn drop(&mut self) {
        let Some(communicator) = self.communicator.take() else { return };
        match bind(&self.sums).and_then(|()| self.sums.synchronize().map_err(|e| failed("sum", e))) {
            Ok(()) => communicator.leave(),
            Err(e) => {
                log::debug!("a ring is broken: {e}");
                communicator.abort();
            }
        }
    }
}

fn bind(stream: &CudaStream) -> Result<()> {
    stream.context().bind_to_thread().map_err(|e| failed("bind", e))
}

fn lost(problem: String) -> Error {
    let advice = "see what NCCL says with NCCL_DEBUG=INFO, or use --exchange staged";
    Error::failed("device, cuda, NCCL", problem, advice)
}
