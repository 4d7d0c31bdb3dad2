//! Dense matrices over grids of ranks, even and uneven.

mod support;

use genialearn::comm::layout::Grid;
use genialearn::comm::World;
use genialearn::linalg::matrix::DistMatrix;
use ndarray::Array2;
use support::on_ranks;

/// The grids that the ranks can stand in: nearly square, upright, flat.
fn grids(world: &World) -> Vec<Grid> {
    let ranks = world.size();
    (1..=ranks).filter(|r| ranks.is_multiple_of(*r)).map(|r| Grid::new(r, ranks / r)).collect()
}

#[test]
fn every_element_has_one_owner_and_comes_back_in_its_place() {
    on_ranks("every_element_has_one_owner_and_comes_back_in_its_place", &[1, 2, 5, 6], |world| {
        for grid in grids(world) {
            // nothing; fewer blocks than ranks; a rest in both dimensions; whole blocks
            for (shape, block) in [((0, 3), 2), ((3, 2), 4), ((37, 23), 4), ((24, 24), 2)] {
                let formula = |i: usize, k: usize| (1000 * i + k) as f64;
                let mut m = DistMatrix::from_fn(world, grid, shape, block, formula).unwrap();
                for tile in m.tiles() {
                    assert_eq!(m.owner(tile.rows.start, tile.columns.start), world.rank());
                    let values = m.tile(&tile);
                    assert_eq!(values.dim(), (tile.rows.len(), tile.columns.len()));
                }
                let mut owned = [m.local().len() as i64];
                world.sum_i64(&mut owned);
                assert_eq!(owned[0] as usize, shape.0 * shape.1);
                m.for_each_tile(|_, mut values| values += 0.5);
                let whole = m.gather();
                assert_eq!(whole.is_some(), world.is_root());
                let want = Array2::from_shape_fn(shape, |(i, k)| formula(i, k) + 0.5);
                assert!(whole.is_none_or(|w| w == want), "{grid} {shape:?}");
            }
        }
        assert!(DistMatrix::zeros(world, Grid::of(world.size() + 1), (4, 4), 2).is_err());
    });
}
