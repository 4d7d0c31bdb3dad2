//! The text in the user block: format, length and digest of a file.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Bytes before HDF5's own. A page of memory, so that addresses on whole pages stay so.
pub const USER_BLOCK: u64 = 4096;
/// What the user block of every kind of file begins with.
pub(super) const MAGIC: &[u8] = b"genialearn-";
/// Bytes that are digested at a time.
const STEP: u64 = 1 << 20;

/// What the user block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seal {
    /// The format's name.
    pub name: String,
    /// The format's version.
    pub version: u64,
    /// Bytes of the whole file.
    pub length: u64,
    /// Bytes with checksums of their own, outside of the digest.
    pub bulk: Range<u64>,
    /// CRC-32 of the bytes behind the user block and outside of `bulk`.
    pub digest: u32,
}

impl Seal {
    /// The user block: lines of text, the last with the CRC-32 of those before, and zeros.
    pub fn block(&self) -> Vec<u8> {
        let Seal { name, version, length, bulk, digest } = self;
        let (start, end) = (bulk.start, bulk.end);
        let mut text = format!(
            "{name} {version}\nlength {length}\nbulk {start} {end}\ndigest {digest:08x}\n\
             Change it only with genialearn, which refuses files that other programs changed.\n"
        );
        let sum = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("checksum {sum:08x}\n"));
        let mut block = text.into_bytes();
        block.resize(USER_BLOCK as usize, 0);
        block
    }

    /// Reads a user block; `None` unless each of its bytes is right.
    pub fn parse(block: &[u8]) -> Option<Seal> {
        let text = block.get(..block.iter().position(|b| *b == 0)?)?;
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        let (name, version) = lines.next()?.split_once(' ')?;
        let length = lines.next()?.strip_prefix("length ")?;
        let (start, end) = lines.next()?.strip_prefix("bulk ")?.split_once(' ')?;
        let digest = lines.next()?.strip_prefix("digest ")?;
        let seal = Seal {
            name: name.to_owned(),
            version: version.parse().ok()?,
            length: length.parse().ok()?,
            bulk: start.parse().ok()?..end.parse().ok()?,
            digest: u32::from_str_radix(digest, 16).ok()?,
        };
        (seal.block() == block).then_some(seal)
    }
}

/// CRC-32 of the bytes of a file of `length` bytes behind the user block and outside of `bulk`.
pub(super) fn digest(file: &File, length: u64, bulk: &Range<u64>) -> std::io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = vec![0; STEP.min(length) as usize];
    for part in [USER_BLOCK..bulk.start.max(USER_BLOCK), bulk.end.max(USER_BLOCK)..length] {
        let mut at = part.start;
        while at < part.end {
            let some = &mut bytes[..STEP.min(part.end - at) as usize];
            file.read_exact_at(some, at)?;
            hasher.update(some);
            at += some.len() as u64;
        }
    }
    Ok(hasher.finalize())
}
