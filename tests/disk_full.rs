//! A full disk: exit code 1, one sentence, nothing left behind.

mod support;

use std::path::PathBuf;
use std::process::Command;

/// A folder with a file system of one megabyte in it, for as long as the value lives.
struct SmallDisk {
    folder: tempfile::TempDir,
    small: PathBuf,
}

impl SmallDisk {
    /// Nothing, and a word, where this user may not mount one.
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let small = folder.path().join("small");
        std::fs::create_dir(&small).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small);
        if command.output().is_ok_and(|out| out.status.success()) {
            return Some(SmallDisk { folder, small });
        }
        println!("not run: this user may not mount a small file system");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.small).status();
    }
}

#[test]
fn importing_to_a_full_disk_fails_with_one_sentence_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (dir, small) = (&disk.folder, &disk.small);
    // 4,000 animals at 2,100 SNPs take two megabytes; 4,000 animals at 8 SNPs leave no room for their names
    for m in [2100, 8] {
        let bed = dir.path().join("cows.bed");
        let fam: String = (0..4000).map(|i| format!("0 {i:0300} 0 0 0 -9\n")).collect();
        let bim: String = (0..m).map(|j| format!("1 s{j} 0 {j} A B\n")).collect();
        std::fs::write(bed.with_extension("fam"), fam).unwrap();
        std::fs::write(bed.with_extension("bim"), bim).unwrap();
        std::fs::write(&bed, [&[0x6C, 0x1B, 1][..], &vec![0b10_00_11_10; 1000 * m]].concat()).unwrap();
        for ranks in [1, 2] {
            let mut command = support::genialearn(ranks);
            command.arg("import").arg(&bed).arg("--out").arg(small.join("cows.h5"));
            let out = support::run_alone(command);
            let text = String::from_utf8_lossy(&out.stderr);
            let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error:")).collect();
            assert_eq!(out.status.code(), Some(1), "{m} SNPs on {ranks} ranks: {text}");
            assert!(errors.len() == 1 && errors[0].contains("cows.h5"), "{m} SNPs on {ranks} ranks: {text}");
            assert_eq!(std::fs::read_dir(small).unwrap().count(), 0, "{m} SNPs on {ranks} ranks: {text}");
        }
    }
}

#[test]
fn relationships_on_a_full_disk_leave_nothing_on_any_rank() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (dir, small) = (&disk.folder, &disk.small);
    // 700 animals: six tiles of half a megabyte, so that the ranks fill the disk between them; 300: GCTA's files
    // of 180 KB each, the second of which does not fit behind the filler
    let store = dir.path().join("cows.h5").to_str().unwrap().to_owned();
    for (n, gcta) in [("700", false), ("300", true)] {
        let pheno = dir.path().join("traits.tsv").to_str().unwrap().to_owned();
        let size = ["simulate", "--animals", n, "--snps", "60", "--traits", "1", "-q", "--force"];
        support::succeeds(1, &[&size[..], &["--out", &store, "--pheno", &pheno]].concat());
        for ranks in [1, 3] {
            let mut command = support::genialearn(ranks);
            command.args(["grm", &store, "--out"]);
            let out = if gcta { dir.path().join("g.h5") } else { small.join("g.h5") };
            command.arg(&out);
            if gcta {
                std::fs::write(small.join("filler"), vec![1; 900 << 10]).unwrap();
                command.arg("--force").arg("--gcta").arg(small.join("g"));
            }
            let found = support::run_alone(command);
            let text = String::from_utf8_lossy(&found.stderr);
            let errors = text.lines().filter(|l| l.starts_with("error:")).count();
            assert_eq!((found.status.code(), errors), (Some(1), 1), "{n} on {ranks} ranks: {text}");
            let left = std::fs::read_dir(small).unwrap().count();
            assert_eq!(left, usize::from(gcta), "{n} animals on {ranks} ranks: {text}");
        }
    }
}
