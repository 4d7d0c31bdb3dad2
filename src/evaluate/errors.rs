//! Standard errors that count both sides of a validation: the tested animals and the fits.
//!
//! A mean over J splits, or a difference of two such means, varies for three reasons (docs/study.md derives them):
//!
//! 1. other animals could have been tested: `tested`, the bootstrap variance of the mean, models not fitted again;
//! 2. other animals could have trained: n_test/n_train · `systematic`, the second term of Nadeau & Bengio (2003,
//!    Mach Learn 52:239, eq. 7). Their variance between splits has J − 1 degrees of freedom and contains what seeds
//!    do; here it is the bootstrap variance of one split, less the part of it that seeds make;
//! 3. other seeds could have been drawn: `tested` holds the noise of seeds that is each animal's own. What moves all
//!    animals of a split together is `seeds_common`/J: the jackknife variance over replicates less its bootstrap part.
//!
//! Noise of seeds is new in every split and averages out over them, noise of training animals does not, for splits
//! share these. So 2 must not contain seeds. Where each animal is predicted in several repetitions, what differs
//! between these tells seeds apart too; with one fit an animal nothing does, and the errors are upper limits.

use crate::evaluate::fidelity::gwas::minus_log10_p;

/// Below so many clusters in a split, resampling them says little: then the variance between splits counts as well.
const FEW_CLUSTERS: f64 = 4.0;

/// Variances of one score or difference, in its units squared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variances {
    /// Of the mean over splits, between bootstrap samples of the tested animals.
    pub tested: f64,
    /// Of a single split, between the same samples; mean over splits.
    pub split: f64,
    /// What seeds contribute to `split`, by replicates; 0 without replicates.
    pub seeds_in_split: f64,
    /// Noise of seeds common to all animals of a split, mean over splits; may come out negative.
    pub seeds_common: f64,
    /// Between the values of the splits, with J − 1 in the denominator; NaN for one split.
    pub between: f64,
}

/// How many of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// Splits that count, J.
    pub splits: usize,
    /// Repetitions among them: an animal is tested once in each.
    pub repetitions: usize,
    /// n_test/n_train, mean over splits.
    pub test_over_train: f64,
    /// Effective number of clusters in a split (Σn)²/Σn², mean over splits; animals where there are no families.
    pub clusters: f64,
    /// Degrees of freedom of `seeds_common`; 0 without replicates.
    pub seed_degrees: f64,
}

/// A standard error and its degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Error {
    /// Standard error.
    pub se: f64,
    /// Degrees of freedom (Satterthwaite 1946, Biometrics Bull 2:110).
    pub degrees_of_freedom: f64,
}

impl Layout {
    /// The error of a mean over the splits.
    pub fn error(&self, v: &Variances) -> Error {
        let j = self.splits as f64;
        let (tested, split, degrees) = self.of_animals(v);
        let train = self.test_over_train * self.systematic(&Variances { tested, split, ..*v });
        let between = if v.between.is_finite() { (v.between - split).max(0.0) / j } else { 0.0 };
        let (train, fits, fit_degrees) = if self.seed_degrees > 0.0 {
            (train, v.seeds_common.max(0.0) / j, self.seed_degrees)
        } else if self.repetitions > 1 || between > train {
            // Without replicates or repetitions training animals and seeds cannot be told apart: the larger counts.
            (if self.repetitions > 1 { train } else { 0.0 }, between, j - 1.0)
        } else {
            (train, 0.0, 1.0)
        };
        let (animals, total) = (tested + train, tested + train + fits);
        let square = |x: f64| x * x;
        let satterthwaite = square(total) / (square(animals) / degrees + square(fits) / fit_degrees);
        Error { se: total.sqrt(), degrees_of_freedom: if total > 0.0 { satterthwaite } else { degrees } }
    }

    /// Variances of the mean and of one split between samples of animals, and their degrees of freedom.
    fn of_animals(&self, v: &Variances) -> (f64, f64, f64) {
        let j = self.splits as f64;
        // Of each split one degree of freedom goes to its mean.
        let degrees = (j / self.repetitions as f64 * (self.clusters - 1.0)).max(1.0);
        if self.clusters >= FEW_CLUSTERS {
            (v.tested, v.split, degrees)
        } else if self.splits == 1 && self.clusters < 2.0 {
            // One family is tested: nothing tells how families differ.
            (f64::NAN, f64::NAN, degrees)
        } else if v.between > v.split || !v.split.is_finite() {
            (v.tested.max(v.between / j), v.between, (j - 1.0).max(1.0))
        } else {
            (v.tested, v.split, degrees)
        }
    }

    /// Variance of one split without what seeds make.
    fn systematic(&self, v: &Variances) -> f64 {
        let p = self.repetitions as f64;
        if self.repetitions > 1 {
            // tested = (a + b/P)/K and split = a + b with a common to the P repetitions, K splits each.
            let k = self.splits as f64 / p;
            ((p * k * v.tested - v.split) / (p - 1.0)).clamp(0.0, v.split.max(0.0))
        } else {
            (v.split - v.seeds_in_split).max(0.0)
        }
    }
}

/// Two-sided probability of |t| or more by Student's distribution.
pub fn student_p(t: f64, degrees_of_freedom: f64) -> f64 {
    if t.is_nan() || degrees_of_freedom.is_nan() {
        return f64::NAN;
    }
    if t == 0.0 {
        return 1.0;
    }
    let square = t * t;
    // t² = r² df/(1 − r²): the same tail as that of a correlation.
    10f64.powf(-minus_log10_p(square / (square + degrees_of_freedom), degrees_of_freedom)).min(1.0)
}

/// The t beyond which `p` lies on both sides together, by bisection; 1.96 for p = 0.05 and many degrees of freedom.
pub fn student_quantile(p: f64, degrees_of_freedom: f64) -> f64 {
    if degrees_of_freedom.is_nan() {
        return f64::NAN;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while student_p(high, degrees_of_freedom) > p && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if student_p(middle, degrees_of_freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1e-3), "{a} {b}");
    }

    const FOLDS: Layout =
        Layout { splits: 5, repetitions: 1, test_over_train: 0.25, clusters: 60.0, seed_degrees: 0.0 };

    #[test]
    fn student_is_that_of_the_tables() {
        // Tables; 4 and 30 degrees of freedom by the integral of the density (Simpson, Python).
        for (df, t) in [(1.0, 12.706204736), (4.0, 2.776445105), (30.0, 2.042272456), (1e6, 1.959966)] {
            near(student_quantile(0.05, df), t);
        }
        near(student_p(2.0, 4.0), 0.116116523517);
        near(student_p(-2.0, 30.0), 0.05462504496);
        assert_eq!(student_p(0.0, 4.0), 1.0);
        assert!(student_p(f64::NAN, 4.0).is_nan() && student_quantile(0.05, f64::NAN).is_nan());
    }

    #[test]
    fn folds_of_a_deterministic_model_have_nadeau_and_bengios_variance() {
        let v = Variances { tested: 0.2, split: 1.0, seeds_in_split: 0.0, seeds_common: 0.0, between: 1.0 };
        // split · (1/J + n_test/n_train)
        near(FOLDS.error(&v).se.powi(2), 1.0 / 5.0 + 0.25);
        assert!(FOLDS.error(&v).degrees_of_freedom > 290.0);
        // Four repetitions that say the same: the same variance.
        let four = Layout { splits: 20, repetitions: 4, ..FOLDS };
        near(four.error(&v).se.powi(2), 0.45);
        // Fits that vary far more than tested animals explain.
        let wild = Variances { between: 11.0, ..v };
        near(FOLDS.error(&wild).se.powi(2), 0.2 + 2.0);
        assert!(FOLDS.error(&wild).degrees_of_freedom < 5.0);
    }

    #[test]
    fn noise_of_seeds_averages_out_over_splits() {
        let v = Variances { tested: 0.2, split: 1.0, seeds_in_split: 1.0, seeds_common: 0.5, between: 1.4 };
        let replicated = Layout { seed_degrees: 20.0, ..FOLDS };
        near(replicated.error(&v).se.powi(2), 0.2 + 0.5 / 5.0);
        let negative = Variances { seeds_common: -0.1, ..v };
        near(replicated.error(&negative).se.powi(2), 0.2);
        // Repetitions that have nothing in common are noise of seeds.
        let four = Layout { splits: 20, repetitions: 4, ..FOLDS };
        let apart =
            Variances { tested: 0.05, split: 1.0, seeds_in_split: 0.0, seeds_common: 0.0, between: 1.0 };
        near(four.error(&apart).se.powi(2), 0.05);
    }

    #[test]
    fn few_clusters_let_the_splits_speak() {
        let few = Layout { clusters: 1.0, ..FOLDS };
        let v = Variances { tested: 0.0, split: 0.0, seeds_in_split: 0.0, seeds_common: 0.0, between: 1.0 };
        near(few.error(&v).se.powi(2), 0.45);
        near(few.error(&v).degrees_of_freedom, 4.0);
        let alone = Layout { splits: 1, ..few };
        assert!(alone.error(&Variances { between: f64::NAN, ..v }).se.is_nan());
    }
}
