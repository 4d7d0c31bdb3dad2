//! Random effects of records as operators: Z K Z' by products with K alone.

use super::Incidence;
use crate::linalg::{Operator, Rows};
use ndarray::{Array2, ArrayView2};

/// A random effect: what its levels are, and the relationships among them.
pub struct Effect<'a> {
    relation: Option<&'a dyn Operator>, // among the animals; without one levels are independent
    animals: Option<Incidence>, // the animal of each record, where records are not the animals themselves
    classes: Vec<Incidence>,    // the class's levels, or for relationships within levels one a level
}

impl<'a> Effect<'a> {
    /// Relationships of the animals, each of whom is one row of the records.
    pub fn of_rows(relation: &'a dyn Operator) -> Effect<'a> {
        Effect { relation: Some(relation), animals: None, classes: Vec::new() }
    }

    /// Relationships of the animals to whom the records belong, (N): several records may belong to one.
    pub fn of_animals(records: &Rows, relation: &'a dyn Operator, animal_of: &[usize]) -> Effect<'a> {
        let of: Vec<Option<usize>> = animal_of.iter().copied().map(Some).collect();
        let animals = Incidence::new(records.clone(), relation.row_layout(), &of);
        Effect { relation: Some(relation), animals: Some(animals), classes: Vec::new() }
    }

    /// Independent levels of a class; `level_of` is that of each record, (N).
    pub fn of_class(records: &Rows, level_of: &[usize], levels: usize) -> Effect<'a> {
        let of: Vec<Option<usize>> = level_of.iter().copied().map(Some).collect();
        let class = Incidence::new(records.clone(), Rows::new(records.world(), levels), &of);
        Effect { relation: None, animals: None, classes: vec![class] }
    }

    /// Relationships of the animals that hold within the levels of a class, K ∘ E: a value for each animal and level.
    pub fn within_class(
        records: &Rows,
        (relation, animal_of): (&'a dyn Operator, &[usize]),
        (level_of, levels): (&[usize], usize),
    ) -> Effect<'a> {
        let of_level = |level: usize| {
            let animals = animal_of.iter().zip(level_of);
            let of: Vec<Option<usize>> = animals.map(|(&a, &l)| (l == level).then_some(a)).collect();
            Incidence::new(records.clone(), relation.row_layout(), &of)
        };
        let classes = (0..levels).map(of_level).collect();
        Effect { relation: Some(relation), animals: None, classes }
    }

    /// The relationships of animals to whom records belong whatever their class.
    pub fn relation_of_animals(&self) -> Option<(&'a dyn Operator, Option<&Incidence>)> {
        self.relation.filter(|_| self.classes.is_empty()).map(|relation| (relation, self.animals.as_ref()))
    }

    /// Z K Z'V, this rank's records (N_r, k); `quick` products are good to about six digits. Collective.
    pub fn times(&self, block: ArrayView2<f64>, quick: bool) -> Array2<f64> {
        let Some(relation) = self.relation else {
            let class = &self.classes[0];
            return class.times(class.transposed_times(block).view());
        };
        let product = |v: ArrayView2<f64>| match quick {
            true => relation.apply_quickly(v),
            false => relation.apply(v),
        };
        if let Some(animals) = &self.animals {
            return animals.times(product(animals.transposed_times(block).view()).view());
        }
        if self.classes.is_empty() {
            return product(block);
        }
        let within = |level: &Incidence| level.times(product(level.transposed_times(block).view()).view());
        self.classes.iter().map(within).reduce(|a, b| a + b).expect("a class has levels")
    }

    /// K Z'V of all levels: û / σ² for V = V⁻¹(y − Xb̂). Whole on every rank, (levels, k); for relationships within
    /// the levels of a class the animals level by level. Collective.
    pub fn solutions(&self, block: ArrayView2<f64>) -> Array2<f64> {
        let apply = |v: Array2<f64>| self.relation.map_or_else(|| v.clone(), |k| k.apply(v.view()));
        if let (Some(relation), None, true) = (self.relation, &self.animals, self.classes.is_empty()) {
            return relation.row_layout().gather(apply(block.to_owned()).view()).into_owned();
        }
        let of = |incidence: &Incidence| {
            let own = apply(incidence.transposed_times(block));
            incidence.columns().gather(own.view()).into_owned()
        };
        let parts: Vec<Array2<f64>> = self.animals.iter().chain(&self.classes).map(of).collect();
        let views: Vec<ArrayView2<f64>> = parts.iter().map(|p| p.view()).collect();
        ndarray::concatenate(ndarray::Axis(0), &views).expect("parts of k columns")
    }

    /// The diagonal of Z K Z', (N_r). Collective.
    pub fn diagonal(&self) -> Vec<f64> {
        let of_rows = |incidence: &Incidence, diagonal: Vec<f64>| {
            let column = ndarray::Array1::from(diagonal).insert_axis(ndarray::Axis(1));
            incidence.times(column.view()).into_raw_vec_and_offset().0
        };
        match (self.relation, &self.animals) {
            (None, _) => of_rows(&self.classes[0], vec![1.0; self.classes[0].columns().count()]),
            (Some(relation), Some(animals)) => of_rows(animals, relation.diagonal()),
            (Some(relation), None) if self.classes.is_empty() => relation.diagonal(),
            (Some(relation), None) => {
                let parts = self.classes.iter().map(|level| of_rows(level, relation.diagonal()));
                parts
                    .reduce(|a, b| a.iter().zip(b).map(|(x, y)| x + y).collect())
                    .expect("a class has levels")
            }
        }
    }
}
