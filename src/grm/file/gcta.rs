//! GCTA's binary matrices (Yang et al. 2011, also PLINK's --make-grm-bin): `PREFIX.grm.bin`, the lower triangle
//! row by row with its diagonal in f32, little-endian; `PREFIX.grm.N.bin`, the number of SNPs behind each in the
//! same form; `PREFIX.grm.id`, family and name of each animal.

use super::{unique, Grm, Header};
use crate::error::{Error, Result};
use crate::genotype::export::join_words;
use crate::grm::tiles::Tiles;
use crate::lines::{self, Lines};
use crate::output;
use crate::output::Draft;
use ndarray::Array2;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The three files of `prefix`: matrix, numbers, names.
pub fn paths(prefix: &Path) -> [PathBuf; 3] {
    [".grm.bin", ".grm.N.bin", ".grm.id"].map(|suffix| output::with_suffix(prefix, suffix))
}

/// Writes the three files of `prefix`; `header` and `families` count on the root only. An animal of no family has its
/// name again as the family, as in a `.fam` that `export` writes. The root writes a row of tiles at a time, as the
/// ranks give them. To be called by all ranks.
pub fn write(prefix: &Path, header: &Header, families: &[String], tiles: &Tiles, force: bool) -> Result<()> {
    let world = tiles.world();
    let begun = if world.is_root() { begin(prefix, header, families, force).map(Some) } else { Ok(None) };
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
fn begin(
    prefix: &Path,
    header: &Header,
    families: &[String],
    force: bool,
) -> Result<(BufWriter<File>, [Draft; 3])> {
    let [matrix, numbers, names] = paths(prefix);
    let mut ids = header.ids.clone();
    join_words("animal", &mut ids, &names)?;
    let matrix = Draft::new(&matrix, force)?;
    let numbers = output::draft_file(&numbers, force, |out| {
        let number = (header.snps as f32).to_le_bytes();
        (0..triangle(header.ids.len())).try_for_each(|_| out.write_all(&number))
    })?;
    let names = output::draft_file(&names, force, |out| {
        ids.iter().zip(families).try_for_each(|(id, family)| match family.as_str() {
            "" => writeln!(out, "{id}\t{id}"),
            family => writeln!(out, "{}\t{id}", family.replace(char::is_whitespace, "_")),
        })
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
    let mut values = reals(&matrix, triangle(n))?;
    let snps = reals(&numbers, triangle(n))?.read()?;
    let mut g = Array2::zeros((n, n));
    for i in 0..n {
        for k in 0..=i {
            let x = f64::from(values.read()?);
            g[[i, k]] = x;
            g[[k, i]] = x;
        }
    }
    Ok(Grm { header: Header { ids, method: "gcta".into(), scale: f64::NAN, snps: snps as u64 }, g })
}

/// Entries of a lower triangle with its diagonal.
fn triangle(n: usize) -> usize {
    n * (n + 1) / 2
}

fn read_names(path: &Path) -> Result<Vec<String>> {
    let mut lines = Lines::open(path)?;
    let mut ids = Vec::new();
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_row()? else { break };
        if line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, name] = fields[..] else {
            let place = lines::place(path, number);
            return Err(Error::input(place, "family and name", format!("{line:?}"), "correct the line"));
        };
        ids.push(name.to_owned());
    }
    if ids.is_empty() {
        return Err(Error::input(path.display(), "one line an animal", "an empty file", "check the file"));
    }
    Ok(ids)
}

/// Numbers of a file, one after the other.
struct Reals {
    path: PathBuf,
    input: BufReader<File>,
}

impl Reals {
    fn read(&mut self) -> Result<f32> {
        let mut bytes = [0; 4];
        self.input.read_exact(&mut bytes).map_err(|e| lines::unreadable(&self.path, &e))?;
        Ok(f32::from_le_bytes(bytes))
    }
}

/// A file of `count` little-endian f32, no more and no fewer.
fn reals(path: &Path, count: usize) -> Result<Reals> {
    let file = File::open(path).map_err(|e| Error::reading(path, &e))?;
    let found = file.metadata().map_err(|e| Error::reading(path, &e))?.len();
    if found != 4 * count as u64 {
        return Err(Error::input(
            path.display(),
            format!("{} bytes for the animals of the .grm.id", 4 * count),
            format!("{found} bytes"),
            "is the file truncated, or of another set of animals?",
        ));
    }
    Ok(Reals { path: path.to_owned(), input: BufReader::with_capacity(1 << 20, file) })
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
        let mut grm = example(259);
        grm.header.ids[1] = "cow 1".into();
        let mut families = vec![String::new(); 259];
        families[1] = "herd 2".into();
        write(&prefix, &grm.header, &families, &tiles(&grm), false).unwrap();
        let back = read(&prefix).unwrap();
        grm.header.ids[1] = "cow_1".into();
        assert_eq!((&back.header.ids, back.header.snps), (&grm.header.ids, 40));
        let names = std::fs::read_to_string(&paths(&prefix)[2]).unwrap();
        let name = &grm.header.ids[0];
        assert!(names.starts_with(&format!("{name}\t{name}\nherd_2\tcow_1\n")), "{names}");
        assert_eq!(back.g.dim(), (259, 259));
        for (found, wanted) in back.g.iter().zip(&grm.g) {
            assert_eq!(*found, f64::from(*wanted as f32));
        }
        assert!(
            write(&prefix, &grm.header, &families, &tiles(&grm), false).is_err(),
            "not overwritten without force"
        );
    }

    #[test]
    fn truncated_files_and_bad_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("herd");
        write(&prefix, &example(7).header, &vec![String::new(); 7], &tiles(&example(7)), false).unwrap();
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
