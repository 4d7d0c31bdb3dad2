//! The file in which long training keeps its state, and when.
//!
//! The file: 16 bytes of magic, the length of the header and the header (what the state belongs to, the state,
//! precision), all buffers, and a CRC-32 of all that. The root writes and reads it, a block of numbers at a time.

use crate::comm::interrupt::Listener;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::output::Draft;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// First bytes of the file; the number changes with the format.
const MAGIC: &[u8; 16] = b"genialearn nn  3";

/// What a state belongs to, as pairs of a name for messages and a value: a state goes on only where all values are
/// the same.
pub type Fingerprint = Vec<(String, String)>;

/// Training whose state can be kept: a few plain values, and buffers of numbers that ranks may have shared out.
pub trait Checkpointed {
    /// Whether the numbers are f32.
    fn single(&self) -> bool;

    /// Numbers of all ranks together in each buffer.
    fn lengths(&self) -> Vec<usize>;

    /// Where training stands, the same on all ranks. Collective.
    fn state(&mut self) -> Result<Vec<u8>>;

    /// Gives a buffer's numbers to `put` on the root, block by block in their order. Collective.
    fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()>;

    /// The reverse of [`Checkpointed::gather`]: on the root `take` fills blocks with the next numbers. Collective.
    fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()>;

    /// Puts back what [`Checkpointed::state`] gave, after all buffers; tells where that is, for the log. Nothing where it is
    /// no state of such training.
    fn restore(&mut self, state: &[u8]) -> Result<Option<String>>;
}

/// What training begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// Nothing.
    Anew,
    /// The state of the file.
    Resumed,
    /// The state of the file, where there is one of this run.
    ResumedIfThere,
}

/// Share of the time that may go into keeping a state unasked.
const SHARE: f64 = 0.05;
/// Training that is done sooner is not kept unasked.
const SOON: Duration = Duration::from_secs(5);

/// Keeps the state of a training run.
pub struct Checkpointer {
    world: World,
    path: PathBuf,
    fingerprint: Fingerprint, // known to the root
    every: usize,
    begin: Begin,
    next: Option<Instant>,      // where time decides when the state is kept
    listener: Option<Listener>, // from the first step on: before it there is nothing to keep
    saved: Option<u64>,         // the step that the file holds
}

/// What stands before the buffers.
#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    fingerprint: Fingerprint,
    state: Vec<u8>,
    single: bool,
    lengths: Vec<usize>,
}

impl Checkpointer {
    /// Keeps the state in `path` every so many epochs; with `resume` begins with the one that is there. The
    /// fingerprint counts on the root. Collective.
    pub fn new(
        world: &World,
        path: &Path,
        fingerprint: Fingerprint,
        every: usize,
        resume: bool,
    ) -> Checkpointer {
        let begin = if resume { Begin::Resumed } else { Begin::Anew };
        let (world, path) = (world.clone(), path.to_owned());
        Checkpointer { world, path, fingerprint, every, begin, next: None, listener: None, saved: None }
    }

    /// Keeps the state in `path` now and then, so that little of the time goes into it, and begins with the one that is
    /// there, if it is of this run. Collective.
    pub fn unasked(world: &World, path: &Path, fingerprint: Fingerprint) -> Checkpointer {
        let own = Checkpointer::new(world, path, fingerprint, 1, true);
        Checkpointer { begin: Begin::ResumedIfThere, next: Some(Instant::now() + SOON), ..own }
    }

    /// Before the first step: puts back the earlier state where there is to be one. From then on signals wait for the
    /// end of a step; until then they end the job at once, as nothing has been learned. Collective.
    pub fn begin(&mut self, kept: &mut dyn Checkpointed) -> Result<()> {
        if self.begin != Begin::Anew {
            self.load(kept)?;
        }
        self.listener = Some(Listener::begin());
        Ok(())
    }

    /// After a step, `step` in all; `epoch` is the number of the epoch that it ended, if it ended one. Collective.
    pub fn after_step(&mut self, kept: &mut dyn Checkpointed, step: u64, epoch: Option<usize>) -> Result<()> {
        if self.listener.get_or_insert_with(Listener::begin).asked(&self.world) {
            if step == 0 {
                return Err(Error::Interrupted { kept: "nothing was learned yet".into() });
            }
            if self.saved != Some(step) {
                log::info!("asked to stop: step {step} is kept in {} first", self.path.display());
                self.save(kept)?;
            }
            let kept = format!("{} holds step {step}; add --resume to go on", self.path.display());
            return Err(Error::Interrupted { kept });
        }
        if epoch.is_some_and(|epoch| epoch.is_multiple_of(self.every)) && self.is_time() {
            let begun = Instant::now();
            match self.save(kept) {
                Ok(()) => self.saved = Some(step),
                Err(e) => log::warn!("no checkpoint was kept: {e}"),
            }
            self.next = self.next.map(|_| Instant::now() + SOON.max(begun.elapsed().div_f64(SHARE)));
        }
        Ok(())
    }

    /// Whether enough time has passed by the root's clock. Collective where time decides.
    fn is_time(&self) -> bool {
        let Some(next) = self.next else { return true };
        self.world.broadcast_value(0, self.world.is_root().then(|| Instant::now() >= next))
    }

    /// Writes the state. Collective.
    fn save(&self, kept: &mut dyn Checkpointed) -> Result<()> {
        let root = self.world.is_root();
        let state = self.world.agree(kept.state())?;
        let (single, lengths) = (kept.single(), kept.lengths());
        let buffers = lengths.len();
        let draft = self.world.agree(if root { Draft::new(&self.path, true).map(Some) } else { Ok(None) })?;
        let mut file = self.world.agree(draft.as_ref().map(Summed::new).transpose())?;
        let header = Header { fingerprint: self.fingerprint.clone(), state, single, lengths };
        let header = postcard::to_stdvec(&header).expect("plain values serialize");
        let mut written = match &mut file {
            Some(file) => [&MAGIC[..], &(header.len() as u64).to_le_bytes(), &header]
                .iter()
                .try_for_each(|bytes| file.put(bytes)),
            None => Ok(()),
        };
        for number in 0..buffers {
            kept.gather(number, &mut |block| {
                if let (Some(file), Ok(())) = (&mut file, &written) {
                    written = file.numbers(block, single);
                }
            })?;
        }
        let finished = written.and_then(|()| file.map_or(Ok(()), Summed::finish));
        self.world.agree(finished)?;
        self.world.agree(draft.map_or(Ok(()), Draft::commit))
    }

    /// Puts a state back. Besides it, the root holds a block of numbers at a time.
    fn load(&self, kept: &mut dyn Checkpointed) -> Result<()> {
        let (lengths, single) = (kept.lengths(), kept.single());
        let buffers = lengths.len();
        let mut body = None;
        let state = self.world.on_root(|| {
            match Numbers::open(&self.path, &self.fingerprint, &lengths, single) {
                Ok((header, numbers)) => {
                    body = Some(numbers);
                    Ok(Some(header.state))
                }
                // What is damaged is work to do again.
                Err(_) if self.begin == Begin::ResumedIfThere => Ok(None),
                Err(e) => Err(e),
            }
        })?;
        let Some(state) = state else { return Ok(()) };
        for number in 0..buffers {
            kept.give_out(number, &mut |block| {
                if let Some(body) = &mut body {
                    body.take(block);
                }
            })?;
        }
        self.world.agree(body.map_or(Ok(()), |body| body.failure.map_or(Ok(()), Err)))?;
        let at = self.world.agree(kept.restore(&state))?.ok_or_else(|| refuse(&self.path, DAMAGED))?;
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
    out: BufWriter<File>,
    crc: crc32fast::Hasher,
    length: u64,
    target: PathBuf,
}

/// So many bytes are given to the disk at a time, so that little is left to wait for at the end.
const TO_DISK: u64 = 64 << 20;

impl Summed {
    fn new(draft: &Draft) -> Result<Summed> {
        let out = BufWriter::with_capacity(1 << 20, draft.file()?);
        Ok(Summed { out, crc: crc32fast::Hasher::new(), length: 0, target: draft.target().to_owned() })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes).map_err(|e| Error::writing(&self.target, &e))?;
        let before = self.length;
        self.length += bytes.len() as u64;
        if before / TO_DISK < self.length / TO_DISK {
            // SAFETY: the descriptor is open. The call begins to write what is there and waits for nothing; whether it
            // does so is no matter, as `finish` waits for all.
            unsafe {
                libc::sync_file_range(self.out.get_ref().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
            };
        }
        Ok(())
    }

    fn numbers(&mut self, all: &[f64], single: bool) -> Result<()> {
        for block in all.chunks(1 << 16) {
            // A signal may wait for gigabytes of this: whole numbers at a time, as iterators of bytes are slow.
            let mut bytes = vec![0; block.len() * if single { 4 } else { 8 }];
            match single {
                true => bytes.chunks_exact_mut(4).zip(block).for_each(|(to, x)| {
                    to.copy_from_slice(&(*x as f32).to_le_bytes());
                }),
                false => bytes.chunks_exact_mut(8).zip(block).for_each(|(to, x)| {
                    to.copy_from_slice(&x.to_le_bytes());
                }),
            }
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

/// Bytes before the header: the magic and the header's length.
const BEFORE: u64 = 24;

/// The numbers of a file, from the first on.
struct Numbers {
    from: BufReader<File>,
    single: bool,
    path: PathBuf,
    bytes: Vec<u8>,
    /// What went wrong; blocks are zeros from then on.
    failure: Option<Error>,
}

impl Numbers {
    /// Those of a state of this run; another state and a damaged file are refused.
    fn open(
        path: &Path,
        fingerprint: &Fingerprint,
        lengths: &[usize],
        single: bool,
    ) -> Result<(Header, Numbers)> {
        let file = File::open(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => refuse(path, "nothing there"),
            _ => Error::reading(path, &e),
        })?;
        let mut from = BufReader::with_capacity(1 << 20, file);
        let size = undamaged(&mut from).map_err(|e| Error::reading(path, &e))?;
        let size = size.ok_or_else(|| refuse(path, DAMAGED))?;
        let header = header(&mut from, size).map_err(|e| Error::reading(path, &e))?;
        let (header, length) = header.ok_or_else(|| refuse(path, DAMAGED))?;
        let differs = fingerprint.iter().zip(&header.fingerprint).find(|((_, own), (_, other))| own != other);
        if let Some(((what, _), _)) = differs {
            return Err(refuse(path, &format!("one with another {what}")));
        }
        let body = (lengths.iter().sum::<usize>() * if single { 4 } else { 8 }) as u64;
        let whole = header.fingerprint.len() == fingerprint.len()
            && (&header.lengths[..], header.single) == (lengths, single)
            && size == BEFORE + length + body + 4;
        if !whole {
            return Err(refuse(path, "one with other inputs"));
        }
        let (path, bytes) = (path.to_owned(), Vec::new());
        Ok((header, Numbers { from, single, path, bytes, failure: None }))
    }

    /// Fills a block with the next numbers.
    fn take(&mut self, block: &mut [f64]) {
        let size = if self.single { 4 } else { 8 };
        for block in block.chunks_mut(1 << 16) {
            self.bytes.resize(block.len() * size, 0);
            if let Err(e) = self.from.read_exact(&mut self.bytes) {
                self.failure.get_or_insert_with(|| Error::reading(&self.path, &e));
                self.bytes.fill(0);
            }
            let number = |bytes: &[u8]| match bytes.try_into() {
                Ok(four) => f64::from(f32::from_le_bytes(four)),
                Err(_) => f64::from_le_bytes(bytes.try_into().expect("four bytes or eight")),
            };
            block.iter_mut().zip(self.bytes.chunks_exact(size)).for_each(|(x, bytes)| *x = number(bytes));
        }
    }
}

/// The size of a file whose checksum is right, read from its begin to its end, block by block.
fn undamaged(from: &mut BufReader<File>) -> std::io::Result<Option<u64>> {
    let size = from.get_ref().metadata()?.len();
    let mut left = size.saturating_sub(4);
    let mut crc = crc32fast::Hasher::new();
    while left > 0 {
        let block = from.fill_buf()?;
        if block.is_empty() {
            return Ok(None);
        }
        let taken = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        crc.update(&block[..taken]);
        from.consume(taken);
        left -= taken as u64;
    }
    let mut last = [0; 4];
    let whole = size > 4 && from.read_exact(&mut last).is_ok() && u32::from_le_bytes(last) == crc.finalize();
    Ok(whole.then_some(size))
}

/// The header of a file of that size, and its length.
fn header(from: &mut BufReader<File>, size: u64) -> std::io::Result<Option<(Header, u64)>> {
    from.rewind()?;
    let (mut magic, mut length) = ([0; 16], [0; 8]);
    if size < BEFORE + 4 {
        return Ok(None);
    }
    from.read_exact(&mut magic)?;
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if &magic != MAGIC || length > size - BEFORE - 4 {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(postcard::from_bytes(&bytes).ok().map(|header| (header, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two buffers of numbers, and a state that is a text.
    struct Plain {
        buffers: [Vec<f64>; 2],
        state: Vec<u8>,
        single: bool,
        longest: usize,
    }

    impl Plain {
        fn new(single: bool, scale: f64) -> Plain {
            let buffers = [70_001, 3].map(|n| (0..n).map(|x| scale * f64::from(x)).collect());
            Plain { buffers, state: b"here".to_vec(), single, longest: 0 }
        }
    }

    impl Checkpointed for Plain {
        fn single(&self) -> bool {
            self.single
        }
        fn lengths(&self) -> Vec<usize> {
            self.buffers.iter().map(Vec::len).collect()
        }
        fn state(&mut self) -> Result<Vec<u8>> {
            Ok(self.state.clone())
        }
        fn gather(&mut self, buffer: usize, put: &mut dyn FnMut(&[f64])) -> Result<()> {
            self.buffers[buffer].chunks(1000).for_each(put);
            Ok(())
        }
        fn give_out(&mut self, buffer: usize, take: &mut dyn FnMut(&mut [f64])) -> Result<()> {
            self.buffers[buffer].chunks_mut(777).for_each(take);
            Ok(())
        }
        fn restore(&mut self, state: &[u8]) -> Result<Option<String>> {
            self.longest = state.len();
            Ok((state == b"here").then(|| "here".into()))
        }
    }

    fn checkpointer(path: &Path, resume: bool) -> Checkpointer {
        Checkpointer::new(&World::alone(), path, vec![("herd".into(), "1".into())], 1, resume)
    }

    #[test]
    fn a_state_comes_back_and_every_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for single in [false, true] {
            let path = dir.path().join(format!("{single}.checkpoint"));
            let mut kept = Plain::new(single, 0.5);
            checkpointer(&path, false).save(&mut kept).unwrap();
            let mut other = Plain::new(single, 0.0);
            checkpointer(&path, true).begin(&mut other).unwrap();
            assert!(other.buffers == kept.buffers && other.longest == 4);
            let refused = |path: &Path, kept: &mut Plain| {
                let e = checkpointer(path, true).begin(kept).unwrap_err();
                assert_eq!(e.exit_code(), 2, "{e}");
                e.to_string()
            };
            assert!(refused(&path, &mut Plain::new(!single, 0.0)).contains("other inputs"));
            let whole = std::fs::read(&path).unwrap();
            let broken = dir.path().join("broken");
            for length in [0, 3, 4, 15, 23, 27, 28, 60, whole.len() / 2, whole.len() - 1] {
                std::fs::write(&broken, &whole[..length]).unwrap();
                assert!(refused(&broken, &mut Plain::new(single, 0.0)).contains("damaged"), "{length}");
            }
            for at in [0, 16, 23, 24, 40, 90, whole.len() / 2, whole.len() - 1] {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x90;
                std::fs::write(&broken, bytes).unwrap();
                assert!(refused(&broken, &mut Plain::new(single, 0.0)).contains("damaged"), "{at}");
            }
        }
    }

    #[test]
    fn a_forged_header_with_a_right_checksum_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.checkpoint");
        checkpointer(&path, false).save(&mut Plain::new(true, 1.0)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        // Lengths of the header, and its first bytes: how many pairs of texts there are.
        let forgeries: [(usize, &[u8]); 4] =
            [(16, &u64::MAX.to_le_bytes()), (16, &[0; 8]), (24, &[0xff; 9]), (17, &[1])];
        for (at, bytes) in forgeries {
            let mut forged = whole[..whole.len() - 4].to_vec();
            forged[at..at + bytes.len()].copy_from_slice(bytes);
            forged.extend(crc32fast::hash(&forged).to_le_bytes());
            std::fs::write(&path, forged).unwrap();
            let e = checkpointer(&path, true).begin(&mut Plain::new(true, 0.0)).unwrap_err();
            assert!(e.exit_code() == 2, "{at}: {e}");
        }
        let mut elsewhere = Plain::new(true, 1.0);
        elsewhere.state = b"nowhere".to_vec();
        checkpointer(&path, false).save(&mut elsewhere).unwrap();
        let e = checkpointer(&path, true).begin(&mut Plain::new(true, 0.0)).unwrap_err();
        assert!(e.to_string().contains("damaged"), "{e}");
    }
}
