//! The tables of a study; docs/study.md explains their columns.

use super::Study;
use crate::evaluate::cells::{Cell, Heritability};
use crate::evaluate::comparisons::Estimate;
use crate::evaluate::retrospect::{Retrospect, Statistics};
use crate::evaluate::scores::Scores;
use crate::report::record::Phase;
use crate::report::table::{Entry, Table};

/// Columns of scores.tsv.
const SCORES: [&str; 25] = [
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
];

impl Study<'_> {
    /// Scores: one row a split, then the mean over splits and the pooled one.
    pub fn scores(&self) -> Table {
        let mut table = Table::new(&SCORES);
        for c in self.cells {
            for (of, e) in c.splits.iter().zip(&c.summary.splits) {
                let s = &self.plan.validations[c.validation].splits.splits[of.split];
                let place = [s.repetition.to_string(), s.fold.clone()];
                let counts = [of.trained as f64, of.tested as f64, f64::from(of.counts)];
                table.push(self.score_row(c, place, counts, (of.h2, e)));
            }
            let n = c.splits.len() as f64;
            let counts = [
                c.splits.iter().map(|s| s.trained as f64).sum::<f64>() / n,
                c.splits.iter().map(|s| s.tested as f64).sum::<f64>() / n,
                c.counted() as f64,
            ];
            for (fold, e) in [("mean", &c.summary.mean), ("pooled", &c.summary.pooled)] {
                table.push(self.score_row(c, ["mean".into(), fold.into()], counts, (c.h2(), e)));
            }
        }
        table
    }

    fn score_row(
        &self,
        c: &Cell,
        place: [String; 2],
        counts: [f64; 3],
        (h2, e): (Heritability, &Estimate),
    ) -> Vec<Entry> {
        let mut row = self.names(c);
        row.extend(place.map(Entry::Text));
        row.extend(counts.map(count_or_mean));
        let r = e.of("r");
        let accuracy = h2.accuracy(r);
        row.extend([h2.h2, h2.se, r.0, r.1, accuracy.0, accuracy.1].map(Entry::from));
        for name in &Scores::NAMES[1..] {
            let (value, se) = e.of(name);
            row.push(value.into());
            if *name != "mse_centred" {
                row.push(se.into());
            }
        }
        row
    }

    /// Validation, model and trait.
    fn names(&self, c: &Cell) -> Vec<Entry> {
        [self.validation(c.validation), self.model(c.model), self.traits[c.number].as_str()]
            .map(Entry::from)
            .to_vec()
    }

    /// Statistics of the method LR: one row a split, then the mean over splits.
    pub fn retrospects(&self, all: &[Retrospect]) -> Table {
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

    /// Paired differences of models.
    pub fn differences(&self) -> Table {
        let mut table = Table::new(&[
            "validation",
            "trait",
            "model_a",
            "model_b",
            "score",
            "difference",
            "se",
            "low95",
            "high95",
            "p",
        ]);
        for c in self.comparisons {
            let name = c.number.map_or("ALL", |t| self.traits[t].as_str());
            for (score, d) in Scores::NAMES.iter().zip(&c.differences) {
                // Squared errors of different traits have different units: no mean over traits.
                if c.number.is_none() && score.starts_with("mse") {
                    continue;
                }
                let words = [
                    self.validation(c.validation),
                    name,
                    self.model(c.models.0),
                    self.model(c.models.1),
                    score,
                ];
                let mut row: Vec<Entry> = words.map(Entry::from).to_vec();
                row.extend([d.difference, d.se, d.low, d.high, d.p].map(Entry::from));
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

    /// Seconds of every fit and phase.
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
        ]);
        for p in phases {
            let mut row: Vec<Entry> = vec![p.name.as_str().into()];
            row.extend(["", "", "", "", "", ""].map(Entry::from));
            row.push(p.seconds.into());
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
            row.push(d.seconds.into());
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
