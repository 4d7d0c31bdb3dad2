//! Trees that are kept while more of them grow, so that a run which was stopped goes on to the same bytes.

use crate::error::Result;
use crate::nn::checkpointer::{Checkpointed, Checkpointer};
use serde::de::DeserializeOwned;
use serde::Serialize;

/// Where growing stands, the same on all ranks.
pub(super) trait State: Serialize + DeserializeOwned {
    /// Rounds, or trees of a trait, that are grown.
    fn done(&self) -> usize;

    /// Whether another state is one of the same animals and traits.
    fn is_like(&self, other: &Self) -> bool;
}

/// A state as a checkpointer sees it: all of it is in the header of the file.
struct Whole<'a, S>(&'a mut S);

impl<S: State> Checkpointed for Whole<'_, S> {
    fn single(&self) -> bool {
        false
    }

    fn lengths(&self) -> Vec<usize> {
        Vec::new()
    }

    fn state(&mut self) -> Result<Vec<u8>> {
        Ok(postcard::to_stdvec(self.0).expect("plain values serialize"))
    }

    fn gather(&mut self, _buffer: usize, _put: &mut dyn FnMut(&[f64])) -> Result<()> {
        Ok(())
    }

    fn give_out(&mut self, _buffer: usize, _take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        Ok(())
    }

    fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
        let Some(found) = postcard::from_bytes::<S>(state).ok().filter(|found| self.0.is_like(found)) else {
            return Ok(None);
        };
        *self.0 = found;
        Ok(Some(format!("{} trees a trait", self.0.done())))
    }
}

/// Puts an earlier state back where there is to be one. Collective.
pub(super) fn begin<S: State>(checkpointer: &mut Option<&mut Checkpointer>, state: &mut S) -> Result<()> {
    checkpointer.as_mut().map_or(Ok(()), |checkpointer| checkpointer.begin(&mut Whole(state)))
}

/// Keeps the state now and then, and when the run is asked to stop; `step` counts the calls. Collective.
pub(super) fn after_step<S: State>(
    checkpointer: &mut Option<&mut Checkpointer>,
    state: &mut S,
    step: usize,
) -> Result<()> {
    checkpointer
        .as_mut()
        .map_or(Ok(()), |checkpointer| checkpointer.after_step(&mut Whole(state), step as u64, Some(step)))
}
