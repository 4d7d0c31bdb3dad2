//! Jobs that are stopped or lose a rank half way: all ranks end, and nothing half-written remains.

mod support;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A job of some seconds that writes a store into `folder`, in a process group of its own.
fn start(folder: &Path, ranks: usize) -> Child {
    let mut command = support::genialearn(ranks);
    command.args(["simulate", "--animals", "60000", "--snps", "40000", "--traits", "2", "-q"]);
    command.arg("--out").arg(folder.join("cows.h5")).arg("--pheno").arg(folder.join("traits.tsv"));
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the job starts")
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).expect("the folder is there");
    names.map(|e| e.expect("readable").file_name().into_string().expect("a text")).collect()
}

/// Processes of the program (not of its launchers) that work for `folder`.
fn workers(folder: &Path) -> Vec<i32> {
    let program = env!("CARGO_BIN_EXE_genialearn");
    let folder = folder.to_str().expect("a text");
    let of = |entry: std::io::Result<std::fs::DirEntry>| -> Option<i32> {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.starts_with(program) && line.contains(folder)).then_some(pid)
    };
    std::fs::read_dir("/proc").expect("Linux").filter_map(of).collect()
}

fn signal(pid: i32, which: i32) {
    // SAFETY: kill only sends a signal; the process is this test's own child.
    unsafe { libc::kill(pid, which) };
}

/// Waits until `what` holds, a minute at most.
fn wait(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn interrupted_jobs_leave_nothing_behind() {
    for (ranks, which, code) in
        [(1, libc::SIGINT, Some(130)), (1, libc::SIGTERM, Some(130)), (3, libc::SIGTERM, None)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let mut job = start(dir.path(), ranks);
        wait("writing", || !files(dir.path()).is_empty());
        assert!(files(dir.path()).iter().all(|f| f.ends_with(".tmp")), "{:?}", files(dir.path()));
        signal(if ranks == 1 { job.id() as i32 } else { workers(dir.path())[0] }, which);
        let status = job.wait().expect("the job ends");
        assert!(!status.success());
        assert!(code.is_none() || status.code() == code, "{ranks} ranks: {status}");
        wait("the end of all ranks", || workers(dir.path()).is_empty());
        assert!(files(dir.path()).is_empty(), "{ranks} ranks left {:?}", files(dir.path()));
    }
}

#[test]
fn a_killed_rank_ends_the_others_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut job = start(dir.path(), 3);
    wait("writing", || !files(dir.path()).is_empty());
    let mut ranks = workers(dir.path());
    ranks.sort_unstable();
    assert_eq!(ranks.len(), 3);
    // The last started: the first one writes, and nobody can tidy up behind a killed writer.
    signal(ranks[2], libc::SIGKILL);
    assert!(!job.wait().expect("the job ends").success());
    wait("the end of all ranks", || workers(dir.path()).is_empty());
    assert!(files(dir.path()).is_empty(), "left {:?}", files(dir.path()));
}

#[test]
fn a_rank_killed_while_all_write_relationships_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let store = elsewhere.path().join("cows.h5");
    let name = store.to_str().expect("a text");
    let pheno = elsewhere.path().join("traits.tsv");
    let size = ["simulate", "--animals", "6000", "--snps", "256", "--traits", "1", "-q", "--out", name];
    support::succeeds(1, &[&size[..], &["--pheno", pheno.to_str().expect("a text")]].concat());
    let mut command = support::genialearn(3);
    command.args(["grm", name, "-q", "--out"]).arg(dir.path().join("g.h5"));
    let quiet = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut job = quiet.spawn().expect("the job starts");
    wait("writing", || !files(dir.path()).is_empty());
    let mut ranks = workers(dir.path());
    ranks.sort_unstable();
    let last = *ranks.last().expect("the job runs while it writes");
    signal(last, libc::SIGKILL);
    let whole = job.wait().expect("the job ends").success();
    wait("the end of all ranks", || workers(dir.path()).is_empty());
    assert!(!whole, "the rank was killed before the end");
    assert!(files(dir.path()).is_empty(), "left {:?}", files(dir.path()));
}
