//! G against the numbers of PLINK and GCTA.
//!
//! Both divide each pair's sum by the pair's own number of SNPs that are called in both and vary, where this
//! program divides by c for all pairs. Missing calls count as the mean in either. So with missing calls the sums
//! Σ_j z_ij z_kj are comparable, G is not; without missing calls both are. (PLINK counts SNPs without variation
//! unless --mac 1 removes them, as was done here.)

mod support;

use genialearn::comm::layout::Grid;
use genialearn::comm::World;
use genialearn::device;
use genialearn::genotype::Store;
use genialearn::grm::summa;
use genialearn::grm::{explicit, GenotypeMatrix, Method, Scaling};
use genialearn::packed::{frequency, Packed};
use ndarray::Array2;
use std::path::Path;
use support::{shared, succeeds};

/// The genotypes of a PLINK file set, and the SNPs' positions as they stand in the .bim.
fn genotypes(bed: &Path) -> (Packed, Vec<i64>) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("store.h5");
    succeeds(1, &["import", bed.to_str().unwrap(), "--out", out.to_str().unwrap(), "--quiet"]);
    let store = Store::open(&out).unwrap();
    let bim = std::fs::read_to_string(bed.with_extension("bim")).unwrap();
    let position = |line: &str| line.split_whitespace().nth(3).unwrap().parse().unwrap();
    (store.read(0..store.n_animals(), 0..store.n_variants()).unwrap(), bim.lines().map(position).collect())
}

/// Σ_j z_ij z_kj over the number of varying SNPs that both i and k have, for the first `count` animals.
fn per_shared_snp(packed: &Packed, scaling: Scaling, count: usize) -> Array2<f64> {
    let (n, m) = (packed.rows(), packed.columns());
    let backend = device::open("cpu").unwrap();
    let markers =
        GenotypeMatrix::from_packed(&World::alone(), backend, packed.clone(), 0, m, scaling).unwrap();
    let g = explicit::grm(&markers).unwrap().unwrap();
    assert_eq!(g.dim(), (n, n));
    let varies: Vec<bool> =
        packed.tally_columns().iter().map(|t| frequency(t).is_some_and(|p| p > 0.0 && p < 1.0)).collect();
    Array2::from_shape_fn((count, count), |(i, k)| {
        let both = |j: &usize| varies[*j] && packed.get(i, *j) < 3 && packed.get(k, *j) < 3;
        g[[i, k]] * markers.scale() / (0..m).filter(both).count() as f64
    })
}

/// A square of numbers; a lower triangle is completed, a header and row names are passed over.
fn table(path: &Path) -> Array2<f64> {
    let text = std::fs::read_to_string(path).unwrap();
    let named = text.starts_with("id\t");
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip(usize::from(named))
        .map(|l| l.split('\t').skip(usize::from(named)).map(|x| x.parse().unwrap()).collect())
        .collect();
    let n = rows.len();
    Array2::from_shape_fn((n, n), |(i, k)| if rows[i].len() > k { rows[i][k] } else { rows[k][i] })
}

fn assert_close(found: &Array2<f64>, wanted: &Array2<f64>, what: &str) {
    assert_eq!(found.dim(), wanted.dim(), "{what}");
    let largest = (found - wanted).iter().fold(0.0f64, |a, d| a.max(d.abs()));
    // six printed digits of numbers up to 3
    assert!(largest < 1e-5, "{what}: {largest:e}");
}

#[test]
fn a_small_set_with_missing_calls_agrees_with_plink() {
    let folder = Path::new("tests/data/tiny");
    let (packed, _) = genotypes(&folder.join("tiny.bed"));
    assert!((0..packed.rows()).all(|i| packed.tally_row(i)[3] > 0), "every animal has missing calls");
    for (scaling, file) in [(Scaling::VanRaden2, "tiny.rel.tsv"), (Scaling::VanRaden1, "tiny.cov.tsv")] {
        let found = per_shared_snp(&packed, scaling, packed.rows());
        assert_close(&found, &table(&folder.join(file)), file);
    }
}

#[test]
fn real_sets_agree_with_plink_and_gcta() {
    for set in ["soynam5590", "mice_hs1940"] {
        let Some(bed) = shared(&format!("data/{set}/{set}.bed")) else { continue };
        let (packed, position) = genotypes(&bed);
        // PLINK passes over SNPs whose position is negative.
        let columns: Vec<usize> = (0..packed.columns()).filter(|&j| position[j] >= 0).collect();
        let rows: Vec<usize> = (0..packed.rows()).collect();
        let placed = packed.select(&rows, &columns);
        for (scaling, name) in [(Scaling::VanRaden2, "p2"), (Scaling::VanRaden1, "p2c")] {
            let wanted = table(&shared(&format!("reference/plink2/{name}.{set}.tsv")).unwrap());
            assert_close(&per_shared_snp(&placed, scaling, 20), &wanted, &format!("{name}.{set}"));
        }
        let wanted = table(&shared(&format!("reference/gcta/grm20.{set}.tsv")).unwrap());
        assert_close(&per_shared_snp(&packed, Scaling::VanRaden2, 20), &wanted, &format!("gcta {set}"));
    }
}

#[test]
fn without_missing_calls_g_itself_agrees_with_gcta() {
    let Some(bed) = shared("data/wheat599/wheat599.bed") else { return };
    let (packed, _) = genotypes(&bed);
    let wanted = table(&shared("reference/gcta/grm20.wheat599.tsv").unwrap());
    let (backend, m) = (device::open("cpu").unwrap(), packed.columns());
    let scaling = Scaling::VanRaden2;
    let markers = GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, m, scaling).unwrap();
    let first = |method: Method| {
        let tiles = summa::form(&markers, method, Grid::of(1)).unwrap();
        tiles.gather().unwrap().slice(ndarray::s![..20, ..20]).to_owned()
    };
    // seven printed digits
    assert_close(&first(Method::Product(scaling)), &wanted, "wheat599, vanraden2");
    // Yang's paper differs from GCTA on the diagonal alone; its first element by hand from the .bed
    let mut yang = first(Method::Yang);
    assert!((yang[[0, 0]] - 2.1200642).abs() < 1e-6);
    yang.diag_mut().assign(&wanted.diag());
    assert_close(&yang, &wanted, "wheat599, yang");
}
