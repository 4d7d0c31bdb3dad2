//! What learners read of a herd: genotypes and relationships, made when first asked for, shared, and freed when nobody
//! will read them again.

use crate::comm::World;
use crate::device::network::Network;
use crate::error::Result;
use crate::genotype::Store;
use crate::grm::{explicit, GenotypeMatrix, Scaling};
use crate::trees;
use ndarray::Array2;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A part of the data that several learners may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Z, this rank's SNPs of all animals.
    Genotypes(Scaling),
    /// G = Z Z' / c of all animals, (n, n), on every rank.
    Relationships(Scaling),
    /// The calls of this rank's SNPs as trees read them: where each tree asks about some SNPs only, or about all.
    Calls {
        /// Whether it asks about some only.
        some: bool,
    },
}

/// The animals of a store, as learners read them.
pub struct Data<'a> {
    /// The ranks.
    pub world: World,
    /// What computes.
    pub device: Arc<dyn Network>,
    /// The genotypes on disk.
    pub store: &'a Store,
    genotypes: RefCell<Vec<(Scaling, Rc<GenotypeMatrix>)>>,
    relationships: RefCell<Vec<(Scaling, Arc<Array2<f64>>)>>,
    calls: RefCell<Vec<(bool, Rc<trees::Genotypes>)>>,
}

impl<'a> Data<'a> {
    /// Nothing is read yet.
    pub fn new(world: &World, device: Arc<dyn Network>, store: &'a Store) -> Data<'a> {
        let (genotypes, relationships, calls) = Default::default();
        Data { world: world.clone(), device, store, genotypes, relationships, calls }
    }

    /// Animals, n.
    pub fn animals(&self) -> usize {
        self.store.n_animals()
    }

    /// Z. Collective.
    ///
    /// # Errors
    /// What reading the store meets.
    pub fn genotypes(&self, scaling: Scaling) -> Result<Rc<GenotypeMatrix>> {
        if let Some(found) = held(&self.genotypes, scaling) {
            return Ok(found);
        }
        let made = Rc::new(GenotypeMatrix::load(&self.world, self.device.clone(), self.store, scaling)?);
        self.genotypes.borrow_mut().push((scaling, made.clone()));
        Ok(made)
    }

    /// G of all animals, (n, n), on every rank. Collective.
    ///
    /// # Errors
    /// Where memory does not suffice, and what reading the store meets.
    pub fn relationships(&self, scaling: Scaling) -> Result<Arc<Array2<f64>>> {
        if let Some(found) = held(&self.relationships, scaling) {
            return Ok(found);
        }
        let markers = self.genotypes(scaling)?;
        let g = self.world.agree(explicit::grm(&markers))?;
        let made = Arc::new(explicit::share(&self.world, g, markers.n()));
        self.relationships.borrow_mut().push((scaling, made.clone()));
        Ok(made)
    }

    /// Calls for trees that ask about a `share` of the SNPs. Collective.
    ///
    /// # Errors
    /// What reading the store meets.
    pub fn calls(&self, share: f64) -> Result<Rc<trees::Genotypes>> {
        let some = share < 1.0;
        if let Some(found) = held(&self.calls, some) {
            return Ok(found);
        }
        let made = Rc::new(trees::Genotypes::load(&self.world, self.device.clone(), self.store, share)?);
        self.calls.borrow_mut().push((some, made.clone()));
        Ok(made)
    }

    /// Frees what no block in `later` names. The same on all ranks.
    pub fn keep(&self, later: &[Block]) {
        let needed = |block: Block| later.contains(&block);
        self.relationships.borrow_mut().retain(|(scaling, _)| needed(Block::Relationships(*scaling)));
        self.calls.borrow_mut().retain(|(some, _)| needed(Block::Calls { some: *some }));
        self.genotypes.borrow_mut().retain(|(scaling, _)| needed(Block::Genotypes(*scaling)));
    }
}

/// The part of that key, where it was made.
fn held<K: PartialEq, T: Clone>(all: &RefCell<Vec<(K, T)>>, key: K) -> Option<T> {
    all.borrow().iter().find(|(of, _)| *of == key).map(|(_, part)| part.clone())
}
