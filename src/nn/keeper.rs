//! The file in which long training keeps its state, and when.
//!
//! The file: 16 bytes of magic, the length of the header and the header (what the state belongs to, the state,
//! precision), all buffers, and a CRC-32 of all that. The root writes and reads it.

use crate::comm::interrupt::Listener;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::output::Draft;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// First bytes of the file; the number changes with the format.
const MAGIC: &[u8; 16] = b"genialearn nn  2";

/// What a state belongs to, as pairs of a name for messages and a value: a state goes on only where all values are
/// the same.
pub type Fingerprint = Vec<(String, String)>;

/// Training whose state can be kept: a few plain values, and buffers of numbers that ranks may have shared out.
pub trait Kept {
    /// Whether the numbers are f32.
    fn single(&self) -> bool;

    /// Numbers of all ranks together in each buffer.
    fn lengths(&self) -> Vec<usize>;

    /// Where training stands, the same on all ranks.
    fn state(&mut self) -> Vec<u8>;

    /// A whole buffer, on the root. Collective.
    fn gather(&mut self, buffer: usize) -> Result<Option<Vec<f64>>>;

    /// The reverse of [`Kept::gather`]: the root has all numbers. Collective.
    fn give_out(&mut self, buffer: usize, all: Option<&[f64]>) -> Result<()>;

    /// Puts back what [`Kept::state`] gave, after all buffers; tells where that is, for the log. Nothing where it is
    /// no such state.
    fn restore(&mut self, state: &[u8]) -> Option<String>;
}

/// Keeps the state of a training run.
pub struct Keeper {
    world: World,
    path: PathBuf,
    fingerprint: Fingerprint, // known to the root
    every: usize,
    resume: bool,
    listener: Listener,
}

/// What stands before the buffers.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    fingerprint: Fingerprint,
    state: Vec<u8>,
    single: bool,
    lengths: Vec<usize>,
}

impl Keeper {
    /// Keeps the state in `path` every so many epochs; with `resume` begins with the one that is there. The
    /// fingerprint counts on the root. Collective; meanwhile signals wait for the end of a step.
    pub fn new(world: &World, path: &Path, fingerprint: Fingerprint, every: usize, resume: bool) -> Keeper {
        let (world, path, listener) = (world.clone(), path.to_owned(), Listener::begin());
        Keeper { world, path, fingerprint, every, resume, listener }
    }

    /// Before the first step: puts back the earlier state where there is to be one. Collective.
    pub fn begin(&self, kept: &mut dyn Kept) -> Result<()> {
        match self.resume {
            true => self.load(kept),
            false => Ok(()),
        }
    }

    /// After a step, `step` in all; `epoch` is the number of the epoch that it ended, if it ended one. Collective.
    pub fn look(&mut self, kept: &mut dyn Kept, step: u64, epoch: Option<usize>) -> Result<()> {
        if self.listener.asked(&self.world) {
            self.save(kept)?;
            let kept = format!("{} holds step {step}; add --resume to go on", self.path.display());
            return Err(Error::Interrupted { kept });
        }
        if epoch.is_some_and(|epoch| epoch.is_multiple_of(self.every)) {
            if let Err(e) = self.save(kept) {
                log::warn!("no checkpoint was kept: {e}");
            }
        }
        Ok(())
    }

    /// Writes the state. Collective.
    fn save(&self, kept: &mut dyn Kept) -> Result<()> {
        let root = self.world.is_root();
        let (state, single, lengths) = (kept.state(), kept.single(), kept.lengths());
        let buffers = lengths.len();
        let draft = self.world.agree(if root { Draft::new(&self.path, true).map(Some) } else { Ok(None) })?;
        let mut file =
            self.world.agree(draft.as_ref().map(|d| Summed::create(d.path(), &self.path)).transpose())?;
        let header = Header { fingerprint: self.fingerprint.clone(), state, single, lengths };
        let header = postcard::to_stdvec(&header).expect("plain values serialize");
        let mut written = match &mut file {
            Some(file) => [&MAGIC[..], &(header.len() as u64).to_le_bytes(), &header]
                .iter()
                .try_for_each(|bytes| file.put(bytes)),
            None => Ok(()),
        };
        for number in 0..buffers {
            let all = kept.gather(number)?;
            if let (Some(file), Some(all), Ok(())) = (&mut file, all, &written) {
                written = file.numbers(&all, single);
            }
        }
        let finished = written.and_then(|()| file.map_or(Ok(()), Summed::finish));
        self.world.agree(finished)?;
        self.world.agree(draft.map_or(Ok(()), Draft::commit))
    }

    /// Puts a state back.
    fn load(&self, kept: &mut dyn Kept) -> Result<()> {
        let (lengths, single) = (kept.lengths(), kept.single());
        let mut body = None;
        let state = self.world.on_root(|| {
            let (header, numbers) = read(&self.path, &self.fingerprint, &lengths, single)?;
            body = Some(numbers);
            Ok(header.state)
        })?;
        let mut first = 0;
        for (number, length) in lengths.into_iter().enumerate() {
            let all = body.as_ref().map(|b| &b[first..first + length]);
            kept.give_out(number, all)?;
            first += length;
        }
        let at = kept.restore(&state).ok_or_else(|| refuse(&self.path, DAMAGED))?;
        log::info!("going on after {at}");
        Ok(())
    }
}

/// What a file is that cannot be read.
const DAMAGED: &str = "a damaged file or one of another version";

fn refuse(path: &Path, found: &str) -> Error {
    Error::input(path.display(), "a checkpoint of this run", found, "leave out --resume to begin anew")
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
fn read(
    path: &Path,
    fingerprint: &Fingerprint,
    lengths: &[usize],
    single: bool,
) -> Result<(Header, Vec<f64>)> {
    let refuse = |found: &str| refuse(path, found);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => refuse("nothing there"),
        _ => Error::reading(path, &e),
    })?;
    BufReader::new(file).read_to_end(&mut bytes).map_err(|e| Error::reading(path, &e))?;
    let damaged = || refuse(DAMAGED);
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
        && (&header.lengths[..], header.single) == (lengths, single)
        && numbers.len() == lengths.iter().sum::<usize>() * size;
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
