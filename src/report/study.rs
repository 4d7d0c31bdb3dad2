//! The tables and pictures of a study.

use crate::evaluate::crossvalidate::{Cell, Comparison, Done, Overall, Plan};
use crate::evaluate::diagnostics::{Histogram, LdBin};
use crate::evaluate::scores::Scores;
use crate::report::html::rounded;
use crate::report::picture::{self, Estimates, Frame, Panel, Series};
use crate::report::record::Phase;
use crate::report::table::{Entry, Table};
use std::collections::BTreeMap;

/// Everything that a study found.
pub struct Study<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// Names of the traits.
    pub traits: &'a [String],
    /// Recorded animals of each trait.
    pub recorded: &'a [usize],
    /// What the tasks found.
    pub done: &'a BTreeMap<usize, Done>,
    /// Scores by validation, model and trait.
    pub cells: &'a [Cell],
    /// Means over the traits.
    pub overall: &'a [Overall],
    /// Models against each other.
    pub comparisons: &'a [Comparison],
    /// What the genotypes look like, if that was asked for.
    pub genotypes: Option<Genotypes>,
}

/// What the genotypes look like.
pub struct Genotypes {
    /// Decay of linkage disequilibrium.
    pub ld: Vec<LdBin>,
    /// Minor-allele frequencies.
    pub maf: Histogram,
    /// Relationships of pairs of animals.
    pub kinship: Histogram,
    /// Scores on the first two principal components, and the variance that each explains.
    pub components: Vec<(f64, f64)>,
    /// Shares of the variance, 0 to 1.
    pub explained: [f64; 2],
}

/// A picture, the name of its file, and how to read it.
pub struct Picture {
    /// File name without ending.
    pub name: String,
    /// The SVG.
    pub svg: String,
    /// How to read it.
    pub caption: String,
    /// Number of the validation that it shows; `None` for the genotypes.
    pub validation: Option<usize>,
}

impl Study<'_> {
    /// Name of a validation.
    pub fn validation(&self, number: usize) -> &str {
        &self.plan.validations[number].name
    }

    /// Name of a model.
    pub fn model(&self, number: usize) -> &str {
        &self.plan.models[number].name
    }

    /// The cells of a validation and model, in the order of the traits.
    pub fn of(&self, validation: usize, model: usize) -> Vec<&Cell> {
        self.cells.iter().filter(|c| (c.validation, c.model) == (validation, model)).collect()
    }

    /// Scores: one row a split, then the mean over splits and the pooled one.
    pub fn scores(&self) -> Table {
        let mut table = Table::new(&[
            "validation",
            "model",
            "trait",
            "repetition",
            "fold",
            "n_train",
            "n_test",
            "h2",
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
        ]);
        for c in self.cells {
            let splits = &self.plan.validations[c.validation].splits.splits;
            let mut row =
                |place: [&str; 2], counts: [f64; 2], h2: f64, e: &crate::evaluate::comparisons::Estimate| {
                    let mut row: Vec<Entry> = vec![
                        self.validation(c.validation).into(),
                        self.model(c.model).into(),
                        self.traits[c.number].as_str().into(),
                    ];
                    row.extend(place.map(Entry::from));
                    row.extend(counts.map(count_or_mean));
                    row.push(h2.into());
                    let (r, r_se) = e.of("r");
                    row.extend([r, r_se, r / h2.sqrt(), r_se / h2.sqrt()].map(Entry::from));
                    for name in &Scores::NAMES[1..] {
                        let (value, se) = e.of(name);
                        row.push(value.into());
                        if *name != "mse_centred" {
                            row.push(se.into());
                        }
                    }
                    table.push(row);
                };
            for ((split, train, test, variances), e) in c.splits.iter().zip(&c.summary.splits) {
                let s = &splits[*split];
                row([&s.repetition.to_string(), &s.fold], [*train as f64, *test as f64], variances.h2, e);
            }
            let mean = |part: fn(&(usize, usize, usize, crate::mixed::Estimate)) -> usize| {
                c.splits.iter().map(|s| part(s) as f64).sum::<f64>() / c.splits.len() as f64
            };
            let counts = [mean(|s| s.1), mean(|s| s.2)];
            row(["mean", "mean"], counts, c.h2(), &c.summary.mean);
            row(["mean", "pooled"], counts, c.h2(), &c.summary.pooled);
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
            for (split, _, _, e) in &c.splits {
                let s = &self.plan.validations[c.validation].splits.splits[*split];
                let mut row: Vec<Entry> = vec![
                    self.validation(c.validation).into(),
                    self.model(c.model).into(),
                    self.traits[c.number].as_str().into(),
                ];
                row.extend([Entry::Text(s.repetition.to_string()), s.fold.as_str().into(), e.n.into()]);
                let reals = [e.var_g, e.var_g_se, e.var_e, e.var_e_se, e.h2, e.h2_se, e.log_likelihood];
                row.extend(reals.map(Entry::from));
                row.extend([e.iterations.into(), e.outcome.word().into()]);
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
            row.push(d.traits.first().map_or(0, |t| t.estimate.n).into());
            row.push(d.seconds.into());
            table.push(row);
        }
        table
    }

    /// All pictures, in the order of the page.
    pub fn pictures(&self) -> Vec<Picture> {
        let mut all = Vec::new();
        for v in 0..self.plan.validations.len() {
            all.push(self.by_trait(v, "r"));
            all.push(self.by_trait(v, "slope"));
            all.push(self.predicted_and_observed(v));
        }
        if let Some(g) = &self.genotypes {
            all.extend([components(g), decay(g), frequencies(g), kinship(g)]);
        }
        all
    }

    /// One score by trait with error bars, the best-predicted trait on top.
    fn by_trait(&self, v: usize, score: &str) -> Picture {
        let mut order: Vec<usize> = self.of(v, 0).iter().map(|c| c.number).collect();
        let r = |t: &usize| {
            self.of(v, 0).iter().find(|c| c.number == *t).map_or(f64::NAN, |c| c.summary.mean.of("r").0)
        };
        order.sort_by(|a, b| r(b).total_cmp(&r(a)));
        let value = |m: usize, t: usize| {
            self.of(v, m)
                .iter()
                .find(|c| c.number == t)
                .map_or((f64::NAN, f64::NAN), |c| c.summary.mean.of(score))
        };
        let groups: Vec<Estimates> = (0..self.plan.models.len())
            .map(|m| Estimates {
                name: self.model(m).into(),
                values: order.iter().map(|&t| value(m, t)).collect(),
            })
            .collect();
        let names: Vec<String> = order.iter().map(|&t| self.traits[t].clone()).collect();
        let (axis, mark, limits, caption) = if score == "r" {
            (
                "predictive ability r",
                0.0,
                None,
                "Correlation of the predicted breeding value with the record (adjusted for fixed effects) of animals whose \
                 records the model never saw. Further right is better; 0 means no prediction. Bars are ± 1 standard error: \
                 traits or models whose bars overlap widely cannot be told apart (for models on the same trait, see the paired \
                 differences).",
            )
        } else {
            (
                "slope of record on prediction",
                1.0,
                Some((-0.5, 2.5)),
                "Slope of the record on the prediction. At 1 (the line) a predicted advantage is worth as much as it says; below 1 \
                 predictions are inflated (extremes promise too much), above 1 they are too timid; an arrowhead lies \
                 beyond the picture. Bars are ± 1 standard error.",
            )
        };
        let title = format!("{axis} by trait, {} validation", self.validation(v));
        let svg = picture::bars_with_errors(
            &Frame { mark: Some(mark), limits, ..Frame::new(&title, axis, "") },
            &names,
            &groups,
        );
        Picture {
            name: format!("{score}_{}", file_name(self.validation(v))),
            svg,
            caption: caption.into(),
            validation: Some(v),
        }
    }

    /// Predicted against observed values of all traits by the first model.
    fn predicted_and_observed(&self, v: usize) -> Picture {
        let splits = &self.plan.validations[v].splits.splits;
        let mut points: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        for d in self.done.values().filter(|d| d.task.validation == v && d.task.model == 0) {
            // One repetition: every animal once.
            for t in d.traits.iter().filter(|_| splits[d.task.split].repetition == 1) {
                let pairs = t.tested.prediction.iter().copied().zip(t.tested.adjusted.iter().copied());
                points.entry(t.number).or_default().extend(pairs);
            }
        }
        let panel = |c: &&Cell| Panel {
            title: self.traits[c.number].clone(),
            note: format!("r = {}", rounded(c.summary.mean.of("r").0, 2)),
            points: points.remove(&c.number).unwrap_or_default(),
            line: Some((0.0, 1.0)),
        };
        let panels: Vec<Panel> = self.of(v, 0).iter().map(panel).collect();
        let title =
            format!("predicted against observed, {} validation, {}", self.validation(v), self.model(0));
        let svg = picture::small_multiples(
            &Frame::new(&title, "predicted breeding value", "record, adjusted"),
            &panels,
        );
        let caption = format!(
            "Each panel is a trait, each point (or shaded cell, darker where more animals lie) a tested animal: what {} \
             predicted, and the record adjusted for fixed effects. The line is observed = predicted; a cloud that leans along it is \
             a good prediction, a round one is none. The spread around the line is mostly environment: no model predicts that.",
            self.model(0)
        );
        Picture {
            name: format!("predicted_{}", file_name(self.validation(v))),
            svg,
            caption,
            validation: Some(v),
        }
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

/// A name that suits a file.
fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}

fn components(g: &Genotypes) -> Picture {
    let percent =
        |k: usize| format!("component {} ({} % of variance)", k + 1, rounded(100.0 * g.explained[k], 1));
    let frame = Frame::new("principal components of the genotypes", &percent(0), &percent(1));
    let svg = picture::scatter(&frame, &[Series { points: g.components.clone(), ..Series::default() }]);
    let caption = "Each point is an animal; animals near each other have similar genotypes. Separate clouds are breeds, herds or \
                   families: random folds then predict within them, and may flatter.";
    Picture { name: "components".into(), svg, caption: caption.into(), validation: None }
}

fn decay(g: &Genotypes) -> Picture {
    let known: Vec<&LdBin> = g.ld.iter().filter(|b| b.pairs >= 10).collect();
    let series = Series {
        points: known.iter().map(|b| (b.distance / 1e3, b.r2)).collect(),
        errors: known.iter().map(|b| b.se).collect(),
        ..Series::default()
    };
    let frame = Frame {
        log_x: true,
        ..Frame::new("decay of linkage disequilibrium", "distance of two SNPs, kb", "mean r²")
    };
    let caption = "How much one SNP tells about another (squared correlation of allele counts), by their distance on the chromosome; \
                   the band is ± 1 standard error. The slower the decay, the fewer SNPs are needed to follow the genes.";
    Picture {
        name: "ld_decay".into(),
        svg: picture::lines(&frame, &[series]),
        caption: caption.into(),
        validation: None,
    }
}

fn frequencies(g: &Genotypes) -> Picture {
    let frame = Frame::new("allele frequencies", "minor-allele frequency", "SNPs");
    let caption = "How common the rarer allele of each SNP is. Chips favour common SNPs and give a flat picture; sequence data pile up on \
                   the left.";
    Picture {
        name: "frequencies".into(),
        svg: picture::histogram(&frame, &g.maf),
        caption: caption.into(),
        validation: None,
    }
}

fn kinship(g: &Genotypes) -> Picture {
    let frame = Frame::new("relationships", "genomic relationship of two animals", "pairs");
    let caption = "All pairs of animals by their genomic relationship: 0 is the herd's average, 0.25 half sibs, 0.5 full sibs or parent \
                   and offspring, in an unrelated, non-inbred herd.";
    Picture {
        name: "kinship".into(),
        svg: picture::histogram(&frame, &g.kinship),
        caption: caption.into(),
        validation: None,
    }
}
