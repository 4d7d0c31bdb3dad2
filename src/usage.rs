//! What this process has used: CPU time and memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a piece of work took.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Wall seconds.
    pub seconds: f64,
    /// CPU seconds of all threads, user and system.
    pub cpu_seconds: f64,
    /// Seconds that a GPU was held, over all that were.
    pub gpu_seconds: f64,
    /// Largest resident memory of a process, in bytes, with what it held before.
    pub memory: u64,
}

impl Cost {
    /// This work and `other` after it.
    pub fn then(self, other: Cost) -> Cost {
        Cost {
            seconds: self.seconds + other.seconds,
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            gpu_seconds: self.gpu_seconds + other.gpu_seconds,
            memory: self.memory.max(other.memory),
        }
    }

    /// A share of the time; all of the memory.
    pub fn share(self, share: f64) -> Cost {
        Cost {
            seconds: share * self.seconds,
            cpu_seconds: share * self.cpu_seconds,
            gpu_seconds: share * self.gpu_seconds,
            memory: self.memory,
        }
    }
}

/// Measures a piece of work of this process.
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    cpu_seconds: f64,
}

impl Meter {
    /// Begins: where the system allows it (Linux), the largest memory counts from here.
    pub fn begin() -> Meter {
        FORGOTTEN.fetch_max(resident(), Ordering::Relaxed);
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Meter { begun: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    /// What the work took until now.
    pub fn cost(&self) -> Cost {
        let (seconds, cpu_seconds) = (self.begun.elapsed().as_secs_f64(), cpu_seconds() - self.cpu_seconds);
        Cost { seconds, cpu_seconds, gpu_seconds: 0.0, memory: resident() }
    }
}

/// The largest resident memory before a [`Meter`] made the system forget it.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);

/// CPU seconds of this process, all threads, user and system.
pub fn cpu_seconds() -> f64 {
    let usage = usage();
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The largest resident memory of this process since its start, in bytes.
pub fn peak_memory() -> u64 {
    resident().max(FORGOTTEN.load(Ordering::Relaxed))
}

/// The largest resident memory that the system remembers, in bytes.
fn resident() -> u64 {
    usage().ru_maxrss as u64 * 1024
}

fn usage() -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::zeroed();
    // SAFETY: getrusage only writes the struct whose address it is given; all-zero is a valid rusage.
    unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_sees_the_work_and_the_memory_of_it() {
        let large = vec![1u8; 64 << 20];
        assert_eq!(std::hint::black_box(&large).iter().map(|&x| usize::from(x)).sum::<usize>(), 64 << 20);
        drop(large);
        let meter = Meter::begin();
        let mut x = 1.0f64;
        while meter.cost().cpu_seconds < 0.02 {
            (0..100_000).for_each(|_| x = std::hint::black_box(x).sqrt());
        }
        let cost = meter.cost();
        assert!(cost.seconds > 0.0 && cost.cpu_seconds >= 0.02, "{cost:?}");
        assert!(cost.memory > 1 << 20 && peak_memory() >= 64 << 20, "{cost:?}, {}", peak_memory());
        let twice = cost.then(cost.share(0.5));
        assert!((twice.cpu_seconds / cost.cpu_seconds - 1.5).abs() < 1e-12 && twice.memory == cost.memory);
    }
}
