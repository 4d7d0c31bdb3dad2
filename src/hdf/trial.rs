//! Whether HDF5 works on a file system.

use std::path::Path;

/// The version of the HDF5 library.
pub fn library_version() -> String {
    let (major, minor, patch) = hdf5::library_version();
    format!("{major}.{minor}.{patch}")
}

/// Writes a small file, opens it twice at once and reads it, as ranks do with a store; then removes it.
///
/// # Errors
/// What HDF5 says where it cannot write, lock or read.
pub fn try_out(path: &Path) -> std::result::Result<(), String> {
    let tried = || -> hdf5::Result<()> {
        let file = hdf5::File::create_excl(path)?;
        file.new_dataset::<u8>().shape(4).create("calls")?.write(&[0u8, 1, 2, 3])?;
        file.close()?;
        let (one, two) = (hdf5::File::open(path)?, hdf5::File::open(path)?);
        one.dataset("calls")?.read_1d::<u8>()?;
        two.dataset("calls")?.read_1d::<u8>()?;
        Ok(())
    };
    let result = tried().map_err(|e| e.to_string());
    let _ = std::fs::remove_file(path);
    result
}
