//! Many processes: the world of ranks, and who owns what ([`layout`]).
//!
//! A single process is a world of one: the same code runs, the collectives have nothing to do. Collectives are
//! called by all ranks or by none; what may fail on one rank goes through [`World::agree`] before the next one, or
//! through [`World::section`] where there is no place to agree.

pub mod interrupt;
pub mod layout;
mod mpi;
pub mod reduce;
mod traffic;

pub use self::mpi::{Element, RawCommunicator};
pub use self::traffic::Traffic;

use crate::device::one_blas_thread;
use crate::error::{Error, Result};
use crate::output;
use std::io::Write;
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::OnceLock;

/// The ranks that work together, seen from one of them. Clones share the same job; drop all to leave it.
#[derive(Clone)]
pub struct World {
    rank: usize,
    size: usize,
    job: Option<Rc<mpi::Job>>,
}

impl World {
    /// A world of one: this process alone.
    pub fn alone() -> Self {
        one_blas_thread();
        World { rank: 0, size: 1, job: None }
    }

    /// The world that the launcher started: `mpirun`, `srun` or nothing (a world of one).
    ///
    /// Under Slurm a world of one is checked against the step's tasks: with the wrong `--mpi` plug-in, srun starts
    /// N processes that each believe they are alone, and would all write the same result.
    pub fn start() -> Result<Self> {
        if !launched() {
            return Ok(Self::alone());
        }
        one_blas_thread();
        let job = mpi::Job::join()
            .ok_or_else(|| Error::failed("MPI", "was started twice in one process", "please report this"))?;
        HERE.get_or_init(|| job.here());
        let world = World { rank: job.rank(), size: job.size(), job: Some(Rc::new(job)) };
        install_panic_hook();
        check_slurm(world.size, |name| std::env::var(name).ok())?;
        Ok(world)
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this rank reads shared input, prints and writes results.
    pub fn is_root(&self) -> bool {
        self.rank == 0
    }

    /// What this process gave to the collectives so far, in all worlds that it takes part in.
    pub fn traffic(&self) -> Traffic {
        Traffic::now()
    }

    /// The ranks that give the same `color`, as a world of their own in which they stand in the order of `key`.
    /// To be called by all ranks (MPI 3.1, section 6.4.2).
    pub fn split(&self, color: usize, key: usize) -> World {
        let Some(job) = &self.job else { return Self::alone() };
        let part = job.split(color, key);
        World { rank: part.rank(), size: part.size(), job: Some(Rc::new(part)) }
    }

    /// Waits until every rank has come here (MPI 3.1, section 5.3).
    pub fn barrier(&self) {
        if let Some(job) = &self.job {
            job.barrier();
        }
    }

    /// Copies `data` of `root` to every rank; the length must be the same on all (MPI 3.1, section 5.4).
    pub fn broadcast<T: Element>(&self, root: usize, data: &mut [T]) {
        if let Some(job) = &self.job {
            job.broadcast(root, data);
        }
    }

    /// As [`World::broadcast`], but sleeps instead of asking all the time: for a thread that communicates while
    /// others compute.
    pub fn broadcast_quietly<T: Element>(&self, root: usize, data: &mut [T]) {
        if let Some(job) = &self.job {
            job.broadcast_quietly(root, data);
        }
    }

    /// Copies a whole value of `root` to every rank; elsewhere `value` is ignored and may be `None`.
    pub fn broadcast_value<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        root: usize,
        value: Option<T>,
    ) -> T {
        if self.size == 1 {
            return value.expect("the root gives a value");
        }
        let mut bytes = match &value {
            Some(v) if self.rank == root => postcard::to_stdvec(v).expect("plain values serialize"),
            _ => Vec::new(),
        };
        let mut length = [bytes.len() as u64];
        self.broadcast(root, &mut length);
        bytes.resize(usize::try_from(length[0]).expect("a length fits in memory"), 0);
        self.broadcast(root, &mut bytes);
        match value {
            Some(v) if self.rank == root => v,
            _ => postcard::from_bytes(&bytes).expect("the root sent a whole value"),
        }
    }

    /// Element-wise sum over the ranks, on every rank. Exact and the same for any number of ranks (integers
    /// wrap); sums of reals go through [`crate::stats::FixedPoint`] to become so.
    pub fn sum_i64(&self, data: &mut [i64]) {
        if let Some(job) = &self.job {
            job.sum(data);
        }
    }

    /// Element-wise sum of reals over the ranks, with the same bits on every rank: they are summed accumulate the root,
    /// which gives them out. Another number of ranks may give other last bits.
    pub fn sum_f64(&self, data: &mut [f64]) {
        self.sum_reals(data);
    }

    /// As [`World::sum_f64`], of any precision.
    pub fn sum_reals<T: Element>(&self, data: &mut [T]) {
        if let Some(job) = &self.job {
            job.sum_to(0, data);
            job.broadcast(0, data);
        }
    }

    /// As [`World::sum_reals`], but added in the order of the ranks, whatever the MPI library does, and asleep while
    /// there is nothing to do: for a thread that communicates while others compute.
    pub fn sum_reals_quietly<T: Element + AddAssign>(&self, data: &mut [T]) {
        if let Some(job) = &self.job {
            job.sum_quietly(data);
        }
    }

    /// Like [`World::sum_i64`], but only `root` receives the sums; elsewhere `data` stays.
    pub fn sum_i64_to(&self, root: usize, data: &mut [i64]) {
        if let Some(job) = &self.job {
            job.sum_to(root, data);
        }
    }

    /// All ranks' parts one after the other on every rank; `counts[r]` elements come from rank r (MPI 3.1, section 5.7).
    pub fn gather<T: Element>(&self, own: Vec<T>, counts: &[usize]) -> Vec<T> {
        assert_eq!(own.len(), counts[self.rank], "this rank's part");
        match &self.job {
            Some(job) => job.gather(&own, counts),
            None => own,
        }
    }

    /// This rank's part of the element-wise sums over the ranks; `counts[r]` elements are rank r's. Exact, as
    /// [`World::sum_i64`] is (MPI 3.1, section 5.10.2).
    pub fn sum_parts_i64(&self, mut data: Vec<i64>, counts: &[usize]) -> Vec<i64> {
        assert_eq!(data.len(), counts.iter().sum::<usize>(), "the parts of all ranks");
        match &self.job {
            Some(job) => job.sum_parts(&mut data, counts),
            None => data,
        }
    }

    /// Element-wise maximum over the ranks, on every rank.
    pub fn max<T: Element>(&self, data: &mut [T]) {
        if let Some(job) = &self.job {
            job.max(data);
        }
    }

    /// Every rank's value, in rank order, on every rank.
    pub fn all_gather<T: serde::Serialize + serde::de::DeserializeOwned + Clone>(&self, value: &T) -> Vec<T> {
        (0..self.size)
            .map(|root| self.broadcast_value(root, (root == self.rank).then(|| value.clone())))
            .collect()
    }

    /// Sends numbers to another rank, which must [`World::receive`] them (MPI 3.1, section 3.2).
    pub fn send<T: Element>(&self, to: usize, data: &[T]) {
        assert_ne!(to, self.rank, "a rank does not send to itself");
        self.job.as_ref().expect("another rank exists").send(to, data);
    }

    /// Receives what `from` sends.
    pub fn receive<T: Element>(&self, from: usize) -> Vec<T> {
        assert_ne!(from, self.rank, "a rank does not receive from itself");
        self.job.as_ref().expect("another rank exists").receive(from)
    }

    /// Sends numbers to another rank, which must [`World::receive_quietly`] as many; sleeps while it waits.
    pub fn send_quietly<T: Element>(&self, to: usize, data: &[T]) {
        assert_ne!(to, self.rank, "a rank does not send to itself");
        self.job.as_ref().expect("another rank exists").send_quietly(to, data);
    }

    /// Receives as many numbers as `data` holds from another rank; sleeps while it waits.
    pub fn receive_quietly<T: Element>(&self, from: usize, data: &mut [T]) {
        assert_ne!(from, self.rank, "a rank does not receive from itself");
        self.job.as_ref().expect("another rank exists").receive_quietly(from, data);
    }

    /// Sends `data` to the rank `to` and receives what `from` sends in the same call. Every rank calls it; a
    /// rank may be its own partner (MPI 3.1, section 3.10).
    pub fn exchange<T: Element>(&self, to: usize, data: &[T], from: usize) -> Vec<T> {
        match &self.job {
            Some(job) if to != self.rank => job.exchange(to, data, from),
            _ => data.to_vec(),
        }
    }

    /// MPI's own name of this world, for libraries that want it; nothing where MPI was not started.
    pub fn raw(&self) -> Option<RawCommunicator> {
        self.job.as_ref().map(|job| job.raw())
    }

    /// All ranks learn whether any of them failed, and all return an error if so: the lowest failing rank's
    /// message. To be called by every rank wherever a step may fail on some of them only.
    pub fn agree<T>(&self, result: Result<T>) -> Result<T> {
        if self.size == 1 {
            return result;
        }
        // The lowest failing rank wins: the maximum of size - rank.
        let mut vote = [if result.is_err() { (self.size - self.rank) as i64 } else { 0 }];
        self.max(&mut vote);
        if vote[0] == 0 {
            return result;
        }
        let speaker = self.size - usize::try_from(vote[0]).expect("votes are not negative");
        let told =
            self.broadcast_value(speaker, result.as_ref().err().map(|e| (e.exit_code(), e.to_string())));
        match result {
            Err(own) if self.rank == speaker => Err(own),
            _ => Err(Error::Elsewhere { rank: speaker, exit_code: told.0, message: told.1 }),
        }
    }

    /// The root's value on every rank, each of which comes with its own of the same kind. What collectives depend on
    /// goes through it wherever processors of several kinds may round differently.
    pub fn decide<T: serde::Serialize + serde::de::DeserializeOwned>(&self, own: T) -> T {
        self.broadcast_value(0, Some(own))
    }

    /// Does a fallible step on the root and gives its value to every rank.
    pub fn on_root<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        step: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let value = if self.is_root() { step().map(Some) } else { Ok(None) };
        let value = self.agree(value)?;
        Ok(self.broadcast_value(0, value))
    }

    /// Gives the value of a step that has collective calls in it, such as a training step. Where it fails on this rank
    /// the others may wait for it by now, so that nothing remains but to say so and to end the job; a rank alone gets
    /// the error back, and so do all ranks for an interruption and for what they agreed on. What all ranks find alike
    /// is no matter for a section: return it behind one.
    pub fn section<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        match step() {
            Err(e) if self.size > 1 && !matches!(e, Error::Interrupted { .. } | Error::Elsewhere { .. }) => {
                let (exit_code, message) = (e.exit_code(), format!("rank {}: {e}", self.rank));
                end_job(&Error::Elsewhere { rank: self.rank, exit_code, message })
            }
            other => other,
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

/// Ends every rank of the job at once with an error's sentence and exit code.
pub fn end_job(error: &Error) -> ! {
    interrupt::exit_soon(error.exit_code());
    // In one piece: lines of other ranks would get between the parts.
    let _ = std::io::stderr().write_all(format!("error: {error}\n").as_bytes());
    abort(error.exit_code())
}

/// Ends every rank of the job at once with `code`; without a job it ends this process. May be called from any
/// thread; no locks of BLAS, HDF5 or MPI delay it for more than two seconds.
pub fn abort(code: i32) -> ! {
    interrupt::exit_soon(code);
    output::discard_drafts();
    mpi::abort_job(code);
    interrupt::exit_now(code)
}

/// This rank's place among the ranks of its machine and their number, once MPI has told.
static HERE: OnceLock<(usize, usize)> = OnceLock::new();

/// Threads that each rank should use: what Slurm gave, but no more than the machine has processors, else the node's
/// cores shared by the ranks on it.
pub fn threads_per_rank() -> usize {
    let Some(given) = variable("SLURM_CPUS_PER_TASK") else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        return (cores / ranks_here()).max(1);
    };
    let most = processors();
    if given > most {
        log::warn!(
            "SLURM_CPUS_PER_TASK is {given}, but this machine has {most} processors: {most} threads are used"
        );
    }
    given.clamp(1, most)
}

/// Processors of this machine, whether or not this process may use all of them.
pub fn processors() -> usize {
    // SAFETY: sysconf only tells a number, or -1.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::try_from(online).unwrap_or(1).max(allowed)
}

/// How many ranks of the job run on this machine: as MPI tells, before it starts as far as the launcher does.
pub fn ranks_here() -> usize {
    let told = || ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"].into_iter().find_map(variable);
    HERE.get().map(|here| here.1).or_else(told).unwrap_or(1).max(1)
}

/// Which of the ranks on this machine this one is, from 0, as MPI tells whatever started it: for sharing out GPUs.
pub fn place_here() -> usize {
    HERE.get().map_or(0, |here| here.0)
}

/// A number that a launcher left in the environment.
fn variable(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Whether this is the launcher's rank 0 (or a process alone), known before MPI starts.
pub fn is_first_process() -> bool {
    ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .is_none_or(|rank| rank == "0")
}

/// The MPI library that the program was built for, and its version.
pub fn mpi_library() -> String {
    mpi::library()
}

/// Whether a launcher of parallel jobs started this process.
pub fn launched() -> bool {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
        || std::env::var("SLURM_STEP_NUM_TASKS").is_ok_and(|n| n != "1")
}

/// Refuses a process that is alone where Slurm started several. Launchers that start one proxy a node by srun
/// (hydra of MPICH and Intel MPI) leave the number of nodes in Slurm's variable, and tell the size themselves.
fn check_slurm(size: usize, variable: impl Fn(&str) -> Option<String>) -> Result<()> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let told = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().find_map(number);
    match number("SLURM_STEP_NUM_TASKS") {
        Some(tasks) if tasks > 1 && size == 1 && told != Some(1) => Err(Error::input(
            "srun",
            format!("a world of {tasks} ranks"),
            "processes that are each alone",
            "start with `srun --mpi=pmix` (or the plug-in that your MPI was built for)",
        )),
        _ => Ok(()),
    }
}

/// Without this hook a panic on one rank leaves the others waiting for it for ever.
fn install_panic_hook() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        abort(101);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_of_one_has_nothing_to_do() {
        let w = World::alone();
        let mut x = [3i64, 4];
        w.sum_i64(&mut x);
        w.broadcast(0, &mut x);
        w.barrier();
        assert_eq!((x, w.rank(), w.size()), ([3, 4], 0, 1));
        assert_eq!(w.all_gather(&"a".to_string()), ["a"]);
        assert_eq!(w.on_root(|| Ok(7)).unwrap(), 7);
        assert!(w.agree::<()>(Err(Error::failed("a", "b", "c"))).is_err());
        assert!(w.section::<()>(|| Err(Error::failed("a", "b", "c"))).is_err());
        assert_eq!(w.section(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn slurm_refuses_only_processes_that_are_alone_by_mistake() {
        let slurm = |size, set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|&(k, v)| (k.into(), v.into())).collect();
            check_slurm(size, |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone())).is_ok()
        };
        assert!(slurm(1, &[]) && slurm(1, &[("SLURM_STEP_NUM_TASKS", "1")]));
        assert!(slurm(4, &[("SLURM_STEP_NUM_TASKS", "4")]));
        assert!(!slurm(1, &[("SLURM_STEP_NUM_TASKS", "4")]));
        assert!(!slurm(1, &[("SLURM_STEP_NUM_TASKS", "4"), ("PMI_SIZE", "4")]));
        // hydra: one proxy a node, several ranks on each, or one rank in all
        assert!(slurm(8, &[("SLURM_STEP_NUM_TASKS", "2"), ("PMI_SIZE", "8")]));
        assert!(slurm(1, &[("SLURM_STEP_NUM_TASKS", "2"), ("PMI_SIZE", "1")]));
    }
}
