//! Centring, scaling and missing calls, defined once for every product on every backend.

use crate::device::Coding;

/// How genotypes become G = Z Z' / c. A missing call counts as the mean: its entry in Z is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum Scaling {
    /// Z_ij = x_ij − 2p_j, c = Σ 2p_j(1−p_j) (VanRaden 2008, method 1).
    #[default]
    VanRaden1,
    /// Z_ij = (x_ij − 2p_j) / √(2p_j(1−p_j)), c = the number of polymorphic SNPs; monomorphic SNPs drop out
    /// (VanRaden 2008, method 2; off the diagonal also Yang 2011, eq. 3).
    VanRaden2,
    /// Z_ij = −2p_j², 2p_jq_j, −2q_j² for 0, 1 and 2 copies of the allele of frequency p_j = 1 − q_j,
    /// c = Σ (2p_jq_j)²: dominance deviations, uncorrelated with the additive values under Hardy-Weinberg
    /// proportions (Vitezica et al. 2013).
    Dominance,
}

impl Scaling {
    /// All scalings.
    pub const ALL: [Scaling; 3] = [Scaling::VanRaden1, Scaling::VanRaden2, Scaling::Dominance];

    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Scaling::VanRaden1 => "vanraden1",
            Scaling::VanRaden2 => "vanraden2",
            Scaling::Dominance => "dominance",
        }
    }

    /// The scaling of that name.
    pub fn named(name: &str) -> Option<Scaling> {
        Scaling::ALL.into_iter().find(|f| f.name() == name)
    }

    /// Whether Z is linear in the count of alleles, so that SNP effects are effects of one copy.
    pub fn is_additive(self) -> bool {
        self != Scaling::Dominance
    }

    /// The column of Z at a SNP whose counted allele has frequency `p` (NaN when no call was made).
    pub fn coding(self, p: f64) -> Coding {
        if !varies(p) {
            return [0.0; 4];
        }
        let (q, variance) = (1.0 - p, 2.0 * p * (1.0 - p));
        let scale = match self {
            Scaling::VanRaden1 => 1.0,
            Scaling::VanRaden2 => variance.sqrt().recip(),
            Scaling::Dominance => return [-2.0 * p * p, variance, -2.0 * q * q, 0.0],
        };
        let value = |count: f64| (count - 2.0 * p) * scale;
        [value(0.0), value(1.0), value(2.0), 0.0]
    }

    /// What the SNP adds to c.
    pub fn weight(self, p: f64) -> f64 {
        let variance = 2.0 * p * (1.0 - p);
        match self {
            _ if !varies(p) => 0.0,
            Scaling::VanRaden1 => variance,
            Scaling::VanRaden2 => 1.0,
            Scaling::Dominance => variance * variance,
        }
    }
}

/// Whether a SNP of this frequency shows both alleles; false for NaN.
fn varies(p: f64) -> bool {
    p > 0.0 && p < 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_have_mean_zero_and_the_variance_that_the_method_says() {
        let p: f64 = 0.3;
        let hardy_weinberg = [0.7 * 0.7, 2.0 * 0.3 * 0.7, 0.3 * 0.3];
        let v = 2.0 * p * (1.0 - p);
        for (scaling, variance) in
            [(Scaling::VanRaden1, v), (Scaling::VanRaden2, 1.0), (Scaling::Dominance, v * v)]
        {
            let z = scaling.coding(p);
            let mean: f64 = z.iter().zip(hardy_weinberg).map(|(z, f)| z * f).sum();
            let square: f64 = z.iter().zip(hardy_weinberg).map(|(z, f)| z * z * f).sum();
            assert!(mean.abs() < 1e-15 && (square - variance).abs() < 1e-15, "{scaling:?}");
            assert_eq!(z[3], 0.0, "missing is the mean");
            let additive: f64 =
                z.iter().zip(hardy_weinberg).zip(0..).map(|((z, f), x)| z * f * x as f64).sum();
            assert_eq!(additive.abs() > 1e-3, scaling.is_additive(), "{scaling:?} goes with the count");
        }
    }

    #[test]
    fn dominance_does_not_depend_on_which_allele_is_counted() {
        let (z, turned) = (Scaling::Dominance.coding(0.25), Scaling::Dominance.coding(0.75));
        assert_eq!([z[2], z[1], z[0]], [turned[0], turned[1], turned[2]]);
    }

    #[test]
    fn a_snp_without_variation_or_calls_drops_out() {
        for scaling in Scaling::ALL {
            for p in [0.0, 1.0, f64::NAN] {
                assert_eq!(scaling.coding(p), [0.0; 4]);
                assert_eq!(scaling.weight(p), 0.0);
            }
            assert_eq!(Scaling::named(scaling.name()), Some(scaling));
        }
    }
}
