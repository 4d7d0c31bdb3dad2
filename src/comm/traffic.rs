//! What this process gave to the collectives so far, and how long it was busy in them.
//!
//! Counted are payloads, as the caller hands them over: a sum of 1 MB over 4 ranks counts 1 MB on each of them,
//! whatever the MPI library sends for it (a ring sends 2·(ranks − 1)/ranks times the payload from every rank).
//! Waiting for slower ranks counts as being busy, because MPI libraries wait by asking again and again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// The kinds of communication, in the order of [`Traffic::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From one rank to all.
    Broadcast,
    /// Sums (and maxima) that every rank receives.
    Sum,
    /// Sums that one rank receives.
    SumToOne,
    /// Every rank's part, for all ranks.
    Gather,
    /// Sums of which each rank receives its part.
    SumParts,
    /// From one rank to another: what was sent.
    Send,
    /// From one rank to another: what was received.
    Receive,
}

/// Number of kinds.
const KINDS: usize = 7;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];
static WALL: AtomicU64 = AtomicU64::new(0); // nanoseconds
static CPU: AtomicU64 = AtomicU64::new(0); // nanoseconds

/// Counts since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    /// Collectives and messages.
    pub calls: u64,
    /// Bytes broadcast, sent or received as one of the ranks of a broadcast.
    pub broadcast_bytes: u64,
    /// Bytes summed (or maximised) with the result on every rank.
    pub sum_bytes: u64,
    /// Bytes summed with the result on one rank.
    pub sum_to_one_bytes: u64,
    /// Bytes gathered from all ranks' parts.
    pub gather_bytes: u64,
    /// Bytes summed with a part of the result on each rank.
    pub sum_parts_bytes: u64,
    /// Bytes sent to single ranks.
    pub sent_bytes: u64,
    /// Bytes received from single ranks.
    pub received_bytes: u64,
    /// Wall seconds within communication, waiting included.
    pub seconds: f64,
    /// CPU seconds of the calling threads within communication, waiting included.
    pub cpu_seconds: f64,
}

impl Traffic {
    /// The counts of this process until now.
    pub fn now() -> Traffic {
        let bytes = |kind: Kind| BYTES[kind as usize].load(Relaxed);
        Traffic {
            calls: CALLS.load(Relaxed),
            broadcast_bytes: bytes(Kind::Broadcast),
            sum_bytes: bytes(Kind::Sum),
            sum_to_one_bytes: bytes(Kind::SumToOne),
            gather_bytes: bytes(Kind::Gather),
            sum_parts_bytes: bytes(Kind::SumParts),
            sent_bytes: bytes(Kind::Send),
            received_bytes: bytes(Kind::Receive),
            seconds: WALL.load(Relaxed) as f64 * 1e-9,
            cpu_seconds: CPU.load(Relaxed) as f64 * 1e-9,
        }
    }

    /// Bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.broadcast_bytes
            + self.sum_bytes
            + self.sum_to_one_bytes
            + self.gather_bytes
            + self.sum_parts_bytes
            + self.sent_bytes
            + self.received_bytes
    }

    /// What came since `before`.
    pub fn since(&self, before: &Traffic) -> Traffic {
        Traffic {
            calls: self.calls - before.calls,
            broadcast_bytes: self.broadcast_bytes - before.broadcast_bytes,
            sum_bytes: self.sum_bytes - before.sum_bytes,
            sum_to_one_bytes: self.sum_to_one_bytes - before.sum_to_one_bytes,
            gather_bytes: self.gather_bytes - before.gather_bytes,
            sum_parts_bytes: self.sum_parts_bytes - before.sum_parts_bytes,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_bytes: self.received_bytes - before.received_bytes,
            seconds: self.seconds - before.seconds,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
        }
    }
}

/// Counts one communication: its payload at once, its time when dropped.
pub(super) struct Counted {
    wall: Instant,
    cpu: u64,
}

/// Begins to count a communication of `data`; keep the result until it is over.
#[must_use]
pub(super) fn count<T>(kind: Kind, data: &[T]) -> Counted {
    CALLS.fetch_add(1, Relaxed);
    BYTES[kind as usize].fetch_add(size_of_val(data) as u64, Relaxed);
    Counted { wall: Instant::now(), cpu: thread_cpu() }
}

impl Drop for Counted {
    fn drop(&mut self) {
        WALL.fetch_add(self.wall.elapsed().as_nanos() as u64, Relaxed);
        CPU.fetch_add(thread_cpu().saturating_sub(self.cpu), Relaxed);
    }
}

/// CPU time of the calling thread in nanoseconds.
fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime only writes the struct whose address it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_and_times_are_counted_by_kind() {
        let before = Traffic::now();
        let counted = count(Kind::Send, &[0f64; 10]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        drop(counted);
        drop(count(Kind::Sum, &[0u8; 3]));
        let t = Traffic::now().since(&before);
        assert_eq!((t.sent_bytes, t.sum_bytes, t.calls, t.bytes()), (80, 3, 2, 83));
        assert!(t.seconds >= 0.002 && t.cpu_seconds < t.seconds);
    }
}
