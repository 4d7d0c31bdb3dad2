//! Names of chromosomes: which mean the same, which are no autosomes, and lists such as `1-29,X`.
//!
//! `Chr01`, `chr1` and `1` are one chromosome. X, Y, XY (pseudo-autosomal), MT, Z and W are no autosomes: a male
//! has one X, so its calls are no counts of two alleles. Any other name, also an unknown or a scaffold's, counts
//! as an autosome. Numbers are autosomes, unless the number N of autosomes is given: then N + 1 to N + 4 are
//! PLINK's codes of X, Y, XY and MT.

use crate::error::{Error, Result};
use crate::genotype::Variants;
use std::collections::{BTreeMap, BTreeSet};

/// What is no autosome, in the order of PLINK's codes (N + 1 to N + 4), then the sex chromosomes of birds.
const OTHERS: [&str; 6] = ["X", "Y", "XY", "MT", "Z", "W"];
/// Number of PLINK's codes.
const CODES: usize = 4;
/// Autosomes of cattle.
const CATTLE: u32 = 29;

/// A chromosome's name in capitals, without `chr` and leading zeros.
pub fn plain(name: &str) -> String {
    let upper = name.trim().to_uppercase();
    let bare = ["CHROMOSOME", "CHR"].iter().find_map(|prefix| upper.strip_prefix(prefix)).unwrap_or(&upper);
    let bare = bare.trim_start_matches(['_', '-', '.', ' ']);
    match bare {
        "" => upper,
        "M" | "MITO" | "MTDNA" => "MT".to_owned(),
        "PAR" | "PAR1" | "PAR2" => "XY".to_owned(),
        number if number.bytes().all(|b| b.is_ascii_digit()) => match number.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        },
        other => other.to_owned(),
    }
}

/// Whether a chromosome is an autosome, as far as its name tells.
pub fn is_autosome(name: &str) -> bool {
    !OTHERS.contains(&plain(name).as_str())
}

/// SNPs that are not on autosomes, as `X (10), MT (2)`; `None` when there is none.
pub fn not_autosomal(variants: &Variants) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in variants.chromosome.iter().filter(|name| !is_autosome(name)) {
        *counts.entry(plain(name)).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(name, count)| format!("{name} ({count})")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Warns of SNPs in a store whose calls are no counts of two alleles in every animal.
pub fn warn_of_sex_chromosomes(variants: &Variants) {
    if let Some(found) = not_autosomal(variants) {
        log::warn!(
            "SNPs on {found} count as autosomal here, although males have one X; to leave them out, import \
             with --chromosomes autosomes"
        );
    }
}

/// Renames PLINK's codes of a species with `autosomes` autosomes to X, Y, XY and MT.
pub fn name_codes(variants: &mut Variants, autosomes: u32) -> Result<()> {
    for name in &mut variants.chromosome {
        let Ok(number) = plain(name).parse::<u32>() else { continue };
        if number <= autosomes {
            continue;
        }
        match OTHERS[..CODES].get((number - autosomes - 1) as usize) {
            Some(code) => *name = (*code).to_owned(),
            None => {
                return Err(Error::input(
                    format!("--autosomes {autosomes}"),
                    format!("chromosome numbers up to {}", autosomes as usize + CODES),
                    name,
                    "give the number of autosomes of the species, such as 29 for cattle",
                ))
            }
        }
    }
    Ok(())
}

/// What to tell where chromosome numbers may be PLINK's codes for cattle.
pub fn note_codes(variants: &Variants) -> Option<String> {
    let numbers: BTreeSet<u32> = variants.chromosome.iter().filter_map(|c| plain(c).parse().ok()).collect();
    let codes: Vec<u32> = numbers.iter().copied().filter(|n| *n > CATTLE).collect();
    let may_be = codes.last().is_some_and(|last| *last <= CATTLE + CODES as u32);
    may_be.then(|| {
        let list = ranges(codes.iter().map(u32::to_string));
        format!("chromosomes {list} are taken as autosomes; for PLINK's X, Y, XY, MT of cattle add --autosomes {CATTLE}")
    })
}

/// The chromosomes that a user wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    all: bool,
    autosomes: bool,
    listed: Vec<String>,
}

impl Wanted {
    /// Parses `1-29,X`, `autosomes`, `all` or a mixture.
    pub fn parse(text: &str) -> Result<Wanted> {
        let mut wanted = Wanted { all: false, autosomes: false, listed: Vec::new() };
        for part in text.split(',').map(str::trim) {
            let ends = part.split_once('-').map(|(a, b)| (plain(a).parse::<u32>(), plain(b).parse::<u32>()));
            match (part.to_lowercase().as_str(), ends) {
                ("all", _) => wanted.all = true,
                ("autosomes", _) => wanted.autosomes = true,
                (_, Some((Ok(a), Ok(b)))) if a <= b && b - a < 10_000 => {
                    wanted.listed.extend((a..=b).map(|c| c.to_string()));
                }
                (_, None) if !part.is_empty() => wanted.listed.push(plain(part)),
                _ => {
                    return Err(Error::input(
                        "--chromosomes",
                        "a list such as 1-29,X",
                        format!("\"{part}\""),
                        "write ranges from the smaller to the larger number",
                    ))
                }
            }
        }
        Ok(wanted)
    }

    /// Whether this chromosome is wanted.
    pub fn has(&self, name: &str) -> bool {
        self.all || (self.autosomes && is_autosome(name)) || self.listed.contains(&plain(name))
    }

    /// A warning that names what is wanted and not there.
    pub fn absent(&self, variants: &Variants) -> Option<String> {
        let there: BTreeSet<String> = variants.chromosome.iter().map(|c| plain(c)).collect();
        let absent: Vec<&String> = self.listed.iter().filter(|c| !there.contains(*c)).collect();
        if absent.is_empty() {
            return None;
        }
        let mut numbers: Vec<u32> = there.iter().filter_map(|c| c.parse().ok()).collect();
        numbers.sort_unstable();
        let names = there.iter().filter(|c| c.parse::<u32>().is_err()).cloned();
        let found = ranges(numbers.iter().map(u32::to_string).chain(names));
        let codes = absent.iter().any(|c| OTHERS[..CODES].contains(&c.as_str())) && !numbers.is_empty();
        let advice =
            if codes { "; --autosomes N reads PLINK's numbers N + 1 to N + 4 as X, Y, XY, MT" } else { "" };
        Some(format!(
            "no SNP is on chromosome {}; there are {found}{advice}",
            ranges(absent.into_iter().cloned())
        ))
    }
}

/// Names with runs of numbers joined: `1, 3-5, X`, at most twenty.
fn ranges(names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 20;
    let mut runs: Vec<(String, String)> = Vec::new();
    for name in names {
        let before = name.parse::<u32>().ok().and_then(|n| n.checked_sub(1)).map(|n| n.to_string());
        match runs.last_mut() {
            Some((_, last)) if Some(&*last) == before.as_ref() => *last = name,
            _ => runs.push((name.clone(), name)),
        }
    }
    let more = if runs.len() > MOST { ", ..." } else { "" };
    let words = runs.iter().take(MOST).map(|(a, b)| if a == b { a.clone() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(names: &[&str]) -> Variants {
        let mut v = Variants::default();
        names.iter().enumerate().for_each(|(j, c)| v.push(format!("s{j}"), c, 1, f64::NAN, ["A", "B"]));
        v
    }

    #[test]
    fn one_chromosome_has_one_plain_name() {
        for (name, wanted) in [
            ("chr01", "1"),
            ("CHR_1", "1"),
            ("Chromosome 10", "10"),
            ("0", "0"),
            ("00", "0"),
            ("x", "X"),
            ("chrM", "MT"),
            ("PAR1", "XY"),
            ("chr", "CHR"),
            ("NKLS02000001.1", "NKLS02000001.1"),
            ("010A", "010A"),
        ] {
            assert_eq!(plain(name), wanted, "{name}");
        }
        assert!(["X", "chrY", "mt", "Z", "W", "XY"].iter().all(|c| !is_autosome(c)));
        assert!(["1", "30", "0", "scaffold_X", "Un"].iter().all(|c| is_autosome(c)));
    }

    #[test]
    fn lists_name_numbers_ranges_and_words() {
        let has = |list: &str, name: &str| Wanted::parse(list).unwrap().has(name);
        assert!(has("1-29,x", "Chr07") && has("01-09", "chr9") && has("chrX", "X") && !has("1-29", "X"));
        assert!(
            has("autosomes", "30")
                && !has("autosomes", "X")
                && has("autosomes,X", "chrX")
                && has("all", "MT")
        );
        for wrong in ["3-1", "", "1,,2", "a-b", "1-"] {
            assert_eq!(Wanted::parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn what_is_wanted_and_absent_is_told() {
        let wanted = Wanted::parse("1-29,X").unwrap();
        let told = wanted.absent(&on(&["1", "2", "29", "30"])).unwrap();
        assert!(
            told.starts_with("no SNP is on chromosome 3-28, X; there are 1-2, 29-30; --autosomes"),
            "{told}"
        );
        assert_eq!(Wanted::parse("1,x").unwrap().absent(&on(&["chr01", "X", "2"])), None);
    }

    #[test]
    fn plinks_codes_get_names_when_the_number_of_autosomes_is_known() {
        let mut v = on(&["29", "30", "31", "32", "chr33", "0", "X"]);
        assert!(note_codes(&v).unwrap().starts_with("chromosomes 30-33 are"));
        assert_eq!(note_codes(&on(&["1", "38", "30"])), None);
        name_codes(&mut v, 29).unwrap();
        assert_eq!(v.chromosome, ["29", "X", "Y", "XY", "MT", "0", "X"]);
        assert_eq!(not_autosomal(&v).unwrap(), "MT (1), X (2), XY (1), Y (1)");
        assert!(name_codes(&mut on(&["34"]), 29).unwrap_err().to_string().contains("up to 33, found 34"));
    }
}
