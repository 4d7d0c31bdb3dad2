//! Which animals and SNPs are kept.
//!
//! The filters work one after the other, each on what the former left, in PLINK's order: the lists (`keep`,
//! `extract`, `chromosomes`), then animals by their share of called SNPs, then SNPs by their share of called
//! animals, by the Hardy-Weinberg test and by the frequency of the rarer allele. Frequencies and tests count
//! all animals left (PLINK: `--nonfounders`). Without options only SNPs that are not on autosomes are removed; the
//! Hardy-Weinberg test passes them over where they are asked for.
//!
//! A limit is compared with a quotient of counts, which is the limit itself where both are the same fraction.

use crate::error::{Error, Result};
use crate::genotype::chromosome::{self, Wanted};
use crate::genotype::hardy;
use crate::genotype::import::{ImportConfig, Mask, Selection};
use crate::genotype::source::Source;
use crate::genotype::store::PANEL;
use crate::lines::Lines;
use crate::packed::{Packed, Tally, MISSING};
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
        let m = chain.selection.snps.len() as u64;
        let filter = format!("--animal-call-rate {least}");
        chain.keep_animals(filter, |i| share(m - missing[i], m) >= least)?;
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
        let names = read_list(path, &["id", "iid", "fid"], 1, &animals.id)?;
        check_list(path, "animal", &names, &animals.id)?;
        chain.keep_animals(format!("--keep {}", path.display()), |i| names.contains(&animals.id[i]))?;
    }
    if let Some(path) = &filters.extract {
        let names = read_list(path, &["id", "snp"], 0, &variants.id)?;
        check_list(path, "SNP", &names, &variants.id)?;
        chain.keep_snps(format!("--extract {}", path.display()), |j| names.contains(&variants.id[j]))?;
    }
    match &filters.chromosomes {
        Some(text) => {
            let wanted = Wanted::parse(text)?;
            if let Some(absent) = wanted.absent(variants) {
                log::warn!("--chromosomes {text}: {absent}");
            }
            chain.keep_snps(format!("--chromosomes {text}"), |j| wanted.has(&variants.chromosome[j]))
        }
        None if variants.chromosome.iter().all(|c| chromosome::is_autosome(c)) => Ok(()),
        None => {
            let filter = "--chromosomes autosomes (default)".to_owned();
            chain.keep_snps(filter, |j| chromosome::is_autosome(&variants.chromosome[j]))
        }
    }
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
        let n = chain.selection.animals.len() as u64;
        let called = |j: usize| n - tallies[j][usize::from(MISSING)];
        // A SNP that no animal is called at is of no use whatever the limit.
        chain.keep_snps(format!("--call-rate {least}"), |j| called(j) > 0 && share(called(j), n) >= least)?;
    }
    if let Some(least) = filters.hwe {
        let chromosomes = &source.variants().chromosome;
        let passed_over = |j: usize| !chromosome::is_autosome(&chromosomes[j]);
        chain.keep_snps(format!("--hwe {least}"), |j| passed_over(j) || hwe_p(&tallies[j]) >= least)?;
    }
    if let Some(least) = filters.maf {
        chain.keep_snps(format!("--maf {least}"), |j| rarer_frequency(&tallies[j]) >= least)?;
    }
    Ok(())
}

/// `part` / `whole`; 0 of nothing. Division rounds correctly, so that 93 of 100 is the number typed as 0.93.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Frequency of the rarer allele among called genotypes, the same whichever allele is counted.
fn rarer_frequency(t: &Tally) -> f64 {
    let alleles = 2 * (t[0] + t[1] + t[2]);
    let counted = t[1] + 2 * t[2];
    share(counted.min(alleles - counted), alleles)
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

/// The names in a list, one a line. A line that as a whole is one of the names `known` means that one; else the
/// name stands in `column` (from 0) or, on lines of one field, in the first. Fields are separated by tabs, or by
/// blanks where there is no tab. A first line of column names is passed over.
pub(super) fn read_list(
    path: &Path,
    titles: &[&str],
    column: usize,
    known: &[String],
) -> Result<HashSet<String>> {
    let known: HashSet<&str> = known.iter().map(String::as_str).collect();
    let mut lines = Lines::open(path)?;
    let mut names = HashSet::new();
    let mut first = true;
    while let Some(line) = lines.next_line()? {
        let line = line.trim();
        let fields: Vec<&str> = match line.contains('\t') {
            true => line.split('\t').map(str::trim).collect(),
            false => line.split_ascii_whitespace().collect(),
        };
        let title = fields.first().map_or(String::new(), |f| f.trim_start_matches('#').to_lowercase());
        let is_title = std::mem::take(&mut first) && titles.contains(&title.as_str());
        let name = if known.contains(line) { Some(&line) } else { fields.get(column).or(fields.first()) };
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
        let base = || ImportConfig { chromosomes: Some("all".into()), ..base() };
        assert_eq!(snps_after(&SNPS, base()), [0, 1, 2, 3, 4]);
        assert_eq!(snps_after(&SNPS, ImportConfig::default()), [0, 1, 3, 4]);
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

    #[test]
    fn lists_may_begin_with_a_byte_order_mark_and_hold_names_with_blanks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let known = ["a 0", "a1", "1", "a 2"].map(String::from);
        let listed = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut names: Vec<String> = read_list(&path, &["id"], 1, &known).unwrap().into_iter().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(listed("\u{feff}a1\r\na 0 \r\nf 1\r\nf\ta 2\r\n"), ["1", "a 0", "a 2", "a1"]);
        assert_eq!(listed("\u{feff}#ID\na1\n"), ["a1"]);
    }

    #[test]
    fn limits_hold_at_every_fraction_and_for_both_alleles() {
        for k in 0..=1000u64 {
            let limit: f64 = format!("0.{k:03}").parse().unwrap();
            if k < 1000 {
                assert!(share(k, 1000) >= limit && share(k, 1000) < limit + 1e-9, "{k}");
            }
            let (a, b) = ([500 - k.min(500), 0, k.min(500), 7], [k.min(500), 0, 500 - k.min(500), 7]);
            assert_eq!(rarer_frequency(&a), rarer_frequency(&b));
        }
        assert_eq!(rarer_frequency(&[8, 2, 0, 1]), 0.1);
        assert_eq!(rarer_frequency(&[0, 2, 8, 1]), 0.1);
        assert_eq!(rarer_frequency(&[0, 0, 0, 5]), 0.0);
    }
}
