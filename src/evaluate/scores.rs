//! How good a prediction is: correlation, accuracy, slope, error, ranking, and their standard errors.
//!
//! Every score is a function of weighted animals. With all weights 1 it is the score itself; with the counts of
//! a bootstrap sample (Efron 1979) it is a replicate. An animal has the same count in every fold, repetition
//! and model, so that means over folds and differences of models are resampled as a whole.

use crate::rng::{Purpose, Stream};

/// Share of the animals that the top-ranking score looks at.
pub const TOP: f64 = 0.1;

/// The tested animals of one trait in one split, with what was predicted for them.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Tested {
    /// Row of each animal in the herd.
    pub animal: Vec<u32>,
    /// Predicted genetic value, û.
    pub prediction: Vec<f64>,
    /// Record minus the fixed effects estimated in the training fold, y − Wb̂.
    pub adjusted: Vec<f64>,
    /// Fixed effects estimated in the training fold, Wb̂.
    pub fixed: Vec<f64>,
}

/// The scores of one trait in one split, or their means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Pearson's correlation of prediction and adjusted record: the predictive ability. 0 when all predictions
    /// are equal.
    pub r: f64,
    /// Slope of the adjusted record on the prediction: 1 when neither inflated nor deflated. NaN when all
    /// predictions are equal.
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

    /// Means, score by score, over the splits in which the score exists.
    pub fn mean(all: &[Scores]) -> Scores {
        Scores::from_values(std::array::from_fn(|k| {
            let finite: Vec<f64> = all.iter().map(|s| s.values()[k]).filter(|v| v.is_finite()).collect();
            crate::stats::mean(&finite)
        }))
    }
}

/// A tested set with its rankings, sorted once and scored many times.
pub struct Scorer<'a> {
    tested: &'a Tested,
    by_prediction: Vec<u32>,
    by_record: Vec<u32>,
}

impl<'a> Scorer<'a> {
    /// Prepares the rankings.
    pub fn new(tested: &'a Tested) -> Self {
        Scorer {
            tested,
            by_prediction: ascending(&tested.prediction),
            by_record: ascending(&tested.adjusted),
        }
    }

    /// The scores of the animals as they are.
    pub fn scores(&self) -> Scores {
        self.weighted(&vec![1.0; self.tested.animal.len()])
    }

    /// The scores in a bootstrap sample, `counts` of shape (n of the herd).
    pub fn resampled(&self, counts: &[u16]) -> Scores {
        let w: Vec<f64> = self.tested.animal.iter().map(|&i| f64::from(counts[i as usize])).collect();
        self.weighted(&w)
    }

    /// The scores with one weight a tested animal.
    fn weighted(&self, w: &[f64]) -> Scores {
        let t = self.tested;
        let m = Moments::of(&t.prediction, &t.adjusted, w);
        let total: Vec<f64> = t.prediction.iter().zip(&t.fixed).map(|(u, b)| u + b).collect();
        let y: Vec<f64> = t.adjusted.iter().zip(&t.fixed).map(|(a, b)| a + b).collect();
        let ranked =
            (mid_ranks(&t.prediction, &self.by_prediction, w), mid_ranks(&t.adjusted, &self.by_record, w));
        let mse_centred = m.xx - 2.0 * m.xy + m.yy;
        Scores {
            r: m.correlation(),
            slope: m.xy / m.xx,
            mse: mse_centred + (m.y - m.x).powi(2),
            mse_centred,
            spearman: Moments::of(&ranked.0, &ranked.1, w).correlation(),
            top10: self.top_overlap(w),
            r_total: Moments::of(&total, &y, w).correlation(),
        }
    }

    /// Weight that is in the top by prediction and by record, over the weight of the top.
    fn top_overlap(&self, w: &[f64]) -> f64 {
        let all: f64 = w.iter().sum();
        let size = (TOP * all).round().max(1.0);
        let p = top(&self.tested.prediction, &self.by_prediction, w, size);
        let y = top(&self.tested.adjusted, &self.by_record, w, size);
        let both = p.iter().zip(&y).zip(w).filter(|(_, w)| **w > 0.0).map(|((a, b), w)| a * b / w);
        both.sum::<f64>() / size
    }
}

/// Weighted means, variances and covariance (denominator: the weight).
struct Moments {
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Moments {
    fn of(x: &[f64], y: &[f64], w: &[f64]) -> Moments {
        let total: f64 = w.iter().sum();
        let mean = |v: &[f64]| v.iter().zip(w).map(|(v, w)| v * w).sum::<f64>() / total;
        let (mx, my) = (mean(x), mean(y));
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for ((a, b), w) in x.iter().zip(y).zip(w) {
            let (a, b) = (a - mx, b - my);
            xx += w * a * a;
            xy += w * a * b;
            yy += w * b * b;
        }
        Moments { x: mx, y: my, xx: xx / total, xy: xy / total, yy: yy / total }
    }

    /// 0 when x is constant up to rounding: a prediction that does not vary orders nothing.
    fn correlation(&self) -> f64 {
        if self.xx <= 1e-26 * self.x * self.x {
            return 0.0;
        }
        self.xy / (self.xx * self.yy).sqrt()
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
        let s = Scorer::new(&t).scores();
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
        let s = Scorer::new(&t).scores();
        assert!(s
            .values()
            .iter()
            .zip([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0])
            .all(|(a, b)| (a - b).abs() < 1e-12));
        assert_eq!(mid_ranks(&x, &ascending(&x), &[1.0; 5]), [1.0, 2.5, 2.5, 4.0, 5.0]);
    }

    #[test]
    fn a_prediction_that_does_not_vary_orders_nothing() {
        let t = Tested { prediction: vec![0.0; 50], fixed: vec![123.456; 50], ..made_up(50) };
        let s = Scorer::new(&t).scores();
        assert_eq!((s.r, s.spearman, s.r_total), (0.0, 0.0, 0.0));
        assert!(s.slope.is_nan() && (s.top10 - 0.1).abs() < 1e-12); // as many as by chance
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
        let (a, b) = (Scorer::new(&t).resampled(&counts), Scorer::new(&plain).scores());
        assert!(a.values().iter().zip(b.values()).all(|(a, b)| (a - b).abs() < 1e-10), "{a:?} {b:?}");
    }

    #[test]
    fn the_standard_error_of_a_correlation_is_fishers() {
        let n = 400;
        let t = made_up(n);
        let scorer = Scorer::new(&t);
        let r: Vec<f64> = (0..600).map(|b| scorer.resampled(&sample(n, 1, b)).r).collect();
        let fisher = (1.0 - scorer.scores().r.powi(2)) / (n as f64).sqrt();
        assert!((standard_error(&r) / fisher - 1.0).abs() < 0.15, "{} {fisher}", standard_error(&r));
    }

    #[test]
    fn means_skip_scores_that_do_not_exist() {
        let a = Scores::from_values([0.2; 7]);
        let b = Scores::from_values([f64::NAN, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]);
        let m = Scores::mean(&[a, b]);
        assert!((m.r - 0.2).abs() < 1e-15 && (m.slope - 0.3).abs() < 1e-15);
    }
}
