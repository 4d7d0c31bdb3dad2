//! Sums of a network's numbers over ranks: gradients, sums of batches, pre-activations.
//!
//! Each rank has the contributions of some pieces of the work, one buffer a piece; all ranks get the sum.
//!
//! | exchange | how | result |
//! |---|---|---|
//! | `host` | each rank's one piece through its host's memory and MPI, bucket by bucket | the same bits on all ranks; another number of ranks may give other last bits |
//! | `ordered` | a fixed number of pieces, however many ranks own them, added in their order | the same bits on any number of ranks |
//! | `nccl` | from card to card, one for each rank | the same bits on all ranks |
//! | `staged` | as `host`, while the next bucket comes from the card and the last one goes back | those of `host` |

use super::layout::share;
use super::{Element, World};
use crate::device::network::{Network, Ring, Slice, SliceMut, Staging, Values};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{AddAssign, Range};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

/// Numbers that pass through the host's memory at a time.
const BUCKET: usize = 1 << 22;
/// The same where copies and MPI overlap: two such buffers are kept.
const STAGED_BUCKET: usize = 1 << 20;

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
        let cards = device.cards();
        // Whether each rank has a card, and which.
        let all = world.all_gather(&(cards.is_some(), cards.and_then(|c| c.identity())));
        let staged = all.iter().all(|(card, _)| *card);
        let names: BTreeSet<_> = all.iter().filter_map(|(_, name)| *name).collect();
        let nccl = names.len() == world.size();
        let own = match self {
            Exchange::Auto if nccl => Ok(Exchange::Nccl),
            Exchange::Auto if staged => Ok(Exchange::Staged),
            Exchange::Auto => Ok(Exchange::Host),
            Exchange::Nccl if !nccl => Err(self.lacking("NCCL and a card of its own for every rank")),
            Exchange::Staged if !staged => Err(self.lacking("a card for every rank")),
            other => Ok(other),
        };
        world.agree(own)
    }

    fn lacking(self, what: &str) -> Error {
        let found = format!("{self}, which needs {what}");
        Error::input("--exchange", "auto, host or ordered", found, "leave it out for the default")
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
    /// What cards need, from the first sum on.
    way: Mutex<Option<Way>>,
}

/// How sums leave a card.
enum Way {
    Ring(Box<dyn Ring>),
    Staging(Box<dyn Staging>),
}

impl Reduce {
    /// Sums over `world` by an exchange that its ranks agreed on; `pieces` counts with [`Exchange::Ordered`]
    /// alone, elsewhere each rank has one.
    pub fn new(world: World, device: Arc<dyn Network>, exchange: Exchange, pieces: usize) -> Reduce {
        let pieces = if exchange == Exchange::Ordered { pieces.max(1) } else { world.size() };
        Reduce { world, device, exchange, pieces, way: Mutex::new(None) }
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
        if self.pieces == 1 && self.world.size() == 1 {
            return Ok(());
        }
        if matches!(self.exchange, Exchange::Nccl | Exchange::Staged) {
            self.done(self.sum_on_cards(&mut parts[0], range));
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

    fn sum_on_cards(&self, values: &mut Values, range: Range<usize>) -> Result<()> {
        let mut way = self.way.lock().expect("no panic while held");
        let way = match &mut *way {
            Some(way) => way,
            none => none.insert(self.way()?),
        };
        let staging = match way {
            Way::Ring(ring) => return ring.sum(values.part_mut(range)),
            Way::Staging(staging) => staging,
        };
        let bucket = |start: usize| start..(start + STAGED_BUCKET).min(range.end);
        if !range.is_empty() {
            staging.fetch(0, values.part(bucket(range.start)))?;
        }
        for (number, start) in range.clone().step_by(STAGED_BUCKET).enumerate() {
            let (slot, next) = (number % 2, start + STAGED_BUCKET);
            if next < range.end {
                staging.fetch(1 - slot, values.part(bucket(next)))?;
            }
            self.world.sum_reals(staging.fetched(slot)?);
            staging.send(slot, values.part_mut(bucket(start)))?;
        }
        Ok(())
    }

    /// Collective.
    fn way(&self) -> Result<Way> {
        let missing = || Error::failed("sums over ranks", "the device is no card", "please report this");
        let cards = self.device.cards().ok_or_else(missing)?;
        if self.exchange == Exchange::Staged {
            return Ok(Way::Staging(cards.staging(2, STAGED_BUCKET)?));
        }
        let mut name = if self.world.rank() == 0 { cards.ring_name()? } else { [0; 128] };
        self.world.broadcast(0, &mut name);
        Ok(Way::Ring(cards.ring(name, self.world.rank(), self.world.size())?))
    }

    /// A device fails here only when it is lost. The other ranks may wait for this one by now, so that nothing
    /// remains but to say so and to end the job.
    fn done(&self, result: Result<()>) {
        if let Err(e) = result {
            log::error!("rank {}: {e}", self.world.rank());
            super::abort(e.exit_code());
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

    #[test]
    fn what_leaves_a_card_in_buckets_comes_back_to_its_place() {
        let Ok(device) = open("cuda") else {
            println!("no card and nothing that stands for one");
            return;
        };
        let reduce = Reduce::new(World::alone(), device.clone(), Exchange::Staged, 1);
        let numbers: Vec<f32> = (0..2 * STAGED_BUCKET + 7).map(|i| i as f32).collect();
        let mut values = device.values(numbers.len()).unwrap();
        device.write_singles(&numbers, values.whole_mut()).unwrap();
        for range in [3..numbers.len() - 2, 0..STAGED_BUCKET, 5..5] {
            reduce.sum_on_cards(&mut values, range).unwrap();
        }
        let mut found = vec![0.0; numbers.len()];
        device.read_singles(values.whole(), &mut found).unwrap();
        assert!(found == numbers);
    }

    #[test]
    fn what_a_device_lacks_is_told() {
        let device = open("cpu").unwrap();
        let agreed = |e: Exchange| e.agreed(&World::alone(), &*device);
        assert_eq!(agreed(Exchange::Auto).unwrap(), Exchange::Host);
        for lacking in [Exchange::Nccl, Exchange::Staged] {
            assert_eq!(agreed(lacking).unwrap_err().exit_code(), 2);
        }
        assert_eq!("ordered".parse(), Ok(Exchange::Ordered));
        assert!("nickel".parse::<Exchange>().unwrap_err().contains("nccl"));
    }
}
