//! Which animal, or which level of a class, each row of records belongs to: Z of one random effect.

use crate::linalg::Rows;
use ndarray::{Array2, ArrayView2};

/// Z, (N records, columns), with at most a single 1 in each row.
#[derive(Debug)]
pub struct Incidence {
    records: Rows,
    columns: Rows,
    column_of: Vec<Option<usize>>, // of this rank's records
    starts: Vec<usize>,            // of the members of each of this rank's columns
    members: Vec<usize>,           // numbers of records among all
}

impl Incidence {
    /// From the column of each of all records, (N), nothing for records without one; `columns` are shared out over the
    /// same ranks as `records`.
    pub fn new(records: Rows, columns: Rows, column_of: &[Option<usize>]) -> Incidence {
        assert_eq!(column_of.len(), records.total(), "a column for each record");
        let own = columns.own();
        let mut counts = vec![0usize; own.len() + 1];
        for column in column_of.iter().flatten().filter(|c| own.contains(c)) {
            counts[column - own.start + 1] += 1;
        }
        (0..own.len()).for_each(|c| counts[c + 1] += counts[c]);
        let (starts, mut next) = (counts.clone(), counts);
        let mut members = vec![0; *starts.last().expect("one at least")];
        for (record, column) in column_of.iter().enumerate() {
            if let Some(column) = column.filter(|c| own.contains(c)) {
                let at = &mut next[column - own.start];
                members[*at] = record;
                *at += 1;
            }
        }
        let column_of = column_of[records.own()].to_vec();
        Incidence { records, columns, column_of, starts, members }
    }

    /// Which rank owns which columns.
    pub fn columns(&self) -> &Rows {
        &self.columns
    }

    /// Z'V of a block over the records, this rank's rows (N_r, k) to this rank's columns (columns_r, k), added in the
    /// order of the records. Collective.
    pub fn transposed_times(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let all = self.records.gather(block);
        let (starts, members) = (&self.starts, &self.members);
        let mut out = Array2::zeros((self.columns.count(), block.ncols()));
        Rows::for_each(&mut out, |c, sums| {
            for &record in &members[starts[c]..starts[c + 1]] {
                sums.iter_mut().zip(all.row(record)).for_each(|(sum, x)| *sum += x);
            }
        });
        out
    }

    /// Z U of a block over the columns, this rank's columns (columns_r, k) to this rank's records (N_r, k). Collective.
    pub fn times(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let all = self.columns.gather(block);
        let column_of = &self.column_of;
        let mut out = Array2::zeros((self.records.count(), block.ncols()));
        Rows::for_each(&mut out, |i, row| {
            if let Some(column) = column_of[i] {
                row.iter_mut().zip(all.row(column)).for_each(|(x, &u)| *x = u);
            }
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_matrix_of_zeros_and_ones() {
        let column_of: Vec<Option<usize>> = (0..50).map(|i| (i % 7 != 3).then_some(i * 5 % 12)).collect();
        let z = Array2::from_shape_fn((50, 12), |(i, c)| f64::from(u8::from(column_of[i] == Some(c))));
        let incidence = Incidence::new(Rows::alone(50), Rows::alone(12), &column_of);
        let v = Array2::from_shape_fn((50, 3), |(i, k)| (i * 3 % 8 + k) as f64);
        let u = Array2::from_shape_fn((12, 3), |(i, k)| (i * 5 % 9 + k) as f64);
        assert_eq!(incidence.transposed_times(v.view()), z.t().dot(&v));
        assert_eq!(incidence.times(u.view()), z.dot(&u));
    }
}
