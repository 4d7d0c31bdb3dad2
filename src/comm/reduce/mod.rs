//! Sums of a network's numbers over ranks: gradients, sums of batches, pre-activations.
//!
//! Each rank has the contributions of some pieces of the work, one buffer a piece; all ranks get the sum.
//!
//! | exchange | how | result |
//! |---|---|---|
//! | `host` | each rank's one piece through its host's memory and MPI, bucket by bucket | the same bits on all ranks; another number of ranks may give other last bits |
//! | `ordered` | a fixed number of pieces, however many ranks own them, added in their order | the same bits on any number of ranks |
//! | `nccl` | from GPU to GPU, one for each rank | the same bits on all ranks |
//! | `staged` | as `host`, while the next bucket comes from the GPU and the last one goes back | the same bits on all ranks |
//!
//! [`Reduce::sum`] waits for its sum; [`Reduce::overlapped`] makes sums while the numbers behind them are computed.

mod gpus;
mod exchange;
mod overlap;
mod trial;

pub use exchange::Exchange;
pub use overlap::Buckets;

use super::layout::share;
use super::{Element, World};
use crate::device::network::{Network, Slice, SliceMut, Values};
use crate::error::Result;
use gpus::Way;
use overlap::Spare;
use std::ops::{AddAssign, Range};
use std::sync::{Arc, Mutex};

/// Numbers that pass through the host's memory at a time.
const BUCKET: usize = 1 << 22;

/// Sums over the ranks of a world.
pub struct Reduce {
    world: World,
    device: Arc<dyn Network>,
    exchange: Exchange,
    pieces: usize,
    /// What GPUs need, from the first sum on.
    way: Mutex<Option<Way>>,
    /// Memory of earlier buckets.
    spare: Spare,
}

impl Reduce {
    /// Sums over `world` by an exchange that its ranks agreed on; `pieces` counts with [`Exchange::Ordered`]
    /// alone, elsewhere each rank has one.
    pub fn new(world: World, device: Arc<dyn Network>, exchange: Exchange, pieces: usize) -> Reduce {
        let pieces = if exchange == Exchange::Ordered { pieces.max(1) } else { world.size() };
        Reduce { world, device, exchange, pieces, way: Mutex::new(None), spare: Spare::default() }
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// How.
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Pieces of all ranks together.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// The pieces of this rank; none where there are more ranks than pieces.
    pub fn own(&self) -> Range<usize> {
        share(self.pieces, self.world.rank(), self.world.size())
    }

    /// The sum of the `range` of all pieces of all ranks, in the `range` of the first of `parts` on every rank.
    /// `parts` are this rank's pieces in their order, or one buffer that counts for nothing where it owns none.
    /// Collective.
    pub fn sum(&self, parts: &mut [Values], range: Range<usize>) -> Result<()> {
        debug_assert_eq!(parts.len(), self.own().len().max(1), "a buffer for each piece of this rank");
        if self.is_alone() {
            return Ok(());
        }
        if self.is_on_gpus() {
            self.done(self.sum_on_gpus(&mut parts[0], range));
            return Ok(());
        }
        let starts = range.clone().step_by(BUCKET);
        for bucket in starts.map(|start| start..(start + BUCKET).min(range.end)) {
            if self.is_double() {
                self.sum_bucket::<f64>(parts, bucket)?;
            } else {
                self.sum_bucket::<f32>(parts, bucket)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing to add up.
    fn is_alone(&self) -> bool {
        self.pieces == 1 && self.world.size() == 1
    }

    /// Whether f64 has to travel: f32 holds all of a device that computes in it.
    fn is_double(&self) -> bool {
        self.device.precision() < f64::from(f32::EPSILON)
    }

    fn is_on_gpus(&self) -> bool {
        matches!(self.exchange, Exchange::Nccl | Exchange::Staged)
    }

    fn sum_bucket<T: Number>(&self, parts: &mut [Values], bucket: Range<usize>) -> Result<()> {
        let device = &*self.device;
        let mut total = vec![T::default(); bucket.len()];
        if self.exchange == Exchange::Ordered {
            let mut piece = vec![T::default(); bucket.len()];
            for number in 0..self.pieces {
                let owner = self.owner(number);
                if owner == self.world.rank() {
                    let own = &parts[number - self.own().start];
                    self.done(T::read(device, own.part(bucket.clone()), &mut piece));
                }
                self.world.broadcast(owner, &mut piece);
                match number {
                    0 => total.copy_from_slice(&piece),
                    _ => total.iter_mut().zip(&piece).for_each(|(t, p)| *t += *p),
                }
            }
        } else {
            self.done(T::read(device, parts[0].part(bucket.clone()), &mut total));
            self.world.sum_reals(&mut total);
        }
        self.done(T::write(device, &total, parts[0].part_mut(bucket)));
        Ok(())
    }

    /// The rank that has a piece.
    fn owner(&self, piece: usize) -> usize {
        let owner = (0..self.world.size()).find(|&rank| self.owned_by(rank).contains(&piece));
        owner.expect("every piece has an owner")
    }

    /// The other ranks may wait for this one by now: a lost device ends the job.
    fn done(&self, result: Result<()>) {
        if let Err(e) = result {
            super::end_job(&e);
        }
    }

    /// The pieces of a rank.
    pub fn owned_by(&self, rank: usize) -> Range<usize> {
        share(self.pieces, rank, self.world.size())
    }
}

/// What [`Values`] travel as.
trait Number: Element + AddAssign {
    fn read(device: &dyn Network, from: Slice, to: &mut [Self]) -> Result<()>;
    fn write(device: &dyn Network, from: &[Self], to: SliceMut) -> Result<()>;
    /// Memory of earlier buckets.
    fn spare(of: &Spare) -> &Mutex<Vec<Vec<Self>>>;
}

impl Number for f64 {
    fn read(device: &dyn Network, from: Slice, to: &mut [f64]) -> Result<()> {
        device.read(from, to)
    }
    fn write(device: &dyn Network, from: &[f64], to: SliceMut) -> Result<()> {
        device.write(from, to)
    }
    fn spare(of: &Spare) -> &Mutex<Vec<Vec<f64>>> {
        &of.doubles
    }
}

impl Number for f32 {
    fn read(device: &dyn Network, from: Slice, to: &mut [f32]) -> Result<()> {
        device.read_singles(from, to)
    }
    fn write(device: &dyn Network, from: &[f32], to: SliceMut) -> Result<()> {
        device.write_singles(from, to)
    }
    fn spare(of: &Spare) -> &Mutex<Vec<Vec<f32>>> {
        &of.singles
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open;

    #[test]
    fn pieces_of_one_rank_are_added_in_their_order() {
        for name in ["strict", "cpu"] {
            let device = open(name).unwrap();
            let reduce = Reduce::new(World::alone(), device.clone(), Exchange::Ordered, 3);
            let mut parts: Vec<Values> = (0..3).map(|_| device.values(2).unwrap()).collect();
            // Any other order loses the ones.
            for (part, x) in parts.iter_mut().zip([1.0, 2f64.powi(60), -(2f64.powi(60))]) {
                device.write(&[x, x], part.whole_mut()).unwrap();
            }
            reduce.sum(&mut parts, 1..2).unwrap();
            let mut found = [0.0; 2];
            device.read(parts[0].whole(), &mut found).unwrap();
            assert_eq!(found, [1.0, 0.0]);
        }
    }
}
