//! Results that appear under their final name only when they are complete.
//!
//! A [`Draft`] is written under a temporary name beside its final one and renamed when done. A draft that is
//! dropped, or whose process is interrupted, leaves nothing behind.

use crate::error::{Error, Result};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Temporary files (or folders) of this process that are not finished yet.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// One result in the making.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    temporary: PathBuf,
    done: bool,
}

impl Draft {
    /// Begins `target`. An existing file is refused unless `force`. Nothing is created yet: the writer does
    /// that at [`Draft::path`].
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        refuse_existing(target, force)?;
        let name = target
            .file_name()
            .ok_or_else(|| Error::input(target.display(), "a file name", "none", "name the file to write"))?;
        let folder = parent(target);
        let hidden = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let temporary = folder.join(hidden);
        remove(&temporary);
        OPEN.lock().expect("no panic while held").push(temporary.clone());
        Ok(Draft { target: target.to_owned(), temporary, done: false })
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// The name that the result will have.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The result is complete: give it its name.
    pub fn commit(mut self) -> Result<()> {
        std::fs::rename(&self.temporary, &self.target).map_err(|e| Error::writing(&self.target, &e))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.temporary);
        }
        if let Ok(mut open) = OPEN.lock() {
            open.retain(|p| p != &self.temporary);
        }
    }
}

/// Refuses to overwrite `target` unless `force`, and to write into a folder that does not exist: to be asked
/// before long work begins.
pub fn refuse_existing(target: &Path, force: bool) -> Result<()> {
    if !force && target.exists() {
        return Err(Error::input(
            target.display(),
            "a new file",
            "one that exists",
            "choose another --out or add --force",
        ));
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
    let fill = || -> std::io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(draft.path())?);
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

/// Removes every unfinished draft of this process: for the handlers of signals and panics.
pub fn discard_drafts() {
    // A handler must not wait for a lock that its own thread may hold.
    if let Ok(open) = OPEN.try_lock() {
        open.iter().for_each(|p| remove(p));
    }
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
    fn a_folder_that_does_not_exist_is_wrong_input() {
        let e = Draft::new(Path::new("/no/such/folder/a.tsv"), false).unwrap_err();
        assert_eq!(e.exit_code(), 2);
    }
}
