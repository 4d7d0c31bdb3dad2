//! Files of kernels, compiled for the GPU at hand by NVRTC and kept on disk under a hash of everything they came from.

use crate::error::{Error, Result};
use cudarc::nvrtc::sys;
use std::ffi::{c_char, c_int, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// One file of kernels.
pub(super) struct Source {
    /// Its name in `kernels/`.
    pub(super) name: &'static str,
    /// What it says.
    pub(super) text: &'static str,
}

/// The headers that files of kernels include.
pub(super) const HEADERS: [Source; 8] = [
    Source { name: "columns.cuh", text: include_str!("../../../kernels/columns.cuh") },
    Source { name: "common.cuh", text: include_str!("../../../kernels/common.cuh") },
    Source { name: "decode.cuh", text: include_str!("../../../kernels/decode.cuh") },
    Source { name: "fours.cuh", text: include_str!("../../../kernels/fours.cuh") },
    Source { name: "philox.cuh", text: include_str!("../../../kernels/philox.cuh") },
    Source { name: "ptx.cuh", text: include_str!("../../../kernels/ptx.cuh") },
    Source { name: "sums.cuh", text: include_str!("../../../kernels/sums.cuh") },
    Source { name: "tiles.cuh", text: include_str!("../../../kernels/tiles.cuh") },
];

/// The folder of compiled kernels, when not in the user's folder of caches.
const FOLDER: &str = "GENIALEARN_CACHE";

/// What kernels are compiled for.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Target {
    /// The GPU's compute capability, as (major, minor).
    pub(super) capability: (c_int, c_int),
    /// The newest CUDA that the driver serves, as (major, minor).
    pub(super) driver: (c_int, c_int),
}

/// The kernels of one file as they were kept, if they were. An error where there is no compiler, whose version is part of
/// what they are kept under.
pub(super) fn kept(source: &Source, target: Target) -> Result<Option<Vec<u8>>> {
    need_compiler()?;
    Ok(path(source, target).and_then(|path| std::fs::read(path).ok()))
}

/// The kernels of one file, compiled now and kept; for one who asked for the [`kept`] ones before.
pub(super) fn fresh(source: &Source, target: Target) -> Result<Vec<u8>> {
    let binary = compile(source, target.capability)?;
    if let Some(path) = path(source, target) {
        keep(&path, &binary);
    }
    Ok(binary)
}

/// Whether the compiler is installed.
pub(super) fn is_present() -> bool {
    // SAFETY: it only tries to load the library; nothing else is called unless it is there.
    unsafe { sys::is_culib_present() }
}

fn need_compiler() -> Result<()> {
    if is_present() {
        return Ok(());
    }
    let problem = "libnvrtc, CUDA's compiler, was not found";
    let advice = "install it (cuda-nvrtc of the driver's CUDA), add its folder to LD_LIBRARY_PATH, or use --device cpu";
    Err(Error::failed("device, cuda", problem, advice))
}

/// Where the kernels of one file are kept.
fn path(source: &Source, target: Target) -> Option<PathBuf> {
    folder().map(|folder| folder.join(file_name(source, target)))
}

/// Where compiled kernels are kept; nowhere without a home.
fn folder() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    path(FOLDER)
        .or_else(|| Some(path("XDG_CACHE_HOME")?.join("genialearn")))
        .or_else(|| Some(path("HOME")?.join(".cache/genialearn")))
}

/// Differs when any source, the compiler, the driver or the kind of GPU does.
fn file_name(source: &Source, target: Target) -> String {
    let mut hash = DefaultHasher::new();
    (env!("CARGO_PKG_VERSION"), version(), target, source.text).hash(&mut hash);
    HEADERS.iter().for_each(|header| header.text.hash(&mut hash));
    format!("{}.sm_{}{}.{:016x}.cubin", source.name, target.capability.0, target.capability.1, hash.finish())
}

/// The compiler's version, as (major, minor).
pub(super) fn version() -> (c_int, c_int) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: it writes two numbers to the addresses of two.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    (major, minor)
}

/// Several ranks may do so at once: each writes a file of its own, and renaming is atomic. What fails is only slower
/// the next time.
fn keep(path: &Path, binary: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let own = path.with_extension(format!("{}.tmp", std::process::id()));
    let kept = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&own, binary))
        .and_then(|()| std::fs::rename(&own, path));
    if let Err(e) = kept {
        let _ = std::fs::remove_file(&own);
        log::debug!("compiled kernels are not kept: {} ({e})", path.display());
    }
}

/// A program of the compiler's, destroyed at the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was made by nvrtcCreateProgram and is destroyed once.
        unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}

fn compile(source: &Source, (major, minor): (i32, i32)) -> Result<Vec<u8>> {
    let c = |text: &str| CString::new(text).expect("sources hold no zero byte");
    let (text, name) = (c(source.text), c(source.name));
    let headers: Vec<(CString, CString)> = HEADERS.iter().map(|h| (c(h.text), c(h.name))).collect();
    let texts: Vec<*const c_char> = headers.iter().map(|h| h.0.as_ptr()).collect();
    let names: Vec<*const c_char> = headers.iter().map(|h| h.1.as_ptr()).collect();
    let options = [format!("--gpu-architecture=sm_{major}{minor}"), "--std=c++17".into()].map(|o| c(&o));
    let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();

    let mut program = Program(std::ptr::null_mut());
    // SAFETY: all strings end with a zero byte and outlive the program; the counts are those of the lists.
    let made = unsafe {
        let count = texts.len() as c_int;
        sys::nvrtcCreateProgram(
            &mut program.0,
            text.as_ptr(),
            name.as_ptr(),
            count,
            texts.as_ptr(),
            names.as_ptr(),
        )
    };
    check(source, made, "")?;
    // SAFETY: the program was made above; the count is that of the list.
    let done = unsafe { sys::nvrtcCompileProgram(program.0, options.len() as c_int, options.as_ptr()) };
    check(source, done, &log_of(&program))?;
    let mut size = 0;
    // SAFETY: it writes one number.
    check(source, unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }, "")?;
    let mut binary = vec![0u8; size];
    // SAFETY: `size` bytes are written, which is what the buffer holds.
    check(source, unsafe { sys::nvrtcGetCUBIN(program.0, binary.as_mut_ptr().cast()) }, "")?;
    Ok(binary)
}

/// What the compiler said.
fn log_of(program: &Program) -> String {
    let mut size = 0;
    // SAFETY: it writes one number.
    unsafe { sys::nvrtcGetProgramLogSize(program.0, &mut size) };
    let mut log = vec![0u8; size];
    // SAFETY: `size` bytes are written, which is what the buffer holds.
    unsafe { sys::nvrtcGetProgramLog(program.0, log.as_mut_ptr().cast()) };
    String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned()
}

fn check(source: &Source, result: sys::nvrtcResult, log: &str) -> Result<()> {
    if result == sys::nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    if log.contains("nvrtc-builtins") {
        let advice = "add the folder of libnvrtc-builtins to LD_LIBRARY_PATH, or use --device cpu";
        return Err(Error::failed("device, cuda", format!("libnvrtc lacks a part of it: {log}"), advice));
    }
    let problem = format!("the kernels do not compile ({result:?}) {log}");
    Err(Error::failed(format!("device, cuda, {}", source.name), problem, "please report this"))
}
