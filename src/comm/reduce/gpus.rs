//! Sums of what GPUs hold: from GPU to GPU, or through page-locked buffers of the hosts.

use super::{Exchange, Reduce};
use crate::comm::World;
use crate::device::network::{Gpus, Ring, RingName, Staging, Values};
use crate::error::{Error, Result};
use std::ops::Range;

/// Numbers that are copied at a time; two such buffers are kept.
const BUCKET: usize = 1 << 20;

/// How sums leave a GPU.
pub(super) enum Way {
    /// To the other GPUs.
    Ring(Box<dyn Ring>),
    /// To the host.
    Staging(Box<dyn Staging>),
}

/// A part of a buffer, and the moment from which on it is complete.
pub(super) type Complete = (Range<usize>, usize);

impl Reduce {
    /// Works with what this rank's GPU needs, which is made when it is first asked for. Collective.
    pub(super) fn on_gpus<R>(&self, work: impl FnOnce(&mut Way) -> Result<R>) -> Result<R> {
        let mut way = self.way.lock().expect("no panic while held");
        work(match &mut *way {
            Some(way) => way,
            none => none.insert(self.way()?),
        })
    }

    /// The sum of a part at once.
    pub(super) fn sum_on_gpus(&self, values: &mut Values, range: Range<usize>) -> Result<()> {
        self.on_gpus(|way| match way {
            Way::Ring(ring) => {
                ring.begin(values.part_mut(range))?;
                ring.end()
            }
            Way::Staging(staging) => {
                let now = staging.mark()?;
                self.sum_staged(&mut **staging, values, &[(range, now)])?;
                staging.end()
            }
        })
    }

    /// Sums over the ranks while the next bucket comes from the GPU and the last one goes back.
    pub(super) fn sum_staged(
        &self,
        staging: &mut dyn Staging,
        values: &mut Values,
        parts: &[Complete],
    ) -> Result<()> {
        let cut = |(range, mark): &Complete| {
            let (end, mark) = (range.end, *mark);
            range.clone().step_by(BUCKET).map(move |start| (start..(start + BUCKET).min(end), mark))
        };
        let mut buckets = parts.iter().flat_map(cut).enumerate().peekable();
        if let Some((_, (first, mark))) = buckets.peek() {
            staging.fetch(0, values.part(first.clone()), *mark)?;
        }
        while let Some((number, (bucket, _))) = buckets.next() {
            let slot = number % 2;
            if let Some((_, (next, mark))) = buckets.peek() {
                staging.fetch(1 - slot, values.part(next.clone()), *mark)?;
            }
            self.world.sum_reals_quietly(staging.fetched(slot)?);
            staging.send(slot, values.part_mut(bucket))?;
        }
        Ok(())
    }

    /// Collective.
    fn way(&self) -> Result<Way> {
        let missing = || Error::failed("sums over ranks", "the device is no GPU", "please report this");
        let gpus = self.device.gpus().ok_or_else(missing)?;
        if self.exchange == Exchange::Staged {
            return self.world.agree(gpus.staging(2, BUCKET)).map(Way::Staging);
        }
        let name = ring_name(&self.world, gpus)?;
        // All have summed on trial: nobody waits here for a rank that cannot join.
        Ok(Way::Ring(gpus.ring(name, self.world.rank(), self.world.size())?))
    }
}

/// A fresh name of a ring, the same on all ranks. Collective.
pub(super) fn ring_name(world: &World, gpus: &dyn Gpus) -> Result<RingName> {
    let name = world.on_root(|| gpus.ring_name().map(Vec::from))?;
    Ok(name.try_into().expect("the root sent a whole name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::World;
    use crate::device::open;

    #[test]
    fn what_leaves_a_gpu_in_buckets_comes_back_to_its_place() {
        let Ok(device) = open("cuda") else {
            println!("no GPU and nothing that stands for one");
            return;
        };
        let reduce = Reduce::new(World::alone(), device.clone(), Exchange::Staged, 1);
        let numbers: Vec<f32> = (0..2 * BUCKET + 7).map(|i| i as f32).collect();
        let mut values = device.values(numbers.len()).unwrap();
        device.write_singles(&numbers, values.whole_mut()).unwrap();
        for range in [3..numbers.len() - 2, 0..BUCKET, 5..5] {
            reduce.sum_on_gpus(&mut values, range).unwrap();
        }
        let mut found = vec![0.0; numbers.len()];
        device.read_singles(values.whole(), &mut found).unwrap();
        assert!(found == numbers);
    }
}
