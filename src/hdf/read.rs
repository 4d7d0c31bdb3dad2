//! Files open for reading, each of whose parts is checked as it is read.

use super::seal::{digest, Seal, MAGIC, USER_BLOCK};
use super::{structure, Format, Number};
use crate::error::{Error, Result};
use hdf5::types::TypeDescriptor;
use ndarray::{Array1, Array2};
use serde_json::{json, Map, Value};
use std::fs::{File, TryLockError};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The first bytes of an HDF5 file without user block.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Where HDF5's superblock tells that a program has the file open for writing, in bit 0 (HDF5 file format, version 3).
const CONSISTENCY_FLAGS: u64 = USER_BLOCK + 11;

/// A whole file of this program.
pub struct Reader {
    root: Group,
    length: u64,
    bulk: Range<u64>,
}

/// A group of an open file.
pub struct Group {
    group: hdf5::Group,
    path: PathBuf,
    format: &'static Format,
}

/// The name of the format of a file of this program; `None` for other files. Only its beginning is read.
pub fn format_of(path: &Path) -> Result<Option<String>> {
    let file = open(path)?;
    Ok(user_block(path, &file)?.and_then(|block| Seal::parse(&block)).map(|seal| seal.name))
}

impl Reader {
    /// Opens a file of this format. Reads all of it but its bulk range.
    pub fn open(path: &Path, format: &'static Format) -> Result<Reader> {
        let raw = open(path)?;
        let (length, bulk) = unseal(path, &raw, format).map_err(|e| locked(path, &raw).unwrap_or(e))?;
        let file = hdf5::File::open(path).and_then(|f| f.group("/"));
        let refuse = |e: hdf5::Error| damaged(path, format, &first_line(&e));
        let group = file.map_err(|e| locked(path, &raw).unwrap_or_else(|| refuse(e)))?;
        structure::check(&group, length)
            .map_err(|found| Error::input(path.display(), format.what, found, format.advice))?;
        Ok(Reader { root: Group { group, path: path.to_owned(), format }, length, bulk })
    }

    /// The outermost group.
    pub fn root(&self) -> &Group {
        &self.root
    }

    /// Bytes of the file: what a number that says how much there is can be at most.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes with checksums of their own.
    pub fn bulk(&self) -> Range<u64> {
        self.bulk.clone()
    }
}

/// Opens a file that is one.
fn open(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(|e| Error::reading(path, &e))?.file_type();
    if kind.is_dir() {
        return Err(Error::reading(path, &std::io::ErrorKind::IsADirectory.into()));
    }
    if !kind.is_file() {
        let found = "a pipe or a device";
        return Err(Error::input(path.display(), "a file on a disk", found, "copy it to a file first"));
    }
    File::open(path).map_err(|e| Error::reading(path, &e))
}

/// The user block of a file of this program.
fn user_block(path: &Path, file: &File) -> Result<Option<Vec<u8>>> {
    let length = file.metadata().map_err(|e| Error::reading(path, &e))?.len();
    let mut block = vec![0; USER_BLOCK.min(length) as usize];
    file.read_exact_at(&mut block, 0).map_err(|e| Error::reading(path, &e))?;
    Ok(block.starts_with(MAGIC).then_some(block))
}

/// Checks the user block, the file's length and its digest; the length and the bulk range.
fn unseal(path: &Path, file: &File, format: &Format) -> Result<(u64, Range<u64>)> {
    let refuse = |found: &str| Error::input(path.display(), format.what, found, format.advice);
    let Some(block) = user_block(path, file)? else {
        let mut first = [0; 8];
        let hdf5 = file.read_exact_at(&mut first, 0).is_ok() && first == HDF5;
        return Err(refuse(match hdf5 {
            true => "an HDF5 file of another program or of an older genialearn",
            false => "another kind of file, or a damaged one",
        }));
    };
    let length = file.metadata().map_err(|e| Error::reading(path, &e))?.len();
    let Some(seal) = Seal::parse(&block) else { return Err(refuse("a damaged or truncated file")) };
    if seal.name != format.name {
        return Err(refuse(&seal.name));
    }
    if seal.version != format.version {
        let expected = format!("{} of format {}", format.what, format.version);
        let advice = format!("update genialearn, or {}", format.advice);
        return Err(Error::input(path.display(), expected, format!("format {}", seal.version), advice));
    }
    if seal.length != length {
        let how = if length < seal.length { "a truncated one" } else { "one with more behind its end" };
        return Err(refuse(&format!("{how} ({length} bytes in the place of {})", seal.length)));
    }
    let Range { start, end } = seal.bulk;
    if start != end && !(USER_BLOCK <= start && start < end && end <= length) {
        return Err(refuse("a damaged one (bulk data outside of the file)"));
    }
    let found = digest(file, length, &seal.bulk).map_err(|e| Error::reading(path, &e))?;
    if found != seal.digest {
        let mut flags = [0];
        file.read_exact_at(&mut flags, CONSISTENCY_FLAGS).map_err(|e| Error::reading(path, &e))?;
        return Err(refuse(match flags[0] & 1 {
            1 => "one that another program opened for writing and did not close",
            _ => "a file that was damaged, or changed by another program",
        }));
    }
    Ok((length, seal.bulk))
}

/// The error of a file that cannot be read now because of locks.
fn locked(path: &Path, file: &File) -> Option<Error> {
    let (found, advice) = match file.try_lock_shared() {
        Ok(()) => return None,
        Err(TryLockError::WouldBlock) => {
            ("one locked by another program, which has it open for writing", "close it there and try again")
        }
        Err(TryLockError::Error(_)) => (
            "one on a file system without locks",
            "set HDF5_USE_FILE_LOCKING=FALSE, while no program writes to it",
        ),
    };
    Some(Error::input(path.display(), "a file that can be locked for reading", found, advice))
}

fn damaged(path: &Path, format: &Format, found: &str) -> Error {
    Error::input(path.display(), format.what, format!("a damaged one ({found})"), format.advice)
}

impl Group {
    /// An error about a file that is not what it should be.
    pub fn damaged(&self, found: &str) -> Error {
        damaged(&self.path, self.format, found)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is something of this name.
    pub fn has(&self, name: &str) -> bool {
        self.group.link_exists(name)
    }

    /// The group `name` in this one.
    pub fn group(&self, name: &str) -> Result<Group> {
        let group = self.whole(name, self.group.group(name))?;
        Ok(Group { group, path: self.path.clone(), format: self.format })
    }

    /// A number that is an attribute.
    pub fn number<T: Number>(&self, name: &str) -> Result<T> {
        let attr = self.whole(name, self.group.attr(name))?;
        match kind(&attr) {
            Some(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) | TypeDescriptor::Float(_)) => {
                self.whole(name, attr.read_scalar())
            }
            _ => Err(self.damaged(&format!("{name} is no number"))),
        }
    }

    /// A text that is an attribute.
    pub fn text(&self, name: &str) -> Result<String> {
        let attr = self.whole(name, self.group.attr(name))?;
        let Some(TypeDescriptor::FixedUnicode(length)) = kind(&attr) else {
            return Err(self.damaged(&format!("{name} is no text")));
        };
        let mut bytes = vec![0u8; length];
        let memory = self.whole(name, attr.dtype())?;
        // SAFETY: attribute and type are open; the type is a text of as many bytes as `bytes` has, and the attribute
        // holds one of it; the library's lock is held.
        let status = hdf5::sync::sync(|| unsafe {
            hdf5_sys::h5a::H5Aread(attr.id(), memory.id(), bytes.as_mut_ptr().cast())
        });
        self.whole(name, hdf5::h5check(status))?;
        let text = String::from_utf8(bytes).map_err(|_| self.damaged(&format!("{name} is not UTF-8")))?;
        let text = text.trim_end_matches('\0');
        match text.contains('\0') {
            false => Ok(text.to_owned()),
            true => Err(self.damaged(&format!("{name} holds a NUL"))),
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let bytes: Vec<u8> = self.list(name)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.damaged(&format!("{name} is not UTF-8")))?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let Some(text) = text.strip_suffix('\n') else {
            return Err(self.damaged(&format!("the last of {name} has no end")));
        };
        let texts: Vec<String> = text.split('\n').map(str::to_owned).collect();
        match texts.iter().any(|t| t.contains(char::is_control)) {
            false => Ok(texts),
            true => Err(self.damaged(&format!("control characters in {name}"))),
        }
    }

    /// Names: a list of texts, none of them empty, none twice.
    pub fn names(&self, name: &str) -> Result<Vec<String>> {
        let texts = self.texts(name)?;
        self.unique(name, &texts)?;
        Ok(texts)
    }

    /// An error unless no text is empty and none stands twice.
    fn unique(&self, name: &str, texts: &[String]) -> Result<()> {
        match first_twin(texts) {
            None => Ok(()),
            Some("") => Err(self.damaged(&format!("an empty name in {name}"))),
            Some(twin) => Err(self.damaged(&format!("{twin} twice in {name}"))),
        }
    }

    /// A list of numbers.
    pub fn list<T: Number>(&self, name: &str) -> Result<Vec<T>> {
        Ok(self.whole(name, self.set(name)?.read_1d().map(Array1::into_raw_vec_and_offset))?.0)
    }

    /// A matrix.
    pub fn matrix<T: Number>(&self, name: &str) -> Result<Array2<T>> {
        self.whole(name, self.set(name)?.read_2d())
    }

    /// Some rows and columns of a matrix.
    pub fn part<T: Number>(
        &self,
        name: &str,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Array2<T>> {
        self.whole(name, self.set(name)?.read_slice_2d((rows, columns)))
    }

    /// The shape of a list or a matrix.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        self.whole(name, self.set(name)?.get_shape())
    }

    /// Bytes of a number of a list or a matrix.
    pub fn size(&self, name: &str) -> Result<usize> {
        let dtype = self.whole(name, self.set(name)?.dtype())?;
        Ok(dtype.size())
    }

    /// The shape of the chunks of a matrix; `None` when it has none.
    pub fn chunk(&self, name: &str) -> Result<Option<Vec<usize>>> {
        Ok(self.set(name)?.chunk())
    }

    /// Where the numbers of a list or matrix stand in the file, one after the other; `None` when there are none.
    pub fn offset(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.set(name)?.offset())
    }

    /// How many members the group has.
    pub fn len(&self) -> usize {
        self.group.len() as usize
    }

    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        self.group.is_empty()
    }

    /// All attributes.
    pub fn attributes(&self) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        for name in self.whole("attributes", self.group.attr_names())? {
            let attr = self.whole(&name, self.group.attr(&name))?;
            let value = match kind(&attr) {
                Some(TypeDescriptor::FixedUnicode(_)) => json!(self.text(&name)?),
                Some(TypeDescriptor::Integer(_)) => json!(self.number::<i64>(&name)?),
                Some(TypeDescriptor::Unsigned(_)) => json!(self.number::<u64>(&name)?),
                Some(TypeDescriptor::Float(_)) => json!(self.number::<f64>(&name)?),
                _ => return Err(self.damaged(&format!("{name} is neither number nor text"))),
            };
            out.insert(name, value);
        }
        Ok(out)
    }

    /// Names and shapes of all datasets in this group and its groups.
    pub fn datasets(&self) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        for name in self.whole("members", self.group.member_names())? {
            if let Ok(inner) = self.group.group(&name) {
                let inner = Group { group: inner, path: self.path.clone(), format: self.format };
                let datasets = inner.datasets()?;
                out.extend(datasets.into_iter().map(|(below, shape)| (format!("{name}/{below}"), shape)));
            } else {
                let shape: Vec<String> = self.shape(&name)?.iter().map(ToString::to_string).collect();
                out.insert(name, json!(shape.join(" x ")));
            }
        }
        Ok(out)
    }

    fn set(&self, name: &str) -> Result<hdf5::Dataset> {
        self.whole(name, self.group.dataset(name))
    }

    fn whole<T>(&self, name: &str, read: hdf5::Result<T>) -> Result<T> {
        read.map_err(|e| self.damaged(&format!("{name}: {}", first_line(&e))))
    }
}

/// The first text that is empty or stands twice.
pub fn first_twin(texts: &[String]) -> Option<&str> {
    let mut seen = std::collections::HashSet::with_capacity(texts.len());
    texts.iter().find(|t| t.is_empty() || !seen.insert(t.as_str())).map(String::as_str)
}

/// The type of an attribute with one value.
fn kind(attr: &hdf5::Attribute) -> Option<TypeDescriptor> {
    let one = attr.is_scalar() && attr.size() == 1;
    one.then(|| attr.dtype().and_then(|t| t.to_descriptor()).ok()).flatten()
}

/// HDF5's first sentence about what went wrong.
pub(super) fn first_line(err: &hdf5::Error) -> String {
    err.to_string().lines().next().unwrap_or_default().to_owned()
}
