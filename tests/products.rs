//! The products, G and the commands that make it: the same bits on any number of ranks.

mod support;

use genialearn::comm::{layout, World};
use genialearn::device;
use genialearn::grm::file::{self, gcta};
use genialearn::grm::{explicit, GenotypeMatrix, Scaling};
use genialearn::linalg::Rows;
use genialearn::packed::Packed;
use genialearn::rng::{Purpose, Stream};
use ndarray::{s, Array2};
use support::{on_ranks, shared, succeeds};

const SIZES: [usize; 4] = [1, 2, 3, 4];

/// Genotypes with one missing call in `every`.
fn genotypes(n: usize, m: usize, every: usize) -> Packed {
    let mut s = Stream::new(9, Purpose::Test, (n * 1000 + m) as u64);
    let mut code = || if s.below(every) == 0 { 3 } else { s.below(3) as u8 };
    let codes: Vec<u8> = (0..n * m).map(|_| code()).collect();
    Packed::from_codes(n, m, &codes)
}

fn markers(world: &World, all: &Packed, scaling: Scaling) -> GenotypeMatrix {
    let snps = layout::snps_of(all.columns(), world.rank(), world.size());
    let rows: Vec<usize> = (0..all.rows()).collect();
    let mine = all.select(&rows, &snps.clone().collect::<Vec<_>>());
    let backend = device::open("cpu").unwrap();
    GenotypeMatrix::from_packed(world, backend, mine, snps.start, all.columns(), scaling).unwrap()
}

#[test]
fn g_times_blocks_has_the_same_bits_on_any_number_of_ranks() {
    on_ranks("g_times_blocks_has_the_same_bits_on_any_number_of_ranks", &SIZES, |world| {
        // 2500: ten chunks of rows; 600: three, so that the fourth rank has none; 70: the first rank has all.
        // Of 16,500 SNPs there are rough products.
        for (n, m) in [(2500, 600), (600, 300), (70, 300), (300, 16_500)] {
            let all = genotypes(n, m, 40);
            let scaling = Scaling::VanRaden1;
            let (here, alone) = (markers(world, &all, scaling), markers(&World::alone(), &all, scaling));
            let (rows, mut stream) = (here.row_layout(), Stream::new(1, Purpose::Test, 7));
            for k in [2, 9] {
                let w = Array2::from_shape_fn((n, k), |_| stream.normal());
                let own = rows.part(w.view());
                for quick in [false, true] {
                    let times = |of: &GenotypeMatrix, w: &Array2<f64>| match quick {
                        true => of.quick_grm_times(w.view()),
                        false => of.grm_times(w.view()),
                    };
                    assert_eq!(times(&here, &own), rows.part(times(&alone, &w).view()), "{n} {k} {quick}");
                }
                let (rough, whole) = (here.rough_grm_times(own.view()), alone.rough_grm_times(w.view()));
                assert_eq!(rough, whole.map(|whole| rows.part(whole.view())));
                assert_eq!(rough.is_some(), m > 16_384);
                let (a, b) = (rows.part(w.view()), rows.part((&w * 2.0 + 1.0).view()));
                let (whole, other) = (Rows::alone(n), &w * 2.0 + 1.0);
                assert_eq!(rows.dots(a.view(), b.view()), whole.dots(w.view(), other.view()));
                assert_eq!(rows.cross(a.view(), b.view(), None), whole.cross(w.view(), other.view(), None));
                assert_eq!(rows.gather(own.view()), w);
                let scattered = rows.scatter(world.is_root().then(|| w.clone()));
                assert_eq!(scattered, own);
                assert_eq!(rows.gather_on_root(own.view()), world.is_root().then(|| w.clone()));
            }
        }
    });
}

#[test]
fn every_product_has_the_same_bits_on_any_number_of_ranks() {
    on_ranks("every_product_has_the_same_bits_on_any_number_of_ranks", &SIZES, |world| {
        // 1100: five chunks and a rest; 300: two chunks, so ranks 2 and 3 own nothing.
        // 500: few missing calls (integers); 20: many (coded).
        for (m, every) in [(1100, 500), (300, 20)] {
            for scaling in [Scaling::VanRaden1, Scaling::VanRaden2] {
                let all = genotypes(150, m, every);
                let (here, alone) = (markers(world, &all, scaling), markers(&World::alone(), &all, scaling));
                let snps = here.snps();
                let mut stream = Stream::new(1, Purpose::Test, 7);
                // 2: the loops for narrow blocks; 6: BLAS
                for k in [2, 6] {
                    let v = Array2::from_shape_fn((m, k), |_| stream.normal());
                    let w = Array2::from_shape_fn((150, k), |_| stream.normal());
                    assert_eq!(here.times(v.slice(s![snps.clone(), ..])), alone.times(v.view()));
                    let transposed = alone.transposed_times(w.view());
                    assert_eq!(here.transposed_times(w.view()), transposed.slice(s![snps.clone(), ..]));
                }
                assert_eq!(here.scale(), alone.scale());
                assert_eq!(here.diagonal(), alone.diagonal());
                let (g, same) = (explicit::grm(&here).unwrap(), explicit::grm(&alone).unwrap());
                assert_eq!(g.is_some(), world.is_root());
                assert!(g.is_none() || g == same, "{scaling:?} {m} {every}");
            }
        }
    });
}

/// Imports a shared PLINK file set; returns the store.
fn imported(dir: &std::path::Path, set: &str) -> Option<String> {
    let bed = shared(&format!("data/{set}/{set}.bed"))?;
    let store = dir.join(format!("{set}.h5")).to_str().unwrap().to_owned();
    succeeds(1, &["import", bed.to_str().unwrap(), "--out", &store, "--quiet"]);
    Some(store)
}

#[test]
fn the_command_writes_the_same_matrix_on_any_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = imported(dir.path(), "wheat599") else { return };
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for method in ["vanraden1", "dominance", "epistasis"] {
        let mut first: Option<(Vec<String>, Array2<f64>)> = None;
        for ranks in SIZES {
            let out = at("g.h5");
            let args = ["grm", &store, "--method", method, "--out", &out, "--gcta", &at("g"), "--force"];
            let said = succeeds(ranks, &args);
            assert!(said.contains("599 animals, 1279 SNPs"), "{said}");
            let grm = file::read(out.as_ref()).unwrap();
            assert_eq!(grm.header.method, method);
            assert_eq!(grm.header.scale.is_nan(), method == "epistasis");
            let single = gcta::read(at("g").as_ref()).unwrap();
            assert_eq!(single.header.ids, grm.header.ids);
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-7 * b.abs().max(1e-3);
            assert!(single.g.iter().zip(&grm.g).all(close));
            assert!(dir.path().join("g.run.json").exists());
            let found = (grm.header.ids, grm.g);
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{method} on {ranks} ranks");
        }
    }
}

#[test]
fn the_components_are_the_same_on_any_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let Some(store) = imported(dir.path(), "wheat599") else { return };
    let prefix = dir.path().join("herd").to_str().unwrap().to_owned();
    let mut first: Option<[Vec<u8>; 3]> = None;
    for ranks in SIZES {
        let said = succeeds(ranks, &["pca", &store, "--components", "4", "--out", &prefix, "--force"]);
        assert!(said.contains("4 components explain"), "{said}");
        let results = ["eigenvec.tsv", "eigenval.tsv", "pca.svg"]
            .map(|suffix| std::fs::read(format!("{prefix}.{suffix}")).unwrap());
        let lines = results[0].iter().filter(|&&b| b == b'\n').count();
        assert_eq!(lines, 600, "a header and 599 animals");
        assert_eq!(first.get_or_insert_with(|| results.clone()), &results, "{ranks} ranks");
    }
}
