//! Training of networks of genotypes that keeps its state in a file, stops in good order when it is asked to, and
//! goes on from there.
//!
//! Kept are four times all parameters (weights, both moments, best weights). The rows of the first weight come from
//! their owners, so that a run may go on with another number of ranks.

use super::keeper::{Keeper, Kept};
use super::ranks::Ranks;
use super::train::{State, Trainer, Watcher};
use crate::comm::layout::snps_of;
use crate::comm::World;
use crate::device::network::{Network, Values};
use crate::error::Result;
use std::path::Path;

pub use super::keeper::Fingerprint;

/// Rows of the first weight that travel together when a state is given out.
const ROWS: usize = 4096;
/// The parameters themselves, both moments, the best ones.
const BUFFERS: usize = 4;

/// Keeps the state of a training run.
pub struct Checkpoint {
    keeper: Keeper,
    inputs: usize,
}

impl Checkpoint {
    /// Keeps the state in `path` every so many epochs; with `resume` begins with the one that is there. `inputs`
    /// are those of all ranks together. The fingerprint counts on the root. Collective; meanwhile signals wait
    /// for the end of a step.
    pub fn new(
        world: &World,
        path: &Path,
        fingerprint: Fingerprint,
        every: usize,
        resume: bool,
        inputs: usize,
    ) -> Checkpoint {
        Checkpoint { keeper: Keeper::new(world, path, fingerprint, every, resume), inputs }
    }
}

/// A trainer whose network reads so many inputs on all ranks together.
struct Of<'t, 'a> {
    trainer: &'t mut Trainer<'a>,
    inputs: usize,
}

impl Kept for Of<'_, '_> {
    fn single(&self) -> bool {
        self.trainer.net.device().precision() >= f64::from(f32::EPSILON)
    }

    fn lengths(&self) -> Vec<usize> {
        let layout = self.trainer.net.layout();
        let first = &layout.layers[0];
        vec![self.inputs * first.shape.1 + layout.len() - first.weight.end; BUFFERS]
    }

    fn state(&mut self) -> Vec<u8> {
        self.trainer.state.running[0] = self.trainer.net.running().to_vec();
        postcard::to_stdvec(&self.trainer.state).expect("plain values serialize")
    }

    fn gather(&mut self, buffer: usize) -> Result<Option<Vec<f64>>> {
        let net = &self.trainer.net;
        let values = match buffer {
            0 => &net.parameters,
            other => &self.trainer.kept[other - 1],
        };
        gather(self.trainer.ranks, &**net.device(), values, net.layout().layers[0].weight.end)
    }

    fn give_out(&mut self, buffer: usize, all: Option<&[f64]>) -> Result<()> {
        let Trainer { net, kept, ranks, .. } = &mut *self.trainer;
        let (columns, device) = (net.layout().layers[0].shape.1, net.device().clone());
        let to = match buffer {
            0 => &mut net.parameters,
            other => &mut kept[other - 1],
        };
        give_out(ranks, &*device, all, (self.inputs, columns), to)
    }

    fn restore(&mut self, state: &[u8]) -> Option<String> {
        let state: State = postcard::from_bytes(state).ok()?;
        self.trainer.net.set_running(state.running[0].clone());
        let at = format!("epoch {}, step {}", state.epoch, state.step);
        self.trainer.state = state;
        Some(at)
    }
}

impl Watcher for Checkpoint {
    fn begin(&mut self, trainer: &mut Trainer) -> Result<()> {
        self.keeper.begin(&mut Of { trainer, inputs: self.inputs })
    }

    fn look(&mut self, trainer: &mut Trainer, epoch: bool) -> Result<()> {
        let (step, epoch) = (trainer.state.step, epoch.then_some(trainer.state.epoch));
        self.keeper.look(&mut Of { trainer, inputs: self.inputs }, step, epoch)
    }
}

/// All parameters on the root: the rows of the first weight, which ends at `first`, from their owners, then the
/// rest. Collective.
pub fn gather(
    ranks: &Ranks,
    device: &dyn Network,
    values: &Values,
    first: usize,
) -> Result<Option<Vec<f64>>> {
    let mut own = vec![0.0; values.len()];
    ranks.world.agree(device.read(values.whole(), &mut own))?;
    let line = ranks.snps.world();
    if ranks.data.world().rank() > 0 {
        return Ok(None);
    }
    if !line.is_root() {
        line.send(0, &own[..first]);
        return Ok(None);
    }
    let rest = own.split_off(first);
    for rank in 1..line.size() {
        own.extend(line.receive::<f64>(rank));
    }
    own.extend(rest);
    Ok(Some(own))
}

/// The reverse of [`gather`], on every rank; (`inputs`, `columns`) is the shape of the whole first weight.
/// Collective.
fn give_out(
    ranks: &Ranks,
    device: &dyn Network,
    all: Option<&[f64]>,
    (inputs, columns): (usize, usize),
    to: &mut Values,
) -> Result<()> {
    let line = ranks.snps.world();
    // A network on a dense matrix is split over no line, and has all its rows.
    let own = if line.size() == 1 { 0..inputs } else { snps_of(inputs, line.rank(), line.size()) };
    let mut found = Vec::with_capacity(to.len());
    for start in (0..inputs).step_by(ROWS) {
        let rows = start..(start + ROWS).min(inputs);
        let mut block = vec![0.0; rows.len() * columns];
        if let Some(all) = all {
            block.copy_from_slice(&all[rows.start * columns..rows.end * columns]);
        }
        ranks.world.broadcast(0, &mut block);
        let (low, high) = (own.start.clamp(rows.start, rows.end), own.end.clamp(rows.start, rows.end));
        found.extend_from_slice(&block[(low - rows.start) * columns..(high - rows.start) * columns]);
    }
    let mut rest = vec![0.0; to.len() - own.len() * columns];
    if let Some(all) = all {
        rest.copy_from_slice(&all[inputs * columns..]);
    }
    ranks.world.broadcast(0, &mut rest);
    found.extend(rest);
    ranks.world.agree(device.write(&found, to.whole_mut()))
}
