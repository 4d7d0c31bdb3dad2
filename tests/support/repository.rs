//! Where the repository's files are when a test or a bench runs: they also run far from where they were built.

use std::path::{Path, PathBuf};

/// A file or folder of the repository: below `$GENIALEARN_ROOT`, below the current folder, or where cargo runs this.
///
/// # Panics
/// Under cargo, which has the repository at hand. Elsewhere it says NOT RUN, and gives nothing.
pub fn file(path: &str) -> Option<PathBuf> {
    let root = |name| std::env::var_os(name).map(PathBuf::from);
    let cargo = root("CARGO_MANIFEST_DIR");
    let roots = [root("GENIALEARN_ROOT"), Some(PathBuf::from(".")), cargo.clone()];
    let found = roots.into_iter().flatten().map(|root| root.join(path)).find(|path| Path::exists(path));
    assert!(found.is_some() || cargo.is_none(), "the repository has no {path}");
    if found.is_none() {
        println!("NOT RUN: {path} is not here; set GENIALEARN_ROOT to a folder that has it");
    }
    found
}
