//! Matrices that move: to the root, to every rank, to another arrangement.

use super::{DistMatrix, BLOCK};
use crate::comm::layout::{Cyclic, GlobalIndex, LocalIndex};
use crate::error::Result;
use ndarray::{s, Array2, ArrayView2, ShapeBuilder};

impl DistMatrix {
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
            let shape = self.deal.shape_of(rank);
            let values = ArrayView2::from_shape(shape.f(), values).expect("the rank's shape");
            for (r, c) in self.deal.blocks(rank) {
                out.slice_mut(s![r.global, c.global]).assign(&values.slice(s![r.local, c.local]));
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

    /// The matrix of the rows and columns `chosen` of a square one, in their order, in blocks of at most [`BLOCK`].
    /// To be called by all ranks, which all choose the same.
    pub fn select(&self, chosen: &[usize]) -> Result<DistMatrix> {
        let (side, block) = (chosen.len(), self.rows().block().min(BLOCK));
        let mut out = self.world.agree(Self::zeros(&self.world, self.grid(), (side, side), block))?;
        let height = out.local_shape().0;
        let deals = (out.rows(), out.columns());
        let of = |from: usize, to: usize| {
            let (old, new) = (self.grid().place(from), self.grid().place(to));
            let rows = moves((self.rows(), old.0), (deals.0, new.0), |i| chosen[i]);
            (rows, moves((self.columns(), old.1), (deals.1, new.1), |k| chosen[k]))
        };
        for shift in 0..self.world.size() {
            let (received, rows, columns) = self.round(shift, of, |i, k| (i.old, k.old));
            for (values, k) in received.chunks_exact(rows.len().max(1)).zip(&columns) {
                let column = &mut out.local[k.new * height..(k.new + 1) * height];
                rows.iter().zip(values).for_each(|(i, &x)| column[i.new] = x);
            }
        }
        Ok(out)
    }

    /// Makes a square matrix symmetric: what stands below the diagonal is copied above it. To be called by all
    /// ranks.
    pub fn mirror(&mut self) {
        assert_eq!(self.nrows(), self.ncols(), "a square matrix");
        let (grid, rows, columns) = (self.grid(), self.rows(), self.columns());
        let height = self.local_shape().0;
        // Row i of the upper triangle was column i of the lower one, wherever that is.
        let of = |from: usize, to: usize| {
            let (old, new) = (grid.place(from), grid.place(to));
            (moves((columns, old.1), (rows, new.0), |i| i), moves((rows, old.0), (columns, new.1), |k| k))
        };
        for shift in 0..self.world.size() {
            let (received, rows, columns) = self.round(shift, of, |i, k| (k.old, i.old));
            for (values, k) in received.chunks_exact(rows.len().max(1)).zip(&columns) {
                let column = &mut self.local[k.new * height..(k.new + 1) * height];
                let above = rows.iter().zip(values).take_while(|(i, _)| i.global < k.global);
                above.for_each(|(i, &x)| column[i.new] = x);
            }
        }
    }

    /// Gives the rank `shift` further on what it is to have of this rank's elements, and receives as much as the
    /// rank `shift` before has for this one: column by column, with its rows and columns here. In as many rounds
    /// as there are ranks each has given to every other, and held no more than one message beside the matrix.
    ///
    /// `of` tells which rows and columns go from one rank to another, `at` where an element stands before.
    fn round(
        &self,
        shift: usize,
        of: impl Fn(usize, usize) -> (Vec<Move>, Vec<Move>),
        at: impl Fn(&Move, &Move) -> (usize, usize),
    ) -> (Vec<f64>, Vec<Move>, Vec<Move>) {
        let (rank, size) = (self.world.rank(), self.world.size());
        let (to, from) = ((rank + shift) % size, (rank + size - shift) % size);
        let local = self.local_view();
        let (rows, columns) = of(rank, to);
        let mut sent = Vec::with_capacity(rows.len() * columns.len());
        for k in &columns {
            sent.extend(rows.iter().map(|i| local[at(i, k)]));
        }
        let received = self.world.exchange(to, &sent, from);
        let (rows, columns) = of(from, rank);
        (received, rows, columns)
    }
}

/// A row or column on its way: its place at the old owner, at the new one, and in the new matrix.
struct Move {
    old: usize,
    new: usize,
    global: usize,
}

/// The rows or columns of the part `new` that the part `old` has, in order; `source` tells which one of the old
/// matrix each of the new one is.
fn moves(old: (Cyclic, usize), new: (Cyclic, usize), source: impl Fn(usize) -> usize) -> Vec<Move> {
    let places = (0..new.0.numroc(new.1)).map(LocalIndex);
    let there = |local: LocalIndex| {
        let global = new.0.global(new.1, local).0;
        let before = GlobalIndex(source(global));
        let here = old.0.owner(before) == old.1;
        here.then(|| Move { old: old.0.local(before).0, new: local.0, global })
    };
    places.filter_map(there).collect()
}
