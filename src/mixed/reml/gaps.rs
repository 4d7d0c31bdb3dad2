//! Restricted likelihoods of traits that lack few of the same animals' records, all by one reduction.
//!
//! T are animals with the design W, and a trait lacks the records of k of them. Its own likelihood is that of T with
//! one more fixed effect for each missing animal, a column of E, whatever stands in the place of its record: for the
//! recorded animals o
//!
//! log|V_oo| + log|W_o'V_oo⁻¹W_o| = log|V_T| + log|X'V_T⁻¹X|, X = [W, E],
//!
//! because E'V_T⁻¹E is the inverse of the Schur complement of V_oo, and y'Py is the same (Patterson & Thompson 1971: the
//! restricted likelihood is that of contrasts free of X). With the band of T, S G_TT S = Q B Q', A(h²) = h² B +
//! (1 − h²) I, F = Q'SE (n, k) and C = F'A⁻¹F,
//!
//! −2 log L = (ν_T − k) log σ²p + Σ log s + log|C| + η'Pη/σ²p + log|W'W|, P = A⁻¹ − A⁻¹F C⁻¹ F'A⁻¹,
//!
//! since log|X'X| = log|W'W| + log|F'F| and P's own determinant has −log|F'F|. Each level costs O(n k) by the factor
//! of the band, where a reduction for the trait alone costs O(n³).

use super::profile::{self, first_search, Point, Profile, Restricted, EDGE, IMPOSSIBLE};
use super::spectral::{indefinite, known, Level};
use super::{Estimate, Given, Spectral};
use crate::error::Result;
use crate::linalg::factor::{Cholesky, Eigen};
use crate::mixed::Group;
use ndarray::{concatenate, s, Array1, Array2, ArrayView1, Axis};

/// Least eigenvalue of F'F, what the effects of missing animals have free of W: below, digits would be lost.
const FREE: f64 = 1e-3;

/// Groups of traits whose animals are those of one reduction, but for gaps.
pub struct Gaps<'a> {
    spectral: &'a Spectral<'a>,
    columns: Array2<f64>, // F of every animal that a group lacks, (n, K)
    parts: Vec<Part<'a>>,
}

/// One group among the animals of the reduction.
struct Part<'a> {
    group: &'a Group,
    rows: Vec<usize>,    // of its records among those of the reduction, (n_o)
    missing: Vec<usize>, // its gaps among `columns`, (k)
    eta: Array2<f64>,    // η of its traits, (n, t)
}

/// Whether the identity holds for `group` among the animals of `all`, to nearly all digits: the same columns of the
/// design are independent, also without the group's gaps.
pub fn admits(all: &Group, group: &Group) -> Result<bool> {
    if !group.has_effects_of(all) {
        return Ok(false);
    }
    let gaps = gaps(all, group);
    if gaps.is_empty() || all.basis().ncols() == 0 {
        return Ok(true);
    }
    // F'F = I − Q_mQ_m' for the rows m of W's basis Q, and has the smallest eigenvalue of I − Q_m'Q_m.
    let q = all.basis().select(Axis(0), &gaps);
    let free = Eigen::new(Array2::eye(q.ncols()) - q.t().dot(&q))?.values[0];
    Ok(free > FREE)
}

impl<'a> Gaps<'a> {
    /// For `groups` without weights whose animals, rising, are among those of `spectral`, and that it [`admits`].
    pub fn new(spectral: &'a Spectral<'a>, groups: &[&'a Group]) -> Gaps<'a> {
        let all = spectral.group();
        let gaps: Vec<Vec<usize>> = groups.iter().map(|group| gaps(all, group)).collect();
        let mut missing = gaps.concat();
        missing.sort_unstable();
        missing.dedup();
        let mut units = Array2::zeros((all.animals().len(), missing.len()));
        missing.iter().enumerate().for_each(|(k, &row)| units[[row, k]] = 1.0);
        let part = |(&group, gaps): (&&'a Group, &Vec<usize>)| {
            let place = |row: &usize| missing.binary_search(row).expect("one of all gaps");
            let rows: Vec<usize> =
                (0..all.animals().len()).filter(|row| gaps.binary_search(row).is_err()).collect();
            let eta = spectral.rotated(filled(all, group, &rows));
            Part { group, rows, missing: gaps.iter().map(place).collect(), eta }
        };
        let parts = groups.iter().zip(&gaps).map(part).collect();
        Gaps { spectral, columns: spectral.rotated(units), parts }
    }

    /// The restricted maximum likelihood estimates of the traits of each group. Their own relationships are to be
    /// identified ([`Spectral::differs_without`]).
    pub fn estimates(&self) -> Vec<Vec<Estimate>> {
        let of_part = |(part, first): (&Part, Vec<Vec<(f64, Point)>>)| {
            let f = self.columns_of(part);
            let traits = part.eta.columns().into_iter().map(|eta| self.of(&f, eta)).zip(first);
            traits.map(|(of, first)| profile::estimate(&of, part.group, &first)).collect()
        };
        self.parts.iter().zip(self.first_points()).map(of_part).collect()
    }

    /// The likelihoods at given variances, one for each trait of each group.
    pub fn given(&self, given: &[&[Given]]) -> Vec<Vec<Estimate>> {
        let of_part = |(part, given): (&Part, &&[Given])| {
            let f = self.columns_of(part);
            let traits = part.eta.columns().into_iter().map(|eta| self.of(&f, eta)).zip(*given);
            traits.map(|(of, &given)| profile::given(&of, part.group, given)).collect()
        };
        self.parts.iter().zip(given).map(of_part).collect()
    }

    /// x = P(h²) y of the traits of group `i`, (n_o, t), for one h² a trait.
    ///
    /// # Errors
    /// An h² at which V is not positive definite.
    pub fn solve(&self, i: usize, h2: &[f64]) -> Result<Array2<f64>> {
        let part = &self.parts[i];
        let f = self.columns_of(part);
        let mut x = Array2::zeros(part.eta.dim());
        for ((eta, &h2), mut x) in part.eta.columns().into_iter().zip(h2).zip(x.columns_mut()) {
            let solved = self.of(&f, eta).at(known(h2), |at| at.solve(eta));
            x.assign(&solved.ok_or_else(|| indefinite(h2))?);
        }
        // Rounding, which small 1 − h² enlarge, leaves something at gaps and along W.
        let mut x = self.spectral.rotated_back(x.view()).select(Axis(0), &part.rows);
        part.group.project(&mut x);
        Ok(x)
    }

    /// The points of the first search of every trait of each group: one factor and one solution a level serve all.
    fn first_points(&self) -> Vec<Vec<Vec<(f64, Point)>>> {
        let etas = self.parts.iter().map(|part| part.eta.view());
        let blocks: Vec<_> = std::iter::once(self.columns.view()).chain(etas).collect();
        let block = concatenate(Axis(1), &blocks).expect("blocks of n rows");
        let mut points: Vec<_> = self.parts.iter().map(|part| vec![Vec::new(); part.eta.ncols()]).collect();
        for h2 in first_search(self.spectral.range(), EDGE) {
            let level = self.spectral.level(h2);
            let solved = level.map(|level| (level.factor.solve(block.view()), level));
            let mut first = self.columns.ncols();
            for (part, points) in self.parts.iter().zip(&mut points) {
                let found = solved.as_ref().and_then(|(solved, level)| {
                    let f = self.columns_of(part);
                    let at = At::new(self.spectral, level, &f, solved.select(Axis(1), &part.missing))?;
                    let z = solved.slice(s![.., first..first + part.eta.ncols()]);
                    let each = part.eta.columns().into_iter().zip(z.columns());
                    Some(each.map(|(eta, z)| at.terms(eta, z).point(None)).collect::<Vec<_>>())
                });
                let found = found.unwrap_or_else(|| vec![IMPOSSIBLE; points.len()]);
                points.iter_mut().zip(found).for_each(|(points, point)| points.push((h2, point)));
                first += part.eta.ncols();
            }
        }
        points
    }

    /// F of a group's gaps, (n, k).
    fn columns_of(&self, part: &Part) -> Array2<f64> {
        self.columns.select(Axis(1), &part.missing)
    }

    fn of<'b>(&'b self, f: &'b Array2<f64>, eta: ArrayView1<'b, f64>) -> Trait<'b> {
        Trait { spectral: self.spectral, f, eta }
    }
}

/// The likelihood of one trait with gaps.
struct Trait<'a> {
    spectral: &'a Spectral<'a>,
    f: &'a Array2<f64>, // (n, k)
    eta: ArrayView1<'a, f64>,
}

impl Trait<'_> {
    /// What `find` finds at an h²; nothing where V is not positive definite.
    fn at<T>(&self, h2: f64, find: impl FnOnce(&At) -> T) -> Option<T> {
        let level = self.spectral.level(h2)?;
        let z = level.factor.solve(self.f.view());
        At::new(self.spectral, &level, self.f, z).map(|at| find(&at))
    }
}

impl Profile for Trait<'_> {
    fn terms(&self, h2: f64) -> Option<Restricted> {
        self.at(h2, |at| at.terms(self.eta, at.unprojected(self.eta).view()))
    }

    /// With z = Pη: AI_ij = f_i'Pf_j / 2σ⁶p, f = Bz for σ²g and z for σ²e.
    fn information(&self, h2: f64, total: f64) -> Option<[f64; 3]> {
        self.at(h2, |at| {
            let z = at.solve(self.eta);
            let bz = self.spectral.band().times(z.view().insert_axis(Axis(1))).remove_axis(Axis(1));
            let (through, solved) = (at.solve(bz.view()), at.solve(z.view()));
            let half = 0.5 / total.powi(3);
            [half * bz.dot(&through), half * z.dot(&through), half * z.dot(&solved)]
        })
    }
}

/// A⁻¹ and P at one h², for one group.
struct At<'a> {
    spectral: &'a Spectral<'a>,
    level: &'a Level,
    z: Array2<f64>, // A⁻¹F, (n, k)
    c: Cholesky,    // of C = F'A⁻¹F
    d_logs: f64,    // the slope of log|C| in h²
}

impl<'a> At<'a> {
    /// With `z` = A⁻¹F; nothing where C is not positive definite.
    fn new(spectral: &'a Spectral<'a>, level: &'a Level, f: &Array2<f64>, z: Array2<f64>) -> Option<At<'a>> {
        let c = Cholesky::new(f.t().dot(&z)).ok()?;
        let trace = |of: Array2<f64>| c.solve(of.view()).diag().sum();
        let square = trace(z.t().dot(&z)); // tr C⁻¹Z'Z
        let through = match level.h2 {
            h2 if h2 > 0.0 => (z.ncols() as f64 - (1.0 - h2) * square) / h2,
            _ => trace(z.t().dot(&spectral.band().times(z.view()))),
        }; // tr C⁻¹Z'BZ
        Some(At { spectral, level, z, c, d_logs: -(through - square) })
    }

    /// A⁻¹v, (n).
    fn unprojected(&self, v: ArrayView1<f64>) -> Array1<f64> {
        self.level.factor.solve(v.insert_axis(Axis(1))).remove_axis(Axis(1))
    }

    /// Pv from `z` = A⁻¹v, (n).
    fn projected(&self, v: ArrayView1<f64>, z: ArrayView1<f64>) -> Array1<f64> {
        let along = self.z.t().dot(&v); // F'A⁻¹v, (k)
        let effects = self.c.solve(along.insert_axis(Axis(1)).view()).remove_axis(Axis(1));
        &z - &self.z.dot(&effects)
    }

    /// Pv, (n).
    fn solve(&self, v: ArrayView1<f64>) -> Array1<f64> {
        self.projected(v, self.unprojected(v).view())
    }

    /// The terms of the likelihood of records `eta`, `z` = A⁻¹η.
    fn terms(&self, eta: ArrayView1<f64>, z: ArrayView1<f64>) -> Restricted {
        let terms = self.spectral.terms(self.level, eta, self.projected(eta, z).view());
        Restricted {
            nu: terms.nu - self.z.ncols() as f64,
            logs: terms.logs + self.c.log_determinant(),
            d_logs: terms.d_logs + self.d_logs,
            ..terms
        }
    }
}

/// The rows of `all` whose animals a group lacks, rising.
fn gaps(all: &Group, group: &Group) -> Vec<usize> {
    let lacks = |animal: &usize| group.animals().binary_search(animal).is_err();
    all.animals().iter().enumerate().filter(|(_, animal)| lacks(animal)).map(|(row, _)| row).collect()
}

/// Records of a group at its `rows` of `all`, (n, t). At its gaps, where any number would do, stands what least squares
/// expect, so that nothing large is taken out again.
fn filled(all: &Group, group: &Group, rows: &[usize]) -> Array2<f64> {
    let mut y = Array2::zeros((all.animals().len(), group.traits()));
    for (t, mut y) in y.columns_mut().into_iter().enumerate() {
        let records = group.y();
        y.assign(&all.design().dot(&group.effects_of(records.column(t))));
        rows.iter().zip(records.column(t)).for_each(|(&row, &record)| y[row] = record);
    }
    y
}
