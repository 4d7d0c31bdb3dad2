//! Who is predicted from whom: random folds, families, the youngest animals, given lists.
//!
//! The draw of an animal depends on the seed, the repetition and the animal's own name, so that the order of
//! the store, the number of ranks and the absence of other animals do not change it.

use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::stats;
use std::collections::BTreeMap;

/// How animals are divided.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Scheme {
    /// `folds` random parts of nearly equal size, drawn `repeats` times.
    Random {
        /// Number of parts, at least 2.
        folds: usize,
        /// Number of independent draws.
        repeats: usize,
    },
    /// Whole groups (families, herds, breeds) in `folds` parts: a group is never split.
    Family {
        /// Number of parts, at most the number of groups.
        folds: usize,
        /// Number of independent draws.
        repeats: usize,
    },
    /// The youngest `test_share` of the animals is predicted from the older ones.
    Forward {
        /// Share of the animals with a birth date, 0 to 1.
        test_share: f64,
    },
    /// The folds that a list names.
    Given,
}

/// What is known of the animals that may be divided: one entry an animal.
#[derive(Debug, Clone, Copy)]
pub struct Herd<'a> {
    /// Names, unique.
    pub id: &'a [String],
    /// Whether the animal takes part: it has at least one record.
    pub eligible: &'a [bool],
    /// ISO birth dates, empty when unknown; for [`Scheme::Forward`].
    pub birth_date: &'a [String],
    /// Group, or the fold of [`Scheme::Given`]; empty when unknown.
    pub label: &'a [String],
}

/// What an animal does in a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Its records train the model.
    Train,
    /// Its records are predicted and compared.
    Test,
    /// Neither: no record, no birth date, no group.
    Out,
}

/// One division of the animals.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// Repetition, from 1.
    pub repetition: usize,
    /// Fold: a number from 1, or the list's own name.
    pub fold: String,
    /// One role an animal.
    pub roles: Vec<Role>,
}

/// All divisions of one validation.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Splits {
    /// The divisions, repetition by repetition.
    pub splits: Vec<Split>,
    /// Eligible animals that took no part, for want of a birth date, a group or a fold.
    pub left_out: usize,
}

impl Splits {
    /// Families among the tested animals of a split, mean over the splits; an animal of no family, `u32::MAX`, is one of its
    /// own.
    pub fn families_tested(&self, families: &[u32]) -> f64 {
        let of = |split: &Split| {
            let tested = split.roles.iter().zip(families).filter(|(role, _)| **role == Role::Test);
            let mut found: Vec<u32> = tested.map(|(_, family)| *family).collect();
            found.sort_unstable();
            found.dedup_by(|a, b| a == b && *a != u32::MAX);
            found.len() as f64
        };
        stats::mean(&self.splits.iter().map(of).collect::<Vec<_>>())
    }
}

/// Divides the herd. `place` names the setting in error messages.
pub fn divide(scheme: &Scheme, herd: &Herd, seed: u64, place: &str) -> Result<Splits> {
    let all = || (0..herd.id.len()).filter(|&i| herd.eligible[i]);
    let takes_part: Vec<usize> = match scheme {
        Scheme::Random { .. } => all().collect(),
        Scheme::Forward { .. } => all().filter(|&i| !herd.birth_date[i].is_empty()).collect(),
        Scheme::Family { .. } | Scheme::Given => all().filter(|&i| !herd.label[i].is_empty()).collect(),
    };
    let splits = match *scheme {
        Scheme::Random { folds, repeats } => {
            check_folds(folds, takes_part.len(), "animals with records", place)?;
            repeat(repeats, |r| random(herd, &takes_part, folds, seed, r))
        }
        Scheme::Family { folds, repeats } => {
            let groups = groups(herd, &takes_part);
            if groups.is_empty() {
                let advice = "add `groups = \"FILE:column\"`, or import with a table of animals that has a column `group`";
                return Err(Error::input(place, "groups of the animals", "none", advice));
            }
            check_folds(folds, groups.len(), "groups", place)?;
            repeat(repeats, |r| family(&groups, folds, seed, r))
        }
        Scheme::Forward { test_share } => vec![youngest(herd, &takes_part, test_share, place)?],
        Scheme::Given => given(herd, &takes_part, place)?,
    };
    let splits = splits.into_iter().map(|(repetition, fold, test)| {
        let mut roles = vec![Role::Out; herd.id.len()];
        takes_part.iter().for_each(|&i| roles[i] = Role::Train);
        test.iter().for_each(|&i| roles[i] = Role::Test);
        Split { repetition, fold, roles }
    });
    Ok(Splits { splits: splits.collect(), left_out: all().count() - takes_part.len() })
}

/// Repetition, name of the fold, animals tested.
type Part = (usize, String, Vec<usize>);

fn repeat(repeats: usize, draw: impl Fn(usize) -> Vec<Vec<usize>>) -> Vec<Part> {
    let number = |(k, test)| (k + 1usize, test);
    (1..=repeats)
        .flat_map(|r| {
            draw(r).into_iter().enumerate().map(number).map(move |(k, test)| (r, k.to_string(), test))
        })
        .collect()
}

fn check_folds(folds: usize, available: usize, what: &str, place: &str) -> Result<()> {
    if (2..=available).contains(&folds) {
        return Ok(());
    }
    if available < 2 {
        let advice =
            "give the animals groups (FID, or the column group of --animals at import), or other folds";
        return Err(Error::input(place, format!("at least 2 {what} for folds"), available, advice));
    }
    let expected = format!("2 to {available} folds, the number of {what}");
    Err(Error::input(place, expected, folds, "change `folds`, or check the identifiers"))
}

/// A random number of its own for a name in a repetition.
fn key(seed: u64, repetition: usize, name: &str) -> u64 {
    let bytes: Vec<u8> = name.bytes().chain((repetition as u64).to_le_bytes()).collect();
    Stream::new(seed, Purpose::Folds, hash(&bytes)).next_u64()
}

/// FNV-1a of some bytes (Fowler, Noll & Vo), the index of a stream for what has a name.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn random(herd: &Herd, animals: &[usize], folds: usize, seed: u64, repetition: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<(u64, &str, usize)> =
        animals.iter().map(|&i| (key(seed, repetition, &herd.id[i]), herd.id[i].as_str(), i)).collect();
    order.sort_unstable();
    let mut parts = vec![Vec::new(); folds];
    order.iter().enumerate().for_each(|(rank, &(_, _, i))| parts[rank % folds].push(i));
    parts
}

/// Members of each group.
fn groups<'a>(herd: &Herd<'a>, animals: &[usize]) -> BTreeMap<&'a str, Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    animals.iter().for_each(|&i| groups.entry(herd.label[i].as_str()).or_default().push(i));
    groups
}

/// Groups in random order, each into the part that is the smallest so far.
fn family(
    groups: &BTreeMap<&str, Vec<usize>>,
    folds: usize,
    seed: u64,
    repetition: usize,
) -> Vec<Vec<usize>> {
    let mut order: Vec<(u64, &str)> =
        groups.keys().map(|&name| (key(seed, repetition, name), name)).collect();
    order.sort_unstable();
    let mut parts: Vec<Vec<usize>> = vec![Vec::new(); folds];
    for (_, name) in order {
        let smallest = parts.iter_mut().min_by_key(|p| p.len()).expect("at least two folds");
        smallest.extend(&groups[name]);
    }
    parts
}

/// Animals born on the limiting day are all tested, so that nobody trains who is as young as a tested one.
fn youngest(herd: &Herd, animals: &[usize], share: f64, place: &str) -> Result<Part> {
    let mut dates: Vec<&str> = animals.iter().map(|&i| herd.birth_date[i].as_str()).collect();
    dates.sort_unstable();
    let wanted = (share * dates.len() as f64).round() as usize;
    let limit = dates.len().checked_sub(wanted.max(1)).map(|at| dates[at]);
    match limit {
        Some(limit) if limit > dates[0] => {
            let test = animals.iter().copied().filter(|&i| herd.birth_date[i].as_str() >= limit);
            Ok((1, "youngest".into(), test.collect()))
        }
        _ => Err(Error::input(
            place,
            format!("birth dates that set the youngest {:.0} % apart", 100.0 * share),
            format!("{} animals with a birth date, none older than the tested ones", dates.len()),
            "import birth dates with --animals, or choose another scheme",
        )),
    }
}

fn given(herd: &Herd, animals: &[usize], place: &str) -> Result<Vec<Part>> {
    let folds = groups(herd, animals);
    if folds.len() < 2 {
        return Err(Error::input(
            place,
            "at least 2 folds in the list",
            folds.len(),
            "give columns `id` and `fold`",
        ));
    }
    // Numbers in their own order: 2 before 10.
    let mut named: Vec<(&str, Vec<usize>)> = folds.into_iter().collect();
    named.sort_by_key(|(name, _)| (name.parse::<u64>().unwrap_or(u64::MAX), *name));
    Ok(named.into_iter().map(|(name, test)| (1, name.to_string(), test)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Owned {
        id: Vec<String>,
        eligible: Vec<bool>,
        birth_date: Vec<String>,
        label: Vec<String>,
    }

    fn herd(n: usize) -> Owned {
        Owned {
            id: (0..n).map(|i| format!("cow{i}")).collect(),
            eligible: (0..n).map(|i| i != 3).collect(),
            birth_date: (0..n)
                .map(|i| if i == 5 { String::new() } else { format!("20{:02}-01-01", i / 10) })
                .collect(),
            label: (0..n).map(|i| format!("f{}", i / 7)).collect(),
        }
    }

    fn split(owned: &Owned, scheme: Scheme, seed: u64) -> Result<Splits> {
        let herd = Herd {
            id: &owned.id,
            eligible: &owned.eligible,
            birth_date: &owned.birth_date,
            label: &owned.label,
        };
        divide(&scheme, &herd, seed, "[[validation]] 1")
    }

    fn tested(s: &Split) -> Vec<usize> {
        (0..s.roles.len()).filter(|&i| s.roles[i] == Role::Test).collect()
    }

    #[test]
    fn families_of_tested_animals_are_counted_once_and_others_each() {
        let split = |tested: &[usize]| {
            let role = |i: usize| if tested.contains(&i) { Role::Test } else { Role::Train };
            Split { repetition: 1, fold: "1".into(), roles: (0..6).map(role).collect() }
        };
        let splits = Splits { splits: vec![split(&[0, 1, 3, 4]), split(&[2])], left_out: 0 };
        let families = [7, 7, 9, u32::MAX, u32::MAX, 9];
        assert_eq!(splits.families_tested(&families), 2.0, "three families, and one");
    }

    #[test]
    fn random_folds_test_every_recorded_animal_once_a_repetition_and_differ_between_repetitions() {
        let s = split(&herd(53), Scheme::Random { folds: 5, repeats: 2 }, 1).unwrap();
        assert_eq!((s.splits.len(), s.left_out), (10, 0));
        for r in 1..=2 {
            let mut all: Vec<usize> =
                s.splits.iter().filter(|s| s.repetition == r).flat_map(tested).collect();
            all.sort_unstable();
            assert_eq!(all, (0..53).filter(|&i| i != 3).collect::<Vec<_>>());
        }
        assert!(s.splits.iter().all(|s| (10..=11).contains(&tested(s).len()) && s.roles[3] == Role::Out));
        assert_ne!(tested(&s.splits[0]), tested(&s.splits[5]));
        assert_ne!(s, split(&herd(53), Scheme::Random { folds: 5, repeats: 2 }, 2).unwrap());
    }

    #[test]
    fn the_draw_does_not_depend_on_the_order_of_the_store() {
        let forward = herd(40);
        let mut backward = herd(40);
        backward.id.reverse();
        backward.eligible.reverse();
        let scheme = Scheme::Random { folds: 4, repeats: 1 };
        let (a, b) = (split(&forward, scheme.clone(), 9).unwrap(), split(&backward, scheme, 9).unwrap());
        for (a, b) in a.splits.iter().zip(&b.splits) {
            let mut turned = b.roles.clone();
            turned.reverse();
            assert_eq!(a.roles, turned);
        }
    }

    #[test]
    fn families_are_never_split_and_too_few_of_them_are_an_error() {
        let owned = herd(60);
        let s = split(&owned, Scheme::Family { folds: 3, repeats: 2 }, 4).unwrap();
        for s in &s.splits {
            let test: std::collections::BTreeSet<&str> =
                tested(s).iter().map(|&i| owned.label[i].as_str()).collect();
            let train = (0..60).filter(|&i| s.roles[i] == Role::Train);
            assert!(train.into_iter().all(|i| !test.contains(owned.label[i].as_str())));
            assert!(tested(s).len() >= 13, "{}", tested(s).len());
        }
        let e = split(&owned, Scheme::Family { folds: 12, repeats: 1 }, 4).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        assert!(e.to_string().contains("2 to 9 folds"), "{e}");
    }

    #[test]
    fn forward_tests_the_youngest_and_leaves_out_animals_without_a_date() {
        let owned = herd(50);
        let s = split(&owned, Scheme::Forward { test_share: 0.2 }, 1).unwrap();
        assert_eq!((tested(&s.splits[0]), s.left_out), ((40..50).collect(), 1));
        // A limit inside a day takes the whole day.
        let s = split(&owned, Scheme::Forward { test_share: 0.25 }, 1).unwrap();
        assert_eq!(tested(&s.splits[0]), (30..50).collect::<Vec<_>>());
        assert!(split(&herd(9), Scheme::Forward { test_share: 0.2 }, 1).is_err());
    }

    #[test]
    fn given_folds_are_taken_as_they_are() {
        let mut owned = herd(30);
        owned.label =
            (0..30).map(|i| if i == 0 { String::new() } else { (i % 10 + 1).to_string() }).collect();
        let s = split(&owned, Scheme::Given, 1).unwrap();
        let names: Vec<&str> = s.splits.iter().map(|s| s.fold.as_str()).collect();
        assert_eq!(names, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
        assert_eq!((tested(&s.splits[1]), s.left_out), (vec![1, 11, 21], 1));
    }
}
