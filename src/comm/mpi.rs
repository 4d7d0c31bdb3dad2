//! The only file that names rsmpi: start and end, and collectives on slices of any length.
//!
//! MPI counts elements in 32 bits, and a slice longer than 2^31-1 would panic. Every message is therefore cut
//! into pieces of [`PIECE_BYTES`], which also is what the tuned collectives of Open MPI like best.

use super::traffic::{count, Kind};
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Equivalence, Root, Source};
use mpi::Threading;

/// Bytes in one piece of a message.
const PIECE_BYTES: usize = 4 << 20;

/// An element that can travel: plain numbers only.
pub trait Element: Equivalence + Copy + Default + Send + 'static {}
impl Element for u8 {}
impl Element for i32 {}
impl Element for i64 {}
impl Element for u64 {}
impl Element for f32 {}
impl Element for f64 {}

/// The MPI world that this process belongs to.
pub(super) struct Job {
    world: SimpleCommunicator,
    /// Dropped last: its drop calls MPI_Finalize.
    _universe: Universe,
}

impl Job {
    /// Joins the MPI job. `None` when MPI was started before in this process.
    pub(super) fn join() -> Option<Job> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)?;
        Some(Job { world: universe.world(), _universe: universe })
    }

    pub(super) fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).expect("MPI ranks are not negative")
    }

    pub(super) fn size(&self) -> usize {
        usize::try_from(self.world.size()).expect("MPI sizes are positive")
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

    /// Sums onto `root` only; elsewhere `data` is left as it was.
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
}

/// Elements in one piece of a message.
fn piece_len<T>() -> usize {
    PIECE_BYTES / size_of::<T>().max(1)
}

fn narrow(rank: usize) -> i32 {
    i32::try_from(rank).expect("MPI ranks fit in 31 bits")
}

/// Ends every rank of the job at once, from any thread. Returns when there is no MPI job to end.
pub(super) fn abort_job(code: i32) {
    let (mut started, mut ended) = (0, 0);
    // SAFETY: both calls are allowed at any time and from any thread (MPI 3.1, section 8.7), and only write
    // the flag whose address they are given.
    unsafe {
        ffi::MPI_Initialized(&mut started);
        ffi::MPI_Finalized(&mut ended);
    }
    if started != 0 && ended == 0 {
        // SAFETY: MPI is started and not ended; MPI_Abort does not return.
        unsafe {
            ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code);
        }
    }
}
