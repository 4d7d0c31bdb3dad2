//! Boosting and forests as kinds of models.

use super::{Cost, Learned, Learner, Place, Trained, Training};
use crate::config::{self, Settings};
use crate::error::{Error, Result};
use crate::nn::checkpointer::Checkpointer;
use crate::nn::mlp::{standardise, Standardised};
use crate::predict::data::{Block, Data};
use crate::predict::ensemble::EnsembleModel;
use crate::trees::boosting::{self, Fitted, Lesson};
use crate::trees::{forest, Genotypes, Questions};
use ndarray::Array2;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::time::Instant;

/// A way to make trees.
pub trait Grow: Serialize + DeserializeOwned + Default {
    /// Its name as a kind.
    const NAME: &'static str;

    /// An error at `place` unless trees can be grown by it.
    ///
    /// # Errors
    /// Numbers out of their range.
    fn check(&self, place: &str) -> Result<()>;

    /// The share of the SNPs that a tree may ask about.
    fn snps(&self) -> f64;

    /// The share of the training animals that early stopping looks at.
    fn validation(&self) -> f64;

    /// Grows the trees, which a checkpointer may keep. Collective.
    ///
    /// # Errors
    /// What the device meets, and a wish to stop.
    fn fit(
        &self,
        genotypes: &Genotypes,
        lesson: Lesson,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Fitted>;

    /// What is computed, with sources.
    fn methods(&self) -> String;

    /// Sums of SNPs that an animal takes part in over all trees of a trait, in SNPs.
    fn passes(&self, n: f64) -> f64;
}

impl Grow for boosting::Config {
    const NAME: &'static str = "boosting";

    fn check(&self, place: &str) -> Result<()> {
        self.check(place)
    }

    fn snps(&self) -> f64 {
        self.snp_share
    }

    fn validation(&self) -> f64 {
        self.validation
    }

    fn fit(
        &self,
        genotypes: &Genotypes,
        lesson: Lesson,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Fitted> {
        boosting::fit(genotypes, self, lesson, checkpointer)
    }

    fn methods(&self) -> String {
        let stops = match self.validation > 0.0 {
            true => format!(
                "a trait stops after {} rounds without a smaller loss on {:.0} % of the training animals",
                self.patience,
                100.0 * self.validation
            ),
            false => "all rounds are grown".to_owned(),
        };
        format!(
            "Gradient boosting (Friedman 2001) with Newton steps (Chen & Guestrin 2016): at most {} trees of a trait with at \
             most {} leaves in {} levels, of which {} is added, each from {:.0} % of the animals and {:.0} % of the SNPs, λ = \
             {}; {stops}. A split parts the codes {{0}} | {{1, 2}} or {{0, 1}} | {{2}}, missing calls go to the side that gains \
             more. Gradients are rounded at random to 8 bits to choose splits (Shi et al. 2022), leaves are not rounded.",
            self.rounds,
            self.leaves,
            self.depth,
            self.learning_rate,
            100.0 * self.row_share,
            100.0 * self.snp_share,
            self.l2
        )
    }

    fn passes(&self, _n: f64) -> f64 {
        self.rounds as f64 * self.row_share * self.snp_share * (1.0 + 0.5 * self.depth as f64)
    }
}

impl Grow for forest::Config {
    const NAME: &'static str = "forest";

    fn check(&self, place: &str) -> Result<()> {
        self.check(place)
    }

    fn snps(&self) -> f64 {
        1.0
    }

    fn validation(&self) -> f64 {
        0.0
    }

    fn fit(
        &self,
        genotypes: &Genotypes,
        lesson: Lesson,
        checkpointer: Option<&mut Checkpointer>,
    ) -> Result<Fitted> {
        forest::fit(genotypes, self, lesson, checkpointer)
    }

    fn methods(&self) -> String {
        format!(
            "A random forest (Breiman 2001) of {} trees a trait from animals drawn with replacement; each node asks about \
             {:.0} % of the SNPs and keeps at least {} animals on each side. Splits are chosen as in boosting.",
            self.trees,
            100.0 * self.snp_share,
            self.min_animals
        )
    }

    fn passes(&self, n: f64) -> f64 {
        let levels = (n / self.min_animals as f64).max(2.0).log2().min(self.depth as f64);
        self.trees as f64 * self.row_share * (1.0 + 0.5 * levels)
    }
}

/// Checked settings of trees.
pub struct Ensemble<C>(C);

impl<C: Grow> Ensemble<C> {
    /// Reads and checks settings.
    ///
    /// # Errors
    /// Unknown keys, and numbers out of their range.
    pub fn configure(settings: Settings) -> Result<Ensemble<C>> {
        let config: C = settings.read()?;
        config.check(&settings.place())?;
        Ok(Ensemble(config))
    }

    /// Grows the trees of a set; where they are to be a model of its own, with all that is told of it. Collective.
    fn grow(
        &self,
        data: &Data,
        set: &Training,
        (model, checkpointer): (bool, Option<&mut Checkpointer>),
    ) -> Result<(Fitted, Standardised, Questions)> {
        let (train, validation) = set.divide(self.0.validation());
        if train.len() < 2 {
            let expected = "at least two animals to learn from";
            return Err(Error::input("training", expected, train.len(), "add records"));
        }
        let mut used = vec![false; data.animals()];
        train.iter().for_each(|&i| used[i] = true);
        let records = standardise(&set.records, &used)?;
        let questions = Questions::of(&set.records.features, &train);
        let codes = questions.codes(&set.records.features, data.animals())?;
        let genotypes = data.calls(self.0.snps())?.beside(&codes);
        let weights = set.records.weights.as_ref().map(|w| w.view());
        let lesson = Lesson {
            y: records.y.view(),
            weights,
            train: &train,
            validation: &validation,
            seed: set.seed,
            permuted: model.then_some(&questions),
        };
        Ok((self.0.fit(&genotypes, lesson, checkpointer)?, records, questions))
    }
}

/// From units of the records' spread to those of the traits.
fn scale(values: &mut Array2<f64>, records: &Standardised) {
    values.columns_mut().into_iter().zip(&records.sd).for_each(|(mut column, sd)| column *= *sd);
}

impl<C: Grow> Learner for Ensemble<C> {
    fn settings(&self) -> String {
        config::as_text(&self.0)
    }

    fn reads_features(&self) -> bool {
        true
    }

    fn resumes(&self) -> bool {
        true
    }

    fn reads(&self) -> Vec<Block> {
        vec![Block::Calls { some: self.0.snps() < 1.0 }]
    }

    fn fit(&self, data: &Data, sets: &[Training]) -> Result<Vec<Learned>> {
        self.fit_kept(data, sets, &[])
    }

    fn fit_kept(&self, data: &Data, sets: &[Training], places: &[Place]) -> Result<Vec<Learned>> {
        let one = |(number, set): (usize, &Training)| {
            let begun = Instant::now();
            let mut checkpointer = places.get(number).map(|place| place.checkpointer(&data.world));
            let (fitted, records, _) = self.grow(data, set, (false, checkpointer.as_mut()))?;
            let mut values = fitted.values;
            scale(&mut values, &records);
            Ok(Learned::values(set, values, records.fixed, begun.elapsed().as_secs_f64()))
        };
        sets.iter().enumerate().map(one).collect()
    }

    fn train(&self, data: &Data, set: &Training, checkpointer: Option<&mut Checkpointer>) -> Result<Trained> {
        let (fitted, records, questions) = self.grow(data, set, (true, checkpointer))?;
        let curve = fitted.curve.clone();
        let (mut out_of_bag, permutation) = (fitted.out_of_bag.clone(), fitted.permutation.clone());
        if let Some(values) = &mut out_of_bag {
            scale(values, &records);
        }
        let parts = (&set.records, data.store.variants(), questions);
        let model = EnsembleModel::new(C::NAME, fitted, records, parts);
        Ok(Trained { model: Some(Box::new(model)), curve, out_of_bag, permutation })
    }

    fn methods(&self) -> String {
        self.0.methods()
    }

    fn cost(&self, n: f64, m: f64, t: f64) -> Cost {
        let sums = self.0.passes(n) * n * m * t;
        // Two products of bytes and some spreading of codes for each call.
        Cost { operations: 4.0 * sums, bytes: n * m / 4.0 + 48.0 * m * t * 8.0 + 12.0 * n * t }
    }
}
