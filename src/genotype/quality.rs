//! Which animals and SNPs are kept.
//!
//! The filters work one after the other, each on what the former left, in PLINK's order: the lists (`keep`,
//! `extract`, `chromosomes`), then animals by their share of called SNPs, then SNPs by their share of called
//! animals, by the Hardy-Weinberg test and by the frequency of the rarer allele. Frequencies and tests count
//! all animals left (PLINK: `--nonfounders`). Without options nothing is removed.

use crate::error::{Error, Result};
use crate::genotype::hardy;
use crate::genotype::import::{ImportConfig, Mask, Selection};
use crate::genotype::lines::Lines;
use crate::genotype::source::Source;
use crate::genotype::store::PANEL;
use crate::packed::{frequency, Packed, Tally, MISSING};
use crate::progress::Progress;
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::Path;

/// What one filter did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// The option, with its value.
    pub filter: String,
    /// Animals removed.
    pub animals_removed: usize,
    /// SNPs removed.
    pub snps_removed: usize,
    /// Animals left.
    pub animals_left: usize,
    /// SNPs left.
    pub snps_left: usize,
}

/// The selection in the making, and how it came about.
struct Chain {
    selection: Selection,
    steps: Vec<Step>,
}

impl Chain {
    /// Notes what `filter` did; nothing left is an error.
    fn note(&mut self, filter: String, animals: Vec<usize>, snps: Vec<usize>) -> Result<()> {
        let left = (animals.len(), snps.len());
        let before = std::mem::replace(&mut self.selection, Selection { animals, snps });
        self.steps.push(Step {
            filter: filter.clone(),
            animals_removed: before.animals.len() - left.0,
            snps_removed: before.snps.len() - left.1,
            animals_left: left.0,
            snps_left: left.1,
        });
        let what = if left.0 == 0 { "animals" } else { "SNPs" };
        if left.0 == 0 || left.1 == 0 {
            let advice = "choose a milder filter, or check its list";
            return Err(Error::input(filter, format!("some {what} to be left"), "none", advice));
        }
        Ok(())
    }

    fn keep_animals(&mut self, filter: String, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let animals = self.selection.animals.iter().copied().filter(|&i| wanted(i)).collect();
        self.note(filter, animals, self.selection.snps.clone())
    }

    fn keep_snps(&mut self, filter: String, wanted: impl Fn(usize) -> bool) -> Result<()> {
        let snps = self.selection.snps.iter().copied().filter(|&j| wanted(j)).collect();
        self.note(filter, self.selection.animals.clone(), snps)
    }
}

/// Applies an import's filters to its source; returns what is kept and what each filter removed.
pub fn select(source: &dyn Source, filters: &ImportConfig) -> Result<(Selection, Vec<Step>)> {
    let mut chain = Chain { selection: Selection::all(source), steps: Vec::new() };
    by_lists(source, filters, &mut chain)?;
    if let Some(least) = filters.animal_call_rate {
        let missing = missing_by_animal(source, &chain.selection)?;
        let m = chain.selection.snps.len() as f64;
        let called = |i: usize| 1.0 - missing[i] as f64 / m;
        chain.keep_animals(format!("--animal-call-rate {least}"), |i| called(i) >= least)?;
    }
    if filters.call_rate.is_some() || filters.hwe.is_some() || filters.maf.is_some() {
        by_counts(source, filters, &mut chain)?;
    }
    Ok((chain.selection, chain.steps))
}

/// The filters that need no genotypes.
fn by_lists(source: &dyn Source, filters: &ImportConfig, chain: &mut Chain) -> Result<()> {
    let (animals, variants) = (source.animals(), source.variants());
    if let Some(path) = &filters.keep {
        let names = read_list(path, &["id", "iid", "fid"], 1)?;
        check_list(path, "animal", &names, &animals.id)?;
        chain.keep_animals(format!("--keep {}", path.display()), |i| names.contains(&animals.id[i]))?;
    }
    if let Some(path) = &filters.extract {
        let names = read_list(path, &["id", "snp"], 0)?;
        check_list(path, "SNP", &names, &variants.id)?;
        chain.keep_snps(format!("--extract {}", path.display()), |j| names.contains(&variants.id[j]))?;
    }
    if let Some(text) = &filters.chromosomes {
        let wanted = parse_chromosomes(text)?;
        chain.keep_snps(format!("--chromosomes {text}"), |j| {
            wanted.contains(plain_chromosome(&variants.chromosome[j]).as_str())
        })?;
    }
    Ok(())
}

/// The filters of SNPs by their genotype counts.
fn by_counts(source: &dyn Source, filters: &ImportConfig, chain: &mut Chain) -> Result<()> {
    let mut tallies = vec![[0u64; 4]; source.variants().len()];
    let mask = Mask::new(source.animals().len(), &chain.selection.animals);
    let mut panel = Packed::missing(0, 0);
    let progress = Progress::new("count genotypes", chain.selection.snps.len());
    for snps in chain.selection.snps.chunks(PANEL) {
        source.read(snps, &mut panel)?;
        let counted = mask.tally(&mut panel);
        snps.iter().zip(counted).for_each(|(&j, t)| tallies[j] = t);
        progress.add(snps.len());
    }
    if let Some(least) = filters.call_rate {
        let n = chain.selection.animals.len() as f64;
        let called = |j: usize| 1.0 - tallies[j][usize::from(MISSING)] as f64 / n;
        // A SNP that no animal is called at is of no use whatever the limit.
        chain.keep_snps(format!("--call-rate {least}"), |j| called(j) >= least && called(j) > 0.0)?;
    }
    if let Some(least) = filters.hwe {
        chain.keep_snps(format!("--hwe {least}"), |j| hwe_p(&tallies[j]) >= least)?;
    }
    if let Some(least) = filters.maf {
        let rarer = |j: usize| frequency(&tallies[j]).map_or(0.0, |p| p.min(1.0 - p));
        chain.keep_snps(format!("--maf {least}"), |j| rarer(j) >= least)?;
    }
    Ok(())
}

/// P-value of the Hardy-Weinberg test of a tally.
pub fn hwe_p(t: &Tally) -> f64 {
    hardy::exact_p(t[1], [t[0], t[2]])
}

/// Missing calls of every animal of the source, over the selected SNPs.
fn missing_by_animal(source: &dyn Source, selection: &Selection) -> Result<Vec<u64>> {
    let mut missing = vec![0u64; source.animals().len()];
    let (mut panel, mut rows) = (Packed::missing(0, 0), Packed::missing(0, 0));
    let progress = Progress::new("count missing calls", selection.snps.len());
    for snps in selection.snps.chunks(PANEL) {
        source.read(snps, &mut panel)?;
        panel.transpose_into(&mut rows);
        missing
            .par_iter_mut()
            .enumerate()
            .for_each(|(i, sum)| *sum += rows.tally_row(i)[usize::from(MISSING)]);
        progress.add(snps.len());
    }
    Ok(missing)
}

/// The names in a list, one a line; it stands in `column` (from 0) or, on lines of one field, in the first.
/// A first line of column names is passed over.
fn read_list(path: &Path, titles: &[&str], column: usize) -> Result<HashSet<String>> {
    let mut lines = Lines::open(path)?;
    let mut names = HashSet::new();
    let mut first = true;
    while let Some(line) = lines.next_line()? {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let title = fields.first().map_or(String::new(), |f| f.trim_start_matches('#').to_lowercase());
        let is_title = std::mem::take(&mut first) && titles.contains(&title.as_str());
        let name = fields.get(column).or(fields.first());
        if let (Some(name), false) = (name, is_title) {
            names.insert((*name).to_owned());
        }
    }
    if names.is_empty() {
        return Err(Error::input(path.display(), "one name a line", "an empty list", "check the file"));
    }
    Ok(names)
}

/// Tells of listed names that do not exist; a list of none that do is an error.
fn check_list(path: &Path, what: &str, names: &HashSet<String>, all: &[String]) -> Result<()> {
    let known = all.iter().filter(|id| names.contains(*id)).count();
    if known == 0 {
        let expected = format!("{what} names such as {}", all.first().map_or("", String::as_str));
        return Err(Error::input(path.display(), expected, "only others", "use the names of the genotypes"));
    }
    if known < names.len() {
        log::warn!("{}: {} of {} {what}s do not exist", path.display(), names.len() - known, names.len());
    }
    Ok(())
}

/// `1-29,X` as a set of names.
fn parse_chromosomes(text: &str) -> Result<HashSet<String>> {
    let mut wanted = HashSet::new();
    for part in text.split(',').map(str::trim) {
        let numbers = part.split_once('-').map(|(a, b)| (a.trim().parse::<u32>(), b.trim().parse::<u32>()));
        match numbers {
            Some((Ok(a), Ok(b))) if a <= b && b - a < 10_000 => wanted.extend((a..=b).map(|c| c.to_string())),
            None if !part.is_empty() => {
                wanted.insert(plain_chromosome(part));
            }
            _ => {
                let advice = "write ranges from the smaller to the larger number";
                return Err(Error::input(
                    "--chromosomes",
                    "a list such as 1-29,X",
                    format!("\"{part}\""),
                    advice,
                ));
            }
        }
    }
    Ok(wanted)
}

/// A chromosome's name without `chr`, in capitals.
fn plain_chromosome(name: &str) -> String {
    let upper = name.to_uppercase();
    upper.strip_prefix("CHR").unwrap_or(&upper).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genotype::source::Loaded;
    use crate::genotype::{Animals, Variants};

    /// Six animals; calls by SNP, `.` missing.
    fn herd(snps: &[(&str, &str)]) -> Loaded {
        let mut variants = Variants::default();
        let mut codes = Vec::new();
        for (j, (chromosome, calls)) in snps.iter().enumerate() {
            variants.push(format!("s{j}"), chromosome, 1, f64::NAN, ["A", "B"]);
            codes.extend(calls.bytes().map(|c| if c == b'.' { MISSING } else { c - b'0' }));
        }
        let animals = Animals::named((0..6).map(|i| format!("a{i}")).collect());
        Loaded { animals, variants, calls: Packed::from_codes(snps.len(), 6, &codes), notes: Vec::new() }
    }

    fn snps_after(snps: &[(&str, &str)], filters: ImportConfig) -> Vec<usize> {
        select(&herd(snps), &filters).unwrap().0.snps
    }

    const SNPS: [(&str, &str); 5] =
        [("1", "012012"), ("chr2", "000001"), ("X", "0.1.2."), ("29", "111111"), ("1", "......")];

    #[test]
    fn each_filter_removes_what_it_says() {
        let base = ImportConfig::default;
        assert_eq!(snps_after(&SNPS, base()), [0, 1, 2, 3, 4]);
        assert_eq!(snps_after(&SNPS, ImportConfig { call_rate: Some(0.5), ..base() }), [0, 1, 2, 3]);
        assert_eq!(snps_after(&SNPS, ImportConfig { call_rate: Some(0.51), ..base() }), [0, 1, 3]);
        assert_eq!(snps_after(&SNPS, ImportConfig { call_rate: Some(0.0), ..base() }), [0, 1, 2, 3]);
        assert_eq!(snps_after(&SNPS, ImportConfig { maf: Some(0.1), ..base() }), [0, 2, 3]);
        // 1/12 = 0.0833: a limit just below keeps it
        assert_eq!(snps_after(&SNPS, ImportConfig { maf: Some(0.083), ..base() }), [0, 1, 2, 3]);
        // six heterozygotes of six: weights 64, 480, 360, 20 for 6, 4, 2, 0; P = (64 + 20) / 924
        assert_eq!(
            snps_after(&SNPS, ImportConfig { hwe: Some(84.0 / 924.0 + 1e-9), ..base() }),
            [0, 1, 2, 4]
        );
        assert_eq!(
            snps_after(&SNPS, ImportConfig { hwe: Some(84.0 / 924.0 - 1e-9), ..base() }),
            [0, 1, 2, 3, 4]
        );
        let on = |c: &str| ImportConfig { chromosomes: Some(c.into()), ..base() };
        assert_eq!(snps_after(&SNPS, on("1-2,x")), [0, 1, 2, 4]);
        assert_eq!(snps_after(&SNPS, on("chrX,29")), [2, 3]);
        assert!(select(&herd(&SNPS), &on("3-1")).is_err());
        assert!(select(&herd(&SNPS), &on("7")).unwrap_err().to_string().contains("left"));
    }

    #[test]
    fn animals_go_first_and_later_filters_count_only_those_left() {
        let snps = [("1", "0011.."), ("1", "0102.."), ("1", "00002."), ("1", "11111.")];
        let filters =
            ImportConfig { animal_call_rate: Some(0.6), maf: Some(0.01), ..ImportConfig::default() };
        let (kept, steps) = select(&herd(&snps), &filters).unwrap();
        // a5 has no call and a4 half: both go, and with a4 the only copies of SNP 2
        assert_eq!((kept.animals, kept.snps), (vec![0, 1, 2, 3], vec![0, 1, 3]));
        assert_eq!((steps[0].animals_removed, steps[1].snps_removed, steps[1].snps_left), (2, 1, 3));
    }

    #[test]
    fn lists_of_names_may_have_a_title_and_families() {
        let dir = tempfile::tempdir().unwrap();
        let (keep, extract) = (dir.path().join("k"), dir.path().join("e"));
        std::fs::write(&keep, "#FID\tIID\nf\ta4\nf\ta1\nf\tnobody\n").unwrap();
        std::fs::write(&extract, "s3\ns0\n").unwrap();
        let filters =
            ImportConfig { keep: Some(keep.clone()), extract: Some(extract), ..ImportConfig::default() };
        let (kept, _) = select(&herd(&SNPS), &filters).unwrap();
        assert_eq!((kept.animals, kept.snps), (vec![1, 4], vec![0, 3]));
        std::fs::write(&keep, "nobody\n").unwrap();
        assert_eq!(select(&herd(&SNPS), &filters).unwrap_err().exit_code(), 2);
    }
}
