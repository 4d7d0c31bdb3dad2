//! What the report says of the methods: of every kind of model that was compared, and of no other.

use crate::evaluate::models::ModelConfig;
use crate::predict::Learner;
use maud::{html, Markup};
use std::path::Path;

/// The section "Methods".
pub fn methods(models: &[ModelConfig], replicates: usize) -> Markup {
    html! {
        section {
            h2 { "Methods" }
            @for (model, learner) in learners(models) {
                p { strong { (model.name) } ". " (learner.methods()) " " (fits(model, &*learner)) }
                @let settings = settings(&*learner);
                @if !settings.is_empty() { p.settings { (settings) } }
            }
            p {
                "Missing calls stand at the SNP's mean. Records of tested animals are never used; those of tested and training animals alike count \
                 in allele frequencies of G. A covariate's level that no training animal has counts as zero."
            }
            p {
                "Scores compare û with y − Wb̂, whose fixed effects b̂ come from one reference fit to each training part and are the same for all models; \
                 they are means over the folds in which every model has an r (scores.tsv also has each fold, and \
                 all folds together, as deviations from each fold's own means). Where predictions or tested records do not vary there is \
                 no r, slope or ranking. r within families is that of predictions and records less their family means. Accuracy is r/√h², with one h² a trait by \
                 additive REML; its error counts those of r and h² (delta method)."
            }
            p {
                "Standard errors hold the tested animals: bootstrap over animals, or whole families where these are known (Efron 1979, Ann Stat 7:1), \
                 " (replicates) " samples, the same for all models, so that differences are paired; the training animals: n_test/n_train times the variance of one fold, \
                 after Nadeau & Bengio (2003, Mach Learn 52:239); and the seeds, by the jackknife over fits that differ in their seed alone. Of a network that is fitted once in \
                 every training part seeds and training animals cannot be told apart: its errors are upper limits. Intervals and p by Student's t (degrees of freedom by \
                 Satterthwaite 1946), q over the traits of each model (Benjamini & Hochberg 1995, J R Stat Soc B 57:289)."
            }
            p {
                "Linkage disequilibrium: squared correlation of allele counts (Rogers & Huff 2009, Genetics 182:839)."
            }
        }
    }
}

/// What the number of ranks and threads changes, as the end of a sentence "… on them".
pub fn ranks_matter(models: &[ModelConfig]) -> &'static str {
    match learners(models).iter().any(|(_, learner)| learner.varies_with_ranks()) {
        true => "but for rounding in networks and generators the tables do not depend",
        false => "the tables do not depend",
    }
}

/// The models with their learners.
fn learners(models: &[ModelConfig]) -> Vec<(&ModelConfig, Box<dyn Learner>)> {
    let of = |m: &ModelConfig| m.learner(Path::new("")).expect("checked with the configuration");
    models.iter().map(|m| (m, of(m))).collect()
}

/// How often a model is fitted.
fn fits(model: &ModelConfig, learner: &dyn Learner) -> String {
    match (learner.is_stochastic(), model.replicates_of(learner)) {
        (false, _) => String::new(),
        (true, 1) => "Fitted once in each training part: its seed is part of what is compared.".into(),
        (true, k) => {
            format!("Fitted {k} times in each training part with other seeds; the predictions are averaged.")
        }
    }
}

/// All settings as `key = value`.
fn settings(learner: &dyn Learner) -> String {
    let text = learner.settings();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('['));
    lines.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::KINDS;

    fn model(kind: &str) -> ModelConfig {
        ModelConfig { name: format!("my {kind}"), kind: kind.into(), ..ModelConfig::gblup() }
    }

    #[test]
    fn every_kind_that_was_used_is_described_with_its_settings_and_no_other() {
        for kind in KINDS {
            let text = methods(&[model(kind.name)], 70).into_string();
            assert!(text.contains(&format!("my {}", kind.name)) && text.contains("70"), "{text}");
            let first = kind.defaults().lines().next().unwrap().to_owned();
            let escaped = html! { (first) }.into_string();
            assert!(first.starts_with('[') || text.contains(&escaped), "{escaped} in {text}");
            let steady = ["gblup", "rkhs"].contains(&kind.name);
            assert_eq!(text.contains("Fitted 3 times"), !steady, "{}", kind.name);
        }
    }

    #[test]
    fn ranks_matter_where_sums_have_no_order() {
        assert_eq!(ranks_matter(&[model("gblup"), model("dlgblup")]), "the tables do not depend");
        assert!(ranks_matter(&[model("gblup"), model("mlp")]).starts_with("but for rounding"));
    }
}
