//! GCTA's binary matrices (Yang et al. 2011, also PLINK's --make-grm-bin): `PREFIX.grm.bin`, the lower triangle
//! row by row with its diagonal in f32, little-endian; `PREFIX.grm.N.bin`, the number of SNPs behind each in the
//! same form; `PREFIX.grm.id`, family and name of each animal.

use super::{unique, Grm, Header};
use crate::error::{Error, Result};
use crate::grm::tiles::Tiles;
use crate::output;
use crate::output::Draft;
use ndarray::Array2;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The three files of `prefix`: matrix, numbers, names.
pub fn paths(prefix: &Path) -> [PathBuf; 3] {
    [".grm.bin", ".grm.N.bin", ".grm.id"].map(|suffix| output::with_suffix(prefix, suffix))
}

/// Writes the three files of `prefix`; `header` counts on the root only. The family is the animal's name again. The
/// root writes a row of tiles at a time, as the ranks give them. To be called by all ranks.
pub fn write(prefix: &Path, header: &Header, tiles: &Tiles, force: bool) -> Result<()> {
    let world = tiles.world();
    let begun = if world.is_root() { begin(prefix, header, force).map(Some) } else { Ok(None) };
    let mut begun = world.agree(begun)?;
    let mut outcome = Ok(());
    for block in 0..tiles.stripes() {
        // Also after an error: the others wait until theirs are taken.
        let stripe = tiles.stripe(block);
        if let (Some(stripe), Some((out, _))) = (stripe, &mut begun) {
            outcome = outcome.and_then(|()| write_stripe(block * tiles.deal().rows().block(), &stripe, out));
        }
    }
    let finished = begun.map_or(Ok(()), |(mut out, drafts)| {
        let done = outcome.and_then(|()| out.flush()).and_then(|()| out.get_ref().sync_all());
        done.map_err(|e| Error::writing(drafts[0].target(), &e))?;
        drafts.into_iter().try_for_each(Draft::commit)
    });
    world.agree(finished)
}

/// Writes the numbers and names, and begins the matrix: all three get their names when it is done.
fn begin(prefix: &Path, header: &Header, force: bool) -> Result<(BufWriter<File>, [Draft; 3])> {
    let [matrix, numbers, names] = paths(prefix);
    let matrix = Draft::new(&matrix, force)?;
    let numbers = output::draft_file(&numbers, force, |out| {
        let number = (header.snps as f32).to_le_bytes();
        (0..triangle(header.ids.len())).try_for_each(|_| out.write_all(&number))
    })?;
    let names = output::draft_file(&names, force, |out| {
        header.ids.iter().try_for_each(|id| writeln!(out, "{id}\t{id}"))
    })?;
    let file = File::create(matrix.path()).map_err(|e| Error::writing(matrix.target(), &e))?;
    Ok((BufWriter::with_capacity(1 << 20, file), [matrix, numbers, names]))
}

/// Writes the rows from `first` on up to the diagonal.
fn write_stripe(first: usize, stripe: &Array2<f64>, out: &mut BufWriter<File>) -> std::io::Result<()> {
    for (i, row) in (first..).zip(stripe.rows()) {
        for &x in row.iter().take(i + 1) {
            out.write_all(&(x as f32).to_le_bytes())?;
        }
    }
    Ok(())
}

/// Reads the three files of `prefix`.
pub fn read(prefix: &Path) -> Result<Grm> {
    let [matrix, numbers, names] = paths(prefix);
    let ids = read_names(&names)?;
    unique(&names, &ids)?;
    let n = ids.len();
    let mut values = read_reals(&matrix, triangle(n))?.into_iter();
    let snps = read_reals(&numbers, triangle(n))?.first().map_or(0, |&x| x as u64);
    let mut g = Array2::zeros((n, n));
    for i in 0..n {
        for k in 0..=i {
            let x = f64::from(values.next().expect("the length was checked"));
            g[[i, k]] = x;
            g[[k, i]] = x;
        }
    }
    Ok(Grm { header: Header { ids, method: "gcta".into(), scale: f64::NAN, snps }, g })
}

/// Entries of a lower triangle with its diagonal.
fn triangle(n: usize) -> usize {
    n * (n + 1) / 2
}

fn read_names(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::reading(path, &e))?;
    let mut ids = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, name] = fields[..] else {
            let place = format!("{} line {}", path.display(), number + 1);
            return Err(Error::input(place, "family and name", format!("{line:?}"), "mend the line"));
        };
        ids.push(name.to_owned());
    }
    Ok(ids)
}

/// `count` little-endian f32, no more and no fewer.
fn read_reals(path: &Path, count: usize) -> Result<Vec<f32>> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::reading(path, &e))?;
    let found = file.metadata().map_err(|e| Error::reading(path, &e))?.len();
    if found != 4 * count as u64 {
        return Err(Error::input(
            path.display(),
            format!("{} bytes for the animals of the .grm.id", 4 * count),
            format!("{found} bytes"),
            "is the file truncated, or of another set of animals?",
        ));
    }
    let mut bytes = Vec::with_capacity(4 * count);
    file.read_to_end(&mut bytes).map_err(|e| Error::reading(path, &e))?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{example, tiles};
    use super::*;

    #[test]
    fn a_matrix_comes_back_in_single_precision() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("herd");
        // two rows of tiles
        let grm = example(259);
        write(&prefix, &grm.header, &tiles(&grm), false).unwrap();
        let back = read(&prefix).unwrap();
        assert_eq!((&back.header.ids, back.header.snps), (&grm.header.ids, 40));
        assert_eq!(back.g.dim(), (259, 259));
        for (found, wanted) in back.g.iter().zip(&grm.g) {
            assert_eq!(*found, f64::from(*wanted as f32));
        }
        assert!(write(&prefix, &grm.header, &tiles(&grm), false).is_err(), "not overwritten without force");
    }

    #[test]
    fn truncated_files_and_bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("herd");
        write(&prefix, &example(7).header, &tiles(&example(7)), false).unwrap();
        let [matrix, numbers, names] = paths(&prefix);
        for path in [matrix, numbers] {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
            let e = read(&prefix).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains("truncated"), "{e}");
            std::fs::write(&path, bytes).unwrap();
        }
        std::fs::write(&names, "a a\nb\n").unwrap();
        assert!(read(&prefix).unwrap_err().to_string().contains("line 2"));
    }
}
