//! Whether the GPUs of all ranks can sum among themselves. NCCL may be there and unable to start (its driver, cgroups, a
//! small /dev/shm), and since 2.22 it connects at the first sum only: so the ranks sum once before they rely on it. Nobody
//! waits inside NCCL meanwhile, where a rank that failed would leave the others behind.

use super::gpus::ring_name;
use crate::comm::World;
use crate::device::network::{Network, Ring};
use crate::error::{Error, Result};
use std::fmt;
use std::time::{Duration, Instant};

/// How long the ranks wait for NCCL.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions whether NCCL is ready.
const NAP: Duration = Duration::from_millis(5);

/// Why NCCL is not used: the lowest rank that it failed on, and what it said there.
#[derive(Debug)]
pub(super) struct Refusal {
    rank: usize,
    problem: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NCCL cannot start on rank {}: {}", self.rank, self.problem)
    }
}

impl Refusal {
    /// The error where NCCL was asked for.
    pub(super) fn error(self) -> Error {
        let advice = "see what it says with NCCL_DEBUG=INFO, or use --exchange staged";
        Error::failed(format!("NCCL cannot start on rank {}", self.rank), self.problem, advice)
    }
}

/// What all ranks find alike.
type Outcome<T> = std::result::Result<T, Refusal>;

/// Sums a one of each rank from GPU to GPU, where every rank has a GPU of its own and NCCL. Collective.
pub(super) fn run(world: &World, device: &dyn Network) -> Outcome<()> {
    let gpus = device.gpus().expect("every rank has a GPU");
    let name = agreed(world, ring_name(world, gpus))?;
    let ring = gpus.ring_on_trial(name, world.rank(), world.size());
    let sum = sum_of_ones(world, device, &ring);
    if let (Ok(ring), Err(_)) = (ring, &sum) {
        ring.give_up();
    }
    sum
}

fn sum_of_ones(world: &World, device: &dyn Network, ring: &Result<Box<dyn Ring>>) -> Outcome<()> {
    let ring = agreed(world, ring.as_ref().map_err(Error::clone))?;
    wait(world, &**ring)?;
    let mut one = agreed(world, device.values(1))?;
    let begun = device.write(&[1.0], one.whole_mut()).and_then(|()| ring.begin(one.whole_mut()));
    agreed(world, begun)?;
    wait(world, &**ring)?;
    let mut sum = [0.0];
    agreed(world, ring.end().and_then(|()| device.read(one.whole(), &mut sum)))?;
    let right = sum == [world.size() as f64];
    let problem = || failed(format!("ones of {} ranks sum to {}", world.size(), sum[0]));
    agreed(world, right.then_some(()).ok_or_else(problem))
}

/// Waits until NCCL has done what all ranks began.
fn wait(world: &World, ring: &dyn Ring) -> Outcome<()> {
    let start = Instant::now();
    loop {
        let late = start.elapsed() > LIMIT;
        let idle = ring.is_idle().and_then(|idle| match late && !idle {
            true => Err(failed(format!("not ready after {} s", LIMIT.as_secs()))),
            false => Ok(idle),
        });
        let mut busy = [i64::from(!agreed(world, idle)?)];
        world.max(&mut busy);
        if busy == [0] {
            return Ok(());
        }
        std::thread::sleep(NAP);
    }
}

/// This rank's value where no rank failed. Collective.
fn agreed<T>(world: &World, own: Result<T>) -> Outcome<T> {
    let own = own.map_err(|e| match e {
        Error::Failed { problem, .. } => problem,
        other => other.to_string(),
    });
    let problems = world.all_gather(&own.as_ref().err().cloned());
    let refusal = problems.into_iter().enumerate().find_map(|(rank, problem)| Some((rank, problem?)));
    match (refusal, own) {
        (None, Ok(value)) => Ok(value),
        (Some((rank, problem)), _) => Err(Refusal { rank, problem }),
        (None, Err(problem)) => Err(Refusal { rank: world.rank(), problem }),
    }
}

fn failed(problem: String) -> Error {
    Error::failed("NCCL", problem, "see what it says with NCCL_DEBUG=INFO")
}
