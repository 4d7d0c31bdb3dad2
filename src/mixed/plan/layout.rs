//! How the fits of one rank are shared out among its threads.

use super::cost::BESIDE_G;
use crate::comm::{self, World};
use crate::device::BlasThreads;
use crate::error::Result;
use crate::memory;
use rayon::prelude::*;

/// Share of the memory free beside G that fits done at once may take.
const AT_ONCE_SHARE: f64 = 0.5;
/// A dense fit of n animals does this over n of its work on one thread, however many there are: the eigenvalues of
/// the band (benches/results/reml.md).
const SERIAL: f64 = 1200.0;
/// From this number of animals with records on a fit may use several threads; smaller ones have the same bits with
/// any number of threads.
const THREADS_FROM: usize = 2048;

/// How one rank shares its fits out among its threads: several at once with one thread each, or one after the other
/// with all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Fits at the same time.
    pub at_once: usize,
    /// Threads of the BLAS calls of a fit.
    pub threads: usize,
}

impl Layout {
    /// For `fits` of at most `animals` records on each rank, whose matrices beside G take up to `bytes` each, when
    /// `free` bytes are there for a rank with `threads`.
    pub fn new(fits: usize, animals: usize, bytes: f64, free: f64, threads: usize) -> Layout {
        let at_once = at_once_in(free, bytes, threads).min(fits.max(1));
        let rounds = fits.div_ceil(at_once) as f64;
        match animals >= THREADS_FROM && fits as f64 * share_of_time(animals, threads) < rounds {
            true => Layout { at_once: 1, threads },
            false => Layout { at_once, threads: 1 },
        }
    }

    /// For `fits` of at most `animals` records on this rank with G in memory already.
    pub fn beside_g(fits: usize, animals: usize) -> Layout {
        let free = available_bytes() as f64 / comm::ranks_here() as f64;
        Self::new(fits, animals, BESIDE_G * matrix_bytes(animals), free, rayon::current_num_threads())
    }

    /// Does `tasks` in turn on all ranks, as many at once as the layout says; every rank receives all results, in
    /// their order. Collective.
    ///
    /// # Errors
    /// The first of any task, on all ranks.
    pub fn deal<T>(
        self,
        world: &World,
        tasks: usize,
        task: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>>
    where
        T: Clone + Send + serde::Serialize + serde::de::DeserializeOwned,
    {
        let _threads = BlasThreads::of(self.threads);
        let own: Vec<usize> = (world.rank()..tasks).step_by(world.size()).collect();
        let mut done: Vec<(usize, T)> = Vec::new();
        let result = own.chunks(self.at_once).try_for_each(|some| {
            done.extend(some.par_iter().map(|&i| Ok((i, task(i)?))).collect::<Result<Vec<_>>>()?);
            Ok(())
        });
        world.agree(result)?;
        let mut all: Vec<(usize, T)> = world.all_gather(&done).into_iter().flatten().collect();
        all.sort_by_key(|(i, _)| *i);
        Ok(all.into_iter().map(|(_, found)| found).collect())
    }

    /// Time of `fits` of `animals` that take `one` each on one thread.
    pub(super) fn time(self, fits: usize, animals: usize, one: f64) -> f64 {
        fits.div_ceil(self.at_once) as f64 * one * share_of_time(animals, self.threads)
    }
}

/// Time of a dense fit of `animals` with some threads over that with one (Amdahl's law).
fn share_of_time(animals: usize, threads: usize) -> f64 {
    let serial = (SERIAL / animals.max(1) as f64).min(1.0);
    serial + (1.0 - serial) / threads as f64
}

/// How many fits that hold `bytes` each to do at the same time on this rank within half of its free memory.
pub fn at_once(bytes: f64) -> usize {
    at_once_in(available_bytes() as f64 / comm::ranks_here() as f64, bytes, rayon::current_num_threads())
}

/// How many dense fits of at most `animals` to do at the same time on this rank, beside G.
pub fn fits_at_once(animals: usize) -> usize {
    at_once(BESIDE_G * matrix_bytes(animals))
}

fn at_once_in(free: f64, bytes: f64, threads: usize) -> usize {
    ((AT_ONCE_SHARE * free / bytes.max(1.0)) as usize).clamp(1, threads)
}

/// Bytes of a matrix (n, n).
pub(super) fn matrix_bytes(n: usize) -> f64 {
    8.0 * (n as f64).powi(2)
}

/// Memory that is free on this machine; plenty where the system does not tell.
pub fn available_bytes() -> usize {
    memory::available().unwrap_or(usize::MAX / 4)
}
