//! Results that appear under their final name only when they are complete.
//!
//! A [`Draft`] is written under a temporary name beside its final one and renamed when done. A draft that is
//! dropped, or whose process is interrupted, leaves nothing behind.

use crate::error::{Error, Result};
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// Temporary files of this process that are not finished yet.
static OPEN: Mutex<Open> = Mutex::new(Open { paths: Vec::new(), discarded: false });
/// What this process reads, and what it was asked to replace: no file may be both.
static FILES: Mutex<Files> = Mutex::new(Files { inputs: Vec::new(), replaced: Vec::new() });
/// Results that have their names, in the order in which they got them.
static FINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

struct Open {
    paths: Vec<PathBuf>,
    /// The process is ending: no file is made any more.
    discarded: bool,
}

impl Open {
    /// The list for one who makes a file. While it is held [`discard_drafts`] waits; after that, this thread does.
    fn to_make_files() -> MutexGuard<'static, Open> {
        let open = OPEN.lock().expect("no panic while held");
        if open.discarded {
            drop(open);
            loop {
                std::thread::park();
            }
        }
        open
    }
}

struct Files {
    inputs: Vec<PathBuf>,
    /// Not yet replaced.
    replaced: Vec<PathBuf>,
}

/// Whether one of `paths` leads to the file at `path` now, through whatever links.
fn leads_to(paths: &[PathBuf], path: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|facts| (facts.dev(), facts.ino())).ok();
    let wanted = file(path);
    wanted.is_some() && paths.iter().any(|other| file(other) == wanted)
}

/// One result in the making.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    temporary: PathBuf,
    force: bool,
    done: bool,
}

impl Draft {
    /// Begins `target` with an empty file at [`Draft::path`]. An existing result is refused unless `force`, and what
    /// is an input of this run or no regular file is always refused. Drafts of processes that were killed are
    /// cleared from the folder.
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        refuse_existing(target, force)?;
        let name = target
            .file_name()
            .ok_or_else(|| Error::input(target.display(), "a file name", "none", "name the file to write"))?;
        let folder = parent(target);
        clear_stale(&folder);
        let temporary = folder.join(temporary_name(&name.to_string_lossy()));
        let draft = Draft { target: target.to_owned(), temporary, force, done: false };
        let mut open = Open::to_make_files();
        open.paths.push(draft.temporary.clone());
        let created = File::options().write(true).create_new(true).open(&draft.temporary);
        drop(open);
        created.map_err(|e| Error::writing(target, &e))?;
        Ok(draft)
    }

    /// The draft as an empty file to write to.
    pub fn file(&self) -> Result<File> {
        // Not made anew: an interruption may just have removed it for good.
        let file = File::options().write(true).truncate(true).open(&self.temporary);
        file.map_err(|e| Error::writing(&self.target, &e))
    }

    /// Runs `make`, which makes the file at the path given to it anew, at no time when drafts are being discarded.
    pub fn made_by<T>(&self, make: impl FnOnce(&Path) -> T) -> T {
        let _open = Open::to_make_files();
        make(&self.temporary)
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// The name that the result will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The result is complete: give it its name. Without `force` a result that appeared in the meantime is kept and
    /// this one is refused.
    pub fn commit(mut self) -> Result<()> {
        let renamed = match self.force {
            true => std::fs::rename(&self.temporary, &self.target),
            false => rename_new(&self.temporary, &self.target),
        };
        renamed.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::failed(
                self.target.display(),
                "was written by another process in the meantime",
                "choose another --out, or run one command at a time",
            ),
            _ => Error::writing(&self.target, &e),
        })?;
        self.done = true;
        FILES.lock().expect("no panic while held").replaced.retain(|path| *path != self.target);
        FINISHED.lock().expect("no panic while held").push(self.target.clone());
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.temporary);
        }
        if let Ok(mut open) = OPEN.lock() {
            open.paths.retain(|p| p != &self.temporary);
        }
    }
}

/// Renames a file to a name that nobody has.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    // A second name is given only where there is none (POSIX.1, link); not all file systems have second names.
    match std::fs::hard_link(from, to) {
        Ok(()) => {
            remove(from);
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(e),
        Err(_) if to.exists() => Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(_) => std::fs::rename(from, to),
    }
}

/// A hidden name that no other process on any machine or in any container gives.
fn temporary_name(name: &str) -> String {
    let random = RandomState::new().build_hasher().finish();
    // Names of files have 255 bytes at most.
    let end = (0..=name.len().min(180)).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    format!(".{}.{:08x}-{}-{random:016x}.tmp", &name[..end], processes(), std::process::id())
}

/// Tells apart where process numbers count: this boot of this machine, this container.
fn processes() -> u32 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    crc32fast::hash(format!("{boot} {host} {}", space.display()).as_bytes())
}

/// Removes drafts of processes of this machine and container that are gone; others may still be written.
fn clear_stale(folder: &Path) {
    static CLEARED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut cleared = CLEARED.lock().expect("no panic while held");
    if cleared.iter().any(|seen| seen == folder) {
        return;
    }
    cleared.push(folder.to_owned());
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let stale = entries.flatten().filter(|e| writer(&e.file_name().to_string_lossy()).is_some_and(is_gone));
    stale.for_each(|e| remove(&e.path()));
}

/// The process of this machine and container that writes the draft of this name.
fn writer(name: &str) -> Option<i32> {
    let (_, mark) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let mut parts = mark.split('-');
    let (space, process, random) = (parts.next()?, parts.next()?, parts.next()?);
    let ours = parts.next().is_none() && random.len() == 16 && space == format!("{:08x}", processes());
    ours.then(|| process.parse().ok()).flatten()
}

fn is_gone(process: i32) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    let found = unsafe { libc::kill(process, 0) };
    found == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Notes a file that this run reads, which no result may replace.
pub fn note_input(path: &Path) -> Result<()> {
    let mut files = FILES.lock().expect("no panic while held");
    files.inputs.push(path.to_owned());
    match leads_to(&files.replaced, path) {
        true => Err(is_input(path)),
        false => Ok(()),
    }
}

fn is_input(path: &Path) -> Error {
    Error::input(
        path.display(),
        "a result that replaces no input",
        "an input of this run",
        "choose another --out",
    )
}

/// Results of this process that have their names and still exist: what stays after a failure.
pub fn finished() -> Vec<PathBuf> {
    let mut finished = FINISHED.lock().expect("no panic while held").clone();
    finished.retain(|path| path.exists());
    finished.dedup();
    finished
}

/// Refuses to overwrite `target` unless `force`, to replace an input of this run or what is no regular file, and to
/// write into a folder that does not exist: to be asked before long work begins.
pub fn refuse_existing(target: &Path, force: bool) -> Result<()> {
    let facts = std::fs::metadata(target).ok();
    if let Some(facts) = facts.as_ref().filter(|facts| !facts.is_file()) {
        let found = if facts.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(Error::input(
            target.display(),
            "a regular file or a new one",
            found,
            "choose another --out",
        ));
    }
    match facts {
        Some(_) if !force => {
            return Err(Error::input(
                target.display(),
                "a new file",
                "one that exists",
                "choose another --out or add --force",
            ));
        }
        Some(_) => {
            let mut files = FILES.lock().expect("no panic while held");
            if leads_to(&files.inputs, target) {
                return Err(is_input(target));
            }
            files.replaced.push(target.to_owned());
        }
        None => {}
    }
    if !parent(target).is_dir() {
        return Err(Error::writing(target, &std::io::ErrorKind::NotFound.into()));
    }
    Ok(())
}

/// Writes a whole text or binary file through a draft.
pub fn write_file(
    target: &Path,
    force: bool,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    draft_file(target, force, write)?.commit()
}

/// As [`write_file`], but the result gets its name only when the draft is committed: for files that belong together.
pub fn draft_file(
    target: &Path,
    force: bool,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<Draft> {
    let draft = Draft::new(target, force)?;
    let mut out = BufWriter::with_capacity(1 << 20, draft.file()?);
    let fill = || -> std::io::Result<()> {
        write(&mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    fill().map_err(|e| Error::writing(target, &e))?;
    Ok(draft)
}

/// `prefix` with `suffix` behind its last name: `out/a` and `.ebv.tsv` give `out/a.ebv.tsv`.
pub fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A file name for any text, other texts giving other names: a text of letters, digits and `-_.` that does not begin
/// with a dot and has at most 60 bytes is its own name; else other characters become `_` and a check sum is added.
pub fn file_name(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if text.len() <= 60 && !text.is_empty() && !text.starts_with('.') && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut name = String::new();
    for c in text.trim_start_matches('.').chars().map(|c| if plain(c) { c } else { '_' }) {
        if name.len() + c.len_utf8() > 60 {
            break;
        }
        name.push(c);
    }
    format!("{name}-{:08x}", crc32fast::hash(text.as_bytes()))
}

/// Removes every unfinished draft of this process, which makes no others from then on: for a process that ends by a
/// signal or a failure. Waits a second at most for a thread that is just making a file.
pub fn discard_drafts() {
    let start = Instant::now();
    // The lock may be held by this very thread.
    let mut open = loop {
        match OPEN.try_lock() {
            Ok(open) => break open,
            Err(TryLockError::Poisoned(open)) => break open.into_inner(),
            Err(TryLockError::WouldBlock) if start.elapsed() < Duration::from_secs(1) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => return,
        }
    };
    open.discarded = true;
    open.paths.iter().for_each(|p| remove(p));
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn remove(path: &Path) {
    // Best effort: the draft may not have been created yet.
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_appears_only_when_committed_and_leaves_nothing_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.tsv");
        let draft = Draft::new(&target, false).unwrap();
        std::fs::write(draft.path(), "half").unwrap();
        drop(draft);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        write_file(&target, false, |w| w.write_all(b"whole")).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_discarded_is_not_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let draft = Draft::new(&dir.path().join("a.tsv"), false).unwrap();
        std::fs::remove_file(draft.path()).unwrap();
        assert_eq!(draft.file().unwrap_err().exit_code(), 2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_result_is_refused_without_force_and_kept_when_the_new_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.tsv");
        std::fs::write(&target, "old").unwrap();
        assert_eq!(write_file(&target, false, |_| Ok(())).unwrap_err().exit_code(), 2);
        let full = || Err(std::io::ErrorKind::StorageFull.into());
        assert_eq!(write_file(&target, true, |_| full()).unwrap_err().exit_code(), 1);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn file_names_are_safe_and_differ_for_different_texts() {
        assert_eq!(file_name("milk_2.5-kg"), "milk_2.5-kg");
        assert!(file_name("fat/protein").starts_with("fat_protein-"));
        let long = "é".repeat(400);
        let texts = ["x y", "x/y", "x_y", "X Y", "../x", "..", ".", "", &long, &long[2..], "a\0b", "a\nb"];
        let names: std::collections::BTreeSet<String> = texts.iter().map(|t| file_name(t)).collect();
        assert_eq!(names.len(), texts.len());
        let safe = |n: &String| n.len() < 80 && !n.starts_with('.') && !n.contains(['/', '\0', '\n', ' ']);
        assert!(names.iter().all(safe), "{names:?}");
    }

    #[test]
    fn drafts_of_one_target_never_meet_and_the_first_complete_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.tsv");
        let drafts = [Draft::new(&target, false).unwrap(), Draft::new(&target, false).unwrap()];
        assert_ne!(drafts[0].path(), drafts[1].path());
        let [first, second] = drafts;
        std::fs::write(first.path(), "first").unwrap();
        std::fs::write(second.path(), "second").unwrap();
        first.commit().unwrap();
        assert_eq!(second.commit().unwrap_err().exit_code(), 1);
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(finished().contains(&target));
    }

    #[test]
    fn only_drafts_of_processes_that_are_gone_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let named = |space: u32, process: i32| format!(".a.h5.{space:08x}-{process}-{:016x}.tmp", 7);
        let (own, gone) = (std::process::id() as i32, i32::MAX);
        let kept = [named(processes(), own), named(!processes(), gone), ".a.h5.7.tmp".into(), "a.tmp".into()];
        for name in kept.iter().chain([&named(processes(), gone)]) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        clear_stale(dir.path());
        assert!(kept.iter().all(|name| dir.path().join(name).exists()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), kept.len());
    }

    #[test]
    fn inputs_folders_and_devices_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [input, link, other] = ["in.tsv", "link.tsv", "other.tsv"].map(|name| dir.path().join(name));
        std::fs::write(&input, "mine").unwrap();
        std::fs::write(&other, "old").unwrap();
        std::os::unix::fs::symlink(&input, &link).unwrap();
        note_input(&input).unwrap();
        for path in [&input, &link, &dir.path().to_owned(), &PathBuf::from("/dev/null")] {
            assert_eq!(Draft::new(path, true).unwrap_err().exit_code(), 2, "{}", path.display());
        }
        refuse_existing(&other, true).unwrap();
        assert_eq!(note_input(&other).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_folder_that_does_not_exist_is_wrong_input() {
        let e = Draft::new(Path::new("/no/such/folder/a.tsv"), false).unwrap_err();
        assert_eq!(e.exit_code(), 2);
    }
}
