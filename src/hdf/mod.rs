//! HDF5 files of this program: sealed when they are written, checked before they are believed.
//!
//! A file begins with a user block of [`USER_BLOCK`] bytes, which HDF5 leaves alone: a few lines of text with the
//! format, the file's length and a digest of all bytes behind the block but one bulk range, whose parts have checksums
//! of their own ([`fletcher32`]). [`Reader::open`] checks it before HDF5 reads anything, and then that the file stands
//! alone: no links but plain ones, no storage in other files, no virtual datasets, no filters, no texts of variable
//! length, nothing larger than the file. Any HDF5 library reads these files.

mod checksum;
mod read;
mod seal;
mod structure;
mod trial;
mod write;

pub use checksum::fletcher32;
pub use read::{first_twin, format_of, Group, Reader};
pub use seal::USER_BLOCK;
pub use trial::{library_version, try_out};
pub use write::{GroupWriter, Unsealed, Writer};

/// The types of numbers in files.
pub use hdf5::H5Type as Number;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Its name, which begins with `genialearn-`.
    pub name: &'static str,
    /// The version that is written, and the only one that is read.
    pub version: u64,
    /// What a file is, such as "a genotype store".
    pub what: &'static str,
    /// How to make one.
    pub advice: &'static str,
}

#[cfg(test)]
pub(crate) mod tests;
