//! What training of networks that predict keeps in a file.
//!
//! Kept are four times all parameters (weights, both moments, best weights). The rows of the first weight come from
//! their owners, so that a run may go on with another number of ranks.

use super::checkpointer::Checkpointed;
use super::ranks::Ranks;
use super::train::{State, Trainer};
use crate::comm::layout::snps_of;
use crate::comm::World;
use crate::device::network::{Network, Values};
use crate::error::{Error, Result};
use std::ops::Range;

/// Numbers that travel together, at most.
const BLOCK: usize = 1 << 20;
/// The parameters themselves, both moments, the best ones.
const BUFFERS: usize = 4;

impl Checkpointed for Trainer<'_> {
    fn single(&self) -> bool {
        self.net.device().precision() >= f64::from(f32::EPSILON)
    }

    fn lengths(&self) -> Vec<usize> {
        let net = &self.net;
        vec![net.inputs() * net.first_units() + net.chain.parameters.len() - net.first_weight(); BUFFERS]
    }

    fn state(&mut self) -> Result<Vec<u8>> {
        self.settle()?;
        self.state.running[0] = self.net.running()?;
        Ok(postcard::to_stdvec(&self.state).expect("plain values serialize"))
    }

    fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()> {
        let net = &self.net;
        let values = match buffer {
            0 => &net.chain.parameters,
            other => &self.kept[other - 1],
        };
        let first = net.first_weight();
        gather_blocks(self.ranks, &**net.device(), values, first, put)
    }

    fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
        let Trainer { net, kept, ranks, .. } = &mut *self;
        let (inputs, columns, device) = (net.inputs(), net.first_units(), net.device().clone());
        let to = match buffer {
            0 => &mut net.chain.parameters,
            other => &mut kept[other - 1],
        };
        give_out(ranks, &*device, take, (inputs, columns), to)
    }

    fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
        let state = postcard::from_bytes::<State>(state).ok().filter(|state| self.takes(state));
        let Some(state) = state else { return Ok(None) };
        self.net.set_running(&state.running[0])?;
        let at = format!("epoch {}, step {}", state.at.epoch, state.at.step);
        self.state = state;
        Ok(Some(at))
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
    let mut all = Vec::new();
    gather_blocks(ranks, device, values, first, &mut |block| all.extend_from_slice(block))?;
    Ok(ranks.world.is_root().then_some(all))
}

/// As [`gather`], block by block.
fn gather_blocks(
    ranks: &Ranks,
    device: &dyn Network,
    values: &Values,
    first: usize,
    put: &mut dyn FnMut(&[f64]),
) -> Result<()> {
    let mut read = Blocks { device, failure: None };
    let line = ranks.snps.world();
    if ranks.data.world().rank() == 0 {
        to_root(line, &mut read, values, 0..first, put);
    }
    if ranks.world.is_root() {
        read.each(values, first..values.len(), put);
    }
    ranks.world.agree(read.failure.map_or(Ok(()), Err))
}

/// Parts of buffers, block by block. After a failure all numbers are 0, so that other ranks get what they wait for.
pub struct Blocks<'a> {
    device: &'a dyn Network,
    /// What went wrong first.
    pub failure: Option<Error>,
}

impl<'a> Blocks<'a> {
    /// Those of a device.
    pub fn new(device: &'a dyn Network) -> Blocks<'a> {
        Blocks { device, failure: None }
    }

    /// Gives each block of a part to `put`.
    pub fn each(&mut self, values: &Values, part: Range<usize>, put: &mut dyn FnMut(&[f64])) {
        for block in blocks(part) {
            let mut numbers = vec![0.0; block.len()];
            self.keep(self.device.read(values.part(block), &mut numbers));
            put(&numbers);
        }
    }

    /// Writes a block from place `at` of a buffer on.
    pub fn write(&mut self, numbers: &[f64], values: &mut Values, at: usize) {
        self.keep(self.device.write(numbers, values.part_mut(at..at + numbers.len())));
    }

    fn keep(&mut self, result: Result<()>) {
        if let Err(e) = result {
            self.failure.get_or_insert(e);
        }
    }
}

/// The blocks of a part, of `BLOCK` numbers at most.
pub fn blocks(part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = part.end;
    part.step_by(BLOCK).map(move |start| start..(start + BLOCK).min(end))
}

/// Gives the `part` of each rank of a line to `put` on its first rank, one rank after the other. Collective over the
/// line.
pub fn to_root(
    line: &World,
    read: &mut Blocks,
    values: &Values,
    part: Range<usize>,
    put: &mut dyn FnMut(&[f64]),
) {
    if !line.is_root() {
        line.send(0, &[part.len() as u64]);
        return read.each(values, part, &mut |block| line.send(0, block));
    }
    read.each(values, part, put);
    for rank in 1..line.size() {
        let length = line.receive::<u64>(rank)[0] as usize;
        blocks(0..length).for_each(|_| put(&line.receive::<f64>(rank)));
    }
}

/// The reverse of [`gather_blocks`], on every rank; (`inputs`, `columns`) is the shape of the whole first weight.
/// Collective.
fn give_out(
    ranks: &Ranks,
    device: &dyn Network,
    take: &mut dyn FnMut(&mut [f64]),
    (inputs, columns): (usize, usize),
    to: &mut Values,
) -> Result<()> {
    let line = ranks.snps.world();
    // A network on a dense matrix is split over no line, and has all its rows.
    let own = if line.size() == 1 { 0..inputs } else { snps_of(inputs, line.rank(), line.size()) };
    let first = own.start * columns..own.end * columns;
    let mut written = Blocks::new(device);
    for all in blocks(0..inputs * columns) {
        let block = broadcast(&ranks.world, take, all.len());
        let (low, high) = (first.start.clamp(all.start, all.end), first.end.clamp(all.start, all.end));
        if low < high {
            written.write(&block[low - all.start..high - all.start], to, low - first.start);
        }
    }
    for rest in blocks(first.len()..to.len()) {
        let block = broadcast(&ranks.world, take, rest.len());
        written.write(&block, to, rest.start);
    }
    ranks.world.agree(written.failure.map_or(Ok(()), Err))
}

/// Gives a buffer that every rank has whole to `put` on the root. Collective.
pub fn gather_whole(
    world: &World,
    device: &dyn Network,
    values: &Values,
    put: &mut dyn FnMut(&[f64]),
) -> Result<()> {
    let mut read = Blocks::new(device);
    if world.is_root() {
        read.each(values, 0..values.len(), put);
    }
    world.agree(read.failure.map_or(Ok(()), Err))
}

/// The reverse of [`gather_whole`]. Collective.
pub fn give_out_whole(
    world: &World,
    device: &dyn Network,
    take: &mut dyn FnMut(&mut [f64]),
    to: &mut Values,
) -> Result<()> {
    let mut written = Blocks::new(device);
    for part in blocks(0..to.len()) {
        let numbers = broadcast(world, take, part.len());
        written.write(&numbers, to, part.start);
    }
    world.agree(written.failure.map_or(Ok(()), Err))
}

/// The next numbers, which the root takes, on every rank. Collective.
pub fn broadcast(world: &World, take: &mut dyn FnMut(&mut [f64]), length: usize) -> Vec<f64> {
    let mut block = vec![0.0; length];
    if world.is_root() {
        take(&mut block);
    }
    world.broadcast(0, &mut block);
    block
}
