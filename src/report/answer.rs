//! The first screen of a study's page: what each model is beside the reference, trait by trait.

use crate::evaluate::cells::{Cell, Comparison, Heritability};
use crate::evaluate::scores::Scores;
use crate::evaluate::verdicts::{count, Verdict, FALSE_DISCOVERIES};
use crate::report::html::{html_table, rounded, with_error};
use crate::report::page::figure;
use crate::report::study::{Picture, Study};
use maud::{html, Markup};
use std::collections::BTreeSet;

/// Families of a split below which errors are wide.
const FEW_FAMILIES: f64 = 20.0;
/// Traits that a sentence names at most.
const NAMED: usize = 5;

/// The verdicts of all validations and their pictures, what each model costs, what the errors hold, and a table of the traits.
pub fn answer(s: &Study, pictures: &[Picture]) -> Markup {
    html! {
        section.answer {
            @for v in 0..s.plan.validations.len() {
                p { b { (title_case(s.validation(v))) " validation: " } (reference(s, v)) }
                ul { @for text in verdicts(s, v) { li { (text) } } }
                @if let Some(text) = few_families(s, v) { p { (text) } }
                (by_animals(s, v))
                @for text in within_families(s, v) { p { (text) } }
            }
        }
        @for p in pictures.iter().filter(|p| p.first) { (figure(p)) }
        (costs(s))
        p.hint { (errors(s)) }
        @for v in 0..s.plan.validations.len() {
            @if s.plan.validations.len() > 1 { h3 { (title_case(s.validation(v))) " validation" } }
            (traits(s, v))
        }
    }
}

/// What each model gains and costs, over all validations.
fn costs(s: &Study) -> Markup {
    let on_gpus = (0..s.plan.models.len()).any(|m| s.cost(m).1.gpu_seconds > 0.0);
    let row = |m: usize| {
        let of: Vec<&Comparison> = s.comparisons.iter().filter(|c| c.model == m).collect();
        let counts = count(of.iter().copied());
        let told = |verdict: Verdict| match m == s.reference(m) {
            true => "–".to_owned(),
            false => counts[verdict.place()].to_string(),
        };
        let r: Vec<String> = (0..s.plan.validations.len())
            .map(|v| {
                let found = s.overall.iter().find(|o| (o.validation, o.model) == (v, m));
                found.map_or("–".into(), |o| with_error(o.summary.mean.of("r"), 3))
            })
            .collect();
        let mut row = vec![s.model(m).to_owned()];
        row.extend([Verdict::Better, Verdict::Worse, Verdict::Level, Verdict::Undecided].map(told));
        row.extend(r);
        let (fits, cost) = s.cost(m);
        let (_, of_reference) = s.cost(s.reference(m));
        row.extend([fits.to_string(), rounded(cost.cpu_seconds, 1)]);
        row.push(rounded(cost.cpu_seconds / of_reference.cpu_seconds, 2));
        if on_gpus {
            row.push(rounded(cost.gpu_seconds, 1));
        }
        row.push(rounded(cost.memory as f64 / 1e9, 2));
        row
    };
    let means: Vec<String> =
        (0..s.plan.validations.len()).map(|v| format!("mean r, {}", s.validation(v))).collect();
    let mut head = vec![
        ("model", ""),
        ("better", "traits in which it is better than the reference"),
        ("worse", "traits in which it is worse"),
        ("level", "traits in which the difference lies within the margin"),
        ("undecided", "traits in which nothing was shown"),
    ];
    head.extend(means.iter().map(|name| (name.as_str(), "over the traits in which every model has an r")));
    head.extend([
        ("fits", "of all traits, validations, folds and replicates"),
        ("CPU seconds", "of all fits on all ranks and threads; what models share, as G, is counted once, where it was first made"),
        ("× reference", "CPU seconds over those of the reference"),
    ]);
    if on_gpus {
        head.push(("GPU seconds", "that GPUs were held for the fits, over all ranks"));
    }
    head.push(("GB", "of memory that a rank held at most while the fits ran, genotypes and all"));
    let rows: Vec<Vec<String>> = (0..s.plan.models.len()).map(row).collect();
    html! {
        h3 { "What each model gains and costs" }
        (html_table(&head, 1, &rows))
    }
}

/// How well the reference predicts.
fn reference(s: &Study, v: usize) -> String {
    let name = s.model(s.plan.reference);
    let mut cells = s.of(v, s.plan.reference);
    cells.retain(|c| c.summary.mean.of("r").0.is_finite());
    cells.sort_by(|a, b| b.summary.mean.of("r").0.total_cmp(&a.summary.mean.of("r").0));
    let with_r = |c: &Cell| format!("{} (r = {})", s.traits[c.number], with_error(c.summary.mean.of("r"), 3));
    match cells[..] {
        [] => format!("{name} has no r for a trait: its predictions or the tested records do not vary."),
        [one] if s.traits.len() == 1 => format!("{name} predicts {}.", with_r(one)),
        [first, .., last] => {
            let predicted = cells.iter().filter(|c| is_predicted(c)).count();
            let range = format!("best {}, least {}", with_r(first), with_r(last));
            format!("{name} predicts {predicted} of {} traits, with an r above 0 at two standard errors; {range}.", s.traits.len())
        }
        [one] => format!("of {} traits {name} has an r for one, {}.", s.traits.len(), with_r(one)),
    }
}

fn is_predicted(c: &Cell) -> bool {
    let (r, se) = c.summary.mean.of("r");
    r > 2.0 * se
}

/// A sentence for each model other than the reference, and whether one of them beats it.
fn verdicts(s: &Study, v: usize) -> Vec<String> {
    let others = s.compared();
    let of = |m: usize| s.compared_in(v, m);
    let against = |m: usize| s.model(s.reference(m));
    let told = |&m: &usize| format!("{} against {}: {}.", s.model(m), against(m), headline(&of(m)));
    let mut out: Vec<String> = others.iter().map(told).collect();
    let beats = |m: usize| Some(format!("{} beats {} in {}.", s.model(m), against(m), better(s, &of(m))?));
    let beating: Vec<String> = others.iter().filter_map(|&m| beats(m)).collect();
    if beating.is_empty() && !others.is_empty() {
        out.push(match s.references() {
            Some(name) => format!("No model beats the reference {name} in a trait."),
            None => "No model beats its reference in a trait.".into(),
        });
    }
    out.extend(beating);
    out
}

/// Why most verdicts are undecided where a split tests few families.
fn few_families(s: &Study, v: usize) -> Option<String> {
    let families = s.plan.validations[v].families_tested().filter(|&families| families < FEW_FAMILIES)?;
    let all: Vec<&Comparison> = s.compared().iter().flat_map(|&m| s.compared_in(v, m)).collect();
    let undecided = count(all.iter().copied())[Verdict::Undecided.place()];
    (2 * undecided > all.len()).then(|| {
        format!(
            "{undecided} of {} verdicts are undecided: errors are those of whole families, and a split tests {families:.0} of them. \
             So few tell only large differences apart; more families would tell smaller ones.",
            all.len()
        )
    })
}

/// Models that learn from several numbers of animals, side by side: mean r, and in how many traits they are better and worse
/// than the reference of as many.
fn by_animals(s: &Study, v: usize) -> Markup {
    let mixtures = || (0..s.plan.models.len()).filter_map(|m| Some((m, s.plan.models[m].mixture.as_ref()?)));
    let sizes: BTreeSet<usize> = mixtures().map(|(_, mixture)| mixture.reference).collect();
    if sizes.len() < 2 {
        return html! {};
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (m, mixture) in mixtures() {
        let name = mixture.kind();
        let row = rows.iter().position(|row| row[0] == name).unwrap_or_else(|| {
            rows.push(vec![String::new(); 1 + sizes.len()]);
            rows.len() - 1
        });
        let r = s.overall.iter().find(|o| (o.validation, o.model) == (v, m));
        let r = r.map_or("–".into(), |o| with_error(o.summary.mean.of("r"), 3));
        let counts = count(s.compared_in(v, m));
        let [better, worse] = [Verdict::Better, Verdict::Worse].map(|verdict| counts[verdict.place()]);
        let told = if m == s.reference(m) { r } else { format!("{r}, better {better}, worse {worse}") };
        let place = sizes.iter().position(|size| *size == mixture.reference).expect("collected from these");
        rows[row][0] = name;
        rows[row][1 + place] = told;
    }
    let heads: Vec<String> = sizes.iter().map(|size| format!("{size} animals")).collect();
    let mut head = vec![("model", "")];
    let told = "mean r over the traits ± standard error, and in how many traits it is better and worse than the reference of as many real animals";
    head.extend(heads.iter().map(|name| (name.as_str(), told)));
    html! {
        p { "By the number of real training animals; each is compared with the reference of as many, and with synthetic animals with the same model without them:" }
        (html_table(&head, 1, &rows))
    }
}

/// How many traits there are of each verdict.
pub fn headline(comparisons: &[&Comparison]) -> String {
    let counts = count(comparisons.iter().copied());
    let told = Verdict::ALL.iter().zip(counts).filter(|(verdict, count)| {
        *count > 0 || [Verdict::Better, Verdict::Worse, Verdict::Undecided].contains(verdict)
    });
    let parts: Vec<String> = told.map(|(verdict, count)| format!("{} in {count}", verdict.label())).collect();
    format!("{} of {} traits (q < {FALSE_DISCOVERIES})", parts.join(", "), comparisons.len())
}

/// The traits in which a model is better, the largest difference first.
fn better(s: &Study, comparisons: &[&Comparison]) -> Option<String> {
    let mut better: Vec<&&Comparison> = comparisons.iter().filter(|c| c.verdict == Verdict::Better).collect();
    better.sort_by(|a, b| in_r(b).0.total_cmp(&in_r(a).0));
    let named = |c: &&&Comparison| format!("{} (+{})", s.traits[c.number], with_error(in_r(c), 3));
    let names: Vec<String> = better.iter().take(NAMED).map(named).collect();
    let more = match better.len().saturating_sub(NAMED) {
        0 => String::new(),
        k => format!(" and {k} more"),
    };
    (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
}

/// The difference in r and its standard error.
fn in_r(c: &Comparison) -> (f64, f64) {
    let d = c.differences[Scores::position("r")];
    (d.difference, d.se)
}

/// Models that tell families apart and nothing within them.
fn within_families(s: &Study, v: usize) -> Vec<String> {
    let of = |m: usize| {
        let lost: Vec<&Cell> = s.of(v, m).into_iter().filter(|c| is_lost_within(c)).collect();
        let named = |c: &&Cell| {
            let [r, within] = ["r", "r_within_family"].map(|name| rounded(c.summary.mean.of(name).0, 2));
            format!("{} ({r} over all animals, {within} within families)", s.traits[c.number])
        };
        let names: Vec<String> = lost.iter().take(NAMED).map(named).collect();
        (!lost.is_empty()).then(|| {
            format!(
                "Within families {} predicts nothing in {} of {} traits: {}. It tells families apart, not the animals in them. \
                 Records that stand beside the names of their sibs look like this: check the order of the rows.",
                s.model(m),
                lost.len(),
                s.traits.len(),
                names.join(", ")
            )
        })
    };
    (0..s.plan.models.len()).filter_map(of).collect()
}

/// Whether r is clearly above 0 over all animals and about 0 within families: below a third of it, below two of its
/// standard errors, and surely less. A prediction that does not vary within families has none there.
fn is_lost_within(c: &Cell) -> bool {
    let [(r, se), (within, within_se)] = ["r", "r_within_family"].map(|name| c.summary.mean.of(name));
    let is_clear = c.has_families && r > 2.0 * se;
    let is_lost = within < r / 3.0 && within < 2.0 * within_se && r - within > 2.0 * se.hypot(within_se);
    is_clear && (within.is_nan() || is_lost)
}

/// What the errors hold.
fn errors(s: &Study) -> String {
    let families = s.plan.validations.iter().any(|v| v.families.is_some());
    let resampled = if families {
        "the tested animals (whole families where they are known)"
    } else {
        "the tested animals"
    };
    format!(
        "r is the correlation of predictions with records that the model had not seen, less fixed effects that are the same for all \
         models; ± is one standard error. Errors hold both sides: {resampled}, and the fits, which other training animals and other \
         seeds would change. Better and worse: q < {FALSE_DISCOVERIES} over the traits of a model; level: the 95 % interval of the difference lies within \
         ± {}; equal: the same predictions; not predicted: neither r is above 0 at two standard errors. An r near √h² is as \
         good as a prediction of records can be.",
        s.plan.margin
    )
}

/// A row a trait: h², r of the reference, and verdict and difference of every other model. Traits of one verdict together.
fn traits(s: &Study, v: usize) -> Markup {
    let others = s.compared();
    let mut cells = s.of(v, s.plan.reference);
    let verdict = |c: &Cell| -> Vec<Option<Verdict>> {
        others.iter().map(|&m| s.comparison(v, m, c.number).map(|c| c.verdict)).collect()
    };
    cells.sort_by_key(|c| verdict(c));
    let heads: Vec<String> = others.iter().map(|&m| s.model(m).to_owned()).collect();
    let of_reference = format!("r of {}", s.model(s.plan.reference));
    let mut head = vec![
        ("trait", "name in the file of records"),
        ("records", "animals with a record"),
        ("h²", "heritability by additive REML ± standard error"),
        (of_reference.as_str(), "mean over folds ± standard error"),
    ];
    head.extend(
        heads
            .iter()
            .map(|name| (name.as_str(), "verdict, and r less that of the reference ± standard error")),
    );
    let row = |c: &&Cell| {
        let mut row = vec![
            s.traits[c.number].clone(),
            s.recorded[c.number].to_string(),
            heritability(&c.h2),
            with_error(c.summary.mean.of("r"), 3),
        ];
        row.extend(others.iter().map(|&m| s.comparison(v, m, c.number).map_or("–".into(), told)));
        row
    };
    html_table(&head, 1, &cells.iter().map(row).collect::<Vec<_>>())
}

/// A verdict with its difference.
fn told(c: &Comparison) -> String {
    match c.verdict {
        Verdict::NoScore | Verdict::Equal => c.verdict.label().to_owned(),
        verdict if !in_r(c).0.is_finite() => verdict.label().to_owned(),
        verdict => format!("{}: {}", verdict.label(), with_error(in_r(c), 3)),
    }
}

/// h² ± its standard error, and whether REML stopped at a boundary.
pub fn heritability(h2: &Heritability) -> String {
    let error = if h2.se == 0.0 { f64::NAN } else { h2.se };
    let text = with_error((h2.h2, error), 2);
    if h2.at_boundary {
        format!("{text} (at boundary)")
    } else {
        text
    }
}

/// With a capital letter.
pub fn title_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::comparisons::{Difference, Estimate, Summary};
    use crate::evaluate::scores::COUNT;

    #[test]
    fn the_headline_counts_traits_by_verdict() {
        let none = f64::NAN;
        let d = Difference { difference: none, se: none, low: none, high: none, p: none, q: none };
        let of = |verdict: Verdict| Comparison {
            validation: 0,
            number: 0,
            model: 1,
            reference: 0,
            differences: [d; COUNT],
            verdict,
        };
        let counts = [
            (Verdict::NotPredicted, 4),
            (Verdict::Better, 3),
            (Verdict::Worse, 10),
            (Verdict::Undecided, 12),
            (Verdict::Level, 4),
        ];
        let all: Vec<Comparison> =
            counts.iter().flat_map(|(v, n)| std::iter::repeat_with(|| of(*v)).take(*n)).collect();
        let wanted = "better in 3, worse in 10, level in 4, undecided in 12, not predicted in 4 of 33 traits (q < 0.05)";
        assert_eq!(headline(&all.iter().collect::<Vec<_>>()), wanted);
        let ties = [of(Verdict::Equal), of(Verdict::NoScore)];
        let wanted = "better in 0, worse in 0, equal in 1, undecided in 0, no r in 1 of 2 traits (q < 0.05)";
        assert_eq!(headline(&ties.iter().collect::<Vec<_>>()), wanted);
    }

    #[test]
    fn an_r_that_is_gone_within_families_is_noticed() {
        let cell = |r: [f64; 2], within: [f64; 2], has_families: bool| {
            let mut e = Estimate::NONE;
            for (name, [value, se]) in [("r", r), ("r_within_family", within)] {
                let k = Scores::position(name);
                (e.scores[k], e.errors[k]) = (value, se);
            }
            let (splits, replicate_sd, replicates) = (Vec::new(), Vec::new(), Vec::new());
            let summary = Summary { splits, replicate_sd, mean: e, pooled: e, replicates };
            let h2 = Heritability::UNKNOWN;
            Cell { validation: 0, model: 0, number: 0, splits: Vec::new(), h2, has_families, summary }
        };
        let none = [f64::NAN; 2];
        for (r, within, families, lost) in [
            ([0.4, 0.05], [0.01, 0.05], true, true),
            ([0.4, 0.05], [-0.05, 0.05], true, true),
            ([0.4, 0.05], none, true, true),
            ([0.4, 0.05], none, false, false),
            ([0.4, 0.05], [0.25, 0.05], true, false),
            // Too few sibs to tell.
            ([0.4, 0.05], [0.1, 0.3], true, false),
            ([0.05, 0.05], [0.0, 0.05], true, false),
        ] {
            assert_eq!(is_lost_within(&cell(r, within, families)), lost, "{r:?} {within:?}");
        }
    }
}
