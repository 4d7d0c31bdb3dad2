//! Sums of a network's numbers over ranks: gradients, sums of batches, pre-activations.
//!
//! Each rank has the contributions of some pieces of the work, one buffer a piece; all ranks get the sum.
//!
//! | exchange | how | result |
//! |---|---|---|
//! | `host` | each rank's one piece through its host's memory and MPI, bucket by bucket | the same bits on all ranks; another number of ranks may give other last bits |
//! | `ordered` | a fixed number of pieces, however many ranks own them, added in their order | the same bits on any number of ranks |
//! | `nccl`, `staged` | between cards, without and with the hosts' memory | not in this build |

use super::layout::share;
use super::{Element, World};
use crate::device::network::{Network, Slice, SliceMut, Values};
use crate::error::{Error, Result};
use std::fmt;
use std::ops::{AddAssign, Range};
use std::str::FromStr;
use std::sync::Arc;

/// Numbers that pass through the host's memory at a time.
const BUCKET: usize = 1 << 22;

/// How contributions of several ranks become their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exchange {
    /// The fastest that all ranks have.
    #[default]
    Auto,
    /// From card to card.
    Nccl,
    /// From card to card by two buffers in the hosts' memory, copies overlapped with MPI.
    Staged,
    /// Through the hosts' memory.
    Host,
    /// Through the hosts' memory, always the same pieces in the same order.
    Ordered,
}

impl Exchange {
    /// All of them.
    pub const ALL: [Exchange; 5] =
        [Exchange::Auto, Exchange::Nccl, Exchange::Staged, Exchange::Host, Exchange::Ordered];

    /// The name in options.
    pub fn name(self) -> &'static str {
        match self {
            Exchange::Auto => "auto",
            Exchange::Nccl => "nccl",
            Exchange::Staged => "staged",
            Exchange::Host => "host",
            Exchange::Ordered => "ordered",
        }
    }

    /// The one that all ranks of `world` take when `self` is wanted. Collective.
    pub fn agreed(self, world: &World, device: &dyn Network) -> Result<Exchange> {
        let own = match self {
            Exchange::Auto => Ok(Exchange::Host),
            Exchange::Nccl | Exchange::Staged => Err(Error::input(
                "--exchange",
                "auto, host or ordered",
                format!("{self}, which the device {} does not have", device.name()),
                "leave it out for the default",
            )),
            other => Ok(other),
        };
        world.agree(own)
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Exchange {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Exchange::ALL.into_iter().find(|e| e.name() == text);
        found.ok_or_else(|| format!("expected {}", Exchange::ALL.map(Exchange::name).join(", ")))
    }
}

/// Sums over the ranks of a world.
pub struct Reduce {
    world: World,
    device: Arc<dyn Network>,
    exchange: Exchange,
    pieces: usize,
}

impl Reduce {
    /// Sums over `world` by an exchange that its ranks agreed on; `pieces` counts with [`Exchange::Ordered`]
    /// alone, elsewhere each rank has one.
    pub fn new(world: World, device: Arc<dyn Network>, exchange: Exchange, pieces: usize) -> Reduce {
        let pieces = if exchange == Exchange::Ordered { pieces.max(1) } else { world.size() };
        Reduce { world, device, exchange, pieces }
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
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
        if self.pieces == 1 && self.world.size() == 1 {
            return Ok(());
        }
        let starts = range.clone().step_by(BUCKET);
        for bucket in starts.map(|start| start..(start + BUCKET).min(range.end)) {
            // f32 holds no more than f32 has to travel.
            if self.device.precision() < f64::from(f32::EPSILON) {
                self.sum_bucket::<f64>(parts, bucket)?;
            } else {
                self.sum_bucket::<f32>(parts, bucket)?;
            }
        }
        Ok(())
    }

    fn sum_bucket<T: Number>(&self, parts: &mut [Values], bucket: Range<usize>) -> Result<()> {
        let device = &*self.device;
        let mut total = vec![T::default(); bucket.len()];
        if self.exchange == Exchange::Ordered {
            let mut piece = vec![T::default(); bucket.len()];
            for number in 0..self.pieces {
                let owner = (0..self.world.size()).find(|&r| self.owned_by(r).contains(&number));
                let owner = owner.expect("every piece has an owner");
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
        T::write(device, &total, parts[0].part_mut(bucket))
    }

    /// A device fails here only when it is lost. The other ranks may wait for this one by now, so that nothing
    /// remains but to say so and to end the job.
    fn done(&self, result: Result<()>) {
        if let Err(e) = result {
            log::error!("rank {}: {e}", self.world.rank());
            super::abort(e.exit_code());
        }
    }

    fn owned_by(&self, rank: usize) -> Range<usize> {
        share(self.pieces, rank, self.world.size())
    }
}

/// What [`Values`] travel as.
trait Number: Element + AddAssign {
    fn read(device: &dyn Network, from: Slice, to: &mut [Self]) -> Result<()>;
    fn write(device: &dyn Network, from: &[Self], to: SliceMut) -> Result<()>;
}

impl Number for f64 {
    fn read(device: &dyn Network, from: Slice, to: &mut [f64]) -> Result<()> {
        device.read(from, to)
    }
    fn write(device: &dyn Network, from: &[f64], to: SliceMut) -> Result<()> {
        device.write(from, to)
    }
}

impl Number for f32 {
    fn read(device: &dyn Network, from: Slice, to: &mut [f32]) -> Result<()> {
        device.read_singles(from, to)
    }
    fn write(device: &dyn Network, from: &[f32], to: SliceMut) -> Result<()> {
        device.write_singles(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::open_network;

    #[test]
    fn pieces_of_one_rank_are_added_in_their_order() {
        for name in ["strict", "cpu"] {
            let device = open_network(name).unwrap();
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

    #[test]
    fn what_a_device_lacks_is_told() {
        let device = open_network("cpu").unwrap();
        let agreed = |e: Exchange| e.agreed(&World::alone(), &*device);
        assert_eq!(agreed(Exchange::Auto).unwrap(), Exchange::Host);
        assert_eq!(agreed(Exchange::Nccl).unwrap_err().exit_code(), 2);
        assert_eq!("ordered".parse(), Ok(Exchange::Ordered));
        assert!("nickel".parse::<Exchange>().unwrap_err().contains("nccl"));
    }
}
