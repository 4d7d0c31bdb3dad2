//! Too little memory: a result or one sentence within seconds, never an abort or a wait without end.

mod support;

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs the program with an address space of so many megabytes.
fn limited(megabytes: u64, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", "30", env!("CARGO_BIN_EXE_genialearn")]).args(args);
    // OpenBLAS gives each of its own threads a buffer before the program begins.
    command.env("OPENBLAS_NUM_THREADS", "1");
    let limit = libc::rlimit { rlim_cur: megabytes << 20, rlim_max: megabytes << 20 };
    // SAFETY: setrlimit is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let out = command.output().expect("the program starts");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn too_little_memory_is_told_and_enough_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cows, traits, out) = (path("cows.h5"), path("traits.tsv"), path("r"));
    let herd = ["--animals", "60", "--snps", "200", "--traits", "2", "--out", &cows, "--pheno", &traits];
    support::succeeds(1, &[&["simulate", "-q"][..], &herd].concat());
    let reml = ["reml", &cows, "--pheno", &traits, "--out", &out, "--force", "-q", "--threads", "1"];
    let before = support::listing(dir.path());
    for megabytes in [220, 280] {
        let (code, told) = limited(megabytes, &reml);
        assert_eq!(code, Some(1), "{megabytes} MB: {told}");
        assert_eq!(told.matches("error: memory:").count(), 1, "{megabytes} MB: {told}");
        assert_eq!(support::listing(dir.path()), before, "{megabytes} MB left something");
    }
    assert_eq!(limited(2000, &reml), (Some(0), String::new()));
}

#[test]
fn more_threads_than_processors_are_refused() {
    let mut command = support::genialearn(1);
    let out = command.args(["info", "none.h5", "--threads", "99999"]).output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{told}");
    assert!(told.contains("error: --threads: expected at most"), "{told}");
    let mut command = support::genialearn(1);
    let out = command.args(["info", "none.h5"]).env("SLURM_CPUS_PER_TASK", "99999").output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(told.contains("warn: SLURM_CPUS_PER_TASK is 99999"), "{told}");
}
