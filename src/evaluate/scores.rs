//! How good a prediction is: correlation, accuracy, slope, error, ranking, and their standard errors.
//!
//! Every score is a function of weighted animals. With all weights 1 it is the score itself; with the counts of
//! a bootstrap sample (Efron 1979) it is a replicate. An animal has the same count in every fold, repetition
//! and model, so that means over folds and differences of models are resampled as a whole.
//!
//! A prediction that does not vary, or records that do not, have no correlation, slope or ranking: these are NaN, in
//! the scores and in every replicate alike.
//!
//! All models of a split are scored on the same records, y* = y − Wb̂ of the split's one reference fit: a model's own fixed
//! effects count in `r_total` only.

use crate::stats::range;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Share of the animals that the top-ranking score looks at.
pub const TOP: f64 = 0.1;

/// A prediction varies when its range is more than this share of the records' range: less tells no animals apart.
pub const LEAST_RANGE: f64 = 1e-6;
/// Rounding of a sum of a few terms, relative to the largest of them.
const ROUNDING: f64 = 1e-12;

/// The tested animals of one trait in one split, with what one model predicted for them. All lists have one entry an
/// animal and are in units of the trait.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tested {
    /// Row of each animal in the store.
    pub animal: Vec<u32>,
    /// Predicted genetic value û, mean over the replicates.
    pub prediction: Vec<f64>,
    /// û of each replicate (fits that differ in their seed alone), (replicates)(tested). One for deterministic kinds.
    pub replicates: Vec<Vec<f64>>,
    /// y*: records adjusted by the fixed effects of the split's one reference fit, the same for all models.
    pub adjusted: Vec<f64>,
    /// y, the records.
    pub record: Vec<f64>,
    /// The model's own fixed effects Wb̂: they count in r_total only.
    pub fixed: Vec<f64>,
}

impl Tested {
    /// What one fit predicts; records are adjusted by its own fixed effects.
    pub fn of_fit(animal: Vec<u32>, prediction: Vec<f64>, adjusted: Vec<f64>, fixed: Vec<f64>) -> Tested {
        let record = adjusted.iter().zip(&fixed).map(|(a, b)| a + b).collect();
        Tested { animal, replicates: vec![prediction.clone()], prediction, adjusted, record, fixed }
    }

    /// The mean prediction of all replicates but one, (tested); needs two replicates.
    pub fn without_replicate(&self, left_out: usize) -> Vec<f64> {
        let n = self.replicates.len() as f64;
        let one = &self.replicates[left_out];
        self.prediction.iter().zip(one).map(|(mean, x)| (n * mean - x) / (n - 1.0)).collect()
    }
}

/// Number of the scores.
pub const COUNT: usize = Scores::NAMES.len();

/// The scores of one trait in one split, or their means. All but the errors are NaN when the predictions or the
/// records do not vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Pearson's correlation of prediction and adjusted record: the predictive ability.
    pub r: f64,
    /// Slope of the adjusted record on the prediction: 1 when neither inflated nor deflated.
    pub slope: f64,
    /// Mean squared difference of adjusted record and prediction.
    pub mse: f64,
    /// The same after both were centred on their means.
    pub mse_centred: f64,
    /// Spearman's rank correlation of prediction and adjusted record.
    pub spearman: f64,
    /// Share of the top 10 % by record that are also in the top 10 % by prediction.
    pub top10: f64,
    /// Pearson's correlation of record and prediction with fixed effects, r(y, Wb̂ + û).
    pub r_total: f64,
    /// r of predictions and adjusted records less their family means; NaN without families of two animals or more.
    pub r_within_family: f64,
}

impl Scores {
    /// Names of the scores, in the order of [`Scores::values`].
    pub const NAMES: [&'static str; 8] =
        ["r", "slope", "mse", "mse_centred", "spearman", "top10", "r_total", "r_within_family"];

    /// Scores that do not exist.
    pub const NONE: Scores = Scores {
        r: f64::NAN,
        slope: f64::NAN,
        mse: f64::NAN,
        mse_centred: f64::NAN,
        spearman: f64::NAN,
        top10: f64::NAN,
        r_total: f64::NAN,
        r_within_family: f64::NAN,
    };

    /// Place of a score among [`Scores::NAMES`].
    pub fn position(name: &str) -> usize {
        Scores::NAMES.iter().position(|n| *n == name).expect("one of Scores::NAMES")
    }

    /// The scores as a list.
    pub fn values(&self) -> [f64; COUNT] {
        let Scores { r, slope, mse, mse_centred, spearman, top10, r_total, r_within_family } = *self;
        [r, slope, mse, mse_centred, spearman, top10, r_total, r_within_family]
    }

    /// From a list in the order of [`Scores::NAMES`].
    pub fn from_values(v: [f64; COUNT]) -> Scores {
        let [r, slope, mse, mse_centred, spearman, top10, r_total, r_within_family] = v;
        Scores { r, slope, mse, mse_centred, spearman, top10, r_total, r_within_family }
    }

    /// Means over the splits that have an r: the same splits for every score (r within families: those among them whose
    /// tested animals have families). NaN when there is none.
    pub fn mean(all: &[Scores]) -> Scores {
        let with_r: Vec<[f64; COUNT]> = all.iter().filter(|s| s.r.is_finite()).map(Scores::values).collect();
        let within = Scores::position("r_within_family");
        Scores::from_values(std::array::from_fn(|k| {
            let of = with_r.iter().map(|v| v[k]).filter(|v| k != within || v.is_finite());
            crate::stats::mean(&of.collect::<Vec<_>>())
        }))
    }
}

/// A tested set with its rankings, sorted once and scored many times.
pub struct Scorer<'a> {
    tested: &'a Tested,
    prediction: Cow<'a, [f64]>,
    /// Prediction with the model's fixed effects, Wb̂ + û.
    total: Vec<f64>,
    /// Family of each tested animal, from 0; `None` for animals without one.
    family: Option<Vec<Option<usize>>>,
    by_prediction: Vec<u32>,
    by_record: Vec<u32>,
    resolution: Resolution,
}

/// The ranges up to which values do not vary.
struct Resolution {
    prediction: f64,
    adjusted: f64,
    record: f64,
}

impl Resolution {
    fn of(tested: &Tested, prediction: &[f64]) -> Self {
        let rounding = |x: &[f64]| ROUNDING * x.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let record = &tested.record;
        let shift = tested.record.iter().zip(&tested.adjusted).map(|(y, a)| y - a).collect::<Vec<f64>>();
        let effects = rounding(&tested.fixed).max(rounding(&shift));
        let least = rounding(record).max(effects).max(LEAST_RANGE * range(record));
        let prediction = rounding(prediction).max(LEAST_RANGE * range(&tested.adjusted));
        Resolution { prediction, adjusted: least, record: least }
    }
}

impl<'a> Scorer<'a> {
    /// Scores the mean prediction. `families`: of every animal in the store, `u32::MAX` for none.
    pub fn new(tested: &'a Tested, families: Option<&[u32]>) -> Self {
        Scorer::of(tested, Cow::Borrowed(&tested.prediction), families)
    }

    /// Scores another prediction of the same animals, (tested).
    pub fn of(tested: &'a Tested, prediction: Cow<'a, [f64]>, families: Option<&[u32]>) -> Self {
        Scorer {
            resolution: Resolution::of(tested, &prediction),
            total: prediction.iter().zip(&tested.fixed).map(|(u, b)| u + b).collect(),
            family: families.and_then(|families| number_families(&tested.animal, families)),
            by_prediction: ascending(&prediction),
            by_record: ascending(&tested.adjusted),
            tested,
            prediction,
        }
    }

    /// The sums of the animals as they are.
    pub fn sums(&self) -> Sums {
        self.weighted(&vec![1.0; self.tested.animal.len()])
    }

    /// The sums with one weight a tested animal, such as its counts in a bootstrap sample.
    pub fn weighted(&self, w: &[f64]) -> Sums {
        let (t, least) = (self.tested, &self.resolution);
        let weight: f64 = w.iter().sum();
        if weight == 0.0 {
            return Sums::default();
        }
        let genetic = Moments::of([&self.prediction, &t.adjusted], w, [least.prediction, least.adjusted]);
        let total = Moments::of([&self.total, &t.record], w, [least.record; 2]);
        let shift = weight * genetic.distance().powi(2);
        let mut sums = Sums { weight, shift, genetic, total, within: self.within(w), ..Sums::default() };
        if sums.genetic.vary() {
            let share = |x: &[f64], order: &[u32]| -> Vec<f64> {
                mid_ranks(x, order, w).into_iter().map(|rank| rank / weight).collect()
            };
            let ranks = [share(&self.prediction, &self.by_prediction), share(&t.adjusted, &self.by_record)];
            sums.ranks = Moments::of([&ranks[0], &ranks[1]], w, [0.0; 2]);
            (sums.top, sums.top_in_both) = self.top_overlap(w, weight);
        }
        sums
    }

    /// Moments of prediction and adjusted record less the means of their families.
    fn within(&self, w: &[f64]) -> Moments {
        let Some(family) = &self.family else { return Moments::default() };
        let deviations = |x: &[f64]| -> Vec<f64> {
            let mut sums = vec![(0.0, 0.0); x.len()];
            for ((x, w), f) in x.iter().zip(w).zip(family) {
                if let Some(f) = f {
                    sums[*f].0 += w * x;
                    sums[*f].1 += w;
                }
            }
            // A family that a sample lacks weighs nothing.
            let mean = |f: usize| if sums[f].1 > 0.0 { sums[f].0 / sums[f].1 } else { 0.0 };
            let of = |(x, f): (&f64, &Option<usize>)| f.map_or(0.0, |f| x - mean(f));
            x.iter().zip(family).map(of).collect()
        };
        let least = [self.resolution.prediction, self.resolution.adjusted];
        let in_family: Vec<f64> =
            w.iter().zip(family).map(|(w, f)| if f.is_some() { *w } else { 0.0 }).collect();
        Moments::of([&deviations(&self.prediction), &deviations(&self.tested.adjusted)], &in_family, least)
    }

    /// Weight of the top, and the weight that is in it by prediction and by record.
    fn top_overlap(&self, w: &[f64], weight: f64) -> (f64, f64) {
        let size = (TOP * weight).round().max(1.0);
        let p = top(&self.prediction, &self.by_prediction, w, size);
        let y = top(&self.tested.adjusted, &self.by_record, w, size);
        let both = p.iter().zip(&y).zip(w).filter(|(_, w)| **w > 0.0).map(|((a, b), w)| a * b / w);
        (size, both.sum::<f64>())
    }
}

/// What the scores of a tested set follow from. The sum over several sets gives the scores of all of them together,
/// free of differences between their means: deviations, ranks and tops are those within each set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    weight: f64,
    /// Prediction and adjusted record.
    genetic: Moments,
    /// Their ranks over the weight.
    ranks: Moments,
    /// Prediction with fixed effects, and record.
    total: Moments,
    /// Prediction and adjusted record less their family means.
    within: Moments,
    /// Squared distance of the means of prediction and adjusted record, times the weight.
    shift: f64,
    top: f64,
    top_in_both: f64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.weight += other.weight;
        self.genetic += other.genetic;
        self.ranks += other.ranks;
        self.total += other.total;
        self.within += other.within;
        self.shift += other.shift;
        self.top += other.top;
        self.top_in_both += other.top_in_both;
    }
}

impl Sums {
    /// The scores.
    pub fn scores(&self) -> Scores {
        let m = &self.genetic;
        let centred = m.xx - 2.0 * m.xy + m.yy;
        Scores {
            r: m.correlation(),
            slope: if m.vary() { m.xy / m.xx } else { f64::NAN },
            mse: (centred + self.shift) / self.weight,
            mse_centred: centred / self.weight,
            spearman: self.ranks.correlation(),
            top10: self.top_in_both / self.top,
            r_total: self.total.correlation(),
            r_within_family: self.within.correlation(),
        }
    }
}

/// Weighted means, and sums of squares and products of the deviations from them; 0 where values do not vary.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl AddAssign for Moments {
    fn add_assign(&mut self, other: Moments) {
        self.xx += other.xx;
        self.xy += other.xy;
        self.yy += other.yy;
    }
}

impl Moments {
    /// Values vary when their range is more than `least`.
    fn of([x, y]: [&[f64]; 2], w: &[f64], least: [f64; 2]) -> Moments {
        let total: f64 = w.iter().sum();
        let mean = |v: &[f64]| v.iter().zip(w).map(|(v, w)| v * w).sum::<f64>() / total;
        let weighed =
            |v: &[f64]| v.iter().zip(w).filter(|(_, w)| **w > 0.0).map(|(v, _)| *v).collect::<Vec<_>>();
        let still = [range(&weighed(x)) <= least[0], range(&weighed(y)) <= least[1]];
        let mut m = Moments { x: mean(x), y: mean(y), ..Moments::default() };
        for ((a, b), w) in x.iter().zip(y).zip(w) {
            let a = if still[0] { 0.0 } else { a - m.x };
            let b = if still[1] { 0.0 } else { b - m.y };
            m.xx += w * a * a;
            m.xy += w * a * b;
            m.yy += w * b * b;
        }
        m
    }

    fn distance(&self) -> f64 {
        self.y - self.x
    }

    /// Whether both vary.
    fn vary(&self) -> bool {
        self.xx > 0.0 && self.yy > 0.0
    }

    fn correlation(&self) -> f64 {
        if self.vary() {
            self.xy / (self.xx * self.yy).sqrt()
        } else {
            f64::NAN
        }
    }
}

/// Whether a family has two tested animals or more, so that r within families may exist.
pub fn has_families(tested: &Tested, families: Option<&[u32]>) -> bool {
    families.is_some_and(|families| number_families(&tested.animal, families).is_some())
}

/// Families of two tested animals or more, numbered from 0; `None` where there is no such family.
fn number_families(animals: &[u32], families: &[u32]) -> Option<Vec<Option<usize>>> {
    let mut members = BTreeMap::<u32, usize>::new();
    let of = |i: &u32| families[*i as usize];
    animals.iter().for_each(|i| *members.entry(of(i)).or_default() += 1);
    members.retain(|family, size| *family != u32::MAX && *size > 1);
    members.values_mut().enumerate().for_each(|(k, number)| *number = k);
    (!members.is_empty()).then(|| animals.iter().map(|i| members.get(&of(i)).copied()).collect())
}

fn ascending(x: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..x.len() as u32).collect();
    order.sort_by(|&a, &b| x[a as usize].total_cmp(&x[b as usize]));
    order
}

/// Ranks of a weighted sample, ties at their mean rank.
fn mid_ranks(x: &[f64], order: &[u32], w: &[f64]) -> Vec<f64> {
    let mut ranks = vec![0.0; x.len()];
    let (mut start, mut below) = (0, 0.0);
    while start < order.len() {
        let value = x[order[start] as usize];
        let end = start + order[start..].iter().take_while(|&&i| x[i as usize] == value).count();
        let tied: f64 = order[start..end].iter().map(|&i| w[i as usize]).sum();
        order[start..end].iter().for_each(|&i| ranks[i as usize] = below + (tied + 1.0) / 2.0);
        below += tied;
        start = end;
    }
    ranks
}

/// How much of each animal's weight belongs to the top `size`; animals of equal value share what is left.
fn top(x: &[f64], order: &[u32], w: &[f64], size: f64) -> Vec<f64> {
    let mut part = vec![0.0; w.len()];
    let (mut left, mut end) = (size, order.len());
    while end > 0 && left > 0.0 {
        let value = x[order[end - 1] as usize];
        let start = order[..end].iter().rposition(|&i| x[i as usize] != value).map_or(0, |at| at + 1);
        let tied: f64 = order[start..end].iter().map(|&i| w[i as usize]).sum();
        let share = if tied > left { left / tied } else { 1.0 };
        order[start..end].iter().for_each(|&i| part[i as usize] = share * w[i as usize]);
        (left, end) = (left - tied, start);
    }
    part
}

#[cfg(test)]
mod tests;
