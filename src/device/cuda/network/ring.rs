//! Cards that add up among themselves, by NCCL.

use super::changed;
use crate::device::cuda::card::{failed, Card};
use crate::device::network::{Ring, RingName, SliceMut};
use crate::error::{Error, Result};
use cudarc::nccl::{result::NcclError, sys, Comm, Id, ReduceOp};
use std::sync::Arc;

/// This rank's part of a ring.
pub(super) struct Joined {
    card: Arc<Card>,
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
        let stream = card.stream();
        // NCCL takes the thread's current card.
        stream.context().bind_to_thread().map_err(|e| failed("bind", e))?;
        let id = Id::uninit(name.map(|byte| byte as std::ffi::c_char));
        let comm = Comm::from_rank(stream.clone(), rank, size, id).map_err(lost)?;
        Ok(Joined { card: card.clone(), comm })
    }
}

impl Ring for Joined {
    fn sum(&self, values: SliceMut) -> Result<()> {
        self.card.stream().context().bind_to_thread().map_err(|e| failed("bind", e))?;
        self.comm.all_reduce_in_place(&mut changed(values)?, &ReduceOp::Sum).map(|_| ()).map_err(lost)
    }
}

fn lost(e: NcclError) -> Error {
    let advice = "see what NCCL says with NCCL_DEBUG=INFO, or use --exchange staged";
    Error::failed("device, cuda, NCCL", format!("{e:?}"), advice)
}
