//! Cards that add up among themselves, by NCCL.

use super::changed;
use crate::device::cuda::card::{failed, Card};
use crate::device::network::{Ring, RingName, SliceMut};
use crate::error::{Error, Result};
use cudarc::driver::CudaStream;
use cudarc::nccl::{result::NcclError, sys, Comm, Id, ReduceOp};
use std::sync::Arc;

/// This rank's part of a ring.
pub(super) struct Joined {
    card: Arc<Card>,
    /// Where sums are made, beside what is computed.
    sums: Arc<CudaStream>,
    comm: Comm,
}

// SAFETY: NCCL lets any thread use a communicator, one at a time, and this one has one owner.
unsafe impl Send for Joined {}

/// Whether NCCL is installed.
pub(super) fn present() -> bool {
    // SAFETY: it only tries to load the library; nothing else is called unless it is there.
    unsafe { sys::is_culib_present() }
}

/// A fresh name.
pub(super) fn name() -> Result<RingName> {
    Ok(Id::new().map_err(lost)?.internal().map(|c| c as u8))
}

impl Joined {
    /// Joins as the `rank`-th of `size`. Collective.
    pub(super) fn new(card: &Arc<Card>, name: RingName, rank: usize, size: usize) -> Result<Joined> {
        let sums = card.second_stream()?;
        // NCCL takes the thread's current card.
        sums.context().bind_to_thread().map_err(|e| failed("bind", e))?;
        let id = Id::uninit(name.map(|byte| byte as std::ffi::c_char));
        let comm = Comm::from_rank(sums.clone(), rank, size, id).map_err(lost)?;
        Ok(Joined { card: card.clone(), sums, comm })
    }
}

impl Ring for Joined {
    fn begin(&self, values: SliceMut) -> Result<()> {
        self.sums.context().bind_to_thread().map_err(|e| failed("bind", e))?;
        self.card.order(self.card.stream(), &self.sums)?;
        self.comm.all_reduce_in_place(&mut changed(values)?, &ReduceOp::Sum).map(|_| ()).map_err(lost)
    }

    fn end(&self) -> Result<()> {
        self.card.order(&self.sums, self.card.stream())
    }
}

fn lost(e: NcclError) -> Error {
    let advice = "see what NCCL says with NCCL_DEBUG=INFO, or use --exchange staged";
    Error::failed("device, cuda, NCCL", format!("{e:?}"), advice)
}
