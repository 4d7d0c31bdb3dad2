//! Training that keeps its state in a file, stops in good order when it is asked to, and goes on from there.
//!
//! The file: 16 bytes of magic, the length of the header and the header (what the state belongs to, [`State`],
//! precision), four times all parameters (weights, both moments, best weights), and a CRC-32 of all that. The root
//! writes and reads it; the rows of the first weight come from their owners, so that a run may go on with another
//! number of ranks.

use super::ranks::Ranks;
use super::train::{State, Trainer, Watcher};
use crate::comm::interrupt::Listener;
use crate::comm::layout::snps_of;
use crate::comm::World;
use crate::device::network::{Network, Values};
use crate::error::{Error, Result};
use crate::output::Draft;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// First bytes of the file; the number changes with the format.
const MAGIC: &[u8; 16] = b"genialearn nn  1";
/// Rows of the first weight that travel together when a state is given out.
const ROWS: usize = 4096;
/// The parameters themselves, both moments, the best ones.
const BUFFERS: usize = 4;

/// What a state belongs to, as pairs of a name for messages and a value: a state goes on only where all values are
/// the same.
pub type Fingerprint = Vec<(String, String)>;

/// Keeps the state of a training run.
pub struct Checkpoint {
    world: World,
    path: PathBuf,
    fingerprint: Fingerprint, // known to the root
    every: usize,
    resume: bool,
    inputs: usize,
    listener: Listener,
}

/// What stands before the parameters.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    fingerprint: Fingerprint,
    state: State,
    single: bool,
    parameters: usize,
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
        let (world, path, listener) = (world.clone(), path.to_owned(), Listener::begin());
        Checkpoint { world, path, fingerprint, every, resume, inputs, listener }
    }

    /// Writes the state. Collective.
    fn save(&self, trainer: &mut Trainer) -> Result<()> {
        let root = self.world.is_root();
        trainer.state.running[0] = trainer.net.running().to_vec();
        let draft = self.world.agree(if root { Draft::new(&self.path, true).map(Some) } else { Ok(None) })?;
        let mut file =
            self.world.agree(draft.as_ref().map(|d| Summed::create(d.path(), &self.path)).transpose())?;
        let single = is_single(trainer);
        let header = Header {
            fingerprint: self.fingerprint.clone(),
            state: trainer.state.clone(),
            single,
            parameters: self.total(trainer),
        };
        let header = postcard::to_stdvec(&header).expect("plain values serialize");
        let mut written = match &mut file {
            Some(file) => [&MAGIC[..], &(header.len() as u64).to_le_bytes(), &header]
                .iter()
                .try_for_each(|bytes| file.put(bytes)),
            None => Ok(()),
        };
        for number in 0..BUFFERS {
            let all =
                gather(trainer.ranks, &**trainer.net.device(), buffer(trainer, number), first(trainer))?;
            if let (Some(file), Some(all), Ok(())) = (&mut file, all, &written) {
                written = file.numbers(&all, single);
            }
        }
        let finished = written.and_then(|()| file.map_or(Ok(()), Summed::finish));
        self.world.agree(finished)?;
        self.world.agree(draft.map_or(Ok(()), Draft::commit))
    }

    /// Parameters of all ranks together.
    fn total(&self, trainer: &Trainer) -> usize {
        let layout = trainer.net.layout();
        let first = &layout.layers[0];
        self.inputs * first.shape.1 + layout.len() - first.weight.end
    }

    /// Puts a state back.
    fn load(&self, trainer: &mut Trainer) -> Result<()> {
        let (total, single) = (self.total(trainer), is_single(trainer));
        let mut body = None;
        let state = self.world.on_root(|| {
            let (header, numbers) = read(&self.path, &self.fingerprint, total, single)?;
            body = Some(numbers);
            Ok(header.state)
        })?;
        let running = state.running[0].clone();
        for number in 0..BUFFERS {
            let all = body.as_ref().map(|b| &b[number * total..(number + 1) * total]);
            let (of_inputs, columns) = (self.inputs, trainer.net.layout().layers[0].shape.1);
            let (ranks, device) = (trainer.ranks, trainer.net.device().clone());
            let to = match number {
                0 => &mut trainer.net.parameters,
                other => &mut trainer.kept[other - 1],
            };
            give_out(ranks, &*device, all, (of_inputs, columns), to)?;
        }
        trainer.net.set_running(running);
        trainer.state = state;
        log::info!("going on after epoch {}, step {}", trainer.state.epoch, trainer.state.step);
        Ok(())
    }
}

impl Watcher for Checkpoint {
    fn begin(&mut self, trainer: &mut Trainer) -> Result<()> {
        if self.resume {
            self.load(trainer)?;
        }
        Ok(())
    }

    fn look(&mut self, trainer: &mut Trainer, epoch: bool) -> Result<()> {
        if self.listener.asked(&self.world) {
            self.save(trainer)?;
            let at = trainer.state.step;
            let kept = format!("{} holds step {at}; add --resume to go on", self.path.display());
            return Err(Error::Interrupted { kept });
        }
        if epoch && trainer.state.epoch.is_multiple_of(self.every) {
            if let Err(e) = self.save(trainer) {
                log::warn!("no checkpoint was kept: {e}");
            }
        }
        Ok(())
    }
}

fn is_single(trainer: &Trainer) -> bool {
    trainer.net.device().precision() >= f64::from(f32::EPSILON)
}

fn buffer<'b>(trainer: &'b Trainer, number: usize) -> &'b Values {
    match number {
        0 => &trainer.net.parameters,
        other => &trainer.kept[other - 1],
    }
}

/// Where the first weight ends in this rank's buffers.
fn first(trainer: &Trainer) -> usize {
    trainer.net.layout().layers[0].weight.end
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

/// A file whose checksum grows with it.
struct Summed {
    out: BufWriter<std::fs::File>,
    crc: crc32fast::Hasher,
    target: PathBuf,
}

impl Summed {
    fn create(path: &Path, target: &Path) -> Result<Summed> {
        let file = std::fs::File::create(path).map_err(|e| Error::writing(target, &e))?;
        let out = BufWriter::with_capacity(1 << 20, file);
        Ok(Summed { out, crc: crc32fast::Hasher::new(), target: target.to_owned() })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes).map_err(|e| Error::writing(&self.target, &e))
    }

    fn numbers(&mut self, all: &[f64], single: bool) -> Result<()> {
        for block in all.chunks(1 << 16) {
            let bytes: Vec<u8> = match single {
                true => block.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
                false => block.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            self.put(&bytes)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let crc = self.crc.clone().finalize();
        let mut end = || {
            self.out.write_all(&crc.to_le_bytes())?;
            self.out.flush()?;
            self.out.get_ref().sync_all()
        };
        end().map_err(|e| Error::writing(&self.target, &e))
    }
}

/// Reads a state of this run, and refuses one of another.
fn read(path: &Path, fingerprint: &Fingerprint, total: usize, single: bool) -> Result<(Header, Vec<f64>)> {
    let refuse = |found: &str| {
        Error::input(path.display(), "a checkpoint of this run", found, "leave out --resume to begin anew")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => refuse("nothing there"),
        _ => Error::reading(path, &e),
    })?;
    BufReader::new(file).read_to_end(&mut bytes).map_err(|e| Error::reading(path, &e))?;
    let damaged = || refuse("a damaged file or one of another version");
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let body = content.strip_prefix(MAGIC).and_then(|b| b.split_first_chunk::<8>());
    let (length, body) = body.ok_or_else(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
    let (header, numbers) = body.split_at_checked(length).ok_or_else(damaged)?;
    let header: Header = postcard::from_bytes(header).map_err(|_| damaged())?;
    let differs = fingerprint.iter().zip(&header.fingerprint).find(|((_, own), (_, other))| own != other);
    if let Some(((what, _), _)) = differs {
        return Err(refuse(&format!("one with another {what}")));
    }
    let size = if single { 4 } else { 8 };
    let whole = header.fingerprint.len() == fingerprint.len()
        && (header.parameters, header.single) == (total, single)
        && numbers.len() == BUFFERS * total * size;
    if !whole {
        return Err(refuse("one with other inputs"));
    }
    let number = |bytes: &[u8]| match single {
        true => f64::from(f32::from_le_bytes(bytes.try_into().expect("four bytes"))),
        false => f64::from_le_bytes(bytes.try_into().expect("eight bytes")),
    };
    let numbers = numbers.chunks_exact(size).map(number).collect();
    Ok((header, numbers))
}
