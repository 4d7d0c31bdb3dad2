//! The file in which long training keeps its state, and when.
//!
//! The file is HDF5: `/fingerprint` (bytes, JSON) says what the state belongs to, `/state` (bytes) is what training says of
//! itself, `/buffers/N` are its buffers of numbers, f32 or f64. The root writes and reads it, a block of numbers at a time.

use crate::comm::interrupt::Listener;
use crate::comm::World;
use crate::error::{Error, Result};
use crate::hdf::{Format, Reader, Unsealed, Writer};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The files of states.
pub static FORMAT: Format = Format {
    name: "genialearn-checkpoint",
    version: 4,
    what: "a checkpoint of this run",
    advice: "leave out --resume to begin anew",
};

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
        let begin = || Numbers::begin(&self.path, &self.fingerprint, &state, &lengths, single).map(Some);
        let mut file = self.world.agree(if root { begin() } else { Ok(None) })?;
        for number in 0..buffers {
            kept.gather(number, &mut |block| {
                if let Some((file, _)) = &mut file {
                    file.put(number, block);
                }
            })?;
        }
        self.world.agree(file.map_or(Ok(()), |(file, unsealed)| {
            file.finish()?;
            unsealed.seal(0..0)
        }))
    }

    /// Puts a state back. Besides it, the root holds a block of numbers at a time.
    fn load(&self, kept: &mut dyn Checkpointed) -> Result<()> {
        let (lengths, single) = (kept.lengths(), kept.single());
        let buffers = lengths.len();
        let mut body = None;
        let state = self.world.on_root(|| {
            match Numbers::open(&self.path, &self.fingerprint, &lengths, single) {
                Ok((state, numbers)) => {
                    body = Some(numbers);
                    Ok(Some(state))
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
                    body.take(number, block);
                }
            })?;
        }
        self.world.agree(body.map_or(Ok(()), Numbers::finish))?;
        let at =
            self.world.agree(kept.restore(&state))?.ok_or_else(|| refuse(&self.path, "a damaged one"))?;
        log::info!("going on after {at}");
        Ok(())
    }
}

fn refuse(path: &Path, found: &str) -> Error {
    Error::input(path.display(), FORMAT.what, found, FORMAT.advice)
}

/// So many bytes are given to the disk at a time, so that little is left to wait for at the end.
const TO_DISK: u64 = 64 << 20;
/// Numbers that are turned into bytes at a time.
const BLOCK: usize = 1 << 16;

/// The buffers of an open file, whose numbers are written or read one after the other.
struct Numbers {
    file: File,
    path: PathBuf,
    single: bool,
    /// Of each buffer, where its next number stands.
    next: Vec<u64>,
    bytes: Vec<u8>,
    /// Bytes that were written since the disk got some.
    waiting: u64,
    /// What went wrong; nothing is written and blocks are zeros from then on.
    failure: Option<Error>,
}

impl Numbers {
    fn new(file: File, path: &Path, single: bool, next: Vec<u64>) -> Numbers {
        let path = path.to_owned();
        Numbers { file, path, single, next, bytes: Vec::new(), waiting: 0, failure: None }
    }

    /// Begins the file `path`: all but its buffers.
    fn begin(
        path: &Path,
        fingerprint: &Fingerprint,
        state: &[u8],
        lengths: &[usize],
        single: bool,
    ) -> Result<(Numbers, Unsealed)> {
        let writer = Writer::create(path, true, &FORMAT)?;
        let root = writer.root();
        root.list("fingerprint", &serde_json::to_vec(fingerprint).expect("plain values serialize"))?;
        root.list("state", state)?;
        let group = root.group("buffers")?;
        let mut places = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            let (name, shape) = (number.to_string(), [length]);
            let at = match single {
                true => group.reserve::<f32>(&name, &shape)?,
                false => group.reserve::<f64>(&name, &shape)?,
            };
            places.push(at.unwrap_or(0)); // without numbers there is no place
        }
        drop(group);
        let unsealed = writer.close()?;
        let file = File::options().write(true).open(unsealed.path()).map_err(|e| Error::writing(path, &e))?;
        Ok((Numbers::new(file, path, single, places), unsealed))
    }

    /// The state of this run that the file holds, and its buffers; another state and a damaged file are refused.
    fn open(
        path: &Path,
        fingerprint: &Fingerprint,
        lengths: &[usize],
        single: bool,
    ) -> Result<(Vec<u8>, Numbers)> {
        if !path.exists() {
            return Err(refuse(path, "nothing there"));
        }
        let reader = Reader::open(path, &FORMAT)?;
        let root = reader.root();
        let found: Option<Fingerprint> = serde_json::from_slice(&root.list::<u8>("fingerprint")?).ok();
        let found = found.ok_or_else(|| root.damaged("a fingerprint that is none"))?;
        let differs = fingerprint.iter().zip(&found).find(|((_, own), (_, other))| own != other);
        if let Some(((what, _), _)) = differs {
            return Err(refuse(path, &format!("one with another {what}")));
        }
        let group = root.group("buffers")?;
        let mut same = found.len() == fingerprint.len() && group.len() == lengths.len();
        let mut places = Vec::new();
        for (number, &length) in lengths.iter().enumerate() {
            let name = number.to_string();
            same = same && group.shape(&name)? == [length] && group.size(&name)? == size(single);
            places.push(if same { group.offset(&name)?.unwrap_or(0) } else { 0 });
        }
        if !same {
            return Err(refuse(path, "one with other inputs"));
        }
        let file = File::open(path).map_err(|e| Error::reading(path, &e))?;
        Ok((root.list("state")?, Numbers::new(file, path, single, places)))
    }

    /// Writes the next numbers of a buffer.
    fn put(&mut self, buffer: usize, numbers: &[f64]) {
        for block in numbers.chunks(BLOCK) {
            // A signal may wait for gigabytes of this: whole numbers at a time, as iterators of bytes are slow.
            self.bytes.resize(block.len() * size(self.single), 0);
            match self.single {
                true => self.bytes.chunks_exact_mut(4).zip(block).for_each(|(to, x)| {
                    to.copy_from_slice(&(*x as f32).to_le_bytes());
                }),
                false => self.bytes.chunks_exact_mut(8).zip(block).for_each(|(to, x)| {
                    to.copy_from_slice(&x.to_le_bytes());
                }),
            }
            if self.failure.is_some() {
                return;
            }
            if let Err(e) = self.file.write_all_at(&self.bytes, self.next[buffer]) {
                self.failure = Some(Error::writing(&self.path, &e));
            }
            self.next[buffer] += self.bytes.len() as u64;
            self.waiting += self.bytes.len() as u64;
            if self.waiting >= TO_DISK {
                self.waiting = 0;
                // SAFETY: the descriptor is open. The call begins to write what is there and waits for nothing; whether
                // it does so is no matter, as the file is synchronised when it is sealed.
                unsafe { libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
            }
        }
    }

    /// Fills a block with the next numbers of a buffer.
    fn take(&mut self, buffer: usize, block: &mut [f64]) {
        let size = size(self.single);
        for block in block.chunks_mut(BLOCK) {
            self.bytes.resize(block.len() * size, 0);
            if let Err(e) = self.file.read_exact_at(&mut self.bytes, self.next[buffer]) {
                self.failure.get_or_insert_with(|| Error::reading(&self.path, &e));
                self.bytes.fill(0);
            }
            self.next[buffer] += self.bytes.len() as u64;
            let number = |bytes: &[u8]| match bytes.try_into() {
                Ok(four) => f64::from(f32::from_le_bytes(four)),
                Err(_) => f64::from_le_bytes(bytes.try_into().expect("four bytes or eight")),
            };
            block.iter_mut().zip(self.bytes.chunks_exact(size)).for_each(|(x, bytes)| *x = number(bytes));
        }
    }

    /// What went wrong, if anything did.
    fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// Bytes of a number.
fn size(single: bool) -> usize {
    if single {
        4
    } else {
        8
    }
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
            let told = |found: &str| found.contains("damaged") || found.contains("truncated");
            for length in [0, 3, 4, 23, 4095, 4096, 5000, whole.len() / 2, whole.len() - 1] {
                std::fs::write(&broken, &whole[..length]).unwrap();
                assert!(told(&refused(&broken, &mut Plain::new(single, 0.0))), "{length}");
            }
            for at in [0, 16, 23, 90, 4096, 4110, whole.len() / 2, whole.len() - 1] {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x90;
                std::fs::write(&broken, bytes).unwrap();
                assert!(told(&refused(&broken, &mut Plain::new(single, 0.0))), "{at}");
            }
        }
    }

    #[test]
    fn a_sealed_file_with_other_parts_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.checkpoint");
        let refused = |fingerprint: &[u8], buffers: usize| {
            let writer = Writer::create(&path, true, &FORMAT).unwrap();
            writer.root().list("fingerprint", fingerprint).unwrap();
            writer.root().list("state", b"here").unwrap();
            let group = writer.root().group("buffers").unwrap();
            (0..buffers).for_each(|number| group.list(&number.to_string(), &[1f32]).unwrap());
            drop(group);
            writer.close().unwrap().seal(0..0).unwrap();
            let e = checkpointer(&path, true).begin(&mut Plain::new(true, 0.0)).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{e}");
            e.to_string()
        };
        assert!(refused(b"[[", 2).contains("a fingerprint that is none"));
        assert!(refused(br#"[["herd", "2"]]"#, 2).contains("another herd"));
        for buffers in [0, 1, 2, 3] {
            assert!(refused(br#"[["herd", "1"]]"#, buffers).contains("other inputs"), "{buffers}");
        }
        let mut elsewhere = Plain::new(true, 1.0);
        elsewhere.state = b"nowhere".to_vec();
        checkpointer(&path, false).save(&mut elsewhere).unwrap();
        let e = checkpointer(&path, true).begin(&mut Plain::new(true, 0.0)).unwrap_err();
        assert!(e.to_string().contains("damaged"), "{e}");
    }
}
