//! Matrices that move: from the root and to it, to every rank, to another arrangement.

use super::{DistMatrix, BLOCK};
use crate::comm::layout::{GlobalIndex, Grid, LocalIndex};
use crate::comm::World;
use crate::error::Result;
use ndarray::{s, Array2, ArrayView2, ShapeBuilder};

/// Elements of a column or row and where they go: (place in the old part, place in the new part).
type Moves = Vec<(usize, usize)>;

impl DistMatrix {
    /// Deals out the root's symmetric matrix, (n, n), in blocks of [`BLOCK`], one row of blocks at a time;
    /// elsewhere `whole` is `None`. To be called by all ranks.
    pub fn scatter(world: &World, grid: Grid, whole: Option<Array2<f64>>) -> Result<DistMatrix> {
        let mut n = [whole.as_ref().map_or(0, |a| a.nrows() as u64)];
        world.broadcast(0, &mut n);
        let n = usize::try_from(n[0]).expect("a dimension");
        let mut out = world.agree(Self::zeros(world, grid, (n, n), BLOCK))?;
        for start in (0..n).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(n);
            let (above, first) = (out.rows.owner(GlobalIndex(start)), out.rows.local(GlobalIndex(start)).0);
            for column in 0..grid.columns() {
                let (to, runs) = (grid.rank(above, column), out.columns.runs(column));
                let width = out.columns.len_of(column);
                let panel = whole.as_ref().map(|a| {
                    let mut panel = Vec::with_capacity(rows.len() * width);
                    // Of a symmetric matrix, a column is the row of that number.
                    for k in runs.flat_map(|run| run.global) {
                        panel.extend(a.slice(s![k, rows.clone()]));
                    }
                    panel
                });
                let received = match panel {
                    Some(panel) if to == world.rank() => panel,
                    Some(panel) => {
                        world.send(to, &panel);
                        continue;
                    }
                    None if to == world.rank() => world.receive(0),
                    None => continue,
                };
                let panel = ArrayView2::from_shape((rows.len(), width).f(), &received).expect("a panel");
                out.local_view_mut().slice_mut(s![first..first + rows.len(), ..]).assign(&panel);
            }
        }
        Ok(out)
    }

    /// The whole matrix on the root, `None` elsewhere: for small ones. To be called by all ranks.
    pub fn gather(&self) -> Option<Array2<f64>> {
        if !self.world.is_root() {
            self.world.send(0, &self.local);
            return None;
        }
        let mut out = Array2::zeros((self.nrows(), self.ncols()));
        for rank in 0..self.world.size() {
            let received = (rank != 0).then(|| self.world.receive::<f64>(rank));
            let values = received.as_deref().unwrap_or(&self.local);
            let (row, column) = self.grid.place(rank);
            let shape = (self.rows.len_of(row), self.columns.len_of(column));
            let values = ArrayView2::from_shape(shape.f(), values).expect("the rank's shape");
            for c in self.columns.runs(column) {
                for r in self.rows.runs(row) {
                    let from = values.slice(s![r.local, c.local.clone()]);
                    out.slice_mut(s![r.global, c.global.clone()]).assign(&from);
                }
            }
        }
        Some(out)
    }

    /// The whole matrix on every rank: for a few columns. To be called by all ranks.
    pub fn replicate(&self) -> Array2<f64> {
        let mut out = Array2::zeros((self.nrows(), self.ncols()));
        for tile in self.tiles() {
            out.slice_mut(s![tile.rows.clone(), tile.columns.clone()]).assign(&self.tile(&tile));
        }
        self.world.sum_f64(out.as_slice_mut().expect("standard layout"));
        out
    }

    /// The diagonal, (n), on every rank. To be called by all ranks.
    pub fn diagonal(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.nrows().min(self.ncols())];
        for tile in self.tiles() {
            let values = self.tile(&tile);
            let start = tile.rows.start.max(tile.columns.start);
            for i in start..tile.rows.end.min(tile.columns.end) {
                out[i] = values[[i - tile.rows.start, i - tile.columns.start]];
            }
        }
        self.world.sum_f64(&mut out);
        out
    }

    /// The matrix of the rows and columns `chosen` of a square one, in their order and in the same blocks. To be
    /// called by all ranks, which all choose the same.
    ///
    /// In as many rounds as there are ranks each gives one other what that will own; no rank ever holds more
    /// than its shares of both matrices and one message.
    pub fn select(&self, chosen: &[usize]) -> Result<DistMatrix> {
        let (world, size) = (&self.world, self.world.size());
        let block = self.rows.block();
        let mut out = world.agree(Self::zeros(world, self.grid, (chosen.len(), chosen.len()), block))?;
        for shift in 0..size {
            let (to, from) = ((world.rank() + shift) % size, (world.rank() + size - shift) % size);
            let (rows, columns) = self.moves(&out, chosen, world.rank(), to);
            let mut sent = Vec::with_capacity(rows.len() * columns.len());
            let height = self.local_shape().0;
            for &(k, _) in &columns {
                let column = &self.local[k * height..(k + 1) * height];
                sent.extend(rows.iter().map(|&(i, _)| column[i]));
            }
            let received = world.exchange(to, &sent, from);
            drop(sent);
            let (rows, columns) = self.moves(&out, chosen, from, world.rank());
            let height = out.local_shape().0;
            for (values, &(_, k)) in received.chunks_exact(rows.len().max(1)).zip(&columns) {
                let column = &mut out.local[k * height..(k + 1) * height];
                rows.iter().zip(values).for_each(|(&(_, i), &x)| column[i] = x);
            }
        }
        Ok(out)
    }

    /// Which rows and columns go from the rank `from` of this matrix to `to` of `out`.
    fn moves(&self, out: &DistMatrix, chosen: &[usize], from: usize, to: usize) -> (Moves, Moves) {
        let (old, new) = (self.grid.place(from), out.grid.place(to));
        let of = |old_deal: super::Cyclic, new_deal: super::Cyclic, old: usize, new: usize| -> Moves {
            let places = (0..new_deal.len_of(new)).map(LocalIndex);
            let place = |local: LocalIndex| (GlobalIndex(chosen[new_deal.global(new, local).0]), local.0);
            places
                .map(place)
                .filter(|&(i, _)| old_deal.owner(i) == old)
                .map(|(i, local)| (old_deal.local(i).0, local))
                .collect()
        };
        (of(self.rows, out.rows, old.0, new.0), of(self.columns, out.columns, old.1, new.1))
    }
}
