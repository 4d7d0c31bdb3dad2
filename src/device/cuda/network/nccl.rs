//! NCCL, found at run time: the functions of nccl.h that sums need, of version 2.14 and later.

use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where NCCL is: packages ship the first name, the second comes with what is needed to compile against it.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// How long a communicator that is left waits for what was begun on it.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions whether a communicator is done.
const NAP: Duration = Duration::from_millis(1);

/// `ncclResult_t`, of which two values are no error.
type Code = c_int;
const SUCCESS: Code = 0;
const IN_PROGRESS: Code = 7;
/// `ncclFloat32` of `ncclDataType_t`.
const FLOAT32: c_int = 7;
/// `ncclSum` of `ncclRedOp_t`.
const SUM: c_int = 0;

/// `ncclComm_t`.
type Handle = *mut c_void;
/// `cudaStream_t`, which is the driver's `CUstream`.
pub(super) type Stream = *mut c_void;

/// `ncclUniqueId`: which communicator a process joins.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub(super) [u8; 128]);

/// `ncclConfig_t` as of 2.14: later versions take the size and the version from it, and their defaults for the rest.
#[repr(C)]
struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

/// Without waiting (NCCL's user guide, "Creating a communication with options").
const NONBLOCKING: Config =
    Config { size: size_of::<Config>(), magic: 0xcafe_beef, version: 21_400, blocking: 0 };

/// A table of functions, each with its name in the library.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) -> $result:ty = $symbol:literal;)*) => {
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) -> $result,)*
            /// Closed last; the functions are in it.
            _library: Library,
        }

        impl Functions {
            fn of(library: Library) -> Result<Functions, libloading::Error> {
                // SAFETY: the types are those of nccl.h, and the library stays open as long as the pointers.
                unsafe { Ok(Functions { $($name: *library.get($symbol)?,)* _library: library }) }
            }
        }
    };
}

functions! {
    unique_id: fn(*mut UniqueId) -> Code = "ncclGetUniqueId";
    init: fn(*mut Handle, c_int, UniqueId, c_int) -> Code = "ncclCommInitRank";
    init_config: fn(*mut Handle, c_int, UniqueId, c_int, *const Config) -> Code = "ncclCommInitRankConfig";
    all_reduce: fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Stream) -> Code = "ncclAllReduce";
    async_error: fn(Handle, *mut Code) -> Code = "ncclCommGetAsyncError";
    finalize: fn(Handle) -> Code = "ncclCommFinalize";
    destroy: fn(Handle) -> Code = "ncclCommDestroy";
    abort: fn(Handle) -> Code = "ncclCommAbort";
    error_string: fn(Code) -> *const c_char = "ncclGetErrorString";
    last_error: fn(Handle) -> *const c_char = "ncclGetLastError";
}

/// The library, opened when first asked for.
fn functions() -> Option<&'static Functions> {
    static FOUND: OnceLock<Option<Functions>> = OnceLock::new();
    FOUND.get_or_init(open).as_ref()
}

fn open() -> Option<Functions> {
    for name in NAMES {
        // SAFETY: opening NCCL runs its initializers alone, which have no needs.
        let found = unsafe { Library::new(name) }.and_then(Functions::of);
        match found {
            Ok(functions) => return Some(functions),
            Err(e) => log::debug!("NCCL: {e}"),
        }
    }
    None
}

/// Whether NCCL is installed.
pub(super) fn present() -> bool {
    functions().is_some()
}

/// What NCCL says of a failure.
pub(super) type Result<T, E = String> = std::result::Result<T, E>;

impl Functions {
    fn check(&self, code: Code) -> Result<()> {
        if matches!(code, SUCCESS | IN_PROGRESS) {
            return Ok(());
        }
        // SAFETY: both give a text that ends with a zero byte and stays; the handle is not used (user guide).
        let texts = unsafe { [(self.error_string)(code), (self.last_error)(null_mut())] };
        let texts = texts.iter().filter(|text| !text.is_null());
        // SAFETY: see above.
        let texts = texts.map(|&text| unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned());
        Err(texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": "))
    }
}

fn needed() -> Result<&'static Functions> {
    functions().ok_or_else(|| "NCCL was not found".to_owned())
}

/// A fresh name of a communicator.
pub(super) fn unique_id() -> Result<UniqueId> {
    let nccl = needed()?;
    let mut id = UniqueId([0; 128]);
    // SAFETY: it fills the name whose address it gets.
    nccl.check(unsafe { (nccl.unique_id)(&mut id) })?;
    Ok(id)
}

/// This process's part of a communicator, in the context that was current when it joined. One thread at a time uses it.
pub(super) struct Communicator {
    nccl: &'static Functions,
    handle: Handle,
}

// SAFETY: NCCL lets any thread use a communicator, one at a time, and this one has one owner.
unsafe impl Send for Communicator {}

impl Communicator {
    /// Joins as the `rank`-th of `size`, and waits for the others if it is to. Needs a current context.
    pub(super) fn join(id: UniqueId, rank: usize, size: usize, waits: bool) -> Result<Communicator> {
        let nccl = needed()?;
        let narrow = |number: usize| c_int::try_from(number).map_err(|e| e.to_string());
        let (rank, size, mut handle) = (narrow(rank)?, narrow(size)?, null_mut());
        // SAFETY: the handle and the configuration outlive the call.
        let code = unsafe {
            match waits {
                true => (nccl.init)(&mut handle, size, id, rank),
                false => (nccl.init_config)(&mut handle, size, id, rank, &NONBLOCKING),
            }
        };
        let joined = Communicator { nccl, handle };
        match nccl.check(code) {
            Ok(()) => Ok(joined),
            Err(e) => {
                joined.abort();
                Err(e)
            }
        }
    }

    /// Whether nothing is in progress: on one that was joined without waiting nothing else may be called before.
    pub(super) fn is_idle(&self) -> Result<bool> {
        let mut state = SUCCESS;
        // SAFETY: the communicator was made and not yet left; the state outlives the call.
        self.nccl.check(unsafe { (self.nccl.async_error)(self.handle, &mut state) })?;
        self.nccl.check(state)?;
        Ok(state != IN_PROGRESS)
    }

    /// Waits until nothing is in progress.
    fn wait(&self) -> Result<()> {
        let start = Instant::now();
        while !self.is_idle()? {
            if start.elapsed() > LIMIT {
                return Err(format!("not done after {} s", LIMIT.as_secs()));
            }
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Sums `count` numbers of every rank in their place, in `stream`.
    ///
    /// # Safety
    /// `numbers` is the address of as many numbers on the GPU of the context in which this rank joined, which nothing
    /// else touches until the stream has come past the sum.
    pub(super) unsafe fn sum(&self, numbers: u64, count: usize, stream: Stream) -> Result<()> {
        let place = numbers as *mut c_void;
        // SAFETY: as the caller warrants; the communicator was made and not yet left.
        self.nccl
            .check(unsafe { (self.nccl.all_reduce)(place, place, count, FLOAT32, SUM, self.handle, stream) })
    }

    /// Leaves, once all that was begun is done; on one machine the ranks wait for each other (user guide,
    /// "ncclCommDestroy").
    pub(super) fn leave(self) {
        // SAFETY: the communicator was made and not yet left.
        let finalized =
            self.nccl.check(unsafe { (self.nccl.finalize)(self.handle) }).and_then(|()| self.wait());
        if let Err(e) = finalized {
            log::debug!("NCCL: a communicator cannot be finalized ({e})");
            return self.abort();
        }
        // SAFETY: it is finalized and not used again.
        unsafe { (self.nccl.destroy)(self.handle) };
    }

    /// Leaves in spite of what is in progress.
    pub(super) fn abort(self) {
        if !self.handle.is_null() {
            // SAFETY: the communicator was made and is not used again.
            unsafe { (self.nccl.abort)(self.handle) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_that_of_nccl_2_14() {
        assert_eq!(size_of::<Config>(), 24);
        assert_eq!(NONBLOCKING.size, 24);
    }
}
