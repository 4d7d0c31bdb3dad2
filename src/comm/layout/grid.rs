//! Ranks in rows and columns.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Pr × Pc ranks in rows and columns, numbered row by row.
///
/// | 2x3 | column 0 | column 1 | column 2 |
/// |---|---|---|---|
/// | row 0 | rank 0 | rank 1 | rank 2 |
/// | row 1 | rank 3 | rank 4 | rank 5 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    /// A grid of `rows` × `columns` ranks, both positive.
    pub fn new(rows: usize, columns: usize) -> Grid {
        assert!(rows > 0 && columns > 0, "a grid has ranks");
        Grid { rows, columns }
    }

    /// The grid of all `ranks` that is nearest to square, no more rows than columns: 6 as 2x3, 7 as 1x7.
    pub fn of(ranks: usize) -> Grid {
        let rows = (1..=ranks.isqrt()).rev().find(|&r| ranks.is_multiple_of(r));
        let rows = rows.expect("a world has at least one rank");
        Grid { rows, columns: ranks / rows }
    }

    /// Rows of ranks, Pr.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Columns of ranks, Pc.
    pub fn columns(self) -> usize {
        self.columns
    }

    /// Ranks in all.
    pub fn ranks(self) -> usize {
        self.rows * self.columns
    }

    /// Row and column of a rank.
    pub fn place(self, rank: usize) -> (usize, usize) {
        assert!(rank < self.ranks(), "rank {rank} in a grid of {self}");
        (rank / self.columns, rank % self.columns)
    }

    /// The rank in a row and a column.
    pub fn rank(self, row: usize, column: usize) -> usize {
        assert!(row < self.rows && column < self.columns, "row {row}, column {column} in a grid of {self}");
        row * self.columns + column
    }

    /// An error unless the grid takes exactly `ranks`.
    pub fn check(self, ranks: usize) -> Result<()> {
        if self.ranks() == ranks {
            return Ok(());
        }
        let expected = format!("rows times columns to be the number of ranks, {ranks}");
        let advice = format!("use {}, or start {} ranks", Grid::of(ranks), self.ranks());
        Err(Error::input("the grid of ranks", expected, self, advice))
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

impl FromStr for Grid {
    type Err = String;

    /// Reads "3x2": three rows of two ranks.
    fn from_str(text: &str) -> std::result::Result<Grid, String> {
        let number = |t: &str| t.trim().parse::<usize>().ok().filter(|&n| n > 0 && n < 1 << 31);
        let sides = text.split_once(['x', 'X']).and_then(|(r, c)| Some((number(r)?, number(c)?)));
        let (rows, columns) = sides.ok_or("expected rows x columns of ranks, such as 3x2")?;
        Ok(Grid { rows, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_nearly_square_and_takes_all_ranks() {
        let sides = |ranks| (Grid::of(ranks).rows(), Grid::of(ranks).columns());
        let want = [(1, 1), (1, 2), (1, 3), (2, 2), (1, 5), (2, 3), (1, 7), (2, 4), (3, 3)];
        assert_eq!((1..=9).map(sides).collect::<Vec<_>>(), want);
        assert_eq!((sides(1024), sides(48)), ((32, 32), (6, 8)));
    }

    #[test]
    fn ranks_and_places_are_inverse_row_by_row() {
        for grid in [Grid::new(1, 5), Grid::new(3, 2), Grid::new(2, 3), Grid::new(6, 1)] {
            let mut next = 0;
            for row in 0..grid.rows() {
                for column in 0..grid.columns() {
                    assert_eq!((grid.rank(row, column), grid.place(next)), (next, (row, column)));
                    next += 1;
                }
            }
            assert_eq!(next, grid.ranks());
        }
    }

    #[test]
    fn a_grid_is_read_as_it_is_printed_and_must_take_all_ranks() {
        let grid: Grid = "3x2".parse().unwrap();
        assert_eq!((grid, grid.to_string().as_str()), (Grid::new(3, 2), "3x2"));
        for wrong in ["", "6", "0x3", "3x", "axb", "-1x2", "3x2x1"] {
            assert!(wrong.parse::<Grid>().is_err(), "{wrong}");
        }
        assert!(grid.check(6).is_ok());
        let told = grid.check(4).unwrap_err().to_string();
        assert!(told.contains("3x2") && told.contains("2x2"), "{told}");
    }
}
