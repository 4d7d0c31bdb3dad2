//! The tables of a study; docs/study.md explains their columns.

use super::Study;
use crate::evaluate::cells::Cell;
use crate::evaluate::comparisons::Estimate;
use crate::evaluate::lr_method::{LrStatistics, Statistics};
use crate::evaluate::scores::Scores;
use crate::evaluate::verdicts::Verdict;
use crate::report::record::Phase;
use crate::report::table::{Entry, Table};

/// Columns of scores.tsv.
const SCORES: [&str; 28] = [
    "validation",
    "model",
    "trait",
    "repetition",
    "fold",
    "n_train",
    "n_test",
    "n_splits",
    "h2",
    "h2_se",
    "r",
    "r_se",
    "accuracy",
    "accuracy_se",
    "slope",
    "slope_se",
    "mse",
    "mse_se",
    "mse_centred",
    "spearman",
    "spearman_se",
    "top10",
    "top10_se",
    "r_total",
    "r_total_se",
    "r_within_family",
    "r_within_family_se",
    "replicate_sd",
];

/// Columns of summary.tsv.
const SUMMARY: [&str; 24] = [
    "validation",
    "trait",
    "model",
    "records",
    "splits",
    "n_splits",
    "h2",
    "h2_se",
    "r",
    "r_se",
    "accuracy",
    "accuracy_se",
    "slope",
    "slope_se",
    "r_within_family",
    "r_within_family_se",
    "replicate_sd",
    "difference",
    "difference_se",
    "low95",
    "high95",
    "p",
    "q",
    "verdict",
];

impl Study<'_> {
    /// Scores: one row a split, then the mean over splits and the pooled one.
    pub fn scores(&self) -> Table {
        let mut table = Table::new(&SCORES);
        for c in self.cells {
            for (j, of) in c.splits.iter().enumerate() {
                let s = &self.plan.validations[c.validation].splits.splits[of.split];
                let place = [s.repetition.to_string(), s.fold.clone()];
                let counts = [of.trained as f64, of.tested as f64, f64::from(of.counts)];
                let spread = c.summary.replicate_sd[j];
                table.push(self.score_row(c, place, counts, (&c.summary.splits[j], spread)));
            }
            let n = c.splits.len() as f64;
            let counts = [
                c.splits.iter().map(|s| s.trained as f64).sum::<f64>() / n,
                c.splits.iter().map(|s| s.tested as f64).sum::<f64>() / n,
                c.counted() as f64,
            ];
            let mean = (&c.summary.mean, c.replicate_sd());
            table.push(self.score_row(c, ["mean".into(), "mean".into()], counts, mean));
            let pooled = (&c.summary.pooled, f64::NAN);
            table.push(self.score_row(c, ["mean".into(), "pooled".into()], counts, pooled));
        }
        table
    }

    fn score_row(
        &self,
        c: &Cell,
        place: [String; 2],
        counts: [f64; 3],
        (e, replicate_sd): (&Estimate, f64),
    ) -> Vec<Entry> {
        let mut row = self.names(c);
        row.extend(place.map(Entry::Text));
        row.extend(counts.map(count_or_mean));
        let r = e.of("r");
        let accuracy = c.h2.accuracy(r);
        row.extend([c.h2.h2, c.h2.se, r.0, r.1, accuracy.0, accuracy.1].map(Entry::from));
        for name in &Scores::NAMES[1..] {
            let (value, se) = e.of(name);
            row.push(value.into());
            if *name != "mse_centred" {
                row.push(se.into());
            }
        }
        row.push(replicate_sd.into());
        row
    }

    /// One row a validation, trait and model: means, and what they differ by from the reference in r.
    pub fn summary(&self) -> Table {
        let mut table = Table::new(&SUMMARY);
        let mut cells: Vec<&Cell> = self.cells.iter().collect();
        cells.sort_by_key(|c| (c.validation, c.number, c.model));
        for c in cells {
            let words = [self.validation(c.validation), &self.traits[c.number], self.model(c.model)];
            let mut row: Vec<Entry> = words.map(Entry::from).to_vec();
            row.extend([self.recorded[c.number], c.splits.len(), c.counted()].map(Entry::from));
            let [r, slope, within] = ["r", "slope", "r_within_family"].map(|name| c.summary.mean.of(name));
            let pairs = [(c.h2.h2, c.h2.se), r, c.h2.accuracy(r), slope, within];
            row.extend(pairs.into_iter().flat_map(|(value, se)| [value.into(), se.into()]));
            row.push(c.replicate_sd().into());
            let found = self.comparison(c.validation, c.model, c.number);
            let d = found.map(|c| c.differences[Scores::position("r")]);
            let none = [f64::NAN; 6];
            row.extend(d.map_or(none, |d| [d.difference, d.se, d.low, d.high, d.p, d.q]).map(Entry::from));
            row.push(self.verdict(c).into());
            table.push(row);
        }
        table
    }

    /// The verdict on a model for a trait, or that it is the reference.
    fn verdict(&self, c: &Cell) -> &'static str {
        match self.comparison(c.validation, c.model, c.number) {
            Some(found) => found.verdict.label(),
            None if c.model == self.reference(c.model) => "reference",
            None => Verdict::NoScore.label(),
        }
    }

    /// Validation, model and trait.
    fn names(&self, c: &Cell) -> Vec<Entry> {
        [self.validation(c.validation), self.model(c.model), self.traits[c.number].as_str()]
            .map(Entry::from)
            .to_vec()
    }

    /// Statistics of the method LR: one row a split, then the mean over splits.
    pub fn lr(&self, all: &[LrStatistics]) -> Table {
        let places = ["validation", "model", "trait", "repetition", "fold", "n_test"];
        let mut table = Table::new(&[&places[..], &Statistics::NAMES].concat());
        for rows in
            all.chunk_by(|a, b| (a.validation, a.model, a.number) == (b.validation, b.model, b.number))
        {
            let mut push = |place: [String; 2], animals: f64, statistics: &Statistics| {
                let r = &rows[0];
                let names =
                    [self.validation(r.validation), self.model(r.model), self.traits[r.number].as_str()];
                let mut row = names.map(Entry::from).to_vec();
                row.extend(place.map(Entry::Text));
                row.push(count_or_mean(animals));
                row.extend(statistics.values().map(Entry::from));
                table.push(row);
            };
            for r in rows {
                let s = &self.plan.validations[r.validation].splits.splits[r.split];
                push([s.repetition.to_string(), s.fold.clone()], r.animals as f64, &r.statistics);
            }
            let statistics: Vec<Statistics> = rows.iter().map(|r| r.statistics).collect();
            let animals = rows.iter().map(|r| r.animals as f64).sum::<f64>() / rows.len() as f64;
            push(["mean".into(), "mean".into()], animals, &Statistics::mean(&statistics));
        }
        table
    }

    /// Differences from the reference: one row a validation, trait, model and score. The verdict is that of r.
    pub fn differences(&self) -> Table {
        let mut table = Table::new(&[
            "validation",
            "trait",
            "model",
            "reference",
            "score",
            "difference",
            "se",
            "low95",
            "high95",
            "p",
            "q",
            "verdict",
        ]);
        for c in self.comparisons {
            let families = self.plan.validations[c.validation].families.is_some();
            for (score, d) in Scores::NAMES.iter().zip(&c.differences) {
                if *score == "r_within_family" && !families {
                    continue;
                }
                let words = [
                    self.validation(c.validation),
                    &self.traits[c.number],
                    self.model(c.model),
                    self.model(c.reference),
                    score,
                ];
                let mut row: Vec<Entry> = words.map(Entry::from).to_vec();
                row.extend([d.difference, d.se, d.low, d.high, d.p, d.q].map(Entry::from));
                row.push(if *score == "r" { c.verdict.label() } else { "" }.into());
                table.push(row);
            }
        }
        table
    }

    /// Scores against true genetic values: one row a split, then the mean over splits.
    pub fn truths(&self) -> Table {
        let places = ["validation", "model", "trait", "repetition", "fold", "n_test"];
        let scores = ["accuracy", "accuracy_se", "slope", "slope_se", "mse", "mse_se"];
        let mut table = Table::new(&[places, scores].concat());
        for c in self.cells {
            let mut push = |place: [String; 2], animals: f64, e: &Estimate| {
                let mut row = self.names(c);
                row.extend(place.map(Entry::Text));
                row.push(count_or_mean(animals));
                let pairs = ["r", "slope", "mse"].map(|name| e.of(name));
                row.extend(pairs.into_iter().flat_map(|(value, se)| [value.into(), se.into()]));
                table.push(row);
            };
            for (of, e) in c.splits.iter().zip(&c.summary.splits) {
                let s = &self.plan.validations[c.validation].splits.splits[of.split];
                push([s.repetition.to_string(), s.fold.clone()], of.tested as f64, e);
            }
            let animals = c.splits.iter().map(|s| s.tested as f64).sum::<f64>() / c.splits.len() as f64;
            push(["mean".into(), "mean".into()], animals, &c.summary.mean);
        }
        table
    }

    /// Variance components in every training fold.
    pub fn variances(&self) -> Table {
        let mut table = Table::new(&[
            "validation",
            "model",
            "trait",
            "repetition",
            "fold",
            "n",
            "var_g",
            "var_g_se",
            "var_e",
            "var_e_se",
            "h2",
            "h2_se",
            "loglik",
            "iterations",
            "converged",
        ]);
        for c in self.cells {
            for (split, e) in c.splits.iter().filter_map(|s| Some((s.split, s.estimate.as_ref()?))) {
                let s = &self.plan.validations[c.validation].splits.splits[split];
                let mut row = self.names(c);
                row.extend([Entry::Text(s.repetition.to_string()), s.fold.as_str().into(), e.n.into()]);
                let reals = [e.var_g, e.var_g_se, e.var_e, e.var_e_se, e.h2, e.h2_se, e.log_likelihood];
                row.extend(reals.map(Entry::from));
                row.extend([e.iterations.into(), e.outcome.label().into()]);
                table.push(row);
            }
        }
        table
    }

    /// Weights of the kinds that stacked models add, in every training fold.
    pub fn weights(&self) -> Table {
        let head = ["validation", "model", "trait", "repetition", "fold", "kind", "weight"];
        let mut table = Table::new(&head);
        for d in self.done.values() {
            let s = &self.plan.validations[d.task.validation].splits.splits[d.task.split];
            for p in &d.traits {
                for (kind, weight) in &p.weights {
                    let trait_ = self.traits[p.number].as_str();
                    let words = [self.validation(d.task.validation), self.model(d.task.model), trait_];
                    let mut row: Vec<Entry> = words.map(Entry::from).to_vec();
                    let fold = [Entry::Text(s.repetition.to_string()), s.fold.as_str().into()];
                    row.extend(fold);
                    row.extend([kind.as_str().into(), (*weight).into()]);
                    table.push(row);
                }
            }
        }
        table
    }

    /// Whether any model is added from others.
    pub fn has_weights(&self) -> bool {
        self.done.values().flat_map(|d| &d.traits).any(|p| !p.weights.is_empty())
    }

    /// What every fit and phase took.
    pub fn timings(&self, phases: &[Phase]) -> Table {
        let mut table = Table::new(&[
            "what",
            "model",
            "validation",
            "repetition",
            "fold",
            "traits",
            "n_train",
            "seconds",
            "cpu_seconds",
            "gpu_seconds",
            "memory_gb",
        ]);
        for p in phases {
            let mut row: Vec<Entry> = vec![p.name.as_str().into()];
            row.extend(["", "", "", "", "", ""].map(Entry::from));
            row.extend([p.seconds.into(), p.cpu_seconds.into()]);
            row.extend(["", ""].map(Entry::from));
            table.push(row);
        }
        for d in self.done.values() {
            let s = &self.plan.validations[d.task.validation].splits.splits[d.task.split];
            let names: Vec<&str> = d.traits.iter().map(|t| self.traits[t.number].as_str()).collect();
            let words = ["fit", self.model(d.task.model), self.validation(d.task.validation)];
            let mut row: Vec<Entry> = words.map(Entry::from).to_vec();
            row.extend([
                Entry::Text(s.repetition.to_string()),
                s.fold.as_str().into(),
                Entry::Text(names.join(",")),
            ]);
            row.push(d.traits.first().map_or(0, |t| t.trained).into());
            let gigabytes = d.cost.memory as f64 / 1e9;
            row.extend([d.cost.seconds, d.cost.cpu_seconds, d.cost.gpu_seconds, gigabytes].map(Entry::from));
            table.push(row);
        }
        table
    }
}

/// A count where it is one, else the mean count.
fn count_or_mean(value: f64) -> Entry {
    if value.fract() == 0.0 {
        Entry::Count(value as usize)
    } else {
        Entry::Real(value)
    }
}
