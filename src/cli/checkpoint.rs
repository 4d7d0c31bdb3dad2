//! PREFIX.checkpoint, where a run keeps its state to go on from it with `--resume`.

use super::{bad_option, Context};
use crate::comm::World;
use crate::error::{Error, Result};
use crate::nn::checkpointer::Fingerprint;
use crate::output;
use std::path::{Path, PathBuf};

/// Where the state of the run `prefix` is kept.
pub(super) fn path(prefix: &Path) -> PathBuf {
    output::with_suffix(prefix, ".checkpoint")
}

/// Where the state of model `number` of the run `prefix` is kept, counted from 0.
pub(super) fn path_of(prefix: &Path, number: usize) -> PathBuf {
    match number {
        0 => path(prefix),
        _ => output::with_suffix(prefix, &format!(".{}.checkpoint", number + 1)),
    }
}

/// Refuses to write over the state of a run that could go on, unless this run `may`; on the root.
pub(super) fn refuse(prefix: &Path, may: bool) -> Result<()> {
    let path = path(prefix);
    if may || !path.exists() {
        return Ok(());
    }
    Err(in_the_way(&path))
}

/// A state stands where another run would keep its own.
pub(super) fn in_the_way(path: &Path) -> Error {
    let advice = "add --resume to go on from it or --force to begin anew";
    Error::input(path.display(), "no checkpoint of an earlier run", "one", advice)
}

/// Refuses `--resume` for a kind of model that keeps no state.
pub(super) fn refuse_resume(resume: bool, keeps: bool, kind: &str, why: &str) -> Result<()> {
    if keeps || !resume {
        return Ok(());
    }
    let advice = format!("leave the option out: {why}");
    Err(bad_option("resume", "a kind whose training is kept", kind, &advice))
}

/// Removes the state, now that all results are written.
pub(super) fn remove(world: &World, path: &Path) {
    if world.is_root() {
        // There may be none.
        let _ = std::fs::remove_file(path);
    }
}

/// All that the bits of a state depend on: every input but the file of `settings`, what the run says of its `own`, the seed,
/// what computes, and the version.
pub(super) fn fingerprint(context: &Context, settings: Option<&Path>, own: Fingerprint) -> Fingerprint {
    let inputs = context.record.inputs.iter().filter(|file| settings != Some(Path::new(&file.path)));
    let mut out: Fingerprint = inputs
        .map(|file| (format!("content of {}", file.path), format!("{} {}", file.bytes, file.crc32)))
        .collect();
    out.extend(own);
    out.push(("--seed".into(), context.seed.to_string()));
    out.push(("--device".into(), context.backend.name().into()));
    out.push(("version of genialearn".into(), env!("CARGO_PKG_VERSION").into()));
    out
}
