//! A learner that is fitted to some of the training animals, and to synthetic ones beside them or in their place.
//!
//! A generator learns from the chosen animals with their records as conditions. A synthetic animal has the condition
//! of a training animal that is drawn for it, and is then learned from as if that animal's records were its own.

use super::{Cost, Learned, Learner, Trained, Training};
use crate::error::{Error, Result};
use crate::generate::stream::{to_store, Request};
use crate::generate::{Conditions, Herd, Kind, Model, Setting};
use crate::genotype::store::StoreWriter;
use crate::genotype::Store;
use crate::mixed::Group;
use crate::nn::checkpointer::Checkpointer;
use crate::nn::mlp::standardise;
use crate::nn::Synthetic;
use crate::predict::data::{Block, Data};
use crate::records::Phenotypes;
use crate::rng::{Purpose, Stream};
use ndarray::{concatenate, s, Array2, Axis};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Animals that are copied at a time.
const BLOCK: usize = 1024;

/// The learner.
pub struct Augmented {
    /// Kind of the generator.
    pub generator: &'static Kind,
    /// Its settings, as TOML.
    pub settings: String,
    /// Real animals.
    pub reference: usize,
    /// Synthetic animals for each of them.
    pub times: usize,
    /// Whether the real ones are left out once the generator has learned from them; they still validate.
    pub alone: bool,
    /// Where synthetic animals are kept for other models of the same reference.
    pub folder: PathBuf,
    /// The model itself.
    pub inner: Box<dyn Learner>,
}

impl Learner for Augmented {
    fn settings(&self) -> String {
        self.inner.settings()
    }

    fn varies_with_ranks(&self) -> bool {
        self.times > 0 || self.inner.varies_with_ranks()
    }

    fn is_stochastic(&self) -> bool {
        self.inner.is_stochastic()
    }

    fn reads_features(&self) -> bool {
        self.inner.reads_features()
    }

    /// Nothing of the real animals' data is shared: other animals are chosen, and more are added.
    fn reads(&self) -> Vec<Block> {
        Vec::new()
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        sets.iter().map(|set| self.fit_one(data, set)).collect()
    }

    fn train(
        &self,
        _data: &Data,
        _set: &Training,
        _checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Trained> {
        let advice = "train the model without [model.augment], or on a store of both (docs/generators.md)";
        Err(Error::input("[model.augment]", "a model of real animals to keep", "synthetic ones", advice))
    }

    fn methods(&self) -> String {
        let beside = if self.alone { "in their place" } else { "beside them" };
        match self.times {
            0 => format!("Fitted to {} of the training animals. {}", self.reference, self.inner.methods()),
            times => format!(
                "Fitted to {} of the training animals, with {times} synthetic animals for each {beside} by a {} that learned \
                 from these with their records as conditions. {}",
                self.reference,
                self.generator.name,
                self.inner.methods()
            ),
        }
    }

    fn cost(&self, _n: f64, m: f64, t: f64) -> Cost {
        self.inner.cost((self.reference * (1 + self.times)) as f64, m, t)
    }
}

impl Augmented {
    fn fit_one(&self, data: &Data, set: &Training) -> Result<Learned> {
        let (world, store) = (&data.world, data.store);
        let chosen = world.agree(self.choose(set))?;
        let mut real = set.records.clone();
        let mut kept = vec![false; real.y.nrows()];
        chosen.iter().for_each(|&i| kept[i] = true);
        clear(&mut real, |i| !kept[i]);
        let fit = |store: &Store, set: Training| {
            let data = Data::new(world, data.device.clone(), store);
            let learned = self.inner.fit(&data, std::slice::from_ref(&set))?;
            Ok(learned.into_iter().next().expect("one set, one fit"))
        };
        let (seed, split_seed) = (set.seed, set.split_seed);
        if self.times == 0 {
            let groups = Group::among(&real, |_| true);
            return fit(store, Training { groups, records: real, seed, split_seed, synthetic: None });
        }
        let path = self.folder.join(format!("{}.h5", self.key(set, &chosen)));
        let start = Instant::now();
        if !world.on_root(|| Ok(path.exists()))? {
            self.generate(data, &real, &chosen, split_seed, &path)?;
        }
        let generating = start.elapsed().as_secs_f64();
        let count = self.times * chosen.len();
        let donor = |s: usize| chosen[Conditions::donor(chosen.len(), s as u64, split_seed)];
        let donors: Vec<usize> = (0..count).map(donor).collect();
        let both = self.folder.join("both.h5");
        world.on_root(|| join(store, &path, count, &both))?;
        let joined = world.agree(Store::open(&both))?;
        let records = extended(&real, &donors);
        let groups = Group::among(&records, |i| !self.alone || i >= kept.len());
        // Real animals validate even where none of them is learned from.
        let synthetic = Some(Synthetic { real: kept.len(), donors, reference: chosen });
        let mut learned = fit(&joined, Training { groups, records, seed, split_seed, synthetic })?;
        learned.values = learned.values.slice(s![..kept.len(), ..]).to_owned();
        learned.seconds += generating;
        world.barrier();
        drop(joined);
        world.on_root(|| {
            // It may be gone already; what is left of it does no harm.
            let _ = std::fs::remove_file(&both);
            Ok(())
        })?;
        Ok(learned)
    }

    /// The real animals: the same for all models with the same training animals, and part of any larger reference.
    fn choose(&self, set: &Training) -> Result<Vec<usize>> {
        let mut all = set.animals();
        if all.len() < self.reference {
            let expected = format!("at least {} training animals with records", self.reference);
            return Err(Error::input("reference", expected, all.len(), "choose a smaller `reference`"));
        }
        let first = all.first().copied().unwrap_or_default();
        Stream::new(set.split_seed, Purpose::Reference, first as u64).shuffle(&mut all);
        all.truncate(self.reference);
        all.sort_unstable();
        Ok(all)
    }

    /// What the synthetic animals depend on.
    fn key(&self, set: &Training, chosen: &[usize]) -> String {
        let of = (self.generator.name, &self.settings, chosen, set.split_seed, self.times);
        let bytes = postcard::to_stdvec(&of).expect("plain values serialize");
        format!("synthetic_{:08x}", crc32fast::hash(&bytes))
    }

    /// Trains the generator and writes its animals. Collective.
    fn generate(
        &self,
        data: &Data,
        real: &Phenotypes,
        chosen: &[usize],
        seed: u64,
        path: &Path,
    ) -> Result<()> {
        let world = &data.world;
        let settings = (&self.settings[..], Path::new("[model.augment.settings]"));
        let recipe = world.agree((self.generator.configure)(Some(settings)))?;
        let m = data.store.n_variants();
        let ranks = recipe.ranks(world, &data.device, self.generator.split, m)?;
        let conditions = world.agree(conditions(real, chosen))?;
        let herd = Herd::read(&ranks, data.store, chosen, Some(conditions), seed)?;
        let setting = Setting { ranks: &ranks, device: &data.device, seed };
        let generator = recipe.train(&setting, &herd, None)?.generator;
        let mut model = Model::new(self.generator, &*recipe, &herd, generator);
        let animals = self.times * chosen.len();
        let request = Request { animals, first: 0, conditions: None, seed };
        to_store(&mut model, &ranks, &request, path, true)
    }
}

/// The animals of a store, and the first `count` of those in `path`, in one store. On the root.
fn join(real: &Store, path: &Path, count: usize, both: &Path) -> Result<()> {
    let made = Store::open(path)?;
    let (n, m) = (real.n_animals(), real.n_variants());
    let mut writer = StoreWriter::create(both, n + count, m, true)?;
    for (store, first, rows) in [(real, 0, n), (&made, n, count)] {
        for start in (0..rows).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(rows);
            writer.write_rows(first + start, &store.read(block, 0..m)?)?;
        }
    }
    let mut animals = real.animals().clone();
    let more = made.animals();
    animals.id.extend_from_slice(&more.id[..count]);
    animals.birth_date.extend_from_slice(&more.birth_date[..count]);
    animals.sire.extend_from_slice(&more.sire[..count]);
    animals.dam.extend_from_slice(&more.dam[..count]);
    animals.sex.extend_from_slice(&more.sex[..count]);
    animals.group.extend_from_slice(&more.group[..count]);
    writer.finish(&animals, real.variants())
}

/// The records without fixed effects of the chosen animals, in units of their spread; the mean where one is missing.
fn conditions(real: &Phenotypes, chosen: &[usize]) -> Result<Conditions> {
    let mut used = vec![false; real.y.nrows()];
    chosen.iter().for_each(|&i| used[i] = true);
    let records = standardise(real, &used)?;
    let values = records.y.select(Axis(0), chosen).mapv(|y| if y.is_nan() { 0.0 } else { y });
    let mean = vec![0.0; real.traits.len()];
    Ok(Conditions { names: real.traits.clone(), mean, sd: records.sd, values })
}

/// Takes away the records of some animals.
fn clear(records: &mut Phenotypes, of: impl Fn(usize) -> bool) {
    for (i, mut row) in records.y.rows_mut().into_iter().enumerate() {
        if of(i) {
            row.fill(f64::NAN);
        }
    }
}

/// The records of all real animals, then those of the donors.
fn extended(real: &Phenotypes, donors: &[usize]) -> Phenotypes {
    let both = |x: &Array2<f64>| {
        concatenate(Axis(0), &[x.view(), x.select(Axis(0), donors).view()]).expect("the same columns")
    };
    Phenotypes {
        y: both(&real.y),
        design: both(&real.design),
        weights: real.weights.as_ref().map(both),
        features: real.features.extended(donors),
        ..real.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::World;
    use crate::device::network::Network;
    use crate::device::open;
    use crate::generate::{Generator, Header, Reader, Recipe, Writer};
    use crate::nn::Ranks;
    use crate::packed::Packed;
    use crate::predict::learner::tests::store;
    use ndarray::ArrayView2;
    use std::cell::RefCell;
    use std::ops::Range;
    use std::rc::Rc;
    use std::sync::Arc;

    /// Gives the training animal whose conditions are asked for.
    struct Copies(Arc<Packed>, Array2<f64>);

    impl Generator for Copies {
        fn conditions(&self) -> usize {
            self.1.ncols()
        }

        fn draw(
            &mut self,
            _: &Ranks,
            animals: Range<u64>,
            conditions: Option<ArrayView2<f64>>,
            _: u64,
        ) -> Result<Packed> {
            let wanted = conditions.expect("asked with conditions");
            assert_eq!(wanted.nrows() as u64, animals.end - animals.start);
            let same = |c: &ndarray::ArrayView1<f64>| {
                self.1.rows().into_iter().position(|r| r == c).expect("one of the training animals")
            };
            let rows: Vec<usize> = wanted.rows().into_iter().map(|c| same(&c)).collect();
            Ok(self.0.select(&rows, &(0..self.0.columns()).collect::<Vec<_>>()))
        }

        fn write(&self, _: &Ranks, _: &mut Writer) -> Result<()> {
            Ok(())
        }
    }

    struct Copying;

    impl Recipe for Copying {
        fn text(&self) -> String {
            String::new()
        }

        fn train(
            &self,
            _: &Setting,
            herd: &Herd,
            _checkpointer: Option<&mut Checkpointer>,
        ) -> Result<crate::generate::Trained> {
            let values = herd.conditions.as_ref().expect("conditions").values.clone();
            let generator = Box::new(Copies(herd.packed.clone(), values));
            Ok(crate::generate::Trained { generator, curve: Default::default() })
        }
    }

    fn never(_: &Reader, _: &Header, _: &Ranks, _: &Arc<dyn Network>) -> Result<Box<dyn Generator>> {
        unreachable!("nothing is read here")
    }

    static COPIES: Kind = Kind {
        name: "copies",
        about: "training animals",
        split: true,
        conditional: true,
        resumes: false,
        configure: |_| Ok(Box::new(Copying)),
        read: never,
    };

    const N: usize = 40;
    const M: usize = 30;

    /// The first 30 animals train; two traits, one record missing; records 100 apart name their animal.
    fn set() -> Training {
        let y = Array2::from_shape_fn((N, 2), |(i, t)| match (i, t) {
            (30.., _) | (3, 1) => f64::NAN,
            _ => (100 * t + i) as f64,
        });
        let design = Array2::from_shape_fn((N, 2), |(i, q)| if q == 0 { 1.0 } else { (i % 3) as f64 });
        let effects = vec!["intercept".into(), "age".into()];
        let records =
            Phenotypes { traits: vec!["a".into(), "b".into()], y, effects, design, ..Phenotypes::default() };
        Training {
            groups: Group::among(&records, |_| true),
            records,
            seed: 5,
            split_seed: 5,
            synthetic: None,
        }
    }

    type Handed = Option<(Packed, Training)>;

    /// Notes what it is handed: rows of the genotypes and records.
    struct Spy(Rc<RefCell<Handed>>);

    impl Learner for Spy {
        fn settings(&self) -> String {
            String::new()
        }

        fn reads(&self) -> Vec<Block> {
            Vec::new()
        }

        fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
            let (n, set) = (data.animals(), &sets[0]);
            *self.0.borrow_mut() = Some((data.store.read(0..n, 0..M)?, set.clone()));
            let values = Array2::from_shape_fn((n, 2), |(i, t)| (2 * i + t) as f64);
            let (traits, fixed) = (set.traits(), Array2::zeros((2, 2)));
            let trained = set.recorded();
            let estimates = vec![None; 2];
            let weights = Vec::new();
            Ok(vec![Learned { traits, trained, values, fixed, estimates, weights, seconds: 0.0 }])
        }

        fn train(&self, _: &Data, _: &Training, _: Option<&mut Checkpointer>) -> Result<Trained> {
            unreachable!("only values are asked for")
        }

        fn methods(&self) -> String {
            String::new()
        }

        fn cost(&self, _: f64, _: f64, _: f64) -> Cost {
            Cost { operations: 0.0, bytes: 0.0 }
        }
    }

    fn augmented(
        folder: &Path,
        reference: usize,
        times: usize,
        alone: bool,
    ) -> (Augmented, Rc<RefCell<Handed>>) {
        let seen = Rc::new(RefCell::new(None));
        let (folder, inner) = (folder.to_owned(), Box::new(Spy(seen.clone())));
        let settings = String::new();
        (Augmented { generator: &COPIES, settings, reference, times, alone, folder, inner }, seen)
    }

    fn handed(times: usize, alone: bool) -> (Packed, Training, Packed, Learned) {
        let folder = tempfile::tempdir().unwrap();
        let (store, real) = store(folder.path(), N, M);
        let (learner, seen) = augmented(folder.path(), 20, times, alone);
        let data = Data::new(&World::alone(), open("cpu").unwrap(), &store);
        let learned = learner.fit(&data, &[set()]).unwrap().remove(0);
        let again = learner.fit(&data, &[set()]).unwrap().remove(0);
        assert_eq!(learned.values, again.values);
        let (packed, set) = seen.take().unwrap();
        (packed, set, real, learned)
    }

    #[test]
    fn synthetic_animals_stand_behind_all_real_ones_with_the_records_of_their_donors() {
        let (packed, set, real, learned) = handed(3, false);
        let records = set.records;
        assert_eq!((packed.rows(), learned.values.dim()), (N + 60, (N, 2)));
        assert_eq!(learned.values[[7, 1]], 15.0);
        assert_eq!(
            learned.trained,
            [0, 1].map(|t| records.y.column(t).iter().filter(|y| !y.is_nan()).count())
        );
        let of_trait = |i: usize| records.y[[i, 0]];
        let chosen: Vec<usize> = (0..N).filter(|&i| !of_trait(i).is_nan()).collect();
        assert!(chosen.len() == 20 && chosen.iter().all(|&i| i < 30));
        assert!((0..N).all(|i| packed.row(i) == real.row(i)));
        let mut donors = Vec::new();
        for i in N..N + 60 {
            let donor = of_trait(i) as usize;
            assert!(chosen.contains(&donor) && packed.row(i) == real.row(donor), "{i}");
            assert_eq!(records.design.row(i), records.design.row(donor));
            assert_eq!(records.y[[i, 1]].is_nan(), donor == 3);
            donors.push(donor);
        }
        donors.sort_unstable();
        donors.dedup();
        assert!(donors.len() > 10);
    }

    #[test]
    fn synthetic_animals_may_stand_alone_and_real_ones_too() {
        let (packed, set, ..) = handed(1, true);
        assert_eq!((packed.rows(), set.animals()), (N + 20, (N..N + 20).collect()));
        let (packed, set, ..) = handed(0, false);
        assert!(packed.rows() == N && set.animals().len() == 20 && set.synthetic.is_none());
    }

    #[test]
    fn real_animals_validate_and_nobody_with_their_records_is_learned_from() {
        for alone in [false, true] {
            let (_, set, ..) = handed(3, alone);
            let (train, validation) = set.divide(0.25);
            assert!(validation.len() == 5 && validation.iter().all(|&i| i < N), "{validation:?}");
            assert!(validation.iter().all(|&i| !set.records.y[[i, 0]].is_nan()));
            assert!(train.iter().all(|&i| !validation.contains(&set.origin(i))));
            assert!(train.iter().any(|&i| i >= N) && train.iter().any(|&i| i < N) != alone);
        }
    }

    #[test]
    fn smaller_references_are_parts_of_larger_ones() {
        let folder = tempfile::tempdir().unwrap();
        let choose = |reference: usize| augmented(folder.path(), reference, 0, false).0.choose(&set());
        let (small, large) = (choose(10).unwrap(), choose(20).unwrap());
        assert!(small.len() == 10 && small.iter().all(|i| large.contains(i)));
        assert!(choose(31).unwrap_err().to_string().contains("smaller `reference`"));
    }
}
