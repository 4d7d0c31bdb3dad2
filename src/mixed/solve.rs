//! The solvers: x = P y for given h², by Cholesky or by conjugate gradients. The third, by eigenvalues, is
//! [`crate::mixed::reml::Spectral::solve`].

use crate::error::{Error, Result};
use crate::grm::Markers;
use crate::linalg::factor::Cholesky;
use crate::linalg::pcg::{self, Info, Params, Systems};
use crate::linalg::Operator;
use crate::mixed::reml::Given;
use crate::mixed::{Estimate, Group};
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, Axis};

/// G as the product of the packed genotypes of all ranks.
impl Operator for Markers {
    fn dimension(&self) -> usize {
        self.n()
    }

    fn apply(&self, block: ArrayView2<f64>) -> Array2<f64> {
        self.grm_times(block)
    }

    fn diagonal(&self) -> Vec<f64> {
        Markers::diagonal(self)
    }
}

/// x = P y, (n_o, t), of one group by a Cholesky factor for every distinct h², with the likelihoods.
pub fn cholesky(g: ArrayView2<f64>, group: &Group, given: &[Given]) -> Result<(Vec<Estimate>, Array2<f64>)> {
    let relationships = group.relationships(g);
    by_h2(group, given, |y, h2| one_h2(&relationships, group, y, h2))
}

/// The same by any way of solving for one h²: `solve` gives log|A| + log|X'A⁻¹X| and P y of scaled records.
pub(super) fn by_h2(
    group: &Group,
    given: &[Given],
    solve: impl Fn(Array2<f64>, f64) -> Result<(f64, Array2<f64>)>,
) -> Result<(Vec<Estimate>, Array2<f64>)> {
    let y = group.scaled(group.y());
    let mut x = Array2::zeros(y.dim());
    let mut estimates: Vec<Option<Estimate>> = vec![None; given.len()];
    for t in 0..given.len() {
        if estimates[t].is_some() {
            continue;
        }
        let same: Vec<usize> = (t..given.len()).filter(|&u| given[u].h2 == given[t].h2).collect();
        let (logs, solved) = solve(y.select(Axis(1), &same), given[t].h2)?;
        for (&u, solved) in same.iter().zip(solved.columns()) {
            let quadratic = y.column(u).dot(&solved);
            estimates[u] = Some(likelihood(group, given[u], quadratic, logs));
            x.column_mut(u).assign(&solved);
        }
    }
    let estimates = estimates.into_iter().map(|e| e.expect("every trait has a h2")).collect();
    Ok((estimates, group.scaled(x.view())))
}

/// log|A| + log|X'A⁻¹X| and P y of the scaled records `y` for one h².
fn one_h2(relationships: &Array2<f64>, group: &Group, y: Array2<f64>, h2: f64) -> Result<(f64, Array2<f64>)> {
    let mut a = relationships * h2;
    a.diag_mut().mapv_inplace(|d| d + 1.0 - h2);
    let a = Cholesky::new(a)?;
    without_fixed(group, a.log_determinant(), a.solve(y.view()), a.solve(group.basis()).view())
}

/// From log|A|, A⁻¹y and A⁻¹Q, (n_o, rank), to log|A| + log|X'A⁻¹X| and P y.
pub(super) fn without_fixed(
    group: &Group,
    log_determinant: f64,
    mut x: Array2<f64>,
    aq: ArrayView2<f64>,
) -> Result<(f64, Array2<f64>)> {
    let small = Cholesky::new(group.basis().t().dot(&aq))?;
    let b = small.solve(group.basis().t().dot(&x).view()); // (rank, t)
    x -= &aq.dot(&b);
    Ok((log_determinant + small.log_determinant() + group.log_design(), x))
}

/// The restricted likelihood from y'Py and the log-determinants of the scaled system.
fn likelihood(group: &Group, given: Given, quadratic: f64, logs: f64) -> Estimate {
    let nu = group.freedom() as f64;
    let total = given.total.unwrap_or(quadratic / nu);
    let twice = nu * total.ln() + logs - group.log_weights() + quadratic / total;
    Estimate::given(group.animals().len(), given.h2, total, -0.5 * twice)
}

/// x = P y of all groups in one block of conjugate gradients, each (n_o, t), with estimates without likelihood.
///
/// Solved is S A S x = S y with S = I − QQ' (Q spans the weighted fixed effects), which gives P y at once: one
/// column a trait, none for the fixed effects. Collective as the operator is.
pub fn conjugate_gradients(
    operator: &dyn Operator,
    groups: &[&Group],
    given: &[Vec<Given>],
    params: Params,
) -> Result<Vec<(Vec<Estimate>, Array2<f64>)>> {
    let systems = Projected::new(operator, groups, given);
    let b = systems.right_hand_sides();
    let (x, info) = pcg::solve(&systems, b.view(), params);
    check(&info)?;
    let (mut solved, mut first) = (Vec::new(), 0);
    for (group, given) in groups.iter().zip(given) {
        let rows = x.select(Axis(0), group.animals());
        let rows = rows.slice(ndarray::s![.., first..first + given.len()]).to_owned();
        let x = group.scaled(rows.view());
        let total = |t: usize| group.y().column(t).dot(&x.column(t)) / group.freedom() as f64;
        let estimate = |(t, g): (usize, &Given)| {
            Estimate::given(group.animals().len(), g.h2, g.total.unwrap_or_else(|| total(t)), f64::NAN)
        };
        let estimates = given.iter().enumerate().map(estimate).collect();
        solved.push((estimates, x));
        first += given.len();
    }
    Ok(solved)
}

/// Residuals of up to 1e-8 are good enough for predictions; beyond, the result would mislead.
fn check(info: &Info) -> Result<()> {
    let worst = info.residuals.iter().copied().fold(0.0, f64::max);
    log::info!("conjugate gradients: {} products, largest residual {worst:.1e}", info.iterations);
    if worst <= 1e-8 {
        return Ok(());
    }
    Err(Error::failed(
        "conjugate gradients",
        format!("stopped at a residual of {worst:.1e} after {} products", info.iterations),
        "check for a heritability near 1, or use --solver cholesky",
    ))
}

/// The projected systems of all traits; blocks are (n, k), zero outside each trait's animals.
struct Projected<'a> {
    operator: &'a dyn Operator,
    groups: &'a [&'a Group],
    columns: Vec<(usize, f64)>,  // group and h² of every column
    diagonals: Vec<Array1<f64>>, // w g_ii of every group, (n_o)
}

impl<'a> Projected<'a> {
    fn new(operator: &'a dyn Operator, groups: &'a [&'a Group], given: &[Vec<Given>]) -> Self {
        let columns =
            |(g, given): (usize, &Vec<Given>)| given.iter().map(move |t| (g, t.h2)).collect::<Vec<_>>();
        let diagonal = operator.diagonal();
        let of = |group: &&Group| {
            group.animals().iter().enumerate().map(|(i, &a)| diagonal[a] / group.noise(i)).collect()
        };
        Projected {
            operator,
            groups,
            columns: given.iter().enumerate().flat_map(columns).collect(),
            diagonals: groups.iter().map(of).collect(),
        }
    }

    /// S W^½ y, (n, t).
    fn right_hand_sides(&self) -> Array2<f64> {
        let mut out = Array2::zeros((self.operator.dimension(), self.columns.len()));
        let mut first = 0;
        for group in self.groups {
            let mut y = group.scaled(group.y());
            group.project(&mut y);
            for (&a, row) in group.animals().iter().zip(y.rows()) {
                out.slice_mut(ndarray::s![a, first..first + group.traits()]).assign(&row);
            }
            first += group.traits();
        }
        out
    }

    /// For every column: takes its animals' rows of `block`, changes them, projects, and puts them back.
    fn on_rows(
        &self,
        columns: &[usize],
        block: &mut Array2<f64>,
        change: impl Fn(usize, f64, &Group, usize, &mut Array1<f64>),
    ) {
        for (k, &c) in columns.iter().enumerate() {
            let (g, h2) = self.columns[c];
            let group = self.groups[g];
            let mut rows: Array1<f64> = group.animals().iter().map(|&a| block[[a, k]]).collect();
            change(g, h2, group, k, &mut rows);
            let mut rows = rows.insert_axis(Axis(1));
            group.project(&mut rows);
            let mut column = block.column_mut(k);
            column.fill(0.0);
            put(group, rows.index_axis(Axis(1), 0).iter().copied(), &mut column);
        }
    }
}

fn put(group: &Group, rows: impl Iterator<Item = f64>, column: &mut ArrayViewMut1<f64>) {
    for (&a, x) in group.animals().iter().zip(rows) {
        column[a] = x;
    }
}

impl Systems for Projected<'_> {
    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        // W^½ v; v lies within the projection already.
        let mut inner = block.to_owned();
        for (k, &c) in columns.iter().enumerate() {
            let group = self.groups[self.columns[c].0];
            for (i, &a) in group.animals().iter().enumerate() {
                inner[[a, k]] /= group.noise(i).sqrt();
            }
        }
        let mut out = self.operator.apply(inner.view());
        self.on_rows(columns, &mut out, |_, h2, group, k, rows| {
            for (i, (x, &a)) in rows.iter_mut().zip(group.animals()).enumerate() {
                *x = h2 * *x / group.noise(i).sqrt() + (1.0 - h2) * block[[a, k]];
            }
        });
        out
    }

    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = block.to_owned();
        self.on_rows(columns, &mut out, |g, h2, _, _, rows| {
            for (x, d) in rows.iter_mut().zip(&self.diagonals[g]) {
                *x /= h2 * d + 1.0 - h2;
            }
        });
        out
    }
}
