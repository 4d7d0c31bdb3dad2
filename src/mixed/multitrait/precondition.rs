//! V of all traits with G ≈ B B' + T: each animal alone, and B ⊗ L between animals.
//!
//! One sketch of G ([`LowRank`]) with r columns serves all traits. D is V of each animal alone with T for G, the same
//! for animals alike ([`Patterns`]), U has the rows √w_i b_i ⊗ L of recorded traits, and the inverse of D + U U' is
//! D⁻¹ − D⁻¹U (I + U'D⁻¹U)⁻¹ U'D⁻¹ (Woodbury 1950), where U'D⁻¹U is the sum over patterns of L'D_p⁻¹L ⊗ B_p'W_pB_p.
//! Where every animal with a record has all, L'D⁻¹L is diagonal and so the K factors do not meet.

use super::patterns::{weights, Patterns};
use crate::error::Result;
use crate::linalg::factor::Cholesky;
use crate::linalg::precondition::{self, LowRank};
use crate::linalg::{product, Operator};
use crate::mixed::solve::CgSettings;
use crate::mixed::system::rows_times;
use ndarray::{s, Array1, Array2, Axis};

/// Rows of the small matrix, r K, that are inverted at most unless the user asks for more: 134 MB.
const LARGEST: usize = 4096;

/// An approximate inverse of V.
#[derive(Debug)]
pub struct Preconditioner {
    low_rank: LowRank,
    patterns: Patterns,
    scale: Vec<f64>, // √w of each animal, (n_r); zero without a record and in rare patterns
    recorded: Array2<f64>, // one where there is a record, else zero, (n_r, t)
    factor: Array2<f64>, // L, (t, K)
    inner: Vec<Cholesky>, // of I + U'D⁻¹U: one of (r K, r K), or K of (r, r)
}

impl Preconditioner {
    /// For records of weights `roots`², this rank's rows (n_r, t), of which none is where that is zero. Collective.
    pub fn new(
        operator: &dyn Operator,
        roots: &Array2<f64>,
        (factor, residual): (&Array2<f64>, &Array2<f64>),
        settings: &CgSettings,
    ) -> Result<Preconditioner> {
        let (rows, t) = (operator.row_layout(), roots.ncols());
        let complete = |r: ndarray::ArrayView1<f64>| r.iter().filter(|x| **x > 0.0).count() % t == 0;
        let mut gaps = [i64::from(!roots.rows().into_iter().all(complete))];
        rows.world().max(&mut gaps);
        let (n, even) = (rows.total(), gaps[0] == 0);
        let rank = settings.rank.unwrap_or_else(|| rank(n, factor.ncols(), even)).min(n);
        let low_rank = LowRank::sketch(operator, rank, settings.seed)?;
        let weights = weights(roots);
        let rest: Vec<f64> = low_rank.rest().iter().zip(&weights).map(|(t, w)| t * w).collect();
        let patterns = Patterns::new(&rows, roots, &weights, &rest, (factor, residual))?;
        let mut scale = vec![0.0; rows.count()];
        for &i in patterns.all.iter().filter(|p| p.exact).flat_map(|p| &p.animals) {
            scale[i] = weights[i].sqrt();
        }
        let recorded = roots.mapv(|r| if r > 0.0 { 1.0 } else { 0.0 });
        let inner = inner(&low_rank, &patterns, &weights, factor)?;
        Ok(Preconditioner { low_rank, patterns, scale, recorded, factor: factor.clone(), inner })
    }

    /// The rank of the sketch.
    pub fn rank(&self) -> usize {
        self.low_rank.rank()
    }

    /// The inverse times a block, (n_r, t), which is zero where there is no record. Collective.
    pub fn solve(&self, block: Array2<f64>) -> Array2<f64> {
        let mut out = self.patterns.solve(&block) * &self.recorded;
        if self.rank() == 0 {
            return out;
        }
        let along =
            self.low_rank.inward(product(rows_times(&out, &self.scale).view(), self.factor.view()).view()); // (r, K)
        let (r, k) = along.dim();
        let solved = match &self.inner[..] {
            [whole] if k > 1 => {
                let flat: Array2<f64> =
                    along.t().iter().copied().collect::<Array1<f64>>().insert_axis(Axis(1));
                let solved = whole.solve(flat.view());
                Array2::from_shape_fn((r, k), |(a, f)| solved[[f * r + a, 0]])
            }
            each => {
                let mut solved = along.clone();
                for ((f, mut column), inner) in solved.columns_mut().into_iter().enumerate().zip(each) {
                    column.assign(&inner.solve(along.slice(s![.., f..=f])).column(0));
                }
                solved
            }
        };
        let back = product(self.low_rank.outward(solved.view()).view(), self.factor.t());
        let back = rows_times(&back, &self.scale) * &self.recorded;
        out -= &(self.patterns.solve(&back) * &self.recorded);
        out
    }
}

/// The rank of the sketch of G where the user has no wish: that of K single traits, as far as the small matrix allows.
fn rank(n: usize, factors: usize, even: bool) -> usize {
    let alone = precondition::rank(n, factors);
    if even {
        alone
    } else {
        alone.min(LARGEST / factors)
    }
}

/// The factors of I + U'D⁻¹U.
fn inner(
    low_rank: &LowRank,
    patterns: &Patterns,
    weights: &[f64],
    factor: &Array2<f64>,
) -> Result<Vec<Cholesky>> {
    let (r, k) = (low_rank.rank(), factor.ncols());
    if r == 0 {
        return Ok(Vec::new());
    }
    let apart = patterns.all.iter().all(|p| p.exact && p.columns.len() == factor.nrows());
    let blocks = if apart { k } else { 1 };
    let mut out = vec![Array2::eye(r * k / blocks); blocks];
    for pattern in patterns.all.iter().filter(|p| p.exact) {
        let mut own = vec![0.0; weights.len()];
        pattern.animals.iter().for_each(|&i| own[i] = weights[i]);
        let (gram, between) = (low_rank.gram(&own), pattern.between(factor));
        for f in 0..k {
            if apart {
                out[f].scaled_add(between[[f, f]], &gram);
                continue;
            }
            // The lower triangle is all that is read.
            for g in 0..=f {
                let mut place = out[0].slice_mut(s![f * r..(f + 1) * r, g * r..(g + 1) * r]);
                place.scaled_add(between[[f, g]], &gram);
            }
        }
    }
    out.into_iter().map(Cholesky::new).collect()
}
