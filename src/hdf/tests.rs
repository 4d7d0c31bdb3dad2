//! Files of every kind of part, whole, damaged and forged.

use super::seal::{digest, Seal, USER_BLOCK};
use super::*;
use crate::error::Result;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Flips bits all over a file and cuts it at many lengths: it is refused as wrong input, or gives what it gave.
pub(crate) fn damage<T: PartialEq + std::fmt::Debug>(path: &Path, read: impl Fn(&Path) -> Result<T>) {
    let (whole, answer) = (std::fs::read(path).unwrap(), read(path).unwrap());
    let judge = |what: String| match read(path) {
        Ok(found) => assert_eq!(found, answer, "{what}"),
        Err(e) => assert_eq!(e.exit_code(), 2, "{what}: {e}"),
    };
    let text = whole.iter().position(|b| *b == 0).unwrap();
    let stride = (whole.len() / 400).max(1) | 1;
    for at in (0..text).step_by(7).chain((text..whole.len()).step_by(stride)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(path, &bytes).unwrap();
        judge(format!("a bit of byte {at}"));
    }
    for length in (0..whole.len()).step_by(whole.len() / 40 + 1) {
        std::fs::write(path, &whole[..length]).unwrap();
        assert_eq!(read(path).unwrap_err().exit_code(), 2, "{length} bytes");
    }
    std::fs::write(path, &whole).unwrap();
}

/// Changes a file through HDF5 and makes its digest right again.
pub(crate) fn forge(path: &Path, change: impl FnOnce(&hdf5::File)) {
    let file = hdf5::File::open_rw(path).unwrap();
    change(&file);
    file.close().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut block = vec![0; USER_BLOCK as usize];
    file.read_exact_at(&mut block, 0).unwrap();
    let seal = Seal::parse(&block).unwrap();
    let length = file.metadata().unwrap().len();
    let digest = digest(&file, length, &seal.bulk).unwrap();
    file.write_all_at(&Seal { length, digest, ..seal }.block(), 0).unwrap();
}

static FORMAT: Format =
    Format { name: "genialearn-test", version: 3, what: "a test", advice: "make it again" };

type Parts = (Vec<String>, Vec<f64>, ndarray::Array2<u32>, String, u64);

fn parts() -> Parts {
    let names = ["Zoë", "b c", "d"].map(String::from).to_vec();
    (names, vec![1.5, f64::MIN], ndarray::arr2(&[[1, 2, 3], [4, 5, 6]]), "a text\nof µ".into(), 1 << 60)
}

fn write(path: &Path) {
    let (names, list, matrix, text, number) = parts();
    let file = Writer::create(path, true, &FORMAT).unwrap();
    let inner = file.root().group("inner").unwrap();
    inner.texts("names", &names).unwrap();
    inner.list("list", &list).unwrap();
    inner.matrix("matrix", matrix.view()).unwrap();
    file.root().text("text", &text).unwrap();
    file.root().number("number", number).unwrap();
    drop(inner);
    file.close().unwrap().seal(0..0).unwrap();
}

fn read(path: &Path) -> Result<Parts> {
    let file = Reader::open(path, &FORMAT)?;
    let (root, inner) = (file.root(), file.root().group("inner")?);
    Ok((
        inner.names("names")?,
        inner.list("list")?,
        inner.matrix("matrix")?,
        root.text("text")?,
        root.number("number")?,
    ))
}

#[test]
fn parts_come_back_and_damage_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    write(&path);
    assert_eq!(read(&path).unwrap(), parts());
    let bytes = std::fs::read(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100)); // HDF5 keeps times in seconds, if it keeps them
    write(&path);
    assert!(std::fs::read(&path).unwrap() == bytes, "no times in the file");
    damage(&path, read);
}

#[test]
fn forged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let (outside, other) = (dir.path().join("secret"), dir.path().join("b.h5"));
    std::fs::write(&outside, [1u8; 64]).unwrap();
    write(&other);
    let refused = |word: &str, change: &dyn Fn(&hdf5::File)| {
        write(&path);
        forge(&path, change);
        let e = read(&path).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(word), "{word}: {e}");
    };
    refused("link", &|f| f.link_soft("/inner", "again").unwrap());
    refused("link", &|f| f.link_external(other.to_str().unwrap(), "/inner", "away").unwrap());
    refused("two names", &|f| f.link_hard("/inner", "inner/round").unwrap());
    refused("another file", &|f| {
        let set = f.new_dataset::<u8>().with_dcpl(|p| p.external(outside.to_str().unwrap(), 0, 64));
        set.shape(64).create("secret").unwrap();
    });
    refused("larger", &|f| drop(f.new_dataset::<u64>().shape(1 << 40).create("huge").unwrap()));
    refused("compressed", &|f| {
        drop(f.new_dataset::<u8>().chunk(64).deflate(9).shape(64).create("zip").unwrap());
    });
    refused("numbers", &|f| {
        let texts: Vec<hdf5::types::VarLenUnicode> = vec!["a".parse().unwrap()];
        f.new_dataset_builder().with_data(&texts).create("texts").unwrap();
    });
    let names = |bytes: &'static [u8]| {
        move |f: &hdf5::File| {
            f.unlink("inner/names").unwrap();
            f.new_dataset_builder().with_data(bytes).create("inner/names").unwrap();
        }
    };
    refused("UTF-8", &names(b"a\xE9\n"));
    refused("control", &names(b"a\0\nb\n"));
    refused("twice", &names(b"a\nb\na\n"));
    refused("empty", &names(b"a\n\n"));
    refused("no end", &names(b"a\nb"));
}

#[test]
fn other_files_are_named_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.h5");
    let refused = |word: &str| {
        let e = Reader::open(&path, &FORMAT).err().unwrap();
        assert!(e.exit_code() == 2 && e.to_string().contains(word), "{word}: {e}");
    };
    refused("nothing there");
    std::fs::write(&path, "").unwrap();
    refused("another kind of file");
    hdf5::File::create(&path).unwrap();
    refused("another program");
    write(&path);
    hdf5::File::open_rw(&path).unwrap().create_group("new").unwrap();
    let e = Reader::open(&path, &FORMAT).err().unwrap();
    assert_eq!(e.exit_code(), 2, "{e}");
    write(&path);
    let writing = hdf5::File::open_rw(&path).unwrap();
    refused("for writing");
    drop(writing);
    write(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let writing = File::open(&path).unwrap();
    writing.lock().unwrap();
    refused("locked by another program");
    drop(writing);
    static NEWER: Format = Format { version: 4, ..FORMAT };
    let file = Writer::create(&path, true, &NEWER).unwrap();
    file.close().unwrap().seal(0..0).unwrap();
    refused("update genialearn");
    let folder = Reader::open(dir.path(), &FORMAT).err().unwrap();
    assert!(folder.to_string().contains("a folder"));
}
