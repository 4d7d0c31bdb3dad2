//! Files in the making.

use super::seal::{digest, Seal, USER_BLOCK};
use super::{Format, Number};
use crate::error::{Error, Result};
use crate::output::Draft;
use hdf5::plist::dataset_create::{AllocTime, FillTime};
use hdf5::types::TypeDescriptor;
use ndarray::ArrayView2;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file in the making, which appears under its name when it is sealed. Dropped before, it leaves nothing.
pub struct Writer {
    root: GroupWriter,
    unsealed: Unsealed,
}

/// A group of a file in the making. Names are unique in their group.
pub struct GroupWriter {
    group: hdf5::Group,
    target: PathBuf,
}

/// A file whose HDF5 part is complete; bytes of reserved datasets may still be written to [`Unsealed::path`].
pub struct Unsealed {
    draft: Draft,
    format: &'static Format,
}

impl Writer {
    /// Begins the file `path`; one that exists is refused unless `force`.
    pub fn create(path: &Path, force: bool, format: &'static Format) -> Result<Writer> {
        let draft = Draft::new(path, force)?;
        let mut options = hdf5::File::with_options();
        options
            .with_fapl(|p| p.libver_v110().alignment(USER_BLOCK, USER_BLOCK))
            .with_fcpl(|p| p.userblock(USER_BLOCK).obj_track_times(false));
        let file = draft.made_by(|path| options.create(path)).map_err(|e| unwritable(path, &e))?;
        let group = file.group("/").map_err(|e| unwritable(path, &e))?;
        let root = GroupWriter { group, target: path.to_owned() };
        root.text("format", format.name)?;
        root.number("format_version", format.version)?;
        root.text("created_by", concat!("genialearn ", env!("CARGO_PKG_VERSION")))?;
        Ok(Writer { root, unsealed: Unsealed { draft, format } })
    }

    /// The outermost group.
    pub fn root(&self) -> &GroupWriter {
        &self.root
    }

    /// Where the file stands for now.
    pub fn path(&self) -> &Path {
        self.unsealed.path()
    }

    /// Ends the HDF5 part; other groups of the file must be dropped.
    pub fn close(self) -> Result<Unsealed> {
        let Writer { root: GroupWriter { group, target }, unsealed } = self;
        let file = group.file().map_err(|e| unwritable(&target, &e))?;
        drop(group);
        file.flush().and_then(|()| file.close()).map_err(|e| unwritable(&target, &e))?;
        Ok(unsealed)
    }
}

impl Unsealed {
    /// Where the file stands for now.
    pub fn path(&self) -> &Path {
        self.draft.path()
    }

    /// Writes the user block and gives the file its name. The bytes `bulk` have checksums of their own.
    pub fn seal(self, bulk: Range<u64>) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let file = File::options().read(true).write(true).open(self.path())?;
            let length = file.metadata()?.len();
            let digest = digest(&file, length, &bulk)?;
            let Format { name, version, .. } = *self.format;
            let seal = Seal { name: name.to_owned(), version, length, bulk: bulk.clone(), digest };
            file.write_all_at(&seal.block(), 0)?;
            file.sync_all()
        };
        write().map_err(|e| Error::writing(self.draft.target(), &e))?;
        self.draft.commit()
    }
}

impl GroupWriter {
    /// The group `name` in this one.
    pub fn group(&self, name: &str) -> Result<GroupWriter> {
        let group = self.group.create_group_builder().obj_track_times(false).create(name);
        Ok(GroupWriter { group: self.done(group)?, target: self.target.clone() })
    }

    /// A number as an attribute.
    pub fn number<T: Number>(&self, name: &str, value: T) -> Result<()> {
        self.done(self.group.new_attr::<T>().create(name).and_then(|a| a.write_scalar(&value)))
    }

    /// A text as an attribute of fixed length, UTF-8.
    pub fn text(&self, name: &str, text: &str) -> Result<()> {
        self.no_nul(name, text)?;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().max(1), 0);
        let write = || {
            let dtype = TypeDescriptor::FixedUnicode(bytes.len());
            let attr = self.group.new_attr_builder().empty_as(&dtype).create(name)?;
            let memory = attr.dtype()?;
            // SAFETY: attribute and type are open; the type is a text of as many bytes as `bytes` has, which are only
            // read; the library's lock is held.
            let status = hdf5::sync::sync(|| unsafe {
                hdf5_sys::h5a::H5Awrite(attr.id(), memory.id(), bytes.as_ptr().cast())
            });
            hdf5::h5check(status).map(drop)
        };
        self.done(write())
    }

    /// A list of texts as a dataset of bytes, UTF-8, each text ending with a line feed.
    pub fn texts(&self, name: &str, texts: &[String]) -> Result<()> {
        if let Some(text) = texts.iter().find(|t| t.contains(char::is_control)) {
            let problem = format!("cannot hold the text {text:?} in its list {name}");
            return Err(Error::failed(self.target.display(), problem, "remove the control characters"));
        }
        let bytes: Vec<u8> = texts.iter().flat_map(|t| t.bytes().chain([b'\n'])).collect();
        self.list(name, &bytes)
    }

    /// A list of numbers.
    pub fn list<T: Number>(&self, name: &str, values: &[T]) -> Result<()> {
        self.done(self.group.new_dataset_builder().with_data(values).create(name).map(drop))
    }

    /// A matrix.
    pub fn matrix<T: Number>(&self, name: &str, values: ArrayView2<T>) -> Result<()> {
        self.done(self.group.new_dataset_builder().with_data(values).create(name).map(drop))
    }

    /// Room for numbers of this shape, which somebody else writes; where in the file they belong, row by row, unless
    /// there are none.
    pub fn reserve<T: Number>(&self, name: &str, shape: &[usize]) -> Result<Option<u64>> {
        let set = self.group.new_dataset::<T>().alloc_time(Some(AllocTime::Early)).fill_time(FillTime::Never);
        let set = self.done(set.shape(shape.to_vec()).create(name))?;
        Ok(set.offset())
    }

    /// Room for a matrix of bytes in chunks, which lie one after the other, row of chunks by row of chunks; where the
    /// first begins.
    pub fn reserve_chunks(&self, name: &str, shape: [usize; 2], chunk: [usize; 2]) -> Result<u64> {
        let set = self.group.new_dataset::<u8>().chunk(chunk).alloc_time(Some(AllocTime::Early));
        let set = self.done(set.fill_time(FillTime::Never).shape(shape).create(name))?;
        self.done(first_chunk(&set, chunk[0] * chunk[1]))
    }

    fn no_nul(&self, name: &str, text: &str) -> Result<()> {
        match text.contains('\0') {
            false => Ok(()),
            true => {
                let problem = format!("cannot hold a NUL in its text {name}");
                Err(Error::failed(self.target.display(), problem, "remove it"))
            }
        }
    }

    fn done<T>(&self, written: hdf5::Result<T>) -> Result<T> {
        written.map_err(|e| unwritable(&self.target, &e))
    }
}

/// Where the first chunk, of `length` bytes, begins in the file. Versions of HDF5 differ in whether the address that
/// they tell counts the user block, so that two patterns are written and looked for.
fn first_chunk(set: &hdf5::Dataset, length: usize) -> hdf5::Result<u64> {
    let told = set.chunk_info(0).ok_or("HDF5 gave no place to the chunks")?.addr;
    let io = |e: std::io::Error| hdf5::Error::from(e.to_string());
    let file = File::open(set.filename()).map_err(io)?;
    let mut possible = vec![told, told + USER_BLOCK];
    for pattern in [0xA5, 0x5A, 0] {
        let chunk = vec![pattern; length];
        write_chunk(set, &chunk)?;
        let mut found = vec![0; length];
        possible.retain(|at| file.read_exact_at(&mut found, *at).is_ok() && found == chunk);
    }
    match possible[..] {
        [at] => Ok(at),
        _ => Err("the chunks are not where HDF5 says".into()),
    }
}

/// Writes the first chunk of a matrix.
fn write_chunk(set: &hdf5::Dataset, chunk: &[u8]) -> hdf5::Result<()> {
    let place = [0u64; 2];
    // SAFETY: the dataset is open and has two dimensions, as many as `place` has; `chunk` is as long as said and only
    // read; 0 as transfer properties is H5P_DEFAULT; the library's lock is held.
    let status = hdf5::sync::sync(|| unsafe {
        hdf5_sys::h5d::H5Dwrite_chunk(set.id(), 0, 0, place.as_ptr(), chunk.len(), chunk.as_ptr().cast())
    });
    hdf5::h5check(status).map(drop)
}

fn unwritable(path: &Path, err: &hdf5::Error) -> Error {
    Error::failed(
        path.display(),
        format!("cannot be written ({})", super::read::first_line(err)),
        "free some disk space or choose another --out; no half-written file was left behind",
    )
}
