//! A matrix, dealt out over ranks in both dimensions.

use super::{BlockRange, Cyclic, GlobalIndex, Grid};

/// Which rank owns which blocks of a matrix: rows are dealt to the rows of a grid of ranks, columns to its columns.
///
/// ```
/// use genialearn::comm::layout::{BlockCyclic, Grid};
/// let deal = BlockCyclic::new(Grid::new(2, 3), (5, 7), (2, 2));
/// assert_eq!((deal.owner(3, 4), deal.owner(4, 0)), (5, 0));
/// assert_eq!((deal.shape_of(0), deal.shape_of(5)), ((3, 3), (2, 2)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCyclic {
    grid: Grid,
    rows: Cyclic,
    columns: Cyclic,
}

impl BlockCyclic {
    /// A matrix of this shape in such blocks, (rows, columns) both, over a grid.
    pub fn new(grid: Grid, shape: (usize, usize), blocks: (usize, usize)) -> BlockCyclic {
        BlockCyclic {
            grid,
            rows: Cyclic::new(shape.0, blocks.0, grid.rows()),
            columns: Cyclic::new(shape.1, blocks.1, grid.columns()),
        }
    }

    /// How the ranks stand.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// How rows are dealt to the rows of the grid.
    pub fn rows(&self) -> Cyclic {
        self.rows
    }

    /// How columns are dealt to the columns of the grid.
    pub fn columns(&self) -> Cyclic {
        self.columns
    }

    /// Rows and columns that a rank owns.
    pub fn shape_of(&self, rank: usize) -> (usize, usize) {
        let (row, column) = self.grid.place(rank);
        (self.rows.numroc(row), self.columns.numroc(column))
    }

    /// The rank that owns an element.
    pub fn owner(&self, i: usize, k: usize) -> usize {
        self.grid.rank(self.rows.owner(GlobalIndex(i)), self.columns.owner(GlobalIndex(k)))
    }

    /// The blocks of a rank, column by column of blocks.
    pub fn blocks(&self, rank: usize) -> impl Iterator<Item = (BlockRange, BlockRange)> + use<> {
        let (row, column) = self.grid.place(rank);
        let rows = self.rows.runs(row);
        self.columns.runs(column).flat_map(move |c| rows.clone().map(move |r| (r, c.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_ranks_cover_the_matrix_once_and_agree_with_owners_and_shapes() {
        // uneven blocks and grids, and ranks that own nothing
        for (grid, shape, blocks) in [
            (Grid::new(2, 3), (5, 7), (2, 2)),
            (Grid::new(1, 1), (3, 4), (5, 3)),
            (Grid::new(3, 2), (2, 9), (1, 4)),
        ] {
            let deal = BlockCyclic::new(grid, shape, blocks);
            let mut counted = vec![0; shape.0 * shape.1];
            for rank in 0..grid.ranks() {
                let mut own = 0;
                for (r, c) in deal.blocks(rank) {
                    own += r.local.len() * c.local.len();
                    for (i, k) in r.global.clone().flat_map(|i| c.global.clone().map(move |k| (i, k))) {
                        assert_eq!(deal.owner(i, k), rank);
                        counted[i * shape.1 + k] += 1;
                    }
                }
                let (rows, columns) = deal.shape_of(rank);
                assert_eq!(own, rows * columns);
            }
            assert!(counted.iter().all(|&count| count == 1), "{grid}");
        }
    }
}
