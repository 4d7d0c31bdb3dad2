//! A class effect's levels: herd-years, environments, the animals themselves.

use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeMap;

/// Columns of which less than this share is left within levels follow from the class.
const WITHIN: f64 = 1e-7;
/// As much of a column is rounding.
const ROUNDING: f64 = 1e-12;

/// A class and the level of every record.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Factor {
    /// Its name.
    pub name: String,
    /// Names of the levels, L.
    pub levels: Vec<String>,
    /// The level of each record, (n), below L.
    pub level: Vec<usize>,
}

impl Factor {
    /// The levels in alphabetical order of their names, one for each record.
    pub fn new<'a>(name: &str, of: impl Iterator<Item = &'a str> + Clone) -> Factor {
        let mut known: BTreeMap<&str, usize> = of.clone().map(|level| (level, 0)).collect();
        known.values_mut().enumerate().for_each(|(k, number)| *number = k);
        let level = of.map(|level| known[level]).collect();
        Factor { name: name.to_owned(), levels: known.into_keys().map(str::to_owned).collect(), level }
    }

    /// The class of some of the records, all levels kept.
    pub fn select(&self, rows: &[usize]) -> Factor {
        Factor { level: rows.iter().map(|&i| self.level[i]).collect(), ..self.clone() }
    }

    /// The same without levels that no record has.
    pub fn compact(&self) -> Factor {
        Factor::new(&self.name, self.level.iter().map(|&l| self.levels[l].as_str()))
    }

    /// The class of the pairs of levels of two classes, named `a*b` with levels `x:y`.
    pub fn crossed(&self, other: &Factor) -> Factor {
        let pair = |(&a, &b): (&usize, &usize)| format!("{}:{}", self.levels[a], other.levels[b]);
        let pairs: Vec<String> = self.level.iter().zip(&other.level).map(pair).collect();
        Factor::new(&format!("{}*{}", self.name, other.name), pairs.iter().map(String::as_str))
    }

    /// Number of records of each level, (L).
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.levels.len()];
        self.level.iter().for_each(|&l| counts[l] += 1);
        counts
    }

    /// Sum of weights of each level, (L); without weights the number of records.
    pub fn weights(&self, weights: Option<&Array1<f64>>) -> Vec<f64> {
        let mut sums = vec![0.0; self.levels.len()];
        self.level.iter().enumerate().for_each(|(i, &l)| sums[l] += weights.map_or(1.0, |w| w[i]));
        sums
    }

    /// I − F(F'F)⁻¹F' times a block (n, k), F = W^½ times the dummy columns of the class: O(n k). `block` is in the
    /// scale of W^½, and each level loses its weighted mean.
    pub fn project(&self, block: &mut Array2<f64>, weights: Option<&Array1<f64>>) {
        let root = |i: usize| weights.map_or(1.0, |w| w[i].sqrt());
        let mut means = Array2::<f64>::zeros((self.levels.len(), block.ncols()));
        for (i, row) in block.rows().into_iter().enumerate() {
            means.row_mut(self.level[i]).scaled_add(root(i), &row);
        }
        for (mut row, sum) in means.axis_iter_mut(Axis(0)).zip(self.weights(weights)) {
            row /= sum.max(f64::MIN_POSITIVE);
        }
        for (i, mut row) in block.rows_mut().into_iter().enumerate() {
            row.scaled_add(-root(i), &means.row(self.level[i]));
        }
    }

    /// As [`Factor::project`], for columns of a design: what follows from the class is exactly 0 afterwards.
    pub fn centre(&self, design: &mut Array2<f64>, weights: Option<&Array1<f64>>) {
        let root = |i: usize| weights.map_or(1.0, |w| w[i].sqrt());
        let intercept = Array1::from_shape_fn(design.nrows(), root);
        let size = |column: ndarray::ArrayView1<f64>| {
            let along = column.dot(&intercept) / intercept.dot(&intercept).max(f64::MIN_POSITIVE);
            let beside = &column - &(&intercept * along);
            [column.dot(&column).sqrt(), beside.dot(&beside).sqrt()]
        };
        let before: Vec<[f64; 2]> = design.columns().into_iter().map(size).collect();
        self.project(design, weights);
        for (mut column, [whole, beside]) in design.columns_mut().into_iter().zip(before) {
            let left = column.dot(&column).sqrt();
            if left <= WITHIN * beside || left <= ROUNDING * whole {
                column.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn levels_are_sorted_selected_and_crossed() {
        let herd = Factor::new("herd", ["b", "a", "b", "c"].into_iter());
        assert_eq!((herd.levels.join(""), herd.level.clone()), ("abc".into(), vec![1, 0, 1, 2]));
        assert_eq!(herd.counts(), [1, 2, 1]);
        let some = herd.select(&[0, 3]);
        assert_eq!((some.levels.len(), some.compact().level), (3, vec![0, 1]));
        let year = Factor::new("year", ["9", "9", "8", "9"].into_iter());
        let both = herd.crossed(&year);
        assert_eq!((both.name.as_str(), both.levels.join(" ")), ("herd*year", "a:9 b:8 b:9 c:9".into()));
        assert_eq!(both.level, [2, 0, 1, 3]);
    }

    #[test]
    fn the_projection_is_that_of_the_dummy_columns() {
        let herd = Factor::new("herd", ["b", "a", "b", "c", "a", "b"].into_iter());
        let w: Array1<f64> = array![1.0, 2.0, 0.5, 1.0, 3.0, 1.5];
        for weights in [None, Some(&w)] {
            let root = |i: usize| weights.map_or(1.0, |w| w[i].sqrt());
            let f = Array2::from_shape_fn((6, 3), |(i, l)| if herd.level[i] == l { root(i) } else { 0.0 });
            let (q, _) = crate::stats::orthonormal_columns(f.view());
            let x = Array2::from_shape_fn((6, 2), |(i, j)| ((3 * i + 7 * j) % 5) as f64 - 0.3 * i as f64);
            let want = &x - &q.dot(&q.t().dot(&x));
            let mut got = x.clone();
            herd.project(&mut got, weights);
            assert!((&got - &want).iter().all(|d| d.abs() < 1e-12), "{got} {want}");
            // The intercept and a column that is constant within levels follow from the class; another does not.
            let mut design = Array2::from_shape_fn((6, 3), |(i, j)| {
                root(i) * [1.0, 0.1 * herd.level[i] as f64, i as f64][j]
            });
            herd.centre(&mut design, weights);
            assert!(design.column(0).iter().chain(design.column(1)).all(|x| *x == 0.0));
            assert!(design.column(2).iter().any(|x| x.abs() > 0.1));
        }
    }
}
