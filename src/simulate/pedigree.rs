//! Who descends from whom: a dairy population with few bulls, many daughters and overlapping generations.
//!
//! Bulls are born every year and used by artificial insemination from two to seven years of age, each according
//! to his popularity. Cows calve from two to eight years of age. Animals born in the first [`FOUNDER_YEARS`]
//! have no parents; ten years of ancestors come before the genotyped animals.

use super::config::PedigreeConfig;
use crate::rng::{Purpose, Stream};
use std::ops::Range;

/// No parent: a founder.
pub const NONE: u32 = u32::MAX;
/// Years of births before the genotyped animals.
const HISTORY: usize = 10;
/// The first of those years, whose animals have no parents.
const FOUNDER_YEARS: usize = 3;
const DAYS: f64 = 365.25;
/// Bulls and cows born in each founder year, at most: few whatever the herd's size, so that its linkage
/// disequilibrium and drift hardly depend on how many animals are genotyped.
const FOUNDER_BULLS: usize = 5;
const FOUNDER_COWS: usize = 50;
/// Years before the first genotyped ones in which the number of bulls has grown to its own.
const MORE_BULLS: usize = 3;
/// Age in days at which animals become parents, and the last.
const BULL_AGE: Range<i32> = 730..2557;
const COW_AGE: Range<i32> = 730..2922;
/// Least days between two calves of a cow.
const CALVING_INTERVAL: i32 = 330;
/// How often another dam is drawn before a close one is accepted.
const REDRAWS: usize = 20;

/// All animals, ancestors included, by date of birth: parents come before their offspring.
#[derive(Debug, Clone, PartialEq)]
pub struct Pedigree {
    /// Father, or [`NONE`].
    pub sire: Vec<u32>,
    /// Mother, or [`NONE`].
    pub dam: Vec<u32>,
    /// Days since 1970-01-01.
    pub birth_day: Vec<i32>,
    /// Whether the animal is a bull.
    pub male: Vec<bool>,
    /// The genotyped animals in the order of the store.
    pub genotyped: Vec<u32>,
}

/// An animal before it has parents.
struct Birth {
    day: i32,
    male: bool,
    genotyped: bool,
    popularity: f64,
}

impl Pedigree {
    /// Draws a pedigree that ends in `n` genotyped females.
    pub fn draw(seed: u64, n: usize, config: &PedigreeConfig) -> Pedigree {
        let births = births(seed, n, config);
        let first_calves =
            day_of(config.last_year - (HISTORY + config.years) as i32 + 1 + FOUNDER_YEARS as i32, 0.0);
        let mut p = Pedigree {
            sire: vec![NONE; births.len()],
            dam: vec![NONE; births.len()],
            birth_day: births.iter().map(|b| b.day).collect(),
            male: births.iter().map(|b| b.male).collect(),
            genotyped: (0..births.len()).filter(|&i| births[i].genotyped).map(|i| i as u32).collect(),
        };
        let mut candidates = Candidates::default();
        let mut last_calf = vec![i32::MIN / 2; births.len()];
        for i in p.birth_day.partition_point(|&day| day < first_calves)..births.len() {
            candidates.update(&births, births[i].day);
            let mut stream = Stream::new(seed, Purpose::Pedigree, 1 << 40 | i as u64);
            let sire = candidates.bull(&mut stream, births[i].male);
            let mut dam = candidates.cow(&mut stream);
            for _ in 0..REDRAWS {
                let rested = births[i].day - last_calf[dam as usize] >= CALVING_INTERVAL;
                if rested && p.sire[dam as usize] != sire {
                    break;
                }
                dam = candidates.cow(&mut stream);
            }
            last_calf[dam as usize] = births[i].day;
            (p.sire[i], p.dam[i]) = (sire, dam);
        }
        p
    }

    /// Number of animals, ancestors included.
    pub fn len(&self) -> usize {
        self.sire.len()
    }

    /// Whether animal `i` has no parents.
    pub fn is_founder(&self, i: usize) -> bool {
        self.sire[i] == NONE
    }

    /// The animals without parents, who come first.
    pub fn founders(&self) -> usize {
        (0..self.len()).take_while(|&i| self.is_founder(i)).count()
    }

    /// Name of animal `i`: S for bulls, C for genotyped cows and A for the older cows.
    pub fn names(&self) -> Vec<String> {
        let mut genotyped = vec![false; self.len()];
        self.genotyped.iter().for_each(|&i| genotyped[i as usize] = true);
        let mut counts = [0usize; 3];
        (0..self.len())
            .map(|i| {
                let (kind, letter) = match (self.male[i], genotyped[i]) {
                    (true, _) => (0, 'S'),
                    (_, true) => (1, 'C'),
                    _ => (2, 'A'),
                };
                counts[kind] += 1;
                format!("{letter}{:06}", counts[kind])
            })
            .collect()
    }
}

/// All births in order of their days.
fn births(seed: u64, n: usize, config: &PedigreeConfig) -> Vec<Birth> {
    let years = config.years;
    let sires = config.sires.unwrap_or((n as f64).sqrt().ceil() as usize);
    let bulls_a_year = sires.div_ceil(years).max(2);
    let (cows, growth) = ancestors(n, years);
    let first = config.last_year - (HISTORY + years) as i32 + 1;
    let mut all = Vec::new();
    for y in 0..HISTORY + years {
        let daughters = match y.checked_sub(HISTORY) {
            None => (cows * growth.powi((y + 1).saturating_sub(FOUNDER_YEARS) as i32)) as usize,
            Some(k) => genotyped_until(n, k + 1, years) - genotyped_until(n, k, years),
        };
        let bulls = if y + MORE_BULLS < HISTORY { bulls_a_year.min(FOUNDER_BULLS) } else { bulls_a_year };
        for k in 0..bulls + daughters {
            let mut stream = Stream::new(seed, Purpose::Pedigree, all.len() as u64);
            let day = day_of(first + y as i32, stream.uniform());
            let popularity = (config.popularity * stream.normal()).exp();
            let male = k < bulls;
            all.push(Birth { day, male, genotyped: !male && y >= HISTORY, popularity });
        }
    }
    // Stable: animals born on one day keep their order.
    all.sort_by_key(|b| b.day);
    all
}

/// Cows born in each founder year, and by what their number grows each year after, so that there are enough
/// mothers of the first genotyped animals.
fn ancestors(n: usize, years: usize) -> (f64, f64) {
    let cows = (n / 40).clamp(20, FOUNDER_COWS) as f64;
    let mothers = genotyped_until(n, 1, years) as f64 / 1.5;
    let growing = (HISTORY - FOUNDER_YEARS) as f64;
    (cows, (mothers / cows).powf(1.0 / growing).max(1.0))
}

/// Genotyped animals born in the first `k` of `years`: the numbers of the years grow like 2, 3, 4, ...
fn genotyped_until(n: usize, k: usize, years: usize) -> usize {
    n * (k * (k + 3)) / (years * (years + 3))
}

/// The possible parents of the animals born in one month.
#[derive(Default)]
struct Candidates {
    month: i32,
    bulls: Vec<u32>,
    /// Running totals of popularity, and of its square for the fathers of bulls.
    popularity: [Vec<f64>; 2],
    cows: Vec<u32>,
}

impl Candidates {
    fn update(&mut self, births: &[Birth], day: i32) {
        let month = day.div_euclid(30);
        if month == self.month && !self.cows.is_empty() {
            return;
        }
        self.month = month;
        let pick = |male: bool, age: Range<i32>| -> Vec<u32> {
            let from = births.partition_point(|b| b.day < month * 30 - age.end);
            let until = births.partition_point(|b| b.day < month * 30 - age.start);
            let right = |range: Range<usize>| -> Vec<u32> {
                range.filter(|&i| births[i].male == male).map(|i| i as u32).collect()
            };
            let found = right(from..until);
            // In a tiny herd there may be none of that age: then any older one.
            if found.is_empty() {
                right(0..until)
            } else {
                found
            }
        };
        self.bulls = pick(true, BULL_AGE);
        self.cows = pick(false, COW_AGE);
        for (power, totals) in self.popularity.iter_mut().enumerate() {
            let mut sum = 0.0;
            totals.clear();
            totals.extend(self.bulls.iter().map(|&b| {
                sum += births[b as usize].popularity.powi(power as i32 + 1);
                sum
            }));
        }
    }

    fn bull(&self, stream: &mut Stream, for_bull: bool) -> u32 {
        let totals = &self.popularity[usize::from(for_bull)];
        let at = stream.uniform() * totals.last().expect("founder bulls exist");
        self.bulls[totals.partition_point(|&t| t <= at).min(self.bulls.len() - 1)]
    }

    fn cow(&self, stream: &mut Stream) -> u32 {
        self.cows[stream.below(self.cows.len())]
    }
}

/// The day that lies `part` (0 to 1) into `year`, in days since 1970.
fn day_of(year: i32, part: f64) -> i32 {
    let start = days_before(year);
    start + (part * f64::from(days_before(year + 1) - start)) as i32
}

/// Days from 1970-01-01 to January 1 of `year`.
fn days_before(year: i32) -> i32 {
    let y = year - 1;
    365 * year + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_527
}

/// The year in which a day lies.
pub fn year_of(day: i32) -> i32 {
    let guess = 1970 + (f64::from(day) / DAYS).floor() as i32;
    (guess - 1..=guess + 1).rev().find(|&y| days_before(y) <= day).expect("the guess is near")
}

/// ISO 8601 date of a day.
pub fn iso_date(day: i32) -> String {
    let year = year_of(day);
    let leap = days_before(year + 1) - days_before(year) == 366;
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut rest = day - days_before(year);
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (day, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (18_261, "2019-12-31"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(iso_date(day), text);
        }
    }

    #[test]
    fn parents_are_older_few_sires_have_many_daughters_and_dams_come_from_the_herd() {
        let p = Pedigree::draw(1, 3000, &PedigreeConfig::default());
        assert_eq!(p.genotyped.len(), 3000);
        let mut daughters: HashMap<u32, usize> = HashMap::new();
        let mut from_herd = 0;
        for &i in &p.genotyped {
            let i = i as usize;
            let (s, d) = (p.sire[i] as usize, p.dam[i] as usize);
            assert!(p.male[s] && !p.male[d] && !p.male[i]);
            assert!(p.birth_day[i] - p.birth_day[s] > 700 && p.birth_day[i] - p.birth_day[d] > 700);
            *daughters.entry(p.sire[i]).or_default() += 1;
            from_herd += usize::from(p.genotyped.binary_search(&p.dam[i]).is_ok());
        }
        assert!(daughters.len() < 100, "{} sires", daughters.len());
        assert!(*daughters.values().max().unwrap() > 150);
        assert!(from_herd > 1000, "{from_herd} dams are genotyped too");
        let founders = p.founders();
        assert!((founders..p.len()).all(|i| !p.is_founder(i)));
        assert_eq!((year_of(p.birth_day[0]), year_of(p.birth_day[p.len() - 1])), (2000, 2019));
    }

    #[test]
    fn a_large_herd_has_no_more_founders_and_enough_mothers() {
        let p = Pedigree::draw(1, 30_000, &PedigreeConfig::default());
        assert_eq!(p.founders(), FOUNDER_YEARS * (FOUNDER_BULLS + FOUNDER_COWS));
        let mut calves: HashMap<u32, Vec<i32>> = HashMap::new();
        for i in p.founders()..p.len() {
            calves.entry(p.dam[i]).or_default().push(p.birth_day[i]);
        }
        let close: usize =
            calves.values().map(|d| d.windows(2).filter(|w| w[1] - w[0] < CALVING_INTERVAL).count()).sum();
        assert!(close < 300, "{close} of 30,000 calves came too soon after the last");
    }

    #[test]
    fn tiny_herds_have_parents_too() {
        for n in [1, 2, 7] {
            let p = Pedigree::draw(3, n, &PedigreeConfig::default());
            assert_eq!(p.genotyped.len(), n);
            assert!(p.genotyped.iter().all(|&i| !p.is_founder(i as usize)));
        }
    }
}
