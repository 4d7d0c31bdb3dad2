//! The matrices of relationships that can be asked for by name.

use super::Scaling;

/// How a matrix of relationships comes from genotypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// G = Z Z' / c.
    Product(Scaling),
    /// G of [`Scaling::VanRaden2`] with the diagonal 1 + Σ_j (x² − (1 + 2p_j)x + 2p_j²) / (2p_jq_j) / c, whose
    /// sampling variance is smaller (Yang et al. 2011, eq. 3). GCTA itself has had the diagonal of
    /// [`Scaling::VanRaden2`] for long (1.94 for certain).
    Yang,
    /// G∘G / (tr(G∘G)/n) of [`Scaling::VanRaden1`]: additive by additive epistasis (Henderson 1985;
    /// Vitezica et al. 2017).
    Epistasis,
}

impl Method {
    /// All methods.
    pub const ALL: [Method; 5] = [
        Method::Product(Scaling::VanRaden1),
        Method::Product(Scaling::VanRaden2),
        Method::Yang,
        Method::Product(Scaling::Dominance),
        Method::Epistasis,
    ];

    /// The name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            Method::Product(scaling) => scaling.name(),
            Method::Yang => "yang",
            Method::Epistasis => "epistasis",
        }
    }

    /// The method of that name.
    pub fn named(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|m| m.name() == name)
    }

    /// The Z that it starts from.
    pub fn scaling(self) -> Scaling {
        match self {
            Method::Product(scaling) => scaling,
            Method::Yang => Scaling::VanRaden2,
            Method::Epistasis => Scaling::VanRaden1,
        }
    }

    /// The scaling whose SNP effects follow from predictions with this matrix: there are some only where the
    /// matrix is Z Z' / c.
    pub fn effects(self) -> Option<Scaling> {
        match self {
            Method::Product(scaling) => Some(scaling),
            Method::Yang | Method::Epistasis => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_own_name() {
        for method in Method::ALL {
            assert_eq!(Method::named(method.name()), Some(method));
            assert!(method.effects().is_none_or(|f| f == method.scaling() && f.name() == method.name()));
        }
        assert_eq!(Method::named("VanRaden"), None);
    }
}
