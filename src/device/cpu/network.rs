//! Networks on the processor, in f32.

use super::Held;
use crate::device::network::Layers;

impl Layers for Held {
    type Real = f32;

    fn value(&self, i: usize, j: usize) -> f64 {
        self.tables.coding(j)[usize::from(self.packed.get(i, j))]
    }

    fn snps(&self) -> usize {
        self.packed.columns()
    }
}
