//! The mixed model's systems of all traits: S A S x = S W^½ y with A = W^½ (Σ_k σ²_k Z_k K_k Z_k') W^½ + σ²_e I in
//! records scaled by the roots of their weights.
//!
//! S takes out the (weighted) fixed effects of a group of traits ([`Projection`]); Z_k K_k Z_k' is an [`Effect`]. Solving
//! S A S x = S y gives P y at once: one column a trait, none for the fixed effects. Blocks are rows of records (of animals,
//! where each has one) shared out over ranks, (N_r, k), zero outside each trait's records.

mod effect;
mod incidence;
mod preconditioner;
mod projection;

pub use self::effect::Effect;
pub use self::incidence::Incidence;
pub use self::projection::{runs, Projection};

use self::preconditioner::Preconditioner;
use crate::error::Result;
use crate::linalg::pcg::Systems;
use crate::linalg::precondition::LowRank;
use crate::linalg::{Operator, Rows};
use crate::mixed::reml::Given;
use crate::mixed::Group;
use ndarray::{s, Array2, ArrayView2, Axis};

/// Columns multiplied at once where there may be many: bounds the memory to this many vectors.
pub const WIDTH: usize = 256;

/// G beside the fixed effects of groups of traits: K = S W^½ G W^½ S.
pub struct ProjectedG<'a> {
    /// G.
    pub operator: &'a dyn Operator,
    /// The groups' records.
    pub projection: Projection<'a>,
}

impl<'a> ProjectedG<'a> {
    /// G and the groups that share it.
    pub fn new(operator: &'a dyn Operator, groups: &'a [&'a Group]) -> Self {
        ProjectedG { operator, projection: Projection::new(operator.row_layout(), groups) }
    }

    /// K v of each column, which belongs to the group `of` and lies within S already, (n_r, k). Collective.
    pub fn times(&self, of: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.projection.through(of, block, |v| self.operator.apply(v))
    }

    /// The same to about six digits, where that is faster. Collective.
    pub fn times_quickly(&self, of: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.projection.through(of, block, |v| self.operator.apply_quickly(v))
    }

    /// S z of one group for a block z, (n_r, k). Collective.
    pub fn probes(&self, group: usize, z: ArrayView2<f64>) -> Array2<f64> {
        let (of, mut out) = (vec![group; z.ncols()], z.to_owned());
        self.projection.within(&of, &mut out);
        out
    }

    /// For every pair of groups tr(S_a W_a^½ G W_b^½ S_b), (groups, groups), which is tr K on the diagonal; exact.
    /// With `pairs` false only the diagonal is filled. Collective.
    pub fn traces(&self, pairs: bool) -> Array2<f64> {
        let (rows, count) = (self.projection.rows(), self.projection.groups().len());
        let diagonal = self.operator.diagonal();
        let bases: Vec<Array2<f64>> = (0..count).map(|g| self.projection.basis(g)).collect();
        let roots = |g: usize| self.projection.sqrt_weights(g);
        let mut out = Array2::zeros((count, count));
        for (a, along) in self.along(&bases) {
            for b in (0..count).filter(|&b| pairs || a == b) {
                // W_b^½ G W_a^½ Q_a on the animals of b
                let there = rows_times(&along, roots(b));
                let own: f64 = rows.dots(bases[a].view(), there.view()).into_iter().sum();
                out[[a, b]] -= own;
                out[[b, a]] -= own;
                if a <= b {
                    let both = rows.cross(bases[b].view(), there.view(), None)
                        * rows.cross(bases[b].view(), bases[a].view(), None);
                    let (of_a, of_b) = (roots(a), roots(b));
                    let weights = |i: usize| diagonal[i] * of_a[i] * of_b[i];
                    let sum = both.sum() + rows.sums(1, |i, sum| sum[0] += weights(i))[0];
                    out[[a, b]] += sum;
                    if a < b {
                        out[[b, a]] += sum;
                    }
                }
            }
        }
        out
    }

    /// Mean diagonal element of W^½ G_OO W^½ of every group. Collective.
    pub fn sizes(&self) -> Vec<f64> {
        let diagonal = self.operator.diagonal();
        let of = |g: usize| {
            let roots = self.projection.sqrt_weights(g);
            let sum = self.projection.rows().sums(1, |i, sum| sum[0] += diagonal[i] * roots[i] * roots[i])[0];
            sum / self.projection.count(g) as f64
        };
        (0..self.projection.groups().len()).map(of).collect()
    }

    /// G W^½ Q of every group, (n_r, rank), several groups in one product.
    fn along<'b>(&'b self, bases: &'b [Array2<f64>]) -> impl Iterator<Item = (usize, Array2<f64>)> + 'b {
        let ranks: Vec<usize> = bases.iter().map(|b| b.ncols()).collect();
        batches(&ranks).into_iter().flat_map(move |some| {
            let scaled: Vec<Array2<f64>> =
                some.clone().map(|a| rows_times(&bases[a], self.projection.sqrt_weights(a))).collect();
            let views: Vec<ArrayView2<f64>> = scaled.iter().map(|b| b.view()).collect();
            let all = ndarray::concatenate(Axis(1), &views).expect("blocks of n rows");
            let product = self.operator.apply(all.as_standard_layout().view());
            let mut first = 0;
            let cut: Vec<(usize, Array2<f64>)> = some
                .map(|a| {
                    let columns = first..first + ranks[a];
                    first = columns.end;
                    (a, product.slice(s![.., columns]).to_owned())
                })
                .collect();
            cut
        })
    }
}

/// What the columns of a system are.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The group of each column, (k).
    pub of: Vec<usize>,
    /// Variance of each random effect in each column, (effects, k).
    pub shares: Array2<f64>,
    /// Variance of the residual in each column, (k).
    pub residual: Vec<f64>,
}

impl Columns {
    /// One random effect with the share h² of the variance of each column, which belongs to the group `of`.
    pub fn of_one(of: Vec<usize>, h2: Vec<f64>) -> Columns {
        let residual = h2.iter().map(|h2| 1.0 - h2).collect();
        let shares = Array2::from_shape_vec((1, h2.len()), h2).expect("a share a column");
        Columns { of, shares, residual }
    }

    /// The traits of all groups, group after group.
    pub fn of_traits(given: &[Vec<Given>]) -> Columns {
        let of = given.iter().enumerate().flat_map(|(g, given)| vec![g; given.len()]).collect();
        Columns::of_one(of, given.iter().flatten().map(|g| g.h2).collect())
    }
}

/// The systems of many columns that share random effects.
pub struct MixedSystem<'a> {
    projection: Projection<'a>,
    effects: &'a [Effect<'a>],
    columns: Columns,
    preconditioner: Preconditioner<'a>,
}

impl<'a> MixedSystem<'a> {
    /// Effects of the records `rows` of groups. `low_rank` is nearly the relationships of the first effect: there it
    /// makes the preconditioner. Collective.
    pub fn new(
        (rows, groups): (Rows, &'a [&'a Group]),
        effects: &'a [Effect<'a>],
        columns: Columns,
        low_rank: Option<&'a LowRank>,
    ) -> Result<Self> {
        let projection = Projection::new(rows, groups);
        let preconditioner = Preconditioner::new(low_rank, &projection, effects, &columns)?;
        Ok(MixedSystem { projection, effects, columns, preconditioner })
    }

    /// The groups' records.
    pub fn projection(&self) -> &Projection<'a> {
        &self.projection
    }

    /// The group of each column.
    pub fn group_of_columns(&self) -> &[usize] {
        &self.columns.of
    }

    /// From solutions x, (N_r, k), W^½ x. Rows without a record are zero.
    pub fn weighted(&self, x: ArrayView2<f64>) -> Array2<f64> {
        self.projection.weighted(&self.columns.of, x)
    }

    /// S A S v.
    fn times(&self, columns: &[usize], block: ArrayView2<f64>, quick: bool) -> Array2<f64> {
        let of: Vec<usize> = columns.iter().map(|&c| self.columns.of[c]).collect();
        let residual: Vec<f64> = columns.iter().map(|&c| self.columns.residual[c]).collect();
        let share = |effect: usize| -> Vec<f64> {
            columns.iter().map(|&c| self.columns.shares[[effect, c]]).collect()
        };
        // v lies within the projection already.
        let inner = self.projection.weighted(&of, block);
        let mut out = self.effects[0].times(inner.view(), quick);
        let mut first = share(0);
        if self.effects.len() > 1 {
            let first_shares = std::mem::replace(&mut first, vec![1.0; columns.len()]);
            Rows::for_each(&mut out, |_, row| row.iter_mut().zip(&first_shares).for_each(|(x, s)| *x *= s));
            for (e, effect) in self.effects.iter().enumerate().skip(1) {
                let (more, shares) = (effect.times(inner.view(), quick), share(e));
                Rows::for_each(&mut out, |i, row| {
                    row.iter_mut().zip(more.row(i)).zip(&shares).for_each(|((x, m), s)| *x += s * m);
                });
            }
        }
        self.projection.weigh_and_add(&of, &mut out, (&first, &residual), block);
        self.projection.project(&of, &mut out);
        out
    }
}

impl Systems for MixedSystem<'_> {
    fn rows(&self) -> &Rows {
        self.projection.rows()
    }

    fn apply(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, false)
    }

    fn apply_quickly(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        self.times(columns, block, true)
    }

    fn precondition(&self, columns: &[usize], block: ArrayView2<f64>) -> Array2<f64> {
        let mut out = self.preconditioner.solve(&self.projection, columns, block);
        let of: Vec<usize> = columns.iter().map(|&c| self.columns.of[c]).collect();
        self.projection.project(&of, &mut out);
        out
    }
}

/// Consecutive items in batches whose sizes sum to at most [`WIDTH`], or of one larger item.
pub fn batches(sizes: &[usize]) -> Vec<std::ops::Range<usize>> {
    let (mut out, mut first, mut sum) = (Vec::new(), 0, 0);
    for (i, size) in sizes.iter().enumerate() {
        if i > first && sum + size > WIDTH {
            out.push(first..i);
            (first, sum) = (i, 0);
        }
        sum += size;
    }
    if first < sizes.len() {
        out.push(first..sizes.len());
    }
    out
}

/// Each row of a block times a number.
pub fn rows_times(block: &Array2<f64>, factors: &[f64]) -> Array2<f64> {
    let mut out = block.as_standard_layout().into_owned();
    Rows::for_each(&mut out, |i, row| row.iter_mut().for_each(|x| *x *= factors[i]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixed::tests::{groups, herd, N};
    use crate::records::Factor;
    use ndarray::Array1;

    /// S W^½ restricted to the animals, (N, N).
    fn narrowing(projection: &Projection, group: usize) -> Array2<f64> {
        let of = vec![group; N];
        let mut all = projection.weighted(&of, Array2::eye(N).view());
        projection.project(&of, &mut all);
        all
    }

    #[test]
    fn products_and_traces_are_those_of_the_matrices() {
        let (g, y) = herd();
        let owned = groups(&y, true);
        let refs: Vec<&Group> = owned.iter().collect();
        let projected = ProjectedG::new(&g, &refs);
        let narrow: Vec<Array2<f64>> = (0..refs.len()).map(|g| narrowing(&projected.projection, g)).collect();
        for (group, narrow) in refs.iter().zip(&narrow) {
            // S W^½ by its definition
            let mut want = Array2::zeros((N, N));
            let q = group.basis();
            for (i, &a) in group.animals().iter().enumerate() {
                for (k, &b) in group.animals().iter().enumerate() {
                    let s = f64::from(u8::from(i == k)) - q.row(i).dot(&q.row(k));
                    want[[a, b]] = s / group.inverse_weight(k).sqrt();
                }
            }
            assert!((narrow - &want).iter().all(|d| d.abs() < 1e-12));
        }
        let traces = projected.traces(true);
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let want = narrow[a].dot(&g).dot(&narrow[b].t()).diag().sum();
            assert!((traces[[a, b]] / want - 1.0).abs() < 1e-10, "{a} {b}: {} {want}", traces[[a, b]]);
        }
        assert_eq!(projected.traces(false)[[0, 1]], 0.0);
        let v = projected.projection.records_projected();
        let got = projected.times(&[0, 1, 1], v.view());
        for (k, a) in [0, 1, 1].into_iter().enumerate() {
            let want = narrow[a].dot(&g).dot(&narrow[a].t()).dot(&v.column(k));
            assert!((&got.column(k) - &want).iter().all(|d| d.abs() < 1e-9));
        }
    }

    #[test]
    fn an_absorbed_class_is_projected_as_its_group_says() {
        let (g, y) = herd();
        for weighted in [false, true] {
            let plain = groups(&y, weighted);
            let class = |group: &Group| {
                let names: Vec<String> = group.rows().iter().map(|i| format!("h{}", i * i % 7)).collect();
                Factor::new("herd", names.iter().map(String::as_str))
            };
            let owned: Vec<Group> =
                plain.into_iter().map(|g| (class(&g), g)).map(|(f, g)| g.absorbing(f)).collect();
            let refs: Vec<&Group> = owned.iter().collect();
            let projection = Projection::new(g.row_layout(), &refs);
            let of = [0, 1, 1];
            let mut v = Array2::from_shape_fn((N, 3), |(i, k)| ((i * 5 + k * 3) % 11) as f64 - 5.0);
            projection.mask(&of, &mut v);
            let mut found = v.clone();
            projection.project(&of, &mut found);
            for (k, &group) in of.iter().enumerate() {
                let mut want = v.select(Axis(0), refs[group].rows()).select(Axis(1), &[k]);
                refs[group].project(&mut want);
                let got = found.select(Axis(0), refs[group].rows());
                assert!((&got.column(k) - &want.column(0)).iter().all(|d| d.abs() < 1e-12));
            }
        }
    }

    #[test]
    fn a_preconditioner_inverts_what_it_takes_for_a() {
        let (g, y) = herd();
        for weighted in [false, true] {
            let owned = groups(&y, weighted);
            let refs: Vec<&Group> = owned.iter().collect();
            let low_rank = LowRank::sketch(&g, 25, 1).unwrap();
            let (h2, of) = ([0.3, 0.3, 0.9, 0.0], [0, 1, 1, 1]);
            let columns = Columns::of_one(of.to_vec(), h2.to_vec());
            let (projection, effects) = (Projection::new(g.row_layout(), &refs), [Effect::of_rows(&g)]);
            let preconditioner =
                Preconditioner::new(Some(&low_rank), &projection, &effects, &columns).unwrap();
            let mut v = Array2::from_shape_fn((N, 4), |(i, k)| ((i * 5 + k * 3) % 11) as f64 - 5.0);
            projection.mask(&of, &mut v);
            let found = preconditioner.solve(&projection, &[0, 1, 2, 3], v.view());
            for (k, &a) in h2.iter().enumerate() {
                let roots = projection.sqrt_weights(of[k]);
                // G as B B' + T has it, T of records of one weight as their mean
                let scaled = &found.column(k) * &ndarray::aview1(roots);
                let low = low_rank.outward(low_rank.inward(scaled.insert_axis(Axis(1)).view()).view());
                let t: Vec<f64> = roots.iter().zip(low_rank.rest()).map(|(s, t)| s * s * t).collect();
                let mean = t.iter().sum::<f64>() / projection.count(of[k]) as f64;
                let rest = Array1::from_iter(t.iter().map(|&t| if weighted { t } else { mean }));
                let again =
                    &low.column(0) * &ndarray::aview1(roots) * a + &found.column(k) * &(rest * a + (1.0 - a));
                assert!((&again - &v.column(k)).iter().all(|d| d.abs() < 1e-8), "column {k}");
            }
        }
    }

    /// Z K Z' of records in two environments, two of an animal, beside a class.
    #[test]
    fn effects_of_repeated_records_multiply_as_their_matrices() {
        let (g, _) = herd();
        let records = 2 * N - 10;
        let animal_of: Vec<usize> = (0..records).map(|i| i * 7 % N).collect();
        let level_of: Vec<usize> = (0..records).map(|i| i * 5 % 3).collect();
        let z = |of: &[usize], columns: usize| {
            Array2::from_shape_fn((records, columns), |(i, c)| f64::from(u8::from(of[i] == c)))
        };
        let (za, zc) = (z(&animal_of, N), z(&level_of, 3));
        let (of_animals, of_class) = (za.dot(&g).dot(&za.t()), zc.dot(&zc.t()));
        let rows = Rows::alone(records);
        let effects = [
            (Effect::of_animals(&rows, &g, &animal_of), of_animals.clone(), g.dot(&za.t())),
            (Effect::of_class(&rows, &level_of, 3), of_class.clone(), zc.t().to_owned()),
            (
                Effect::within_class(&rows, (&g, &animal_of), (&level_of, 3)),
                &of_animals * &of_class,
                ndarray::concatenate(
                    Axis(0),
                    &(0..3)
                        .map(|l| {
                            let own = Array2::from_shape_fn((records, N), |(i, c)| {
                                za[[i, c]] * f64::from(u8::from(level_of[i] == l))
                            });
                            g.dot(&own.t())
                        })
                        .collect::<Vec<_>>()
                        .iter()
                        .map(|a| a.view())
                        .collect::<Vec<_>>(),
                )
                .unwrap(),
            ),
        ];
        let v = Array2::from_shape_fn((records, 2), |(i, k)| ((i * 5 + k * 3) % 11) as f64 - 5.0);
        for (effect, matrix, levels) in &effects {
            assert!((effect.times(v.view(), false) - matrix.dot(&v)).iter().all(|d| d.abs() < 1e-9));
            assert!((effect.solutions(v.view()) - levels.dot(&v)).iter().all(|d| d.abs() < 1e-9));
            let diagonal = effect.diagonal();
            assert!((0..records).all(|i| (diagonal[i] - matrix[[i, i]]).abs() < 1e-12));
        }
    }

    #[test]
    fn batches_hold_all_in_order() {
        assert_eq!(batches(&[200, 56, 1, 500, 3]), [0..2, 2..3, 3..4, 4..5]);
        assert!(batches(&[]).is_empty());
    }
}
