//! Sums that go on while the numbers behind them are still computed.
//!
//! A backward pass forms the gradient of a network from its end to its beginning. [`Reduce::overlapped`] runs it, takes
//! each bucket as soon as it is complete, and brings all sums back at its end:
//!
//! | numbers in | computes | adds up |
//! |---|---|---|
//! | the host's memory | a thread of its own | the calling thread, which alone may call MPI; asleep between messages |
//! | GPUs, with NCCL | the GPU's stream | the GPUs, in a second stream |
//! | GPUs, staged | the GPU's stream, which has its orders | the calling thread; copies in a second stream |

use super::gpus::{Complete, Way};
use super::{Exchange, Number, Reduce, BUCKET};
use crate::comm::end_job;
use crate::device::network::{Network, Values};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;

/// Numbers of a bucket, about, where one has to be cut for its sum to overlap with what is computed ...
const GRAIN: usize = 1 << 20;
/// ... and on GPUs, whose kernels make 128 x 128 of them a block: 256 blocks keep the 132 processors of an H100 busy. The
/// same on all ranks, whichever GPUs they have.
const GRAIN_ON_GPUS: usize = 4 << 20;

/// Takes buckets of this rank's pieces. All ranks hand over the same buckets in the same order.
pub trait Buckets {
    /// Takes a bucket that is complete. Until [`Buckets::end`] nobody may write there, and what stands there in the
    /// first piece means nothing.
    fn begin(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()>;

    /// The sum of a bucket at once, as [`Reduce::sum`].
    fn sum(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()>;

    /// Waits for the sums of all buckets that were begun, and puts them in the first piece.
    fn end(&mut self, pieces: &mut [Values]) -> Result<()>;
}

impl Reduce {
    /// Does some work and gives it a way to hand over buckets. Collective.
    pub fn overlapped<R: Send>(&self, work: impl FnOnce(&mut dyn Buckets) -> Result<R> + Send) -> Result<R> {
        if self.is_alone() {
            return work(&mut Alone);
        }
        if self.is_on_gpus() {
            return work(&mut OnGpus { reduce: self, begun: Vec::new() });
        }
        match self.is_double() {
            true => self.beside::<f64, R>(work),
            false => self.beside::<f32, R>(work),
        }
    }

    /// How many numbers make a bucket worth handing over; all, where there is nothing to add up.
    pub fn grain(&self) -> usize {
        match (self.is_alone(), self.is_on_gpus()) {
            (true, _) => usize::MAX,
            (false, true) => GRAIN_ON_GPUS,
            (false, false) => GRAIN,
        }
    }

    /// Works in a thread of its own, while this one adds up what comes from there.
    fn beside<T: Number, R: Send>(
        &self,
        work: impl FnOnce(&mut dyn Buckets) -> Result<R> + Send,
    ) -> Result<R> {
        let ((begun, coming), (back, sums)) = (channel(), channel());
        let (device, spare, pieces) = (&*self.device, T::spare(&self.spare), self.own().len());
        let pieces = if self.exchange == Exchange::Ordered { pieces } else { 1 };
        std::thread::scope(|scope| {
            let worker =
                scope.spawn(move || work(&mut Beside { device, spare, pieces, begun, sums, waiting: 0 }));
            for Bucket { range, pieces } in coming {
                let pieces = vec![self.add_up(&range, pieces, spare)];
                // After an error nobody waits for it any more; the other ranks do.
                let _ = back.send(Bucket { range, pieces });
            }
            worker.join().expect("a panic ends the whole job")
        })
    }

    /// The sum of a bucket of all ranks, given this rank's pieces of it.
    fn add_up<T: Number>(
        &self,
        range: &Range<usize>,
        mut pieces: Vec<Vec<T>>,
        spare: &Mutex<Vec<Vec<T>>>,
    ) -> Vec<T> {
        if self.exchange != Exchange::Ordered {
            let mut own = pieces.pop().expect("each rank has a piece");
            self.world.sum_reals_quietly(&mut own);
            return own;
        }
        let (mut total, mut own) = (Vec::new(), pieces.into_iter());
        for number in 0..self.pieces {
            let owner = self.owner(number);
            let mut piece = match owner == self.world.rank() {
                true => own.next().expect("a bucket of each own piece"),
                false => taken(spare, range.len()),
            };
            self.world.broadcast_quietly(owner, &mut piece);
            if number == 0 {
                total = piece;
                continue;
            }
            total.iter_mut().zip(&piece).for_each(|(t, p)| *t += *p);
            give_back(spare, piece);
        }
        total
    }
}

/// Memory of earlier buckets: fresh memory costs more than what fills it.
#[derive(Default)]
pub(super) struct Spare {
    pub(super) singles: Mutex<Vec<Vec<f32>>>,
    pub(super) doubles: Mutex<Vec<Vec<f64>>>,
}

/// Memory for so many numbers.
fn taken<T: Number>(spare: &Mutex<Vec<Vec<T>>>, length: usize) -> Vec<T> {
    let mut memory = spare.lock().expect("no panic while held").pop().unwrap_or_default();
    memory.resize(length, T::default());
    memory
}

fn give_back<T>(spare: &Mutex<Vec<Vec<T>>>, memory: Vec<T>) {
    spare.lock().expect("no panic while held").push(memory);
}

/// One rank with one piece: there is nothing to add up.
struct Alone;

impl Buckets for Alone {
    fn begin(&mut self, _: &mut [Values], _: Range<usize>) -> Result<()> {
        Ok(())
    }

    fn sum(&mut self, _: &mut [Values], _: Range<usize>) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: &mut [Values]) -> Result<()> {
        Ok(())
    }
}

/// A part of the buffers, and copies of this rank's pieces of it, or their sum.
struct Bucket<T> {
    range: Range<usize>,
    pieces: Vec<Vec<T>>,
}

/// A thread that computes beside the one that communicates.
struct Beside<'a, T> {
    device: &'a dyn Network,
    spare: &'a Mutex<Vec<Vec<T>>>,
    /// This rank's pieces.
    pieces: usize,
    begun: Sender<Bucket<T>>,
    sums: Receiver<Bucket<T>>,
    /// Buckets on their way.
    waiting: usize,
}

impl<T: Number> Beside<'_, T> {
    /// Puts the next sum in its place.
    fn receive(&mut self, to: &mut Values) -> Result<()> {
        let lost = |_| Error::failed("sums over ranks", "a sum did not come", "please report this");
        let Bucket { range, mut pieces } = self.sums.recv().map_err(lost)?;
        self.waiting -= 1;
        let sum = pieces.pop().expect("one sum");
        // The other ranks wait for the next bucket: a lost device ends the job.
        T::write(self.device, &sum, to.part_mut(range)).unwrap_or_else(|e| end_job(&e));
        give_back(self.spare, sum);
        Ok(())
    }
}

impl<T: Number> Buckets for Beside<'_, T> {
    fn begin(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()> {
        for start in bucket.clone().step_by(BUCKET) {
            let range = start..(start + BUCKET).min(bucket.end);
            let copy = |piece: &Values| {
                let mut numbers = taken(self.spare, range.len());
                T::read(self.device, piece.part(range.clone()), &mut numbers).map(|()| numbers)
            };
            let pieces = pieces.iter().take(self.pieces).map(copy).collect::<Result<_>>();
            let pieces = pieces.unwrap_or_else(|e| end_job(&e));
            self.begun.send(Bucket { range, pieces }).expect("it listens until this thread ends");
            self.waiting += 1;
        }
        Ok(())
    }

    fn sum(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()> {
        self.begin(pieces, bucket)?;
        // Sums come in the order of their buckets.
        self.end(pieces)
    }

    fn end(&mut self, pieces: &mut [Values]) -> Result<()> {
        while self.waiting > 0 {
            self.receive(&mut pieces[0])?;
        }
        Ok(())
    }
}

/// A GPU, which does what it is told when its turn comes.
struct OnGpus<'a> {
    reduce: &'a Reduce,
    /// What is to be staged.
    begun: Vec<Complete>,
}

impl Buckets for OnGpus<'_> {
    fn begin(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()> {
        if bucket.is_empty() {
            return Ok(());
        }
        let begun = &mut self.begun;
        self.reduce.done(self.reduce.on_gpus(|way| match way {
            Way::Ring(ring) => ring.begin(pieces[0].part_mut(bucket)),
            Way::Staging(staging) => staging.mark().map(|mark| begun.push((bucket, mark))),
        }));
        Ok(())
    }

    fn sum(&mut self, pieces: &mut [Values], bucket: Range<usize>) -> Result<()> {
        self.begin(pieces, bucket)?;
        self.end(pieces)
    }

    fn end(&mut self, pieces: &mut [Values]) -> Result<()> {
        let begun = std::mem::take(&mut self.begun);
        self.reduce.done(self.reduce.on_gpus(|way| match way {
            Way::Ring(ring) => ring.end(),
            Way::Staging(staging) => {
                self.reduce.sum_staged(&mut **staging, &mut pieces[0], &begun)?;
                staging.end()
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::World;
    use crate::device::open;

    #[test]
    fn what_a_gpu_is_told_next_does_not_change_a_bucket_that_left() {
        let Ok(device) = open("cuda") else {
            println!("no GPU and nothing that stands for one");
            return;
        };
        let reduce = Reduce::new(World::alone(), device.clone(), Exchange::Staged, 1);
        let mut pieces = [device.values(3000).unwrap()];
        let mut buckets = OnGpus { reduce: &reduce, begun: Vec::new() };
        for (value, bucket) in [(1.0, 2000..3000), (2.0, 0..7), (3.0, 7..2000)] {
            device.fill(value, pieces[0].part_mut(bucket.clone())).unwrap();
            match value {
                2.0 => buckets.sum(&mut pieces, bucket).unwrap(),
                _ => buckets.begin(&mut pieces, bucket).unwrap(),
            }
        }
        buckets.end(&mut pieces).unwrap();
        let mut found = vec![0.0; 3000];
        device.read(pieces[0].whole(), &mut found).unwrap();
        let wanted = |at: usize| {
            if at < 7 {
                2.0
            } else if at < 2000 {
                3.0
            } else {
                1.0
            }
        };
        assert!(found.iter().enumerate().all(|(at, x)| *x == wanted(at)));
    }
}
