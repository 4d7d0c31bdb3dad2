//! What the report says of the methods: of every kind of model that was compared, and of no other.

use crate::comm::reduce::Exchange;
use crate::evaluate::models::{ModelConfig, ModelKind, StudySolver};
use maud::{html, Markup};

/// The section "Methods".
pub fn methods(models: &[ModelConfig], replicates: usize) -> Markup {
    let settings: Vec<(&str, String)> =
        models.iter().filter_map(|m| Some((m.name.as_str(), settings(m)?))).collect();
    html! {
        section {
            h2 { "Methods" }
            @for paragraph in paragraphs(models) { p { (paragraph) } }
            @if !settings.is_empty() {
                dl { @for (name, text) in &settings { dt { (name) } dd { (text) } } }
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
    let sums_in_any_order = |m: &ModelConfig| match m.kind {
        ModelKind::Mlp => m.mlp.as_ref().is_none_or(|c| c.ranks.exchange != Exchange::Ordered),
        ModelKind::Dl => true,
        ModelKind::Gblup | ModelKind::Dlgblup => false,
    };
    if models.iter().any(|m| sums_in_any_order(m) || m.mixture.is_some()) {
        "but for rounding in networks and generators the tables do not depend"
    } else {
        "the tables do not depend"
    }
}

/// A paragraph for every kind of model there is.
fn paragraphs(models: &[ModelConfig]) -> Vec<&'static str> {
    let any = |holds: &dyn Fn(&ModelConfig) -> bool| models.iter().any(holds);
    let solved = |m: &ModelConfig, solver: StudySolver| m.on_gblup() && m.solver == solver;
    let estimated = |m: &ModelConfig| m.on_gblup() && m.h2.is_none();
    let kind = |kind: ModelKind| any(&|m| m.kind == kind);
    let all = [
        (any(&ModelConfig::on_gblup), GBLUP),
        (any(&|m| solved(m, StudySolver::Eigen) && estimated(m)), REML),
        (any(&|m| solved(m, StudySolver::Pcg)), PCG),
        (any(&|m| m.on_gblup() && m.h2.is_some()), GIVEN),
        (kind(ModelKind::Dlgblup), DLGBLUP),
        (kind(ModelKind::Dl), DL),
        (kind(ModelKind::Mlp), MLP),
        (any(&|m| m.kind == ModelKind::Mlp && m.on_gblup()), RESIDUAL),
        (any(&|m| m.mixture.is_some()), SYNTHETIC),
    ];
    all.into_iter().filter(|(there, _)| *there).map(|(_, text)| text).collect()
}

/// The settings of a model's network as `key = value`; none of a model without one.
fn settings(model: &ModelConfig) -> Option<String> {
    let text = match model.kind {
        ModelKind::Gblup => return None,
        ModelKind::Mlp => toml::to_string(&model.mlp.clone().unwrap_or_default()),
        ModelKind::Dl | ModelKind::Dlgblup => toml::to_string(&model.dlgblup.clone().unwrap_or_default()),
    };
    let text = text.ok()?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('['));
    Some(lines.collect::<Vec<_>>().join(", "))
}

const GBLUP: &str = "GBLUP: y = Wb + Zu + e with u ~ N(0, σ²g G), e ~ N(0, σ²e I) (Henderson 1975, Biometrics 31:423); \
    genomic relationships G by VanRaden (2008, J Dairy Sci 91:4414): vanraden1 is method 1, G = MM′ / Σ2p(1−p) with M the centred allele \
    counts, vanraden2 is method 2, each SNP divided by its own variance; dominance is that of Vitezica et al. (2013, Genetics 195:1223). \
    Missing calls stand at the SNP's mean. Allele frequencies are those of all genotyped animals; records of tested animals are never \
    used. Fixed effects b̂ by generalized least squares in every training fold; tested animals are predicted by û = σ²g G V⁻¹(y − Wb̂); a \
    covariate's level that no training animal has counts as zero.";

const REML: &str = "Variances by restricted maximum likelihood (Patterson & Thompson 1971, Biometrika 58:545) in its spectral form \
    (Kang et al. 2008, Genetics 178:1709), anew in every training fold.";

const PCG: &str = "Models with solver pcg never form G: the mixed-model equations are solved by preconditioned conjugate gradients \
    (Strandén & Lidauer 1999, J Dairy Sci 82:2779), and variances, where they are not given, estimated by REML with random probes \
    (Border & Becker 2019, BMC Bioinformatics 20:411).";

const GIVEN: &str = "Where h² is given no variance is estimated.";

const DLGBLUP: &str = "DLGBLUP: a dense network from the GBLUP values of all traits to each trait (Shokor et al. 2024), trained on \
    out-of-fold values, so that no animal's value holds its own record.";

const DL: &str = "DL: the published network without GBLUP at prediction (Shokor et al. 2024): SNPs → hidden → traits learns the out-of-fold \
    GBLUP values (Adam at a rate of 1e-4, λ = 0.001, at most 100 epochs), and a second network predicts the records from its output.";

const MLP: &str = "MLP: a multilayer perceptron from standardised genotypes to all traits, with weights of He et al. (2015), Adam with \
    decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019), a learning rate that falls along a cosine, and early stopping on \
    training animals held back.";

const RESIDUAL: &str = "With residual = true the MLP learns what GBLUP's out-of-fold values leave of the records, and predictions are the sum of \
    both; where no epoch was better than none the network is left out, and predictions are GBLUP's.";

const SYNTHETIC: &str = "Synthetic animals: in every training fold a generator learns from the reference's real animals, with their records as \
    conditions; a synthetic animal has the records of the training animal whose condition it was given. Tested animals are real.";

#[cfg(test)]
mod tests {
    use super::*;

    fn model(kind: ModelKind) -> ModelConfig {
        ModelConfig { name: format!("{kind:?}"), kind, ..ModelConfig::gblup() }
    }

    #[test]
    fn every_kind_that_was_compared_is_told_with_its_settings_and_no_other() {
        let text = |models: &[ModelConfig]| methods(models, 70).into_string();
        let marks = [
            (ModelKind::Gblup, "Patterson"),
            (ModelKind::Dlgblup, "from the GBLUP values of all traits"),
            (ModelKind::Dl, "without GBLUP at prediction"),
            (ModelKind::Mlp, "multilayer perceptron"),
        ];
        for (kind, mark) in marks {
            let told = text(&[model(kind)]);
            assert!(told.contains(mark) && told.contains("70 samples"), "{kind:?}");
            let others = marks.iter().filter(|(other, _)| *other != kind && *other != ModelKind::Gblup);
            assert!(others.clone().all(|(_, mark)| !told.contains(mark)), "{kind:?}");
            assert_eq!(told.contains("hidden = ["), kind != ModelKind::Gblup);
        }
        assert!(!text(&[model(ModelKind::Mlp)]).contains("GBLUP"));
        let given = ModelConfig { h2: Some(0.3), solver: StudySolver::Pcg, ..model(ModelKind::Gblup) };
        let told = text(&[given]);
        assert!(told.contains("h² is given") && told.contains("solver pcg") && !told.contains("Patterson"));
    }

    #[test]
    fn only_sums_of_networks_depend_on_ranks() {
        assert_eq!(
            ranks_matter(&[model(ModelKind::Gblup), model(ModelKind::Dlgblup)]),
            "the tables do not depend"
        );
        let mut mlp = model(ModelKind::Mlp);
        assert!(ranks_matter(&[model(ModelKind::Gblup), mlp.clone()]).starts_with("but for rounding"));
        let mut config = crate::nn::Config::default();
        config.ranks.exchange = Exchange::Ordered;
        mlp.mlp = Some(config);
        assert_eq!(ranks_matter(&[mlp]), "the tables do not depend");
    }
}
