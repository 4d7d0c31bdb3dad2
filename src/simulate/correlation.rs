//! The genetic correlations: from named pairs to a matrix, and its Cholesky factor.

use super::config::{SimulationConfig, TraitConfig};
use ndarray::Array2;

/// Correlations of the polygenic parts never come nearer to one than this.
const LARGEST: f64 = 0.95;
/// A pivot below this share of its diagonal counts as singular.
const SINGULAR: f64 = 1e-9;

/// The wanted correlations of the additive values of the simulated traits: (t, t).
pub fn wanted(config: &SimulationConfig) -> Array2<f64> {
    let traits = config.selected();
    let mut r = Array2::eye(traits.len());
    let means = |t: &TraitConfig, name: &String| &t.name == name || &t.group == name;
    for c in &config.correlation {
        let [a, b] = &c.between;
        for i in 0..traits.len() {
            for j in 0..i {
                let (s, t) = (&traits[i], &traits[j]);
                if means(s, a) && means(t, b) || means(s, b) && means(t, a) {
                    r[[i, j]] = c.r;
                    r[[j, i]] = c.r;
                }
            }
        }
    }
    r
}

/// Correlations that the polygenic parts need so that, together with the genes of large effect, the additive
/// values have the wanted ones; made positive definite by shrinking towards zero where they contradict each
/// other. Returns the Cholesky factor and how much was shrunk (0 to 1).
pub fn polygenic(config: &SimulationConfig) -> (Array2<f64>, f64) {
    let traits = config.selected();
    let mut r = wanted(config);
    for i in 0..traits.len() {
        for j in 0..i {
            let product = traits[i].h2 * traits[j].h2;
            if product == 0.0 {
                continue;
            }
            let polygenic = (polygenic_share(config, i) * polygenic_share(config, j)).max(0.0);
            let common: f64 = config
                .major
                .iter()
                .map(|gene| {
                    let share = |t: usize| gene.effects.get(&traits[t].name).copied().unwrap_or(0.0);
                    share(i).signum() * share(j).signum() * (share(i) * share(j)).abs().sqrt()
                })
                .sum();
            let left = r[[i, j]] - common / product.sqrt();
            let rho = if polygenic > 0.0 { (left / polygenic.sqrt()).clamp(-LARGEST, LARGEST) } else { 0.0 };
            r[[i, j]] = rho;
            r[[j, i]] = rho;
        }
    }
    shrunk(&r)
}

/// Share of trait `t`'s additive variance that is not made by genes of large effect.
fn polygenic_share(config: &SimulationConfig, t: usize) -> f64 {
    let of = &config.selected()[t];
    let majors: f64 = config.major.iter().filter_map(|g| g.effects.get(&of.name)).map(|s| s.abs()).sum();
    1.0 - majors / of.h2
}

/// The Cholesky factor of `r` with its off-diagonals shrunk as little as needed, in steps of one percent.
fn shrunk(r: &Array2<f64>) -> (Array2<f64>, f64) {
    for step in 0..=100 {
        let keep = 1.0 - f64::from(step) / 100.0;
        let mut tried = r * keep;
        tried.diag_mut().fill(1.0);
        if let Some(factor) = cholesky(&tried) {
            return (factor, 1.0 - keep);
        }
    }
    (Array2::eye(r.nrows()), 1.0)
}

/// Lower factor L with L L' = `a`; `None` when `a` is not positive definite.
pub fn cholesky(a: &Array2<f64>) -> Option<Array2<f64>> {
    let n = a.nrows();
    let mut l = Array2::<f64>::zeros((n, n));
    for j in 0..n {
        let pivot = a[[j, j]] - (0..j).map(|k| l[[j, k]] * l[[j, k]]).sum::<f64>();
        // Also false for NaN.
        let positive = pivot > SINGULAR * a[[j, j]];
        if !positive {
            return None;
        }
        l[[j, j]] = pivot.sqrt();
        for i in j + 1..n {
            let rest = a[[i, j]] - (0..j).map(|k| l[[i, k]] * l[[j, k]]).sum::<f64>();
            l[[i, j]] = rest / l[[j, j]];
        }
    }
    Some(l)
}

/// The matrix M = `to` `from`⁻¹ of two lower triangular factors: it turns the covariance L L' of one into that of
/// the other.
pub fn change_of_factor(from: &Array2<f64>, to: &Array2<f64>) -> Array2<f64> {
    let n = from.nrows();
    let mut m = Array2::<f64>::zeros((n, n));
    for i in 0..n {
        for j in (0..=i).rev() {
            let known: f64 = (j + 1..=i).map(|k| m[[i, k]] * from[[k, j]]).sum();
            m[[i, j]] = (to[[i, j]] - known) / from[[j, j]];
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_correlations_do_not_contradict_each_other() {
        let mut config = SimulationConfig::default();
        for traits in [1, 8, 33] {
            config.traits = Some(traits);
            let (factor, shrunk) = polygenic(&config);
            assert_eq!(shrunk, 0.0, "{traits} traits");
            let r = factor.dot(&factor.t());
            assert!(r.diag().iter().all(|d| (d - 1.0).abs() < 1e-12));
        }
        let names: Vec<&str> = config.selected().iter().map(|t| t.name.as_str()).collect();
        let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
        let r = wanted(&config);
        assert!(r[[at("mastitis"), at("somatic_cells")]] > 0.5);
        assert_eq!(r[[at("mastitis"), at("milk")]], 0.28);
        assert_eq!(r[[at("milk"), at("conception")]], -0.60);
    }

    #[test]
    fn contradicting_correlations_are_shrunk() {
        let mut r = Array2::eye(3);
        for (i, j, v) in [(0, 1, 0.9), (1, 2, 0.9), (0, 2, -0.9)] {
            r[[i, j]] = v;
            r[[j, i]] = v;
        }
        let (factor, shrunk) = shrunk(&r);
        assert!(shrunk > 0.3 && shrunk < 0.6, "{shrunk}");
        assert!((factor.dot(&factor.t())[[0, 1]] - 0.9 * (1.0 - shrunk)).abs() < 1e-12);
    }

    #[test]
    fn a_factor_is_changed_into_another() {
        let a = ndarray::array![[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]];
        let b = ndarray::array![[1.0, -0.5, 0.0], [-0.5, 1.0, 0.4], [0.0, 0.4, 1.0]];
        let (la, lb) = (cholesky(&a).unwrap(), cholesky(&b).unwrap());
        let m = change_of_factor(&la, &lb);
        let turned = m.dot(&a).dot(&m.t());
        assert!(turned.iter().zip(b.iter()).all(|(x, y)| (x - y).abs() < 1e-12));
        assert!(cholesky(&(-a)).is_none());
    }
}
