//! The SNPs of a model found among those of a store, by name and alleles.

use crate::error::{Error, Result};
use crate::genotype::source::UNKNOWN_ALLELE;
use crate::genotype::Variants;
use std::collections::HashMap;
use std::path::Path;

/// Share of a model's SNPs that a store must have for predictions to mean anything.
const LEAST_SHARE: f64 = 0.5;

/// For a SNP of the store, the model's SNP and whether it counts the other allele.
pub type Match = Option<(usize, bool)>;

/// Finds each of the store's SNPs in the model. An allele that was never seen (`0`) stands for the one that the
/// other side knows. Fails when alleles disagree or too few are found.
pub fn align(model: &Variants, store: &Variants, path: &Path) -> Result<Vec<Match>> {
    let place: HashMap<&str, usize> = model.id.iter().enumerate().map(|(j, id)| (id.as_str(), j)).collect();
    let mut conflicts: Vec<usize> = Vec::new();
    let mut found: Vec<Match> = Vec::with_capacity(store.len());
    for j in 0..store.len() {
        let Some(&k) = place.get(store.id[j].as_str()) else {
            found.push(None);
            continue;
        };
        let here = [store.counted_allele[j].as_str(), store.other_allele[j].as_str()];
        let there = [model.counted_allele[k].as_str(), model.other_allele[k].as_str()];
        match counts_other(here, there) {
            Some(other) => found.push(Some((k, other))),
            None => {
                conflicts.push(j);
                found.push(None);
            }
        }
    }
    if let Some(&j) = conflicts.first() {
        let (count, id) = (conflicts.len(), &store.id[j]);
        let alleles = format!("{}/{}", store.counted_allele[j], store.other_allele[j]);
        return Err(Error::input(
            path.display(),
            "the alleles that the model was trained on",
            format!("others at {count} SNPs, such as {alleles} at {id}"),
            "bring both to the same strand and coding",
        ));
    }
    check_overlap(model, &found, path)?;
    Ok(found)
}

/// Frequencies of the alleles that the store counts, by the model's; NaN where the model lacks the SNP, which so counts as
/// average.
pub fn frequencies(model: &Variants, found: &[Match]) -> Vec<f64> {
    let of = |(k, turned): (usize, bool)| match (model.frequency[k], turned) {
        (p, true) => 1.0 - p,
        (p, false) => p,
    };
    found.iter().map(|found| found.map_or(f64::NAN, of)).collect()
}

/// Whether alleles `here` (counted, other) are `there` with the other one counted; `None` when they are others. An
/// unknown allele agrees with any, except with the one known on its own side.
fn counts_other(here: [&str; 2], there: [&str; 2]) -> Option<bool> {
    let agree = |a: &str, b: &str| a == b || a == UNKNOWN_ALLELE || b == UNKNOWN_ALLELE;
    let differ = |a: &str, b: &str| a != b || a == UNKNOWN_ALLELE;
    let fits = |[c, o]: [&str; 2]| {
        agree(here[0], c) && agree(here[1], o) && differ(here[0], o) && differ(here[1], c)
    };
    let turned = fits([there[1], there[0]]);
    if here == there {
        return Some(false);
    }
    (fits(there) != turned).then_some(turned)
}

fn check_overlap(model: &Variants, found: &[Match], path: &Path) -> Result<()> {
    let mut seen = vec![false; model.len()];
    found.iter().flatten().for_each(|&(k, _)| seen[k] = true);
    let count = seen.iter().filter(|s| **s).count();
    let Some(absent) = seen.iter().position(|s| !s) else { return Ok(()) };
    let id = &model.id[absent];
    if (count as f64) < LEAST_SHARE * model.len() as f64 {
        return Err(Error::input(
            path.display(),
            format!("at least half of the model's {} SNPs", model.len()),
            format!("{count} (without {id}, for example)"),
            "use a store of the same SNP chip, with the same names",
        ));
    }
    log::info!(
        "{} of the model's SNPs are not in the store and count as average, such as {id}",
        model.len() - count
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snps(list: &[(&str, &str, &str)]) -> Variants {
        let texts = |f: fn(&(&str, &str, &str)) -> String| list.iter().map(f).collect();
        Variants {
            id: texts(|s| s.0.into()),
            counted_allele: texts(|s| s.1.into()),
            other_allele: texts(|s| s.2.into()),
            ..Variants::default()
        }
    }

    #[test]
    fn snps_are_found_by_name_and_turned_when_the_other_allele_is_counted() {
        let model = snps(&[("a", "A", "C"), ("b", "G", "T"), ("c", "A", "G")]);
        let store = snps(&[("c", "G", "A"), ("x", "A", "C"), ("b", "G", "T")]);
        let path = Path::new("s.h5");
        assert_eq!(align(&model, &store, path).unwrap(), [Some((2, true)), None, Some((1, false))]);
    }

    #[test]
    fn an_allele_never_seen_stands_for_the_one_that_the_other_side_knows() {
        for (here, there, wanted) in [
            (["A", "C"], ["A", "C"], Some(false)),
            (["C", "A"], ["A", "C"], Some(true)),
            (["0", "C"], ["A", "C"], Some(false)),
            (["0", "A"], ["A", "C"], Some(true)),
            (["A", "0"], ["A", "C"], Some(false)),
            (["C", "0"], ["A", "C"], Some(true)),
            (["A", "C"], ["0", "C"], Some(false)),
            (["A", "C"], ["0", "A"], Some(true)),
            (["0", "A"], ["0", "A"], Some(false)),
            (["A", "0"], ["0", "A"], Some(true)),
            (["0", "A"], ["0", "C"], Some(true)),
            (["0", "0"], ["0", "0"], Some(false)),
            (["0", "G"], ["A", "C"], None),
            (["0", "0"], ["A", "C"], None),
            (["A", "G"], ["A", "C"], None),
        ] {
            assert_eq!(counts_other(here, there), wanted, "{here:?} {there:?}");
        }
    }

    #[test]
    fn other_alleles_and_too_few_snps_are_told() {
        let model = snps(&[("a", "A", "C"), ("b", "G", "T"), ("c", "A", "G")]);
        let path = Path::new("s.h5");
        let e = align(&model, &snps(&[("a", "A", "C"), ("b", "G", "C"), ("c", "A", "G")]), path).unwrap_err();
        assert!(e.to_string().contains("others at 1 SNPs, such as G/C at b"), "{e}");
        let e = align(&model, &snps(&[("c", "A", "G")]), path).unwrap_err();
        assert!(e.to_string().contains("model's 3 SNPs, found 1 (without a"), "{e}");
    }
}
