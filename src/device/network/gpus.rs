//! What GPUs do for sums over ranks; the room `comm` knows the ranks.

use super::{Slice, SliceMut};
use crate::error::Result;

/// The name of a ring that is about to be formed, the same on all of its ranks.
pub type RingName = [u8; 128];

/// A GPU's ways to reach those of other ranks.
pub trait Gpus {
    /// `slots` buffers of `length` numbers in the host's memory, to copy through in the background.
    fn staging(&self, slots: usize, length: usize) -> Result<Box<dyn Staging>>;

    /// Which GPU this is, where GPUs can add up among themselves (NCCL is there): two ranks of one ring need two.
    fn identity(&self) -> Option<[u8; 16]>;

    /// A fresh name, for one rank to give to the others.
    fn ring_name(&self) -> Result<RingName>;

    /// Joins the ring of that name as the `rank`-th of `size`; waits for the others. Collective.
    fn ring(&self, name: RingName, rank: usize, size: usize) -> Result<Box<dyn Ring>>;

    /// As [`Gpus::ring`], but waits for nobody, neither now nor in [`Ring::begin`]: [`Ring::is_idle`] tells. For finding
    /// out whether a ring works at all.
    fn ring_on_trial(&self, name: RingName, rank: usize, size: usize) -> Result<Box<dyn Ring>>;
}

/// Buffers in the host's memory. Copies happen in the background, in the order of the calls, beside what the backend is
/// told to do meanwhile.
pub trait Staging: Send {
    /// The number of this moment: a copy that begins from it on sees all that the backend was told before.
    fn mark(&mut self) -> Result<usize>;

    /// Begins to copy a part of a buffer into a slot, not before the moment `mark`.
    fn fetch(&mut self, slot: usize, from: Slice, mark: usize) -> Result<()>;

    /// What was fetched into a slot, when it is there.
    fn fetched(&mut self, slot: usize) -> Result<&mut [f32]>;

    /// Begins to copy what was fetched into a slot to a part of a buffer of the same length.
    fn send(&mut self, slot: usize, to: SliceMut) -> Result<()>;

    /// What the backend is told from now on comes after all copies so far; marks begin anew.
    fn end(&mut self) -> Result<()>;
}

/// GPUs that add up among themselves. Dropped by all ranks together, once they are done.
pub trait Ring: Send {
    /// Whether this rank has joined and what it began is handed over; on trial nothing else may be asked for before.
    fn is_idle(&self) -> Result<bool>;

    /// Begins to sum all ranks' numbers, on every rank, after whatever the backend was told before and beside what it is
    /// told meanwhile. Collective.
    fn begin(&self, values: SliceMut) -> Result<()>;

    /// What the backend is told from now on comes after all sums so far.
    fn end(&self) -> Result<()>;

    /// Leaves in spite of what is in progress, after an error on any rank.
    fn give_up(self: Box<Self>);
}
