//! How good a prediction is: correlation, accuracy, slope, error, ranking, and their standard errors.
//!
//! Every score is a function of weighted animals. With all weights 1 it is the score itself; with the counts of
//! a bootstrap sample (Efron 1979) it is a replicate. An animal has the same count in every fold, repetition
//! and model, so that means over folds and differences of models are resampled as a whole.
//!
//! A prediction that does not vary, or records that do not, have no correlation, slope or ranking: these are NaN, in
//! the scores and in every replicate alike.

use crate::rng::{Purpose, Stream};
use crate::stats::range;
use std::ops::AddAssign;

/// Share of the animals that the top-ranking score looks at.
pub const TOP: f64 = 0.1;

/// A prediction varies when its range is more than this share of the records' range: less tells no animals apart.
pub const LEAST_RANGE: f64 = 1e-6;
/// Rounding of a sum of a few terms, relative to the largest of them.
const ROUNDING: f64 = 1e-12;

/// The tested animals of one trait in one split, with what was predicted for them.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tested {
    /// Row of each animal in the herd.
    pub animal: Vec<u32>,
    /// Predicted genetic value û, mean over the replicates.
    pub prediction: Vec<f64>,
    /// û of each replicate (fits that differ in their seed alone), (replicates)(tested). One for deterministic kinds.
    pub replicates: Vec<Vec<f64>>,
    /// y*: records adjusted by the fixed effects of the split's reference fit: the same for all models.
    pub adjusted: Vec<f64>,
    /// y, the records.
    pub record: Vec<f64>,
    /// The model's own fixed effects Wb̂: they count in r_total = r(y, Wb̂ + û) only.
    pub fixed: Vec<f64>,
}

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
}

impl Scores {
    /// Names of the scores, in the order of [`Scores::values`].
    pub const NAMES: [&'static str; 7] = ["r", "slope", "mse", "mse_centred", "spearman", "top10", "r_total"];

    /// The scores as a list.
    pub fn values(&self) -> [f64; 7] {
        [self.r, self.slope, self.mse, self.mse_centred, self.spearman, self.top10, self.r_total]
    }

    /// From a list in the order of [`Scores::NAMES`].
    pub fn from_values(v: [f64; 7]) -> Scores {
        let [r, slope, mse, mse_centred, spearman, top10, r_total] = v;
        Scores { r, slope, mse, mse_centred, spearman, top10, r_total }
    }

    /// Means over the splits that have an r: the same splits for every score. NaN when there is none.
    pub fn mean(all: &[Scores]) -> Scores {
        let with_r: Vec<[f64; 7]> = all.iter().filter(|s| s.r.is_finite()).map(Scores::values).collect();
        Scores::from_values(std::array::from_fn(|k| {
            crate::stats::mean(&with_r.iter().map(|v| v[k]).collect::<Vec<_>>())
        }))
    }
}

/// A tested set with its rankings, sorted once and scored many times.
pub struct Scorer<'a> {
    tested: &'a Tested,
    /// Record, y, and prediction with fixed effects, Wb̂ + û.
    record: Vec<f64>,
    total: Vec<f64>,
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
    fn of(tested: &Tested, record: &[f64]) -> Self {
        let rounding = |x: &[f64]| ROUNDING * x.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let least = rounding(record).max(rounding(&tested.fixed)).max(LEAST_RANGE * range(record));
        let prediction = rounding(&tested.prediction).max(LEAST_RANGE * range(&tested.adjusted));
        Resolution { prediction, adjusted: least, record: least }
    }
}

impl<'a> Scorer<'a> {
    /// Prepares the rankings.
    pub fn new(tested: &'a Tested) -> Self {
        let plus = |x: &[f64]| x.iter().zip(&tested.fixed).map(|(v, f)| v + f).collect::<Vec<f64>>();
        let record = plus(&tested.adjusted);
        Scorer {
            tested,
            resolution: Resolution::of(tested, &record),
            total: plus(&tested.prediction),
            record,
            by_prediction: ascending(&tested.prediction),
            by_record: ascending(&tested.adjusted),
        }
    }

    /// The sums of the animals as they are.
    pub fn sums(&self) -> Sums {
        self.weighted(&vec![1.0; self.tested.animal.len()])
    }

    /// The sums of a bootstrap sample, `counts` of shape (n of all animals).
    pub fn resampled(&self, counts: &[u16]) -> Sums {
        let w: Vec<f64> = self.tested.animal.iter().map(|&i| f64::from(counts[i as usize])).collect();
        self.weighted(&w)
    }

    /// The sums with one weight a tested animal.
    fn weighted(&self, w: &[f64]) -> Sums {
        let (t, least) = (self.tested, &self.resolution);
        let weight: f64 = w.iter().sum();
        if weight == 0.0 {
            return Sums::default();
        }
        let genetic = Moments::of([&t.prediction, &t.adjusted], w, [least.prediction, least.adjusted]);
        let total = Moments::of([&self.total, &self.record], w, [least.record; 2]);
        let mut sums =
            Sums { weight, shift: weight * genetic.distance().powi(2), genetic, total, ..Sums::default() };
        if sums.genetic.vary() {
            let share = |x: &[f64], order: &[u32]| -> Vec<f64> {
                mid_ranks(x, order, w).into_iter().map(|rank| rank / weight).collect()
            };
            let ranks = [share(&t.prediction, &self.by_prediction), share(&t.adjusted, &self.by_record)];
            sums.ranks = Moments::of([&ranks[0], &ranks[1]], w, [0.0; 2]);
            (sums.top, sums.top_in_both) = self.top_overlap(w, weight);
        }
        sums
    }

    /// Weight of the top, and the weight that is in it by prediction and by record.
    fn top_overlap(&self, w: &[f64], weight: f64) -> (f64, f64) {
        let size = (TOP * weight).round().max(1.0);
        let p = top(&self.tested.prediction, &self.by_prediction, w, size);
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

/// The bootstrap sample `replicate` of `n` animals: how often each was drawn.
pub fn sample(n: usize, seed: u64, replicate: usize) -> Vec<u16> {
    let mut stream = Stream::new(seed, Purpose::Bootstrap, replicate as u64);
    let mut counts = vec![0u16; n];
    (0..n).for_each(|_| counts[stream.below(n)] += 1);
    counts
}

/// Standard error from bootstrap replicates: their standard deviation, over those that exist.
pub fn standard_error(replicates: &[f64]) -> f64 {
    let finite: Vec<f64> = replicates.iter().copied().filter(|v| v.is_finite()).collect();
    crate::stats::variance(&finite).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    fn made_up(n: usize) -> Tested {
        let mut s = Stream::new(3, Purpose::Test, n as u64);
        let prediction: Vec<f64> = (0..n).map(|_| s.normal()).collect();
        let adjusted = prediction.iter().map(|p| 0.8 * p + 0.5 + s.normal()).collect();
        let fixed = (0..n).map(|_| 3.0 * s.normal()).collect();
        Tested { animal: (0..n as u32).collect(), prediction, adjusted, fixed }
    }

    #[test]
    fn scores_are_those_of_the_plain_definitions() {
        let t = made_up(500);
        let s = Scorer::new(&t).sums().scores();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-10, "{a} {b}");
        near(s.r, stats::pearson(&t.prediction, &t.adjusted));
        near(s.slope, stats::slope(&t.prediction, &t.adjusted));
        near(s.spearman, stats::spearman(&t.prediction, &t.adjusted));
        let error: Vec<f64> = t.prediction.iter().zip(&t.adjusted).map(|(p, a)| a - p).collect();
        near(s.mse, error.iter().map(|e| e * e).sum::<f64>() / 500.0);
        near(s.mse_centred, stats::variance(&error) * 499.0 / 500.0);
        let best = |x: &[f64]| {
            let limit = stats::ranks(x);
            (0..500).filter(|&i| limit[i] > 450.0).collect::<std::collections::BTreeSet<_>>()
        };
        near(s.top10, best(&t.prediction).intersection(&best(&t.adjusted)).count() as f64 / 50.0);
        let total: Vec<f64> = t.prediction.iter().zip(&t.fixed).map(|(u, b)| u + b).collect();
        let y: Vec<f64> = t.adjusted.iter().zip(&t.fixed).map(|(a, b)| a + b).collect();
        near(s.r_total, stats::pearson(&total, &y));
    }

    #[test]
    fn a_perfect_prediction_scores_perfectly_and_ties_share_their_rank() {
        let x = vec![1.0, 2.0, 2.0, 4.0, 9.0];
        let t = Tested {
            animal: (0..5).collect(),
            prediction: x.clone(),
            adjusted: x.clone(),
            fixed: vec![0.0; 5],
        };
        let s = Scorer::new(&t).sums().scores();
        assert!(s
            .values()
            .iter()
            .zip([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
            .all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(mid_ranks(&x, &ascending(&x), &[1.0; 5]), [1.0, 2.5, 2.5, 4.0, 5.0]);
    }

    /// All that ranks or correlates; the fixed effects do not vary, so r_total is none either.
    fn ranking(s: Scores) -> [f64; 5] {
        [s.r, s.slope, s.spearman, s.top10, s.r_total]
    }

    #[test]
    fn constant_predictions_and_constant_records_have_no_correlation_slope_or_ranking() {
        let varying = made_up(50);
        // A sum of weighted equal numbers, or a network in single precision, leaves rounding: it is no variation.
        let noisy = |c: f64, size: f64| (0..50).map(|i| c + size * f64::from(i % 7)).collect::<Vec<f64>>();
        for constant in [noisy(0.0, 0.0), noisy(0.123, 0.0), noisy(-3e-16, 1e-17), noisy(0.3, 1e-8)] {
            for of_records in [false, true] {
                let mut t = Tested { fixed: vec![0.7; 50], ..varying.clone() };
                if of_records {
                    // Records less their fixed effects, all equal: only rounding remains.
                    t.adjusted = vec![0.1 + 0.2 - 0.3; 50];
                } else {
                    t.prediction = constant.clone();
                }
                let scorer = Scorer::new(&t);
                let samples = (0..200).map(|b| scorer.resampled(&sample(50, 1, b)).scores());
                for s in samples.chain([scorer.sums().scores()]) {
                    assert!(ranking(s).iter().all(|v| v.is_nan()), "{s:?}");
                    assert!(s.mse.is_finite() && s.mse_centred.is_finite());
                }
            }
        }
    }

    #[test]
    fn a_disease_coded_0_and_1_scores_as_one_coded_1_and_2() {
        let (sick, t) = ([4, 17, 30], made_up(40));
        let coded = |low: f64, step: f64, sick: &[usize]| {
            let y: Vec<f64> = (0..40).map(|i| low + if sick.contains(&i) { step } else { 0.0 }).collect();
            let mean = stats::mean(&y) + 0.01 * step;
            let adjusted = y.iter().map(|y| y - mean).collect();
            let prediction = t.prediction.iter().map(|p| step * p).collect();
            Tested { prediction, adjusted, fixed: vec![mean; 40], animal: t.animal.clone() }
        };
        for sick in [&sick[..], &[]] {
            let plain = coded(0.0, 1.0, sick);
            let wanted = Scorer::new(&plain);
            for (low, step) in [(1.0, 1.0), (1e5, 1.0), (0.0, 1e-9), (-7.0, 1e6)] {
                let other = coded(low, step, sick);
                let found = Scorer::new(&other);
                for b in 0..50 {
                    let counts = sample(40, 3, b);
                    let [a, b] = [&wanted, &found].map(|s| s.resampled(&counts).scores());
                    for (a, b) in ranking(a).into_iter().zip(ranking(b)) {
                        assert!((a - b).abs() < 1e-9 || (a.is_nan() && b.is_nan()), "{a} {b}");
                    }
                }
            }
            assert_eq!(wanted.sums().scores().r.is_nan(), sick.is_empty());
        }
    }

    #[test]
    fn sets_scored_together_do_not_show_how_their_means_differ() {
        // Two folds whose predictions and records stand apart, but have nothing to do with each other within them.
        let at = |shift: f64, from: u64| {
            let mut s = Stream::new(5, Purpose::Test, from);
            let mut near = || (0..400).map(|_| shift + s.normal()).collect::<Vec<f64>>();
            Tested { prediction: near(), adjusted: near(), fixed: vec![0.0; 400], animal: (0..400).collect() }
        };
        let folds = [at(0.0, 0), at(50.0, 1)];
        let mut all = Sums::default();
        folds.iter().for_each(|t| all += Scorer::new(t).sums());
        let s = all.scores();
        assert!(
            s.r.abs() < 0.15 && s.spearman.abs() < 0.15 && s.r_total.abs() < 0.15 && s.slope.abs() < 0.15
        );
        assert!((s.top10 - 0.1).abs() < 0.07, "{}", s.top10);
        // Each is the mean of the folds' own, weighted by what varies in them.
        let own = folds.each_ref().map(|t| Scorer::new(t).sums().scores());
        assert!((s.mse - (own[0].mse + own[1].mse) / 2.0).abs() < 1e-9);
        assert!((s.spearman - (own[0].spearman + own[1].spearman) / 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_weight_of_two_is_the_animal_twice() {
        let t = made_up(40);
        let counts: Vec<u16> = (0..40).map(|i| i % 3).collect();
        let twice: Vec<usize> = (0..40).flat_map(|i| vec![i; usize::from(counts[i])]).collect();
        let pick = |v: &[f64]| twice.iter().map(|&i| v[i]).collect::<Vec<f64>>();
        let plain = Tested {
            animal: (0..twice.len() as u32).collect(),
            prediction: pick(&t.prediction),
            adjusted: pick(&t.adjusted),
            fixed: pick(&t.fixed),
        };
        let (a, b) = (Scorer::new(&t).resampled(&counts).scores(), Scorer::new(&plain).sums().scores());
        assert!(a.values().iter().zip(b.values()).all(|(a, b)| (a - b).abs() < 1e-10), "{a:?} {b:?}");
    }

    #[test]
    fn the_standard_error_of_a_correlation_is_fishers() {
        let n = 400;
        let t = made_up(n);
        let scorer = Scorer::new(&t);
        let r: Vec<f64> = (0..600).map(|b| scorer.resampled(&sample(n, 1, b)).scores().r).collect();
        let fisher = (1.0 - scorer.sums().scores().r.powi(2)) / (n as f64).sqrt();
        assert!((standard_error(&r) / fisher - 1.0).abs() < 0.15, "{} {fisher}", standard_error(&r));
    }

    #[test]
    fn means_of_all_scores_are_over_the_splits_that_have_an_r() {
        let a = Scores::from_values([0.2; 7]);
        let b = Scores::from_values([f64::NAN, f64::NAN, 0.4, 0.4, f64::NAN, 0.4, 0.4]);
        assert_eq!(Scores::mean(&[a, b]), Scores::mean(&[a]));
        assert!((Scores::mean(&[a, b]).mse - 0.2).abs() < 1e-15);
        assert!(Scores::mean(&[b]).values().iter().all(|v| v.is_nan()));
    }
}
