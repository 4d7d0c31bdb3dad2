//! Conjugate gradients that tell how far they are, keep their state in a file, and go on from there.

use crate::comm::interrupt::Listener;
use crate::comm::Traffic;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::linalg::pcg::State;
use crate::linalg::Rows;
use crate::mixed::solve::Monitor;
use crate::output;
use crate::progress;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// First bytes of the file; the number changes with the format.
const MAGIC: &[u8; 16] = b"genialearn pcg 2";
/// Time between two lines of progress.
const LINES: Duration = Duration::from_secs(5);

/// What a state belongs to, as pairs of a name for messages and a value: a state goes on only where all values are
/// the same.
pub type Fingerprint = Vec<(String, String)>;

/// Keeps the state of one run.
pub struct Checkpoint {
    world: World,
    path: PathBuf,
    fingerprint: Fingerprint, // known to the root
    every: Duration,
    resume: bool,
    listener: Listener,
    kept: Instant,
    told: Option<Instant>,
    begun: Option<(Instant, Traffic, usize)>,
}

/// What the iterations of this process took.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Spent {
    /// Iterations of this process: fewer than all after a resumption.
    pub iterations: usize,
    /// Wall seconds of the iterations, exact products and checkpoints included.
    pub seconds: f64,
    /// What this rank gave to the others meanwhile.
    pub traffic: Traffic,
}

impl Checkpoint {
    /// Keeps the state in `path` every so often; with `resume` begins with the one that is there. The `fingerprint`
    /// counts on the root. To be called by all ranks, and to be dropped when the work is done: meanwhile signals wait
    /// for the end of an iteration.
    pub fn new(world: &World, path: &Path, fingerprint: Fingerprint, every: Duration, resume: bool) -> Self {
        Checkpoint {
            world: world.clone(),
            path: path.to_owned(),
            fingerprint,
            every,
            resume,
            listener: Listener::begin(),
            kept: Instant::now(),
            told: None,
            begun: None,
        }
    }

    /// What the iterations took until now, of which there were `iterations` in all.
    pub fn spent(&self, iterations: usize) -> Option<Spent> {
        let (start, before, first) = self.begun.as_ref()?;
        let traffic = Traffic::now().since(before);
        Some(Spent { iterations: iterations - first, seconds: start.elapsed().as_secs_f64(), traffic })
    }

    /// Keeps the state, which the root gathers and writes. Collective; an error is known to the root alone.
    fn save(&mut self, rows: &Rows, state: &State) -> Result<()> {
        self.kept = Instant::now();
        let Some(state) = state.on_root(rows) else { return Ok(()) };
        let body = postcard::to_stdvec(&(&self.fingerprint, state)).expect("plain values serialize");
        output::write_file(&self.path, true, |out| {
            out.write_all(MAGIC)?;
            out.write_all(&crc32fast::hash(&body).to_le_bytes())?;
            out.write_all(&body)
        })
    }

    fn tell(&mut self, state: &State) {
        if self.told.is_some_and(|told| told.elapsed() < LINES) || !progress::shown() {
            return;
        }
        self.told = Some(Instant::now());
        log::info!(
            "conjugate gradients: iteration {}, residual at most {:.1e}, {} of {} columns at work",
            state.info.iterations,
            state.worst(),
            state.at_work(),
            state.columns()
        );
    }
}

impl Monitor for Checkpoint {
    fn resume(&mut self, rows: &Rows, columns: usize) -> Result<Option<State>> {
        if !self.resume {
            return Ok(None);
        }
        let whole = match self.world.is_root() {
            true => read(&self.path, &self.fingerprint, (rows.total(), columns)).map(Some),
            false => Ok(None),
        };
        let state = State::shared_out(self.world.agree(whole)?, rows);
        log::info!("conjugate gradients: going on after iteration {}", state.info.iterations);
        Ok(Some(state))
    }

    fn on_iteration(&mut self, rows: &Rows, state: &State) -> Result<()> {
        self.begun.get_or_insert_with(|| (Instant::now(), Traffic::now(), state.info.iterations));
        self.tell(state);
        if self.listener.asked(&self.world) {
            let saved = self.save(rows, state);
            self.world.agree(saved)?;
            let at = state.info.iterations;
            let kept = format!("{} holds iteration {at}; add --resume to go on", self.path.display());
            return Err(Error::Interrupted { kept });
        }
        let due = state.info.iterations > 0 && self.kept.elapsed() >= self.every;
        if self.world.decide(due) {
            if let Err(e) = self.save(rows, state) {
                log::warn!("no checkpoint was kept: {e}");
            }
        }
        Ok(())
    }

    fn on_max_iterations(&mut self, rows: &Rows, state: &State) -> Result<()> {
        let saved = self.save(rows, state);
        self.world.agree(saved)
    }
}

/// No state stands where one is to be taken up.
pub fn nothing_there(path: &Path) -> Error {
    Error::input(path.display(), "a checkpoint", "nothing there", "leave out --resume to begin anew")
}

/// Reads a state and refuses one of another run.
fn read(path: &Path, fingerprint: &Fingerprint, shape: (usize, usize)) -> Result<State> {
    let bytes = std::fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => nothing_there(path),
        _ => Error::reading(path, &e),
    })?;
    let refuse = |found: String| {
        Error::input(path.display(), "a checkpoint of this run", found, "leave out --resume to begin anew")
    };
    let body = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<4>());
    let whole = body.filter(|(crc, body)| crc32fast::hash(body) == u32::from_le_bytes(**crc));
    let read = whole.and_then(|(_, body)| postcard::from_bytes::<(Fingerprint, State)>(body).ok());
    let Some((found, state)) = read else {
        return Err(refuse("a damaged file or one of another version".into()));
    };
    let differs = fingerprint.iter().zip(&found).find(|((_, own), (_, other))| own != other);
    if let Some(((what, _), _)) = differs {
        return Err(refuse(format!("one with another {what}")));
    }
    if found.len() != fingerprint.len() || state.columns() != shape.1 {
        return Err(refuse("one with other inputs".into()));
    }
    if !state.is_whole(shape) {
        return Err(refuse("a state whose parts do not fit together".into()));
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::pcg::{Params, Systems};
    use ndarray::{Array2, ArrayView2};

    struct Identity(Rows);

    impl Systems for Identity {
        fn rows(&self) -> &Rows {
            &self.0
        }

        fn apply(&self, _: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
            block.to_owned()
        }

        fn precondition(&self, _: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
            block.to_owned()
        }
    }

    #[test]
    fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.checkpoint");
        let own =
            vec![("store".to_string(), "1".to_string()), ("heritability".to_string(), "0.3".to_string())];
        let rows = Rows::alone(5);
        let state = State::begin(&Identity(rows.clone()), Array2::ones((5, 2)).view(), Params::default());
        let with = |fingerprint: &Fingerprint| {
            Checkpoint::new(&World::alone(), &path, fingerprint.clone(), Duration::ZERO, true)
        };
        let missing = with(&own).resume(&rows, 2).unwrap_err();
        assert!(missing.exit_code() == 2 && missing.to_string().contains("--resume"), "{missing}");
        with(&own).save(&rows, &state).unwrap();
        assert_eq!(with(&own).resume(&rows, 2).unwrap(), Some(state));
        let mut other = own.clone();
        other[1].1 = "0.4".into();
        let told = with(&other).resume(&rows, 2).unwrap_err();
        assert!(told.exit_code() == 2 && told.to_string().contains("another heritability"), "{told}");
        assert!(with(&own).resume(&rows, 3).is_err());
        assert!(with(&own[..1].to_vec()).resume(&rows, 2).is_err());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(with(&own).resume(&rows, 2).unwrap_err().to_string().contains("damaged"));
    }
}
