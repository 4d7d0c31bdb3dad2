//! The only file that names rsmpi: start and end, and collectives on slices of any length.
//!
//! MPI counts elements in 32 bits, and a slice longer than 2^31-1 would panic. Every message is therefore cut
//! into pieces of [`PIECE_BYTES`], which also is what the tuned collectives of Open MPI like best.

use super::layout::share;
use super::traffic::{count, Kind};
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::ffi;
use mpi::request::{Request, Scope};
use mpi::topology::{Color, SimpleCommunicator};
use mpi::traits::{AsRaw, Communicator, CommunicatorCollectives, Destination, Equivalence, Root, Source};
use mpi::Threading;
use std::ops::{AddAssign, Range};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Bytes in one piece of a message.
const PIECE_BYTES: usize = 4 << 20;
/// Whether other threads than the one that started MPI may call it.
static ANY_THREAD: AtomicBool = AtomicBool::new(false);
/// How long a quiet transfer sleeps before it asks again.
const NAP: Duration = Duration::from_micros(20);

/// The library and its version in one line; may be asked before MPI starts.
pub(super) fn library() -> String {
    let text = mpi::environment::library_version().unwrap_or_default();
    text.split(['\n', ',']).next().unwrap_or_default().trim_matches(['\0', ' ']).to_owned()
}

/// An element that can travel: plain numbers only.
pub trait Element: Equivalence + Copy + Default + Send + 'static {}
impl Element for u8 {}
impl Element for i32 {}
impl Element for i64 {}
impl Element for u64 {}
impl Element for f32 {}
impl Element for f64 {}

/// MPI's own name of a communicator.
pub type RawCommunicator = ffi::MPI_Comm;

/// The MPI world that this process belongs to, or a part of it.
pub(super) struct Job {
    world: SimpleCommunicator,
    /// Dropped last, with the last part of the world: its drop calls MPI_Finalize.
    universe: Rc<Universe>,
}

impl Job {
    /// Joins the MPI job. `None` when MPI was started before in this process.
    pub(super) fn join() -> Option<Job> {
        // Serialized: errors and signals end the job from other threads than the first.
        let (universe, provided) = mpi::initialize_with_threading(Threading::Serialized)?;
        if provided < Threading::Serialized {
            log::debug!(
                "this MPI lets only the first thread speak: errors of others end their process alone"
            );
        }
        ANY_THREAD.store(provided >= Threading::Serialized, SeqCst);
        Some(Job { world: universe.world(), universe: Rc::new(universe) })
    }

    /// The ranks that give the same `color`, numbered by `key` (MPI 3.1, section 6.4.2).
    pub(super) fn split(&self, color: usize, key: usize) -> Job {
        let color = Color::with_value(narrow(color));
        let part = self.world.split_by_color_with_key(color, narrow(key));
        Job { world: part.expect("every rank gives a color"), universe: self.universe.clone() }
    }

    /// This rank's place among the ranks that share its memory, and their number (MPI 3.1, section 6.4.2).
    pub(super) fn here(&self) -> (usize, usize) {
        let node = self.world.split_shared(self.world.rank());
        let number = |x: i32| usize::try_from(x).expect("MPI ranks and sizes are not negative");
        (number(node.rank()), number(node.size()))
    }

    pub(super) fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).expect("MPI ranks are not negative")
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.world.size()).expect("MPI sizes are positive")
    }

    pub(super) fn raw(&self) -> RawCommunicator {
        self.world.as_raw()
    }

    pub(super) fn barrier(&self) {
        self.world.barrier();
    }

    pub(super) fn broadcast<T: Element>(&self, root: usize, data: &mut [T]) {
        let _counted = count(Kind::Broadcast, data);
        let root = self.world.process_at_rank(narrow(root));
        for piece in data.chunks_mut(piece_len::<T>()) {
            root.broadcast_into(piece);
        }
    }

    pub(super) fn sum<T: Element>(&self, data: &mut [T]) {
        self.reduce(data, SystemOperation::sum());
    }

    pub(super) fn max<T: Element>(&self, data: &mut [T]) {
        self.reduce(data, SystemOperation::max());
    }

    fn reduce<T: Element>(&self, data: &mut [T], operation: SystemOperation) {
        let _counted = count(Kind::Sum, data);
        let mut sent = Vec::new();
        for piece in data.chunks_mut(piece_len::<T>()) {
            sent.clear();
            sent.extend_from_slice(piece);
            self.world.all_reduce_into(&sent[..], piece, operation);
        }
    }

    /// All ranks' parts one after the other, `counts[r]` elements of rank r, on every rank (MPI 3.1, section 5.7).
    pub(super) fn gather<T: Element>(&self, own: &[T], counts: &[usize]) -> Vec<T> {
        let mut all = vec![T::default(); counts.iter().sum()];
        let _counted = count(Kind::Gather, &all);
        let starts: Vec<usize> = starts(counts);
        if i32::try_from(all.len()).is_err() {
            let at = starts[self.rank()];
            all[at..at + own.len()].copy_from_slice(own);
            for (r, (&start, &length)) in starts.iter().zip(counts).enumerate() {
                let root = self.world.process_at_rank(narrow(r));
                for piece in all[start..start + length].chunks_mut(piece_len::<T>()) {
                    root.broadcast_into(piece);
                }
            }
            return all;
        }
        let (counts, starts): (Vec<i32>, Vec<i32>) = (narrowed(counts), narrowed(&starts));
        let mut parts = PartitionMut::new(&mut all[..], counts, starts);
        self.world.all_gather_varcount_into(own, &mut parts);
        all
    }

    /// This rank's part of the element-wise sums over the ranks, `counts[r]` elements for rank r (MPI 3.1, section
    /// 5.10.2).
    pub(super) fn sum_parts(&self, data: &mut [i64], counts: &[usize]) -> Vec<i64> {
        let _counted = count(Kind::SumParts, data);
        let own = starts(counts)[self.rank()];
        let length = counts[self.rank()];
        if i32::try_from(data.len()).is_err() {
            for piece in data.chunks_mut(piece_len::<i64>()) {
                let sent = piece.to_vec();
                self.world.all_reduce_into(&sent[..], piece, SystemOperation::sum());
            }
            return data[own..own + length].to_vec();
        }
        let (mut sums, counts) = (vec![0i64; length], narrowed(counts));
        // SAFETY: `data` holds the sum of `counts` elements and `sums` those of this rank; both and `counts`, one a
        // rank of this communicator, live until the call returns, which it does when it has done with them.
        unsafe {
            ffi::MPI_Reduce_scatter(
                data.as_ptr().cast(),
                sums.as_mut_ptr().cast(),
                counts.as_ptr(),
                i64::equivalent_datatype().as_raw(),
                SystemOperation::sum().as_raw(),
                self.world.as_raw(),
            );
        }
        sums
    }

    /// Sums accumulate `root` only; elsewhere `data` is left as it was.
    pub(super) fn sum_to<T: Element>(&self, root: usize, data: &mut [T]) {
        let _counted = count(Kind::SumToOne, data);
        let at_root = self.rank() == root;
        let process = self.world.process_at_rank(narrow(root));
        let mut sent = Vec::new();
        for piece in data.chunks_mut(piece_len::<T>()) {
            if at_root {
                sent.clear();
                sent.extend_from_slice(piece);
                process.reduce_into_root(&sent[..], piece, SystemOperation::sum());
            } else {
                process.reduce_into(&piece[..], SystemOperation::sum());
            }
        }
    }

    /// As [`Job::broadcast`], asleep while there is nothing to do.
    pub(super) fn broadcast_quietly<T: Element>(&self, root: usize, data: &mut [T]) {
        let _counted = count(Kind::Broadcast, data);
        let root = self.world.process_at_rank(narrow(root));
        mpi::request::scope(|scope| {
            let pieces = data.chunks_mut(piece_len::<T>());
            settle(pieces.map(|piece| root.immediate_broadcast_into(scope, piece)).collect());
        });
    }

    /// Sums over the ranks in their order, asleep while there is nothing to do: each rank adds up its share of the
    /// numbers, and gives it to the others.
    pub(super) fn sum_quietly<T: Element + AddAssign>(&self, data: &mut [T]) {
        let _counted = count(Kind::Sum, data);
        let shares: Vec<Range<usize>> = (0..self.size()).map(|r| share(data.len(), r, self.size())).collect();
        let mut contributions = self.bring_together(data, &shares).into_iter();
        let mut total = contributions.next().expect("a world has ranks");
        for contribution in contributions {
            total.iter_mut().zip(contribution).for_each(|(total, x)| *total += x);
        }
        self.hand_out(&total, data, &shares);
    }

    /// All ranks' numbers of this rank's share.
    fn bring_together<T: Element>(&self, data: &[T], shares: &[Range<usize>]) -> Vec<Vec<T>> {
        let own = shares[self.rank()].clone();
        let mut all = vec![vec![T::default(); own.len()]; shares.len()];
        all[self.rank()].copy_from_slice(&data[own]);
        mpi::request::scope(|scope| {
            let mut requests = Vec::new();
            for (rank, to) in all.iter_mut().enumerate().filter(|(rank, _)| *rank != self.rank()) {
                let process = self.world.process_at_rank(narrow(rank));
                let pieces = to.chunks_mut(piece_len::<T>());
                requests.extend(pieces.map(|piece| process.immediate_receive_into(scope, piece)));
            }
            for (rank, share) in shares.iter().enumerate().filter(|(rank, _)| *rank != self.rank()) {
                let process = self.world.process_at_rank(narrow(rank));
                let pieces = data[share.clone()].chunks(piece_len::<T>());
                requests.extend(pieces.map(|piece| process.immediate_send(scope, piece)));
            }
            settle(requests);
        });
        all
    }

    /// Every rank's share in its place on all ranks; this rank's is `own`.
    fn hand_out<T: Element>(&self, own: &[T], data: &mut [T], shares: &[Range<usize>]) {
        mpi::request::scope(|scope| {
            let (mut requests, mut left) = (Vec::new(), data);
            for (rank, share) in shares.iter().enumerate() {
                let (to, behind) = left.split_at_mut(share.len());
                left = behind;
                if rank == self.rank() {
                    to.copy_from_slice(own);
                    continue;
                }
                let process = self.world.process_at_rank(narrow(rank));
                let pieces = to.chunks_mut(piece_len::<T>());
                requests.extend(pieces.map(|piece| process.immediate_receive_into(scope, piece)));
                let pieces = own.chunks(piece_len::<T>());
                requests.extend(pieces.map(|piece| process.immediate_send(scope, piece)));
            }
            settle(requests);
        });
    }

    /// Sends to another rank, asleep while there is nothing to do; for [`Job::receive_quietly`].
    pub(super) fn send_quietly<T: Element>(&self, to: usize, data: &[T]) {
        let _counted = count(Kind::Send, data);
        let process = self.world.process_at_rank(narrow(to));
        mpi::request::scope(|scope| {
            settle(data.chunks(piece_len::<T>()).map(|piece| process.immediate_send(scope, piece)).collect());
        });
    }

    /// Receives as many numbers as `data` holds.
    pub(super) fn receive_quietly<T: Element>(&self, from: usize, data: &mut [T]) {
        let _counted = count(Kind::Receive, data);
        let process = self.world.process_at_rank(narrow(from));
        mpi::request::scope(|scope| {
            let pieces = data.chunks_mut(piece_len::<T>());
            settle(pieces.map(|piece| process.immediate_receive_into(scope, piece)).collect());
        });
    }

    pub(super) fn send<T: Element>(&self, to: usize, data: &[T]) {
        let _counted = count(Kind::Send, data);
        let process = self.world.process_at_rank(narrow(to));
        process.send(&[data.len() as u64][..]);
        for piece in data.chunks(piece_len::<T>()) {
            process.send(piece);
        }
    }

    pub(super) fn receive<T: Element>(&self, from: usize) -> Vec<T> {
        let process = self.world.process_at_rank(narrow(from));
        let mut length = [0u64];
        process.receive_into(&mut length[..]);
        let mut data = vec![T::default(); usize::try_from(length[0]).expect("a length fits in memory")];
        let _counted = count(Kind::Receive, &data);
        for piece in data.chunks_mut(piece_len::<T>()) {
            process.receive_into(piece);
        }
        data
    }

    /// Sends to one rank while receiving from another.
    pub(super) fn exchange<T: Element>(&self, to: usize, sent: &[T], from: usize) -> Vec<T> {
        let (to, from) = (self.world.process_at_rank(narrow(to)), self.world.process_at_rank(narrow(from)));
        let mut length = [0u64];
        mpi::point_to_point::send_receive_into(&[sent.len() as u64][..], &to, &mut length[..], &from);
        let mut data = vec![T::default(); usize::try_from(length[0]).expect("a length fits in memory")];
        let _counted = (count(Kind::Send, sent), count(Kind::Receive, &data));
        // Both sides cut their messages alike; the shorter one's further pieces are empty.
        let (mut out, mut into) = (sent.chunks(piece_len::<T>()), data.chunks_mut(piece_len::<T>()));
        loop {
            match (out.next(), into.next()) {
                (None, None) => return data,
                (Some(piece), None) => to.send(piece),
                (None, Some(piece)) => {
                    from.receive_into(piece);
                }
                (Some(piece), Some(space)) => {
                    mpi::point_to_point::send_receive_into(piece, &to, space, &from);
                }
            }
        }
    }
}

/// Waits until all requests are done, and sleeps in between: MPI's own waiting takes a whole core, which here
/// may be computing.
fn settle<'a, T: ?Sized, S: Scope<'a>>(requests: Vec<Request<'a, T, S>>) {
    for mut request in requests {
        while let Err(pending) = request.test() {
            std::thread::sleep(NAP);
            request = pending;
        }
    }
}

/// Elements in one piece of a message.
fn piece_len<T>() -> usize {
    PIECE_BYTES / size_of::<T>().max(1)
}

/// Where each rank's elements begin among those of all.
fn starts(counts: &[usize]) -> Vec<usize> {
    let mut next = 0;
    let start = |&count: &usize| {
        next += count;
        next - count
    };
    counts.iter().map(start).collect()
}

/// Counts of elements, which are fewer than 2^31 in all.
fn narrowed(counts: &[usize]) -> Vec<i32> {
    counts.iter().map(|&count| narrow(count)).collect()
}

fn narrow(rank: usize) -> i32 {
    i32::try_from(rank).expect("MPI ranks fit in 31 bits")
}

/// Ends every rank of the job at once, from any thread. Returns when there is no MPI job to end, or when this
/// thread may not end it: then the launcher does, once this process is gone.
pub(super) fn abort_job(code: i32) {
    let (mut started, mut ended, mut first) = (0, 0, 0);
    // SAFETY: these calls are allowed at any time and from any thread (MPI 3.1, sections 8.7 and 12.4), the last
    // one while MPI runs; they only write the flag whose address they are given.
    unsafe {
        ffi::MPI_Initialized(&mut started);
        ffi::MPI_Finalized(&mut ended);
        if started == 0 || ended != 0 {
            return;
        }
        ffi::MPI_Is_thread_main(&mut first);
    }
    if first != 0 || ANY_THREAD.load(SeqCst) {
        // SAFETY: MPI is started and not ended, and allows calls of this thread. Another one may be inside MPI;
        // if they wait for each other, `interrupt::exit_soon` ends the process.
        unsafe {
            ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code);
        }
    }
}
