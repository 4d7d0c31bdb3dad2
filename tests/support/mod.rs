//! What the tests of several ranks share: a test relaunches itself under mpirun.
#![allow(dead_code)] // each test binary uses its own part

use genialearn::comm::World;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Names the test that a relaunched process is to run on its rank.
const RANK_TEST: &str = "GENIALEARN_RANK_TEST";
/// One mpirun at a time: several at once would starve each other on a small machine.
static MPIRUN: Mutex<()> = Mutex::new(());

/// Runs `body` on worlds of each of `sizes` ranks. `test` is the calling test's own name.
///
/// Called from `cargo test`, it starts this test binary under `mpirun` once for each size; in the processes so
/// started it runs `body`. A panic on any rank ends the job and fails the test.
pub fn on_ranks(test: &str, sizes: &[usize], body: impl Fn(&World)) {
    if std::env::var(RANK_TEST).is_ok_and(|name| name == test) {
        let world = World::start().expect("a world under mpirun");
        return body(&world);
    }
    for &size in sizes {
        let (status, text) = relaunched(test, size);
        assert!(status.success(), "{test} on {size} ranks: {status}\n{text}");
        assert!(text.contains("1 passed"), "{test} ran no test on {size} ranks\n{text}");
    }
}

/// As [`on_ranks`] on `size` ranks in an empty folder, which the body must end with an error within `limit` after it
/// began, all of them; gives what they said and what lies in the folder then.
pub fn ends_on_ranks(
    test: &str,
    size: usize,
    limit: Duration,
    body: impl Fn(&World),
) -> Option<(String, BTreeSet<String>)> {
    if std::env::var(RANK_TEST).is_ok_and(|name| name == test) {
        let world = World::start().expect("a world under mpirun");
        std::fs::write(format!("{}.id", world.rank()), std::process::id().to_string())
            .expect("a folder to write to");
        world.barrier();
        body(&world);
        return None;
    }
    let (folder, start) = (tempfile::tempdir().expect("a folder"), Instant::now());
    let (status, text) = relaunched_in(folder.path(), test, size);
    let id = |rank: usize| std::fs::read_to_string(folder.path().join(format!("{rank}.id")));
    let begun: Vec<String> =
        (0..size).map(|rank| id(rank).unwrap_or_else(|e| panic!("{e}\n{text}"))).collect();
    while begun.iter().any(|id| Path::new("/proc").join(id).exists()) && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!status.success(), "{test} on {size} ranks did not fail\n{text}");
    assert!(start.elapsed() < limit, "{test}: {:?}\n{text}", start.elapsed());
    let files = listing(folder.path()).into_iter().filter(|name| !name.ends_with(".id"));
    Some((text, files.collect()))
}

/// This test binary under mpirun with one test alone, and all that its ranks say.
fn relaunched(test: &str, size: usize) -> (std::process::ExitStatus, String) {
    relaunched_in(Path::new("."), test, size)
}

fn relaunched_in(folder: &Path, test: &str, size: usize) -> (std::process::ExitStatus, String) {
    let exe = std::env::current_exe().expect("the test binary has a path");
    let mut command = mpirun(size);
    command
        .current_dir(folder)
        .arg(exe)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(RANK_TEST, test);
    let out = run_alone(command);
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status, text)
}

/// `mpirun -n size`, ended after two minutes at the latest.
pub fn mpirun(size: usize) -> Command {
    mpirun_for("120", size)
}

/// `mpirun -n size`, ended after so many seconds at the latest.
pub fn mpirun_for(seconds: &str, size: usize) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", seconds, "mpirun", "-n", &size.to_string()]);
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none");
    command
}

/// The program, alone for one rank and under mpirun for more.
pub fn genialearn(ranks: usize) -> Command {
    let exe = env!("CARGO_BIN_EXE_genialearn");
    if ranks == 1 {
        return Command::new(exe);
    }
    let mut command = mpirun(ranks);
    command.arg(exe);
    command
}

/// Runs a command while no other test runs mpirun.
pub fn run_alone(mut command: Command) -> Output {
    let _guard: MutexGuard<()> = MPIRUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    command.output().expect("the command starts")
}

/// Runs the program and demands success; returns standard output.
pub fn succeeds(ranks: usize, args: &[&str]) -> String {
    let mut command = genialearn(ranks);
    command.args(args);
    let out = run_alone(command);
    assert!(
        out.status.success(),
        "genialearn {} on {ranks} ranks: {}\n{}",
        args.join(" "),
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

/// A file of the shared data sets, where they exist; says so when they do not.
pub fn shared(path: &str) -> Option<std::path::PathBuf> {
    let root = std::env::var_os("GENIALEARN_SHARED").unwrap_or_else(|| "../shared".into());
    let full = std::path::Path::new(&root).join(path);
    if full.exists() {
        return Some(full);
    }
    println!("not run: {} does not exist here", full.display());
    None
}

/// The names of all that lies in a folder: to see that a failed command has left nothing behind.
pub fn listing(folder: &std::path::Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    entries.map(|e| e.expect("readable").file_name().into_string().expect("a plain name")).collect()
}

/// Sends a signal to a command once its checkpoint is there; it must keep its state and say how to go on.
pub fn interrupt(mut command: Command, checkpoint: &Path, signal: i32) {
    let job = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !checkpoint.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint came");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: kill only sends a signal; the process is this test's own child.
    unsafe { libc::kill(job.id() as i32, signal) };
    let out = job.wait_with_output().unwrap();
    let told = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(130) && told.contains("add --resume to go on"), "{told}");
}

/// The Rust files below a folder.
pub fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    out
}
