//! `genialearn doctor`: what this machine and this job offer, what is expected, and what to do where it is not there.

use super::Context;
use crate::comm;
use crate::device;
use crate::error::{Error, Result};
use crate::hdf;
use crate::memory;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLES: &str = "\
Examples:
  genialearn doctor
  genialearn doctor --folder /scratch/cows     (where genotypes and results will lie)
  srun -n 8 genialearn doctor                  (what ranks of a job find)

Ends with code 1 where something must be put right.";

/// Free bytes of the folder below which a note is given.
const LITTLE_DISK: f64 = 10e9;
/// Free bytes of memory below which a note is given.
const LITTLE_MEMORY: f64 = 4e9;

/// What the user may type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Where genotypes and results will lie
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, but slower or less than it could.
    Note,
    /// Must be put right.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    remedy: String,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Finding {
        Finding { what, found: found.into(), verdict: Verdict::Good, remedy: String::new() }
    }

    fn bad(
        what: &'static str,
        found: impl Into<String>,
        verdict: Verdict,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { what, found: found.into(), verdict, remedy: remedy.into() }
    }

    fn line(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Good => "ok   ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        let line = format!("{verdict}  {:<10}  {}", self.what, self.found);
        match self.remedy.as_str() {
            "" => line,
            remedy => format!("{line}\n{:19}{remedy}", ""),
        }
    }
}

/// Looks at everything, and prints one line each.
///
/// # Errors
/// Where something must be put right.
pub fn run(args: Args, context: &mut Context) -> Result<()> {
    let mut own = vec![memory_here(), files(&args.folder), disk(&args.folder)];
    own.extend(gpus());
    let wrong_here: Vec<String> =
        own.iter().filter(|f| f.verdict == Verdict::Wrong).map(Finding::line).collect();
    let everywhere = context.world.all_gather(&(host_name(), wrong_here));
    let hosts: BTreeSet<&str> = everywhere.iter().map(|(host, _)| host.as_str()).collect();
    let mut findings = vec![program(), processor(context), blas(), mpi(context, &hosts)];
    findings.extend(own);
    // The root alone prints: not every rank need ask srun.
    findings.extend(context.world.is_root().then(slurm).flatten());
    findings.iter().for_each(|finding| context.say(finding.line()));
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    for (rank, (host, lines)) in everywhere.iter().enumerate().skip(1) {
        lines.iter().for_each(|line| context.say(format_args!("rank {rank} on {host}: {line}")));
    }
    let (notes, wrong) =
        (count(Verdict::Note), everywhere.iter().map(|(_, lines)| lines.len()).sum::<usize>());
    let ended = match wrong {
        0 => Ok(()),
        n => Err(Error::failed(
            "doctor",
            format!("{n} to be put right"),
            "see the lines that begin with WRONG",
        )),
    };
    if wrong == 0 {
        context.say(format_args!("nothing is wrong, {notes} notes"));
    }
    context.world.agree(ended)
}

fn program() -> Finding {
    Finding::good("program", format!("{}, HDF5 {}", super::version(), hdf::library_version()))
}

fn processor(context: &Context) -> Finding {
    let instructions = device::instructions();
    let has = |wanted: bool| -> Vec<&str> {
        instructions.iter().filter(|(_, there)| *there == wanted).map(|(name, _)| *name).collect()
    };
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let found = format!(
        "{} processors, {} threads a rank; {} (not there: {})",
        comm::processors(),
        context.threads,
        list(has(true)),
        list(has(false))
    );
    match instructions.first() {
        Some((_, true)) => Finding::good("processor", found),
        _ => {
            let remedy =
                "kernels written for AVX2 are several times faster than plain loops: use a processor with it";
            Finding::bad("processor", found, Verdict::Note, remedy)
        }
    }
}

fn memory_here() -> Finding {
    let limited = if memory::is_limited() { ", limited for this process" } else { "" };
    let Some(free) = memory::available() else {
        let remedy = "solvers are chosen as if there were enough: choose one with --solver";
        return Finding::bad("memory", "not known", Verdict::Note, remedy);
    };
    let found = format!("{:.1} GB free{limited}", free as f64 / 1e9);
    if free as f64 >= LITTLE_MEMORY {
        return Finding::good("memory", found);
    }
    let remedy = "113,599 animals with 50,161 SNPs take 4 GB by --solver pcg: raise the limit (Slurm: --mem), or take more nodes";
    Finding::bad("memory", found, Verdict::Note, remedy)
}

fn blas() -> Finding {
    let (config, old) = device::describe_blas();
    if !old {
        return Finding::good("BLAS", config);
    }
    let remedy = "its kernels are those of old processors, some four times slower: install a newer OpenBLAS, or set OPENBLAS_CORETYPE=Haswell";
    Finding::bad("BLAS", config, Verdict::Note, remedy)
}

/// The ranks and their machines. A job whose ranks do not find each other was refused before.
fn mpi(context: &Context, hosts: &BTreeSet<&str>) -> Finding {
    let started = match (context.world.size(), comm::launched()) {
        (1, false) => "one rank, started without mpirun or srun".to_owned(),
        (size, _) => {
            let names = hosts.iter().copied().collect::<Vec<_>>().join(", ");
            format!("{size} ranks on {} machines ({names})", hosts.len())
        }
    };
    Finding::good("MPI", format!("{}; {started}", comm::mpi_library()))
}

fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: it writes at most as many bytes as it is told.
    let failed = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) } != 0;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    if failed {
        "unknown".into()
    } else {
        String::from_utf8_lossy(&name[..end]).into_owned()
    }
}

/// Whether HDF5 can write, lock and read a file in a folder.
fn files(folder: &Path) -> Finding {
    let path = folder.join(format!(".genialearn-doctor-{}-{}.h5", host_name(), std::process::id()));
    let result = hdf::try_out(&path);
    let place = format!("files in {}", folder.display());
    match result {
        Ok(()) => Finding::good("HDF5", format!("{place} can be written, locked and read")),
        Err(e) => {
            let remedy = match e.contains("lock") {
                true => "export HDF5_USE_FILE_LOCKING=FALSE: this file system has no locks",
                false => "choose a --folder that can be written",
            };
            Finding::bad("HDF5", format!("{place}: {e}"), Verdict::Wrong, remedy)
        }
    }
}

fn disk(folder: &Path) -> Finding {
    let Some(free) = free_bytes(folder) else {
        return Finding::bad("disk", "not known", Verdict::Note, "see `df` for what is left");
    };
    let found = format!("{:.1} GB free in {}", free / 1e9, folder.display());
    match free >= LITTLE_DISK {
        true => Finding::good("disk", found),
        false => {
            let remedy =
                "a store of 113,599 animals with 50,161 SNPs takes 1.4 GB, its relationship matrix 52 GB";
            Finding::bad("disk", found, Verdict::Note, remedy)
        }
    }
}

fn free_bytes(folder: &Path) -> Option<f64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: all zeros are a value of the structure, which the call fills.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and the structure is there.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0;
    (!failed).then_some(found.f_bavail as f64 * found.f_frsize as f64)
}

/// Every GPU that the driver names, tried out, and the libraries that make use of them.
fn gpus() -> Vec<Finding> {
    let count = device::gpus();
    if count == 0 {
        return vec![Finding::good("GPU", "none: networks and trees run on the processor")];
    }
    let try_out = |nth: usize| match device::open_nth("cuda", nth) {
        Ok(_) => Finding::good("GPU", format!("{nth} of {count}: a kernel was compiled, ran and was right")),
        Err(e) => {
            Finding::bad("GPU", format!("{nth} of {count}: {e}"), Verdict::Wrong, "or use --device cpu")
        }
    };
    let mut findings: Vec<Finding> = (0..count).map(try_out).collect();
    for (name, found) in device::cuda_libraries() {
        let remedy = match name {
            "NVRTC" => "install cuda-nvrtc of the driver's CUDA: kernels are compiled at run time",
            "NCCL" => {
                "install libnccl2: gradients of several ranks are summed through the processors without it"
            }
            _ => "install libcublas: dense products of cuda-bf16 take our own kernels without it",
        };
        findings.push(match found {
            Some(version) => Finding::good(name, version),
            None => Finding::bad(name, "not found", Verdict::Note, remedy),
        });
    }
    findings
}

/// The job, and which MPI plug-ins srun has.
fn slurm() -> Option<Finding> {
    let plugins = Command::new("srun").arg("--mpi=list").output();
    let job = std::env::var("SLURM_JOB_ID").ok();
    let told = |job: &Option<String>| job.as_ref().map_or("no job".to_owned(), |id| format!("job {id}"));
    let Ok(plugins) = plugins else {
        return job.map(|id| {
            let remedy = "module load slurm, or call srun by its path";
            Finding::bad("Slurm", format!("job {id}, but no srun"), Verdict::Note, remedy)
        });
    };
    // Some versions tell on standard error.
    let text = [plugins.stdout, plugins.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let names: Vec<&str> =
        text.split_whitespace().filter(|w| w.starts_with("pmi") || *w == "cray_shasta").collect();
    let found = format!("{}; srun --mpi: {}", told(&job), names.join(", "));
    if names.iter().any(|name| name.starts_with("pmix")) || !comm::mpi_library().contains("Open MPI") {
        return Some(Finding::good("Slurm", found));
    }
    let remedy =
        "srun has no plug-in pmix, which this Open MPI wants: use mpirun inside the job, or another MPI";
    Some(Finding::bad("Slurm", found, Verdict::Note, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_wrong_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let found = files(dir.path());
        assert!(found.verdict == Verdict::Good, "{}", found.line());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let found = files(&dir.path().join("none"));
        assert!(found.verdict == Verdict::Wrong && found.line().contains("\n"), "{}", found.line());
        assert!(disk(&dir.path().join("none")).verdict == Verdict::Note);
    }

    #[test]
    fn every_line_says_how_good_it_is_first() {
        let line = Finding::bad("disk", "0.1 GB free", Verdict::Note, "make room").line();
        assert!(
            line.starts_with("note   disk        0.1 GB free\n") && line.ends_with("make room"),
            "{line}"
        );
    }
}
