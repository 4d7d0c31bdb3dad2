//! The GPU itself: its memory, its stream, its kernels.

use super::compile::{self, Source, Target};
use super::launch::Kernel;
use super::transfer::{Transfer, LARGE};
use crate::error::{Error, Result};
use cudarc::driver::sys::{
    cuDriverGetVersion, CUdevice_attribute, CUfunction_attribute, CUmemPool_attribute,
};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaModule, CudaSlice, CudaStream, CudaView, DevicePtr, DevicePtrMut, DeviceRepr,
    DriverError, LaunchConfig, ValidAsZeroBits,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Dynamic shared memory that a kernel gets without asking, in bytes.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;

/// The least compute capability: asynchronous copies, and tensor cores that multiply f64 and bf16.
const OLDEST: (i32, i32) = (8, 0);

/// Bytes of shared memory that a block of the greediest kernel asks for, with what CUDA keeps for itself.
const SHARED_NEEDED: usize = 163 << 10;

/// Bytes of shared memory that CUDA keeps of each block for itself.
const CUDA_OWN: usize = 1 << 10;

/// Waves of blocks that hide how long each block takes.
const WAVES: usize = 2;

/// Numbers on the GPU; at least one, as CUDA gives no empty memory.
pub(super) type Memory<T> = CudaSlice<T>;

/// How many GPUs this process sees; none where CUDA is not installed.
pub(super) fn count() -> usize {
    // SAFETY: it only tries to load the library; nothing else is called unless it is there.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return 0;
    }
    CudaContext::device_count().map_or(0, |count| count.max(0) as usize)
}

/// One GPU and the kernels loaded on it.
pub(super) struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Of each file of kernels that was needed so far.
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    /// Kernels that were asked for so far, by file and name.
    kernels: Mutex<HashMap<(&'static str, String), Loaded>>,
    /// What large copies go through, made when first needed.
    transfer: Mutex<Option<Transfer>>,
    processors: usize,
    /// Bytes of shared memory that a block may ask for.
    most_shared: usize,
}

/// A kernel with the most shared memory that it may ask for so far.
struct Loaded {
    kernel: Kernel,
    shared: usize,
}

/// How many blocks of how many threads, and the shared memory of each block in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) grid: [usize; 3],
    pub(super) threads: usize,
    pub(super) shared: usize,
}

impl Gpu {
    /// Opens the `nth` GPU. One that is too old, or whose blocks have too little shared memory, is refused.
    pub(super) fn open(nth: usize) -> Result<Arc<Gpu>> {
        let context = CudaContext::new(nth).map_err(|e| failed("open", e))?;
        let name = context.name().map_err(|e| failed("open", e))?;
        let capability = context.compute_capability().map_err(|e| failed("open", e))?;
        log::debug!("GPU {nth}: {name}, compute capability {}.{}", capability.0, capability.1);
        if capability < OLDEST {
            let found = format!("{name} has compute capability {}.{}", capability.0, capability.1);
            return Err(unsuitable(format!("{found}, at least {}.{} is needed", OLDEST.0, OLDEST.1)));
        }
        // SAFETY: all kernels and buffers belong to one stream; the second ones of `staging` and `ring` wait for it,
        // and it for them, by events of their own. (Those of cudarc hold for whole buffers, of which buckets are
        // parts.)
        unsafe { context.disable_event_tracking() };
        let stream = context.default_stream();
        let number =
            |which| context.attribute(which).map(|x| x.max(0) as usize).map_err(|e| failed("open", e));
        let processors = number(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let most_shared = number(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        if most_shared < SHARED_NEEDED {
            let found = format!("{name} has {} KiB of shared memory for a block", most_shared >> 10);
            return Err(unsuitable(format!("{found}, {} KiB are needed", SHARED_NEEDED >> 10)));
        }
        keep_memory(&context)?;
        let (modules, kernels, transfer) = (Mutex::default(), Mutex::default(), Mutex::default());
        let processors = processors.max(1);
        Ok(Arc::new(Gpu { context, stream, modules, kernels, transfer, processors, most_shared }))
    }

    /// Makes this the GPU that the driver's calls of the thread are for.
    pub(super) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| failed("bind", e))
    }

    /// Where everything is done, in order.
    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// A second stream, whose work runs beside that of the first.
    pub(super) fn second_stream(&self) -> Result<Arc<CudaStream>> {
        self.context.new_stream().map_err(|e| failed("open a stream", e))
    }

    /// What `later` is told from now on comes after all that `earlier` was told so far.
    pub(super) fn order(&self, earlier: &CudaStream, later: &CudaStream) -> Result<()> {
        let now = earlier.record_event(None).map_err(|e| failed("order streams", e))?;
        later.wait(&now).map_err(|e| failed("order streams", e))
    }

    /// Into how many shares to split work that makes `blocks` blocks anyway, at most `most`, so that the GPU has work for
    /// several waves, and the last one is full. A processor holds two blocks where `shared` bytes of each fit.
    pub(super) fn shares(&self, blocks: usize, most: usize, shared: usize) -> usize {
        let held = ((self.most_shared + CUDA_OWN) / (shared + CUDA_OWN)).clamp(1, 2);
        whole_waves(held * self.processors, blocks).clamp(1, most.max(1))
    }

    /// A kernel that may use `shared` bytes of shared memory, compiled and loaded with the others of its file when
    /// first asked for.
    pub(super) fn kernel(&self, source: &Source, name: &str, shared: usize) -> Result<Kernel> {
        if shared > self.most_shared {
            let problem = format!("{shared} bytes of shared memory, the GPU has {}", self.most_shared);
            return Err(Error::failed(format!("device, cuda, {name}"), problem, "use --device cpu"));
        }
        let mut kernels = self.kernels.lock().expect("no panic while held");
        let key = (source.name, name.to_owned());
        if let Some(known) = kernels.get(&key).filter(|known| known.shared >= shared) {
            return Ok(known.kernel.clone());
        }
        // The calls below work in the thread's current context.
        self.bind()?;
        let function = self.module(source)?.load_function(name).map_err(|e| failed(name, e))?;
        if shared > SHARED_WITHOUT_ASKING {
            let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, shared as i32).map_err(|e| failed(name, e))?;
        }
        let shared = shared.max(SHARED_WITHOUT_ASKING);
        let kernel = Kernel::new(function, source, name);
        kernels.insert(key, Loaded { kernel: kernel.clone(), shared });
        Ok(kernel)
    }

    /// The kernels of one file. A kept binary that the driver does not load is compiled anew, once.
    fn module(&self, source: &Source) -> Result<Arc<CudaModule>> {
        let mut modules = self.modules.lock().expect("no panic while held");
        if let Some(module) = modules.get(source.name) {
            return Ok(module.clone());
        }
        let target = Target {
            capability: self.context.compute_capability().map_err(|e| failed("compile", e))?,
            driver: driver_version(),
        };
        let load = |binary| self.context.load_module(Ptx::from_binary(binary));
        let module = match compile::kept(source, target)?.map(load) {
            Some(Ok(module)) => module,
            found => {
                if let Some(Err(e)) = found {
                    log::debug!("{}: the kept binary does not load ({e}), compiled anew", source.name);
                }
                load(compile::fresh(source, target)?).map_err(|e| unloadable(source, target, e))?
            }
        };
        modules.insert(source.name, module.clone());
        Ok(module)
    }

    /// Memory whose content is undefined.
    pub(super) fn fresh<T: DeviceRepr>(&self, length: usize) -> Result<Memory<T>> {
        // SAFETY: any bits are a value of the plain numbers that are kept there, and who reads them has written them.
        unsafe { self.stream.alloc(length.max(1)) }.map_err(|e| failed("allocate", e))
    }

    /// Memory full of zeros.
    pub(super) fn zeros<T: DeviceRepr + ValidAsZeroBits>(&self, length: usize) -> Result<Memory<T>> {
        self.stream.alloc_zeros(length.max(1)).map_err(|e| failed("allocate", e))
    }

    /// A copy of `values`.
    pub(super) fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<Memory<T>> {
        let mut memory = self.fresh(values.len())?;
        self.write(values, &mut memory, 0)?;
        Ok(memory)
    }

    /// Writes `values` from place `first` on.
    pub(super) fn write<T: DeviceRepr>(&self, values: &[T], to: &mut Memory<T>, first: usize) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let mut to = to.slice_mut(first..first + values.len());
        if size_of_val(values) < LARGE {
            return self.stream.memcpy_htod(values, &mut to).map_err(|e| failed("copy to the GPU", e));
        }
        let sent = self.through_buffers(|transfer| {
            self.order(&self.stream, transfer.stream())?;
            let stream = transfer.stream().clone();
            let (address, _guard) = to.device_ptr_mut(&stream);
            // SAFETY: any number is so many bytes. The view has room for as many; its memory is given back in the order
            // of the first stream, which waits for this copy.
            unsafe {
                let bytes = std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values));
                transfer.send(bytes, address)?;
            }
            self.order(&stream, &self.stream)
        });
        match sent {
            Some(sent) => sent,
            None => self.stream.memcpy_htod(values, &mut to).map_err(|e| failed("copy to the GPU", e)),
        }
    }

    /// Copies the first numbers back and waits for them.
    pub(super) fn download<T: DeviceRepr>(&self, from: &Memory<T>, to: &mut [T]) -> Result<()> {
        match to.len() {
            0 => Ok(()),
            length => self.read(from.slice(..length), to),
        }
    }

    /// Copies a part back, of the length of `to`, and waits for it.
    pub(super) fn read<T: DeviceRepr>(&self, from: CudaView<T>, to: &mut [T]) -> Result<()> {
        if size_of_val(to) >= LARGE {
            return self.read_after(&self.mark()?, from, to);
        }
        self.read_in_order(from, to)
    }

    /// The same without page-locked buffers.
    fn read_in_order<T: DeviceRepr>(&self, from: CudaView<T>, to: &mut [T]) -> Result<()> {
        let copied = self.stream.memcpy_dtoh(&from, to).and_then(|()| self.stream.synchronize());
        copied.map_err(|e| failed("copy from the GPU", e))
    }

    /// This moment in the order of what the GPU was told.
    pub(super) fn mark(&self) -> Result<CudaEvent> {
        self.stream.record_event(None).map_err(|e| failed("mark", e))
    }

    /// As [`Gpu::read`], of what is there at a moment: what the GPU was told since goes on meanwhile, and leaves it.
    pub(super) fn read_after<T: DeviceRepr>(
        &self,
        mark: &CudaEvent,
        from: CudaView<T>,
        to: &mut [T],
    ) -> Result<()> {
        let fetched = self.through_buffers(|transfer| {
            transfer.stream().wait(mark).map_err(|e| failed("copy from the GPU", e))?;
            let stream = transfer.stream().clone();
            let (address, _guard) = from.device_ptr(&stream);
            // SAFETY: numbers are so many bytes, of which any bits are values; the view holds as many, which are there.
            unsafe {
                let bytes = std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), size_of_val(to));
                transfer.fetch(address, bytes)
            }
        });
        match fetched {
            Some(fetched) => fetched,
            None => self.read_in_order(from, to),
        }
    }

    /// Copies through the page-locked buffers; nothing where another thread has them. (This one may have them itself, as
    /// threads that copy together take other work while they wait.)
    fn through_buffers(&self, copy: impl FnOnce(&mut Transfer) -> Result<()>) -> Option<Result<()>> {
        let mut transfer = self.transfer.try_lock().ok()?;
        Some(self.bind().and_then(|()| match &mut *transfer {
            Some(transfer) => copy(transfer),
            none => copy(none.insert(Transfer::new(self)?)),
        }))
    }
}

impl Shape {
    /// As the driver wants it; an error where the GPU has no such grid.
    pub(super) fn config(self) -> Result<LaunchConfig> {
        let [x, y, z] = self.grid;
        if x >= 1 << 31 || y >= 1 << 16 || z >= 1 << 16 {
            let problem = format!("{x} x {y} x {z} blocks at a time");
            return Err(Error::failed("device, cuda", problem, "use more ranks"));
        }
        Ok(LaunchConfig {
            grid_dim: (x as u32, y as u32, z as u32),
            block_dim: (self.threads as u32, 1, 1),
            shared_mem_bytes: self.shared as u32,
        })
    }
}

/// Memory that is freed stays with this process, for its next buffers; else each wait for the GPU gives it back.
fn keep_memory(context: &CudaContext) -> Result<()> {
    let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut all = u64::MAX;
    // SAFETY: the device is that of an open context, the pool is the device's own, and the attribute is a u64.
    let kept = unsafe {
        let pool = cudarc::driver::result::device::get_default_mem_pool(context.cu_device());
        pool.and_then(|pool| {
            cudarc::driver::result::mem_pool::set_attribute(pool, threshold, (&raw mut all).cast())
        })
    };
    kept.map_err(|e| failed("keep memory", e))
}

/// The newest CUDA that the driver serves, as (major, minor).
fn driver_version() -> (i32, i32) {
    let mut version = 0;
    // SAFETY: the driver is loaded, as a context is open; it writes one number.
    let _ = unsafe { cuDriverGetVersion(&mut version) };
    (version / 1000, version % 1000 / 10)
}

/// The error of a GPU that the kernels cannot run on.
fn unsuitable(problem: String) -> Error {
    Error::failed("device, cuda", problem, "use an A100, H100, H200 or B200, or --device cpu")
}

/// The error of a fresh binary that the driver does not load.
fn unloadable(source: &Source, target: Target, e: DriverError) -> Error {
    let (driver, compiler) = (target.driver, compile::version());
    if driver.0 >= compiler.0 {
        return failed(source.name, e);
    }
    let versions =
        format!("for CUDA {}.{}, libnvrtc is of CUDA {}.{}", driver.0, driver.1, compiler.0, compiler.1);
    let problem = format!("the driver, {versions}, does not load the kernels ({e})");
    let advice = format!("install libnvrtc of CUDA {} or a newer driver, or use --device cpu", driver.0);
    Error::failed("device, cuda", problem, advice)
}

/// The most shares that make no more than so many waves of a GPU that holds `held` blocks at a time, out of `blocks` each.
fn whole_waves(held: usize, blocks: usize) -> usize {
    WAVES * held / blocks.max(1)
}

/// What the driver says, as an error of this program.
pub(super) fn failed(operation: &str, e: DriverError) -> Error {
    let text = e.error_string().map_or_else(|_| e.to_string(), |text| text.to_string_lossy().into_owned());
    let advice = match text.contains("memory") {
        true => "use more ranks or GPUs, or --device cpu",
        false => "see that the GPU works (nvidia-smi), or use --device cpu",
    };
    Error::failed(format!("device, cuda, {operation}"), text, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fill_waves_and_do_not_begin_another() {
        // An H100's 132 processors with two blocks each, tiles of 128: batch 1024, hidden 512 makes 32 tiles.
        assert_eq!(whole_waves(2 * 132, 32), 16);
        assert_eq!(whole_waves(132, 32), 8);
        assert_eq!([1, 264, 265, 528, 529].map(|blocks| whole_waves(264, blocks)), [528, 2, 1, 1, 0]);
    }

    #[test]
    fn a_block_with_more_shared_memory_than_the_gpu_has_is_one_clear_error() {
        if count() == 0 {
            println!("no GPU and nothing that stands for one");
            return;
        }
        let gpu = Gpu::open(0).unwrap();
        let source = Source { name: "adam.cu", text: include_str!("../../../kernels/adam.cu") };
        assert!(gpu.kernel(&source, "adam", gpu.most_shared).is_ok());
        let e = gpu.kernel(&source, "adam", gpu.most_shared + 1).unwrap_err();
        assert!(e.to_string().contains("shared memory"), "{e}");
    }
}
