//! Where genotypes come from: any format, read SNP by SNP in as many passes as needed.

use crate::error::{Error, Result};
use crate::genotype::{bimbam, npy, plink, text, vcf, Animals, Variants};
use crate::output::with_suffix;
use crate::packed::Packed;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An allele that was never seen, as PLINK writes it.
pub const UNKNOWN_ALLELE: &str = "0";

/// Genotypes that can be read SNP by SNP, in any number of passes.
pub trait Source: Sync {
    /// The animals, in the order of the source.
    fn animals(&self) -> &Animals;
    /// The animals, to complete what the source does not tell about them.
    fn animals_mut(&mut self) -> &mut Animals;
    /// The SNPs, in the order of the source; frequencies and missing counts are not known yet.
    fn variants(&self) -> &Variants;
    /// The SNPs, to name what the source only numbers.
    fn variants_mut(&mut self) -> &mut Variants;
    /// Fills `panel` with the SNPs `snps` (ascending), one a row, of all animals: (snps.len(), n).
    fn read(&self, snps: &[usize], panel: &mut Packed) -> Result<()>;
    /// Things worth telling that are no errors, such as how many dosages were rounded.
    fn notes(&self) -> &[String] {
        &[]
    }
}

/// Genotypes that were read as a whole, because their format cannot be read in parts.
pub struct Loaded {
    /// The animals.
    pub animals: Animals,
    /// The SNPs.
    pub variants: Variants,
    /// The calls, one SNP a row: (m, n).
    pub calls: Packed,
    /// What to tell the user.
    pub notes: Vec<String>,
}

impl Source for Loaded {
    fn animals(&self) -> &Animals {
        &self.animals
    }

    fn animals_mut(&mut self) -> &mut Animals {
        &mut self.animals
    }

    fn variants(&self) -> &Variants {
        &self.variants
    }

    fn variants_mut(&mut self) -> &mut Variants {
        &mut self.variants
    }

    fn read(&self, snps: &[usize], panel: &mut Packed) -> Result<()> {
        panel.resize(snps.len(), self.calls.columns());
        snps.iter().enumerate().for_each(|(to, &j)| panel.row_mut(to).copy_from_slice(self.calls.row(j)));
        Ok(())
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Format {
    /// PLINK 1 `.bed` with `.bim` and `.fam`.
    Bed,
    /// VCF, plain or gzipped.
    Vcf,
    /// Text dosages: a line an animal, a column a SNP.
    Tsv,
    /// PLINK's `.raw`.
    Raw,
    /// BIMBAM mean genotypes: a line a SNP.
    Bimbam,
    /// NumPy array, animals × SNPs.
    Npy,
}

/// What the user may type for each format, and the endings that mean it.
const FORMATS: [(Format, &str, &[&str]); 6] = [
    (Format::Bed, "bed", &[".bed"]),
    (Format::Vcf, "vcf", &[".vcf"]),
    (Format::Tsv, "tsv", &[".tsv"]),
    (Format::Raw, "raw", &[".raw"]),
    (Format::Bimbam, "bimbam", &[".bimbam", ".geno.txt"]),
    (Format::Npy, "npy", &[".npy"]),
];

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = FORMATS.iter().find(|(_, n, _)| *n == name).map(|(f, ..)| *f);
        found.ok_or_else(|| "expected bed, vcf, tsv, raw, bimbam or npy".to_owned())
    }
}

impl Format {
    /// The format that a file's name says.
    pub fn of(path: &Path) -> Result<Format> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".bgz")).unwrap_or(&name);
        let ends = |endings: &[&str]| endings.iter().any(|e| plain.ends_with(e));
        FORMATS.iter().find(|(.., endings)| ends(endings)).map(|(f, ..)| *f).ok_or_else(|| {
            Error::input(
                path.display(),
                "a file that ends in .bed, .vcf[.gz], .tsv[.gz], .raw, .bimbam[.gz], .geno.txt[.gz] or .npy",
                "another name",
                "say what it is with --format",
            )
        })
    }

    /// The file and its format where the user typed `path`: a name without ending stands for `path.bed`,
    /// `path.vcf.gz` and so on, if one of them exists, and a `.bim` or `.fam` for its `.bed`.
    pub fn find(path: &Path) -> Result<(PathBuf, Format)> {
        let format = Format::of(path);
        if format.is_ok() || path.is_dir() {
            return format.map(|format| (path.to_owned(), format));
        }
        let bed = path.with_extension("bed");
        if path.extension().is_some_and(|e| e == "bim" || e == "fam") && bed.is_file() {
            return Ok((bed, Format::Bed));
        }
        let endings = FORMATS.iter().flat_map(|(_, _, endings)| endings.iter());
        let files = endings.flat_map(|e| [(*e).to_owned(), format!("{e}.gz"), format!("{e}.bgz")]);
        let there: Vec<PathBuf> =
            files.map(|e| with_suffix(path, &e)).filter(|file| file.is_file()).collect();
        match &there[..] {
            [file] => Ok((file.clone(), Format::of(file)?)),
            [] if path.exists() => format.map(|format| (path.to_owned(), format)),
            [] => Err(Error::input(
                path.display(),
                "a file of genotypes, or PREFIX of a PREFIX.bed",
                "nothing there",
                "check the path",
            )),
            [first, second, ..] => Err(Error::input(
                path.display(),
                "one file of genotypes of this name",
                format!("{} and {}", first.display(), second.display()),
                "name the one that is meant",
            )),
        }
    }

    /// Opens (and, but for `.bed`, reads) genotypes of this format. `ids` name the animals where the format
    /// does not (NumPy, BIMBAM).
    pub fn open(self, path: &Path, ids: Option<&[String]>) -> Result<Box<dyn Source>> {
        Ok(match self {
            Format::Bed => Box::new(plink::Bed::open(path)?),
            Format::Vcf => Box::new(vcf::read(path)?),
            Format::Tsv => Box::new(text::read_tsv(path)?),
            Format::Raw => Box::new(text::read_raw(path)?),
            Format::Bimbam => Box::new(bimbam::read(path, ids)?),
            Format::Npy => Box::new(npy::read(path, ids)?),
        })
    }
}

/// The names of `n` animals in a file without names: `ids`, which must be as many, or numbers.
pub fn made_up_ids(path: &Path, n: usize, ids: Option<&[String]>) -> Result<Vec<String>> {
    match ids {
        Some(ids) if ids.len() == n => Ok(ids.to_vec()),
        Some(ids) => Err(Error::input(
            path.display(),
            format!("{} animals as in --animals", ids.len()),
            n,
            "list the animals of the file, in its order, in --animals",
        )),
        None => Ok((1..=n).map(|i| format!("animal{i}")).collect()),
    }
}

/// Refuses names that are empty or stand twice; `place` says in which file, `what` of what.
pub fn check_names(place: &Path, what: &str, names: &[String]) -> Result<()> {
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            let expected = format!("a name for every {what}");
            let found = format!("none for number {}", i + 1);
            return Err(Error::input(place.display(), expected, found, "give it a name"));
        }
        if let Some(first) = seen.insert(name, i) {
            return Err(Error::input(
                place.display(),
                format!("{what} names that occur once"),
                format!("{name} as number {} and number {}", first + 1, i + 1),
                "rename or remove one of them",
            ));
        }
    }
    Ok(())
}

/// A parent's or family's name, nothing where `0`, `-9`, `.` or `NA` says that it is unknown.
pub fn known_name(name: &str) -> String {
    let unknown = matches!(name, "0" | "-9" | ".") || name.eq_ignore_ascii_case("na");
    if unknown {
        String::new()
    } else {
        name.to_owned()
    }
}

/// The code of a sex: 1 male, 2 female, 0 unknown; `None` for another text.
pub fn sex_code(text: &str) -> Option<u8> {
    match text.to_lowercase().as_str() {
        "1" | "m" | "male" => Some(1),
        "2" | "f" | "female" => Some(2),
        "0" | "-9" | "." | "na" | "" => Some(0),
        _ => None,
    }
}

/// The name of a SNP whose source gives none (`.`): chromosome, position and alleles.
pub fn variant_name(given: &str, chromosome: &str, position: u64, alleles: [&str; 2]) -> String {
    if given.is_empty() || given == "." {
        format!("{chromosome}:{position}:{}:{}", alleles[0], alleles[1])
    } else {
        given.to_owned()
    }
}

impl Variants {
    /// Appends a SNP whose frequency is not known yet. An allele that was never seen becomes `0`, as in PLINK.
    pub fn push(&mut self, id: String, chromosome: &str, position: u64, cm: f64, alleles: [&str; 2]) {
        self.id.push(id);
        self.chromosome.push(chromosome.to_owned());
        self.position.push(position);
        self.cm.push(cm);
        let [counted, other] = alleles.map(|a| if matches!(a, "" | ".") { UNKNOWN_ALLELE } else { a });
        self.counted_allele.push(counted.to_owned());
        self.other_allele.push(other.to_owned());
        self.frequency.push(f64::NAN);
        self.missing.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_stands_for_the_file_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let touch = |name: &str| std::fs::write(at(name), "").unwrap();
        touch("herd.v2.bed");
        touch("herd.v2.fam");
        assert_eq!(Format::find(&at("herd.v2")).unwrap(), (at("herd.v2.bed"), Format::Bed));
        assert_eq!(Format::find(&at("herd.v2.fam")).unwrap(), (at("herd.v2.bed"), Format::Bed));
        touch("bulls.vcf.gz");
        assert_eq!(Format::find(&at("bulls")).unwrap(), (at("bulls.vcf.gz"), Format::Vcf));
        assert_eq!(Format::find(&at("bulls.raw")).unwrap(), (at("bulls.raw"), Format::Raw));
        touch("bulls.tsv");
        touch("a.xyz");
        for (name, told) in [("bulls", "bulls.vcf.gz and"), ("cows", "nothing there"), ("a.xyz", "--format")]
        {
            let e = Format::find(&at(name)).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains(told), "{e}");
        }
    }
}
