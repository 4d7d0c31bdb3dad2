//! What a difference from the reference says, trait by trait and over the traits.

use crate::evaluate::cells::Comparison;
use crate::evaluate::comparisons::Difference;

/// Share of false ones that is allowed among the differences that are called better or worse.
pub const FALSE_DISCOVERIES: f64 = 0.05;

/// What r of a model says beside that of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Verdict {
    /// r is larger, at q < 0.05.
    Better,
    /// r is smaller, at q < 0.05.
    Worse,
    /// The 95 % interval of the difference lies within ± margin: it may exist, but does not matter.
    Level,
    /// Both predict the same but for rounding.
    Equal,
    /// Nothing was shown.
    Undecided,
    /// r of neither is above 0 at two standard errors: there is nothing to compare.
    NotPredicted,
    /// One of the two has no r.
    NoScore,
}

impl Verdict {
    /// All, in the order in which they are counted.
    pub const ALL: [Verdict; 7] = [
        Verdict::Better,
        Verdict::Worse,
        Verdict::Level,
        Verdict::Equal,
        Verdict::Undecided,
        Verdict::NotPredicted,
        Verdict::NoScore,
    ];

    /// Its place in [`Verdict::ALL`].
    pub fn place(self) -> usize {
        Verdict::ALL.iter().position(|v| *v == self).expect("all are listed")
    }

    /// In tables and on the page.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Level => "level",
            Verdict::Equal => "equal",
            Verdict::Undecided => "undecided",
            Verdict::NotPredicted => "not predicted",
            Verdict::NoScore => "no r",
        }
    }

    /// From the difference in r, r of model and reference with their standard errors, and the margin, 0 to 1.
    /// A difference too small to matter is level, however sure it is.
    pub fn of(d: &Difference, r: [(f64, f64); 2], margin: f64) -> Verdict {
        let above_0 = |(r, se): (f64, f64)| r > 2.0 * se;
        if !r.iter().any(|r| above_0(*r)) {
            Verdict::NotPredicted
        } else if !d.difference.is_finite() {
            Verdict::NoScore
        } else if d.is_tie() {
            Verdict::Equal
        } else if d.low > -margin && d.high < margin {
            Verdict::Level
        } else if d.q < FALSE_DISCOVERIES {
            if d.difference > 0.0 {
                Verdict::Better
            } else {
                Verdict::Worse
            }
        } else {
            Verdict::Undecided
        }
    }
}

/// How many comparisons there are of each verdict, in the order of [`Verdict::ALL`].
pub fn count<'a>(comparisons: impl IntoIterator<Item = &'a Comparison>) -> [usize; 7] {
    let mut counts = [0; 7];
    for c in comparisons {
        counts[c.verdict.place()] += 1;
    }
    counts
}

/// q of each p: the smallest share of false discoveries at which it would be one (Benjamini & Hochberg 1995, J R Stat Soc
/// B 57:289). NaN stays NaN and does not count.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let (count, mut least) = (order.len() as f64, 1.0f64);
    let mut q = vec![f64::NAN; p.len()];
    for (above, &i) in order.iter().enumerate() {
        least = least.min(p[i] * count / (count - above as f64));
        q[i] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_is_that_of_the_published_example() {
        // Benjamini & Hochberg (1995), section 3.2: of 15 p four are rejected at 0.05. q: R, p.adjust(p, "BH").
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        let q = benjamini_hochberg(&p);
        assert_eq!(q.iter().filter(|q| **q < 0.05).count(), 4);
        for (k, wanted) in [(0, 0.0015), (1, 0.003), (2, 0.0095), (3, 0.035625), (4, 0.0603), (14, 1.0)] {
            assert!((q[k] - wanted).abs() < 1e-12, "{k}: {}", q[k]);
        }
        // 0.0278 · 15/6 = 0.0695 and 0.0298 · 15/7 = 0.063857, which is less.
        assert!((q[5] - 0.0298 * 15.0 / 7.0).abs() < 1e-12);
        let q = benjamini_hochberg(&[f64::NAN, 0.02, 0.01]);
        assert!(q[0].is_nan() && q[1] == 0.02 && q[2] == 0.02);
        assert!(benjamini_hochberg(&[]).is_empty());
    }

    #[test]
    fn verdicts_follow_from_interval_q_and_what_is_predicted() {
        let difference = |difference: f64, half: f64, q: f64| {
            let (low, high) = (difference - half, difference + half);
            Difference { difference, se: half / 2.0, low, high, p: q, q }
        };
        let sure = [(0.4, 0.05), (0.3, 0.05)];
        for (d, wanted) in [
            (difference(0.1, 0.04, 0.01), Verdict::Better),
            (difference(-0.1, 0.04, 0.01), Verdict::Worse),
            // Sure of one trait, but not among many.
            (difference(0.1, 0.04, 0.2), Verdict::Undecided),
            (difference(0.005, 0.01, 0.3), Verdict::Level),
            (difference(0.01, 0.001, 1e-9), Verdict::Level),
            (difference(0.01, 0.03, 0.5), Verdict::Undecided),
            (difference(1e-16, 1e-16, 1.0), Verdict::Equal),
            (difference(f64::NAN, f64::NAN, f64::NAN), Verdict::NoScore),
        ] {
            assert_eq!(Verdict::of(&d, sure, 0.02), wanted, "{d:?}");
        }
        let chance = [(0.09, 0.05), (-0.01, 0.05)];
        assert_eq!(Verdict::of(&difference(0.1, 0.04, 0.001), chance, 0.02), Verdict::NotPredicted);
        let one = [(0.4, 0.05), (-0.01, 0.05)];
        assert_eq!(Verdict::of(&difference(0.1, 0.04, 0.001), one, 0.02), Verdict::Better);
        let none = [(f64::NAN, f64::NAN); 2];
        assert_eq!(Verdict::of(&difference(f64::NAN, 0.0, 1.0), none, 0.02), Verdict::NotPredicted);
        // A sure difference that matters is no longer level with a smaller margin.
        assert_eq!(Verdict::of(&difference(0.01, 0.001, 1e-9), sure, 0.005), Verdict::Better);
    }
}
