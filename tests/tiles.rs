//! Matrices of relationships in tiles over many ranks and grids: the same bits as on one rank.

mod support;

use genialearn::comm::layout::{snps_of, Grid};
use genialearn::comm::World;
use genialearn::device;
use genialearn::grm::file::{self, gcta, Header};
use genialearn::grm::{summa, GenotypeMatrix, Method};
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use ndarray::Array2;
use support::on_ranks;

/// Genotypes of which one call in `every` is missing.
fn genotypes(n: usize, m: usize, every: usize) -> Packed {
    let mut s = Stream::new(4, Purpose::Test, (n * 100_000 + m) as u64);
    let codes: Vec<u8> = (0..n * m).map(|_| if s.below(every) == 0 { 3 } else { s.below(3) as u8 }).collect();
    Packed::from_codes(n, m, &codes)
}

/// The markers of this world's share of the SNPs.
fn markers(world: &World, all: &Packed, method: Method) -> GenotypeMatrix {
    let (n, m) = (all.rows(), all.columns());
    let snps = snps_of(m, world.rank(), world.size());
    let own = all.select(&(0..n).collect::<Vec<_>>(), &snps.clone().collect::<Vec<_>>());
    // The frequencies of a share are those of its own SNPs.
    GenotypeMatrix::from_packed(world, device::open("cpu").unwrap(), own, snps.start, m, method.scaling())
        .unwrap()
}

fn alone(all: &Packed, method: Method) -> Array2<f64> {
    let world = World::alone();
    summa::form(&markers(&world, all, method), method, Grid::of(1)).unwrap().gather().unwrap()
}

#[test]
fn tiles_on_any_grid_have_the_bits_of_one_rank() {
    on_ranks("tiles_on_any_grid_have_the_bits_of_one_rank", &[1, 2, 3, 4, 6], |world| {
        // 5 animals: less than a tile; 40,000 SNPs: several blocks on an owner; 700: three rows of tiles, the
        // last short, on up to six rows of ranks; 600 SNPs: three chunks, so that some of 4 and 6 ranks own none.
        // One missing call in 300: integers with corrections; in 9: coded products.
        for (n, m, every) in [(5, 40_000, 300), (700, 600, 300), (300, 300, 9)] {
            let all = genotypes(n, m, every);
            for method in Method::ALL {
                let markers = markers(world, &all, method);
                let wanted = world.is_root().then(|| alone(&all, method));
                for rows in (1..=world.size()).filter(|r| world.size().is_multiple_of(*r)) {
                    let grid = Grid::new(rows, world.size() / rows);
                    let tiles = summa::form(&markers, method, grid).unwrap();
                    let diagonal = tiles.diagonal();
                    let g = tiles.gather();
                    assert_eq!(g.is_some(), world.is_root());
                    let Some(g) = g else { continue };
                    let wanted = wanted.as_ref().unwrap();
                    let same = g.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{n} animals, {} on {grid}", method.name());
                    assert!(diagonal.iter().eq(wanted.diag()), "{} on {grid}", method.name());
                }
            }
        }
    });
}

#[test]
fn all_ranks_write_a_file_that_any_grid_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.h5");
    // The folder of the process that starts mpirun: the ranks find it here.
    let shared = std::env::var("TILES_TEST_FILE").map_or(path, Into::into);
    std::env::set_var("TILES_TEST_FILE", &shared);
    let (all, method) = (genotypes(700, 300, 100), Method::ALL[0]);
    on_ranks("all_ranks_write_a_file_that_any_grid_reads", &[1, 3, 4], |world| {
        let size = world.size();
        let tiles = summa::form(&markers(world, &all, method), method, Grid::new(size, 1)).unwrap();
        let ids = (0..700).map(|i| format!("cow{i}")).collect();
        let header = Header { ids, method: method.name().into(), scale: 2.5, snps: 300 };
        file::write(&shared, &header, &tiles, true).unwrap();
        gcta::write(&shared, &header, &vec![String::new(); header.ids.len()], &tiles, true).unwrap();
        let (read, again) = file::read_tiles(world, Grid::new(1, size), &shared).unwrap();
        assert_eq!(read, header);
        let again = again.gather();
        if world.is_root() {
            let wanted = alone(&all, method);
            assert_eq!(again.unwrap(), wanted);
            assert_eq!(file::read(&shared).unwrap().g, wanted);
            assert_eq!(gcta::read(&shared).unwrap().g, wanted.mapv(|x| f64::from(x as f32)));
        }
        world.barrier();
        // Refused on all ranks, and nothing is left of the attempt.
        assert_eq!(file::write(&shared, &header, &tiles, false).unwrap_err().exit_code(), 2);
        assert_eq!(std::fs::read_dir(shared.parent().unwrap()).unwrap().count(), 4);
        world.barrier();
    });
}

#[test]
fn a_distributed_matrix_takes_the_lower_triangle() {
    on_ranks("a_distributed_matrix_takes_the_lower_triangle", &[1, 4], |world| {
        let (all, method) = (genotypes(600, 100, 50), Method::ALL[0]);
        let tiles = summa::form(&markers(world, &all, method), method, Grid::of(world.size())).unwrap();
        let matrix = tiles.into_matrix().unwrap();
        assert_eq!((matrix.nrows(), matrix.rows().block()), (600, 256));
        if let Some(found) = matrix.gather() {
            let wanted = alone(&all, method);
            for ((i, k), x) in found.indexed_iter().filter(|((i, k), _)| i >= k) {
                assert_eq!(*x, wanted[[i, k]]);
            }
        }
    });
}

#[test]
fn a_grid_of_other_ranks_is_refused() {
    let all = genotypes(5, 20, 50);
    let method = Method::ALL[0];
    let markers = markers(&World::alone(), &all, method);
    assert!(summa::form(&markers, method, Grid::new(2, 1)).err().unwrap().to_string().contains("1x1"));
}
