//! The pictures of a study, and how to read them.

use super::{Genotypes, Picture, Study};
use crate::evaluate::augment::Mixture;
use crate::evaluate::cells::Cell;
use crate::evaluate::diagnostics::{Histogram, LdBin};
use crate::evaluate::scores::Scores;
use crate::evaluate::verdicts::{Verdict, FALSE_DISCOVERIES};
use crate::output::file_name;
use crate::report::answer::title_case;
use crate::report::html::rounded;
use crate::report::picture::{self, Difference, Estimates, Frame, Panel, Series, Side};
use std::collections::{BTreeMap, BTreeSet};

impl Study<'_> {
    /// All pictures, in the order of the page.
    pub fn pictures(&self) -> Vec<Picture> {
        let mut all = Vec::new();
        for v in 0..self.plan.validations.len() {
            all.extend(self.against_reference(v));
            all.extend(self.by_animals(v));
            all.push(self.by_trait(v, "r"));
            all.push(self.by_trait(v, "slope"));
            all.push(self.predicted_and_observed(v));
            all.extend(self.mixtures(v));
        }
        if let Some(g) = &self.genotypes {
            all.extend([components(g), decay(g), frequencies(g)]);
            all.extend(g.kinship.as_ref().map(kinship));
        }
        all
    }

    /// One score by trait with error bars, the best-predicted trait on top.
    fn by_trait(&self, v: usize, score: &str) -> Picture {
        let reference = self.plan.reference;
        let mut order: Vec<usize> = self.of(v, reference).iter().map(|c| c.number).collect();
        // Traits without an r come last.
        let r = |t: &usize| {
            let found =
                self.of(v, reference).into_iter().find(|c| c.number == *t).map(|c| c.summary.mean.of("r").0);
            found.filter(|r| r.is_finite()).unwrap_or(f64::NEG_INFINITY)
        };
        order.sort_by(|a, b| r(b).total_cmp(&r(a)));
        let value = |m: usize, t: usize| {
            self.of(v, m)
                .iter()
                .find(|c| c.number == t)
                .map_or((f64::NAN, f64::NAN), |c| c.summary.mean.of(score))
        };
        let groups: Vec<Estimates> = self
            .foremost()
            .into_iter()
            .map(|m| Estimates {
                name: self.model(m).into(),
                values: order.iter().map(|&t| value(m, t)).collect(),
            })
            .collect();
        let names: Vec<String> = order.iter().map(|&t| self.traits[t].clone()).collect();
        let (axis, mark, limits, caption) = about(score);
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
            first: false,
        }
    }

    /// What every model gains on the reference, trait by trait, the largest gain on top.
    fn against_reference(&self, v: usize) -> Option<Picture> {
        let others = self.compared();
        let of = |m: usize, t: usize| -> Option<Difference> {
            let c = self.comparison(v, m, t)?;
            let d = c.differences[Scores::position("r")];
            let side = match c.verdict {
                Verdict::Better => Side::Above,
                Verdict::Worse => Side::Below,
                _ => Side::Open,
            };
            d.difference.is_finite().then_some(Difference {
                value: d.difference,
                interval: (d.low, d.high),
                side,
            })
        };
        let largest = |t: usize| {
            others.iter().filter_map(|&m| of(m, t)).map(|d| d.value).fold(f64::NEG_INFINITY, f64::max)
        };
        let mut order: Vec<usize> = self.of(v, self.plan.reference).iter().map(|c| c.number).collect();
        order.retain(|&t| largest(t).is_finite());
        order.sort_by(|&a, &b| largest(b).total_cmp(&largest(a)));
        if order.is_empty() {
            return None;
        }
        let names: Vec<String> = order.iter().map(|&t| self.traits[t].clone()).collect();
        let groups: Vec<(String, Vec<Option<Difference>>)> = others
            .iter()
            .map(|&m| (self.model(m).to_owned(), order.iter().map(|&t| of(m, t)).collect()))
            .collect();
        let (reference, margin) = (self.references().unwrap_or("its reference"), self.plan.margin);
        let title = format!("r of each model less that of {reference}, {} validation", self.validation(v));
        let axis = format!("difference in r from {reference}");
        Some(Picture {
            name: format!("differences_{}", file_name(self.validation(v))),
            svg: picture::differences(&Frame::new(&title, &axis, ""), &names, &groups, margin),
            caption: format!(
                "{} validation: each model less {reference}, trait by trait, with 95 % intervals; the largest gain on top. Green: better, orange: worse \
                 (q < {FALSE_DISCOVERIES} over the traits of a model); grey: neither. The shaded band is ± {margin}, within which a difference does not matter.",
                title_case(self.validation(v))
            ),
            validation: Some(v),
            first: true,
        })
    }

    /// Mean r of all models by the number of real training animals, without synthetic ones.
    fn by_animals(&self, v: usize) -> Option<Picture> {
        let all = self.curves(v, |mixture| (mixture.times == 0).then(|| mixture.model.clone()));
        let is_curve = all.iter().any(|s| s.points.len() > 1);
        let title = format!("learning curves, {} validation", self.validation(v));
        let axis = "predictive ability r, mean of the traits";
        let frame = Frame { log_x: true, ..Frame::new(&title, "real training animals", axis) };
        is_curve.then(|| Picture {
            name: format!("learning_{}", file_name(self.validation(v))),
            svg: picture::lines(&frame, &all),
            caption: "How well each kind of model predicts when it learns from so many animals; smaller numbers are parts of the larger ones, and \
                      the same animals are tested. Bands are ± 1 standard error of each mean; differences from the reference of as many animals have \
                      smaller errors and stand in the tables."
                .into(),
            validation: Some(v),
            first: true,
        })
    }

    /// Mean r by the number of real training animals: a series for each name that `name` gives the mixtures.
    fn curves(&self, v: usize, name: impl Fn(&Mixture) -> Option<String>) -> Vec<Series> {
        let mut all: Vec<Series> = Vec::new();
        for o in self.overall.iter().filter(|o| o.validation == v) {
            let Some(mixture) = &self.plan.models[o.model].mixture else { continue };
            let Some(name) = name(mixture) else { continue };
            let at = all.iter().position(|s| s.name == name).unwrap_or_else(|| {
                all.push(Series { name, ..Series::default() });
                all.len() - 1
            });
            let (r, se) = o.summary.mean.of("r");
            all[at].points.push((mixture.reference as f64, r));
            all[at].errors.push(se);
        }
        all
    }

    /// Accuracy by the number of real training animals, with and without synthetic ones; a picture for each model.
    fn mixtures(&self, v: usize) -> Vec<Picture> {
        let mixtures = self.plan.models.iter().filter_map(|m| m.mixture.as_ref());
        let models: BTreeSet<&str> = mixtures.map(|mixture| mixture.model.as_str()).collect();
        let of = |model: &str| {
            let series = self.curves(v, |mixture| (mixture.model == model).then(|| mixture.share()));
            // Real animals alone have their own picture.
            (series.len() > 1).then(|| self.mixture(v, model, &series))
        };
        models.into_iter().filter_map(of).collect()
    }

    fn mixture(&self, v: usize, model: &str, series: &[Series]) -> Picture {
        let title = format!("{model} with synthetic animals, {} validation", self.validation(v));
        let axis = "predictive ability r, mean of the traits";
        let frame = Frame::new(&title, "real training animals", axis);
        let caption = format!(
            "How well {model} predicts real animals when it learns from so many real ones, from these and synthetic ones, or \
             from synthetic ones alone; the generator saw no others than these real ones. Bands are ± 1 standard error; \
             differences with their own errors stand among the paired differences."
        );
        Picture {
            // One check sum of both names: "a_b" with "c" is not "a" with "b_c".
            name: format!("synthetic_{}", file_name(&format!("{model}\0{}", self.validation(v)))),
            svg: picture::lines(&frame, series),
            caption,
            validation: Some(v),
            first: false,
        }
    }

    /// Predicted against observed values of all traits by the reference.
    fn predicted_and_observed(&self, v: usize) -> Picture {
        let splits = &self.plan.validations[v].splits.splits;
        let reference = self.plan.reference;
        let mut points: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
        for d in self.done.values().filter(|d| d.task.validation == v && d.task.model == reference) {
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
        // All validations share the marks, so that the page stays small enough for a mail.
        let marks = 10_000 / self.plan.validations.len().max(2);
        let panels: Vec<Panel> = self.of(v, reference).iter().map(panel).collect();
        let title = format!(
            "predicted against observed, {} validation, {}",
            self.validation(v),
            self.model(reference)
        );
        let svg = picture::small_multiples(
            &Frame::new(&title, "predicted breeding value", "record, adjusted"),
            &panels,
            marks,
        );
        let caption = format!(
            "Each panel is a trait, each point (or shaded cell, darker where more animals lie) a tested animal: what {} \
             predicted, and the record adjusted for fixed effects. The line is observed = predicted; a cloud that leans along it is \
             a good prediction, a round one is none. The spread around the line is mostly environment: no model predicts that.",
            self.model(reference)
        );
        Picture {
            name: format!("predicted_{}", file_name(self.validation(v))),
            svg,
            caption,
            validation: Some(v),
            first: false,
        }
    }
}

fn components(g: &Genotypes) -> Picture {
    let percent =
        |k: usize| format!("component {} ({} % of variance)", k + 1, rounded(100.0 * g.explained[k], 1));
    let frame = Frame::new("principal components of the genotypes", &percent(0), &percent(1));
    let svg = picture::scatter(&frame, &[Series { points: g.components.clone(), ..Series::default() }]);
    let caption = "Each point is an animal; animals near each other have similar genotypes. Separate clouds are breeds, herds or \
                   families: random folds then predict within them, and may flatter.";
    Picture { name: "components".into(), svg, caption: caption.into(), validation: None, first: false }
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
        first: false,
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
        first: false,
    }
}

fn kinship(pairs: &Histogram) -> Picture {
    let frame = Frame::new("relationships", "genomic relationship of two animals", "pairs");
    let caption = "All pairs of animals by their genomic relationship: 0 is the herd's average, 0.25 half sibs, 0.5 full sibs or parent \
                   and offspring, in an unrelated, non-inbred herd.";
    Picture {
        name: "kinship".into(),
        svg: picture::histogram(&frame, pairs),
        caption: caption.into(),
        validation: None,
        first: false,
    }
}

/// Axis, marked value, limits and caption of a picture by trait.
fn about(score: &str) -> (&'static str, f64, Option<(f64, f64)>, &'static str) {
    if score == "r" {
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
                 predictions are inflated (extremes promise too much), above 1 predictions vary too little; an arrowhead lies \
                 beyond the picture, of the value or of the end of its bar. Bars are ± 1 standard error.",
            )
    }
}
