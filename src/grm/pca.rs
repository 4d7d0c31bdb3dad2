//! Principal components: the largest eigenvalues of G and their vectors.
//!
//! A small G is formed and decomposed. A large one is known by its products only: a block Krylov space from
//! random vectors, restarted from its best vectors until they are exact (Halko, Martinsson, Shkolnisky & Tygert
//! 2011, SIAM J. Sci. Comput. 33:2580).

use super::{explicit, GenotypeMatrix};
use crate::error::{Error, Result};
use crate::linalg::factor::Eigen;
use crate::linalg::pcg::largest;
use crate::linalg::{product, Rows};
use crate::rng::{Purpose, Stream};
use ndarray::{concatenate, s, Array2, ArrayView2, Axis};

/// Animals up to which G is formed: its decomposition takes a few seconds.
const EXACT: usize = 2000;
/// Vectors carried beyond the ones wanted: they take up the error of the last wanted ones.
const SPARE: usize = 10;
/// Blocks of the Krylov space before it is restarted.
const BLOCKS: usize = 5;
/// Restarts at most.
const RESTARTS: usize = 60;
/// Accepted length of G v − λ v, as a share of the largest eigenvalue.
const TOLERANCE: f64 = 1e-9;
/// Directions shorter than this share of the longest one are rounding errors.
const NEGLIGIBLE: f64 = 1e-12;

/// The leading principal components of a herd.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Eigenvalues of G, descending, (k).
    pub values: Vec<f64>,
    /// Eigenvectors of length 1 as columns, (n, k); the largest absolute entry of each is positive.
    pub vectors: Array2<f64>,
    /// Each eigenvalue as a share of their sum, the trace of G, (k).
    pub explained: Vec<f64>,
}

/// The first `components` principal components, on every rank. To be called by all ranks; the result has the
/// same bits for any number of ranks.
pub fn pca(markers: &GenotypeMatrix, components: usize, seed: u64) -> Result<Pca> {
    let n = markers.n();
    if components == 0 || components > n {
        return Err(Error::input(
            "components",
            format!("1 to {n}"),
            components,
            "there is one for each animal",
        ));
    }
    let (values, vectors) =
        if n <= EXACT { exact(markers, components)? } else { krylov(markers, components, seed)? };
    let trace: f64 = markers.diagonal().iter().sum();
    if trace.is_nan() || trace <= 0.0 {
        let advice = "they have no components: check the genotypes";
        return Err(Error::failed(
            "principal components",
            "the animals do not differ in their genotypes",
            advice,
        ));
    }
    let explained = values.iter().map(|v| v / trace).collect();
    Ok(Pca { values, vectors: with_fixed_signs(vectors), explained })
}

/// By the decomposition of G on rank 0.
pub(super) fn exact(markers: &GenotypeMatrix, k: usize) -> Result<(Vec<f64>, Array2<f64>)> {
    let world = markers.world();
    let g = explicit::grm(markers)?;
    let top = g.map(|g| leading(g, k)).transpose();
    let (mut values, vectors) = world.agree(top)?.unwrap_or((vec![0.0; k], Array2::zeros((markers.n(), k))));
    let mut flat = vectors.as_standard_layout().into_owned().into_raw_vec_and_offset().0;
    world.broadcast(0, &mut values);
    world.broadcast(0, &mut flat);
    Ok((values, Array2::from_shape_vec((markers.n(), k), flat).expect("n rows of k")))
}

/// The `k` largest eigenvalues of a symmetric matrix, descending, and their vectors as columns.
fn leading(a: Array2<f64>, k: usize) -> Result<(Vec<f64>, Array2<f64>)> {
    let eigen = Eigen::new(a)?;
    let values = eigen.values.iter().rev().take(k).copied().collect();
    let last_first = eigen.vectors.slice(s![..;-1, ..]);
    Ok((values, last_first.slice(s![..k, ..]).t().as_standard_layout().into_owned()))
}

/// By products with G alone.
pub(super) fn krylov(markers: &GenotypeMatrix, k: usize, seed: u64) -> Result<(Vec<f64>, Array2<f64>)> {
    let rows = markers.row_layout();
    let n = rows.total();
    let width = (k + SPARE).min(n);
    let mut start = orthonormal(&rows, gaussian(&rows, width, seed))?;
    let (mut found, mut settled) = (None, false);
    for _ in 0..RESTARTS {
        let (basis, image) = space(markers, start)?;
        // Rayleigh and Ritz: the best vectors within the space
        let small = rows.cross(basis.view(), image.view(), None);
        let (values, inside) = rows.world().on_root(|| leading(small, width.min(basis.ncols())))?;
        let vectors = product(basis.view(), inside.view());
        let residual = product(image.view(), inside.view()) - &vectors * &ndarray::aview1(&values);
        let worst = largest(rows.lengths(residual.view()).into_iter().take(k));
        let done = worst <= TOLERANCE * values[0].abs();
        found = Some((values[..k].to_vec(), vectors.slice(s![.., ..k]).to_owned()));
        settled = done || basis.ncols() == n;
        if settled {
            break;
        }
        start = orthonormal(&rows, vectors)?;
    }
    if !settled {
        log::warn!("the last principal components did not settle: their eigenvalues lie too close together");
    }
    let (values, own) = found.expect("at least one round");
    Ok((values, rows.gather(own.view()).into_owned()))
}

/// An orthonormal basis of `start` and its repeated products with G, and the basis's product with G, this rank's rows.
fn space(markers: &GenotypeMatrix, start: Array2<f64>) -> Result<(Array2<f64>, Array2<f64>)> {
    let rows = markers.row_layout();
    let mut image = markers.grm_times(start.view());
    let mut basis = start;
    let mut newest = image.clone();
    for _ in 1..BLOCKS {
        // twice is enough (Parlett 1998, section 6.9)
        for _ in 0..2 {
            newest -= &product(basis.view(), rows.cross(basis.view(), newest.view(), None).view());
            newest = orthonormal(&rows, newest)?;
        }
        let capacity = rows.total() - basis.ncols();
        newest = newest.slice(s![.., ..newest.ncols().min(capacity)]).to_owned();
        if newest.ncols() == 0 {
            break;
        }
        let product = markers.grm_times(newest.view());
        basis = side_by_side(basis.view(), newest.view());
        image = side_by_side(image.view(), product.view());
        newest = product;
    }
    Ok((basis, image))
}

fn side_by_side(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Array2<f64> {
    concatenate(Axis(1), &[a, b]).expect("as many rows").as_standard_layout().into_owned()
}

/// Orthonormal columns that span those of `a`, this rank's rows, without directions that are mere rounding errors
/// (Stathopoulos & Wu 2002, SIAM J. Sci. Comput. 23:2165). The root decides on them for all ranks: eigenvectors are
/// free to turn with rounding errors.
fn orthonormal(rows: &Rows, mut a: Array2<f64>) -> Result<Array2<f64>> {
    for _ in 0..2 {
        // Columns of length 1 first: then no scale hides another.
        let lengths = rows.lengths(a.view());
        Rows::for_each(&mut a, |_, row| {
            row.iter_mut().zip(&lengths).for_each(|(x, &l)| *x = if l > 0.0 { *x / l } else { 0.0 });
        });
        let gram = rows.cross(a.view(), a.view(), None);
        let count = gram.nrows();
        let (values, vectors) = rows.world().on_root(|| leading(gram, count))?;
        let kept = values.iter().take_while(|&&v| v > NEGLIGIBLE * values[0]).count();
        let scaled = Array2::from_shape_fn((count, kept), |(i, c)| vectors[[i, c]] / values[c].sqrt());
        a = product(a.view(), scaled.view());
    }
    Ok(a)
}

/// Independent standard normal numbers, this rank's rows (n_r, k): each chunk of rows has a stream a column.
fn gaussian(rows: &Rows, k: usize, seed: u64) -> Array2<f64> {
    rows.random(0..k, |chunk, column| Stream::new(seed, Purpose::Components, (chunk << 32) + column))
}

/// The same vectors with the largest absolute entry of each positive.
fn with_fixed_signs(mut vectors: Array2<f64>) -> Array2<f64> {
    for mut column in vectors.columns_mut() {
        let largest = column.iter().fold(0.0f64, |a, &x| if x.abs() > a.abs() { x } else { a });
        if largest < 0.0 {
            column.mapv_inplace(|x| -x);
        }
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::World;
    use crate::device;
    use crate::grm::Scaling;
    use crate::packed::Packed;

    /// Four families of unequal size whose frequencies drifted apart, so that the first components are clear.
    fn herd(n: usize, m: usize) -> GenotypeMatrix {
        let mut s = Stream::new(3, Purpose::Test, n as u64);
        let mut codes = vec![0u8; n * m];
        for j in 0..m {
            let p: Vec<f64> = (0..4).map(|_| 0.1 + 0.8 * s.uniform()).collect();
            for i in 0..n {
                let p = p[(i * i / n) % 4];
                let x = u8::from(s.uniform() < p) + u8::from(s.uniform() < p);
                codes[i * m + j] = if s.below(30) == 0 { 3 } else { x };
            }
        }
        let packed = Packed::from_codes(n, m, &codes);
        let backend = device::open("cpu").unwrap();
        GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, m, Scaling::VanRaden1).unwrap()
    }

    #[test]
    fn products_alone_find_the_components_of_the_decomposition() {
        // 300 x 500: the usual case; 60 x 30: fewer SNPs than the space has columns, so it is exhausted
        for (n, m, k) in [(300, 500, 8), (60, 30, 5)] {
            let markers = herd(n, m);
            let (values, vectors) = exact(&markers, k).unwrap();
            let (found, directions) = krylov(&markers, k, 1).unwrap();
            let (vectors, directions) = (with_fixed_signs(vectors), with_fixed_signs(directions));
            for (a, b) in found.iter().zip(&values) {
                assert!((a - b).abs() < 1e-10 * values[0], "{a} {b}");
            }
            for (a, b) in directions.iter().zip(&vectors) {
                assert!((a - b).abs() < 1e-6, "{n} {m}: {a} {b}");
            }
        }
    }

    #[test]
    fn components_are_orthonormal_eigenvectors_with_fixed_signs() {
        let markers = herd(80, 200);
        let pca = pca(&markers, 80, 1).unwrap();
        let gram = pca.vectors.t().dot(&pca.vectors);
        assert!((&gram - &Array2::<f64>::eye(80)).iter().all(|d| d.abs() < 1e-12));
        let image = markers.grm_times(pca.vectors.view());
        let scaled = &pca.vectors * &ndarray::aview1(&pca.values);
        assert!((&image - &scaled).iter().all(|d| d.abs() < 1e-11));
        assert!((pca.explained.iter().sum::<f64>() - 1.0).abs() < 1e-10, "all of them explain all");
        for column in pca.vectors.columns() {
            let low = column.iter().copied().fold(0.0, f64::min);
            assert!(column.iter().any(|&x| x >= -low));
        }
    }

    #[test]
    fn animals_that_do_not_differ_have_no_components() {
        let packed = Packed::from_codes(12, 20, &[1; 12 * 20]);
        let backend = device::open("cpu").unwrap();
        let markers =
            GenotypeMatrix::from_packed(&World::alone(), backend, packed, 0, 20, Scaling::VanRaden1).unwrap();
        assert!(pca(&markers, 2, 1).unwrap_err().to_string().contains("do not differ"));
    }

    #[test]
    fn more_components_than_animals_are_refused() {
        assert_eq!(pca(&herd(10, 50), 11, 1).unwrap_err().exit_code(), 2);
        assert_eq!(pca(&herd(10, 50), 0, 1).unwrap_err().exit_code(), 2);
    }
}
