//! The report of a study: one HTML file that needs nothing else, for screens light and dark and for paper.

use crate::evaluate::cells::{Cell, Comparison, Heritability, Overall};
use crate::evaluate::comparisons::Estimate;
use crate::evaluate::models::ModelConfig;
use crate::evaluate::scores::Scores;
use crate::report::html::{html_table, rounded, run, with_error};
use crate::report::methods::{methods, ranks_matter};
use crate::report::picture::{FONT, FONT_FILE, PALETTE};
use crate::report::record::RunRecord;
use crate::report::study::{Picture, Study};
use maud::{html, Markup, PreEscaped, DOCTYPE};

/// What the page shows beside the study itself.
pub struct Page<'a> {
    /// Heading.
    pub title: &'a str,
    /// The results.
    pub study: &'a Study<'a>,
    /// The pictures of [`Study::pictures`].
    pub pictures: &'a [Picture],
    /// What the data are: a word and its explanation, line by line.
    pub data: &'a [(String, String)],
    /// How the animals were divided, validation by validation.
    pub divisions: &'a [String],
    /// Bootstrap samples.
    pub replicates: usize,
    /// The models' settings.
    pub models: &'a [ModelConfig],
    /// The run so far.
    pub record: &'a RunRecord,
}

impl Page<'_> {
    /// The HTML.
    pub fn render(&self) -> String {
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) }
                    style { (PreEscaped(style())) }
                }
                body { main {
                    h1 { (self.title) }
                    (self.answer())
                    @for v in 0..self.study.plan.validations.len() { (self.validation(v)) }
                    (self.genotypes())
                    (self.data_section())
                    (methods(self.models, self.replicates))
                    (self.timings())
                    (run(self.record, ranks_matter(self.models), "scores.tsv, comparisons.tsv, lr.tsv, variances.tsv, timings.tsv, pictures/ and study.run.json"))
                } }
            }
        };
        body.into_string()
    }

    /// The headline: how well, and how sure.
    fn answer(&self) -> Markup {
        html! {
            section.answer {
                @for v in 0..self.study.plan.validations.len() { p { (self.sentence(v)) } }
                p.hint {
                    "r is the correlation of predictions with records that the model had not seen; ± is one standard error. \
                     An r near √h², the square root of the trait's heritability, is as good as a prediction of records can be."
                }
            }
        }
    }

    fn sentence(&self, v: usize) -> Markup {
        let s = self.study;
        let means: Vec<&Overall> = s.overall.iter().filter(|o| o.validation == v).collect();
        let best = best(&means);
        let Some(first) = best.first() else {
            return html! {
                b { (title_case(s.validation(v))) " validation: " }
                "no model has an r for a trait: predictions or tested records do not vary. "
            };
        };
        let mut cells = s.of(v, first.model);
        cells.retain(|c| r(&c.summary.mean).0.is_finite());
        cells.sort_by(|a, b| r(&b.summary.mean).0.total_cmp(&r(&a.summary.mean).0));
        let named = |c: &Cell| format!("{} ({})", s.traits[c.number], rounded(r(&c.summary.mean).0, 2));
        let mean = r(&first.summary.mean);
        let models = best.iter().map(|o| s.model(o.model)).collect::<Vec<_>>().join(" and ");
        let verb = if best.len() == 1 { "predicts" } else { "alike predict" };
        let others = s.comparisons.iter().filter(|c| c.validation == v && c.number.is_none());
        html! {
            b { (title_case(s.validation(v))) " validation: " }
            @if s.traits.len() > 1 {
                (models) " " (verb) " " (first.traits) " traits with a mean r of " strong { (with_error(mean, 3)) }
                ", from " (named(cells[cells.len() - 1])) " to " (named(cells[0])) ". "
            } @else {
                (models) " " (verb) " " (s.traits[cells[0].number]) " with r = " strong { (with_error(mean, 3)) } ". "
            }
            @if first.traits < s.traits.len() {
                (s.traits.len() - first.traits) " of the traits do not count: a model has no r for them in any fold. "
            }
            @for c in others { (self.verdict(c)) " " }
        }
    }

    fn verdict(&self, c: &Comparison) -> String {
        let (a, b) = (self.study.model(c.models.0), self.study.model(c.models.1));
        let d = c.differences[0];
        let difference = with_error((d.difference, d.se), 4);
        if !(d.low.is_finite() && d.high.is_finite()) {
            format!("{a} and {b} cannot be compared: one has no r.")
        } else if d.low.abs().max(d.high.abs()) < LEVEL {
            format!("{a} and {b} are equal.")
        } else if d.low > 0.0 {
            format!("{a} is better than {b} (difference {difference}).")
        } else if d.high < 0.0 {
            format!("{b} is better than {a} (difference {a} − {b}: {difference}).")
        } else {
            format!("{a} and {b} cannot be told apart (difference {difference}).")
        }
    }

    fn validation(&self, v: usize) -> Markup {
        let s = self.study;
        html! {
            section {
                h2 { (title_case(s.validation(v))) " validation" }
                p { (self.divisions[v]) }
                (self.score_table(v))
                (self.comparison_table(v))
                @for p in self.pictures.iter().filter(|p| p.validation == Some(v)) { (figure(p)) }
            }
        }
    }

    fn score_table(&self, v: usize) -> Markup {
        let s = self.study;
        let mut head = vec![
            ("trait", "name in the file of records"),
            ("model", ""),
            ("records", "animals with a record"),
            ("h²", "heritability, mean over the training folds ± standard error; at boundary: REML stopped at 0 or 1 in so many folds"),
            ("r", "correlation of prediction and adjusted record, mean over folds ± standard error"),
            ("accuracy", "r / √h²: correlation with the true breeding value; none where h² is below 1 % or two standard errors"),
            ("slope", "of record on prediction; 1 is right"),
            ("rank r", "Spearman's correlation"),
            ("top 10 %", "share of the best tenth by record that is in the best tenth by prediction"),
            ("folds", "that count: every model has an r in them"),
            ("r total", "correlation of record and prediction with fixed effects"),
        ];
        let mut rows = Vec::new();
        for t in 0..s.traits.len() {
            for c in s.cells.iter().filter(|c| c.validation == v && c.number == t) {
                let e = &c.summary.mean;
                rows.push(vec![
                    s.traits[t].clone(),
                    s.model(c.model).to_owned(),
                    s.recorded[t].to_string(),
                    heritability(&c.h2()),
                    with_error(e.of("r"), 3),
                    with_error(c.h2().accuracy(r(e)), 2),
                    with_error(e.of("slope"), 2),
                    rounded(e.of("spearman").0, 3),
                    percent(e.of("top10").0),
                    format!("{} of {}", c.counted(), c.splits.len()),
                    rounded(e.of("r_total").0, 3),
                ]);
            }
        }
        // Without fixed effects but the mean both correlations are the same: then one column is enough.
        let apart = |e: &Estimate| (e.of("r_total").0 - e.of("r").0).abs() > 1e-6;
        if !s.cells.iter().any(|c| apart(&c.summary.mean)) {
            head.pop();
            rows.iter_mut().for_each(|row| row.truncate(head.len()));
        }
        html_table(&head, 2, &rows)
    }

    fn comparison_table(&self, v: usize) -> Markup {
        let s = self.study;
        let all: Vec<&Comparison> = s.comparisons.iter().filter(|c| c.validation == v).collect();
        if all.is_empty() {
            return html! {};
        }
        let head = [
            ("trait", ""),
            ("models", "first minus second"),
            ("difference in r", "± paired standard error"),
            ("95 % interval", "of the bootstrap"),
            ("p", "two-sided, bootstrap; no smaller one can come of so many samples than the smallest"),
        ];
        let row = |c: &&Comparison| {
            let d = c.differences[0];
            vec![
                c.number.map_or("all traits".into(), |t| s.traits[t].clone()),
                format!("{} − {}", s.model(c.models.0), s.model(c.models.1)),
                with_error((d.difference, d.se), 4),
                match d.low.is_finite() {
                    true => format!("{} to {}", rounded(d.low, 4), rounded(d.high, 4)),
                    false => rounded(d.low, 4),
                },
                probability(d.p, self.replicates),
            ]
        };
        html! {
            h3 { "Models against each other" }
            p {
                "The same animals, the same bootstrap samples: these differences have smaller errors than the scores themselves. Where the \
                 interval contains 0 no difference was shown, which does not prove equality; among many traits, one interval in twenty \
                 misses 0 by chance."
            }
            (html_table(&head, 2, &all.iter().map(row).collect::<Vec<_>>()))
        }
    }

    fn genotypes(&self) -> Markup {
        let pictures: Vec<&Picture> = self.pictures.iter().filter(|p| p.validation.is_none()).collect();
        html! {
            @if !pictures.is_empty() {
                section {
                    h2 { "The genotypes" }
                    div.pair { @for p in pictures { (figure(p)) } }
                }
            }
        }
    }

    fn data_section(&self) -> Markup {
        html! {
            section {
                h2 { "Data" }
                dl { @for (word, text) in self.data { dt { (word) } dd { (text) } } }
            }
        }
    }

    fn timings(&self) -> Markup {
        let fits = self.study.done.values();
        let rows: Vec<Vec<String>> = (0..self.study.plan.models.len())
            .map(|m| {
                let seconds: Vec<f64> =
                    fits.clone().filter(|d| d.task.model == m).map(|d| d.seconds).collect();
                let total = seconds.iter().sum::<f64>();
                vec![format!("fits of {}", self.study.model(m)), seconds.len().to_string(), rounded(total, 1)]
            })
            .chain(
                self.record.phases.iter().map(|p| vec![p.name.clone(), String::new(), rounded(p.seconds, 1)]),
            )
            .collect();
        html! {
            section {
                h2 { "Timings" }
                p { "Fits run side by side on ranks and threads; their seconds add up over all of them. The steps are wall time." }
                (html_table(&[("step", ""), ("fits", ""), ("seconds", "")], 1, &rows))
            }
        }
    }
}

/// r and its standard error.
fn r(e: &crate::evaluate::comparisons::Estimate) -> (f64, f64) {
    e.of(Scores::NAMES[0])
}

/// Differences in r that are rounding.
const LEVEL: f64 = 1e-9;

/// The models with the largest mean r: several where they differ by rounding alone, none where none has an r.
fn best<'a>(means: &[&'a Overall]) -> Vec<&'a Overall> {
    let value = |o: &Overall| r(&o.summary.mean).0;
    let most = means.iter().map(|o| value(o)).filter(|v| v.is_finite()).fold(f64::NEG_INFINITY, f64::max);
    means.iter().filter(|o| value(o) >= most - LEVEL).copied().collect()
}

/// h² ± its standard error, and whether REML stopped at a boundary.
fn heritability(h2: &Heritability) -> String {
    let error = if h2.se == 0.0 { f64::NAN } else { h2.se };
    let text = with_error((h2.h2, error), 2);
    match h2.at_boundary {
        0 => text,
        k => format!("{text} (at boundary: {k})"),
    }
}

fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{} %", rounded(100.0 * share, 0))
    } else {
        rounded(share, 0)
    }
}

/// A bootstrap probability; `< …` where it is the smallest that so many samples can give.
fn probability(p: f64, replicates: usize) -> String {
    let least = 2.0 / (replicates as f64 + 1.0);
    if p <= least * (1.0 + 1e-9) && p < 1.0 {
        return format!("< {}", rounded((1000.0 * least).ceil() / 1000.0, 3));
    }
    rounded(p, 3)
}

fn title_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A picture whose colours follow the page.
pub(super) fn figure(p: &Picture) -> Markup {
    let coloured = PALETTE
        .iter()
        .enumerate()
        .fold(p.svg.clone(), |svg, (k, code)| svg.replace(code, &format!("var(--s{k})")));
    html! { figure id=(p.name) { (PreEscaped(coloured)) figcaption { (p.caption) } } }
}

/// The style of all pages, with the font.
pub(super) fn style() -> String {
    let light = PALETTE.iter().enumerate().map(|(k, code)| format!("--s{k}:{code};")).collect::<String>();
    format!(
        "@font-face{{font-family:'{FONT}';src:url(data:font/ttf;base64,{}) format('truetype')}}\n:root{{{light}}}\n{}",
        base64(FONT_FILE),
        include_str!("page.css")
    )
}

/// Base 64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const CODE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for k in 0..4 {
            let letter = CODE[(word >> (18 - 6 * k) & 63) as usize] as char;
            out.push(if k <= three.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_at_their_floor_say_so() {
        assert_eq!(probability(2.0 / 1001.0, 1000), "< 0.002");
        assert_eq!(probability(4.0 / 1001.0, 1000), "0.004");
        assert_eq!(probability(2.0 / 61.0, 60), "< 0.033");
        assert_eq!([probability(1.0, 2), probability(f64::NAN, 60)], ["1.000", "–"]);
    }

    #[test]
    fn the_best_model_has_an_r_and_equal_ones_are_all_named() {
        use crate::evaluate::comparisons::{Estimate, Summary};
        let of = |model: usize, r: f64| {
            let e = Estimate { scores: [r; 7], errors: [0.1; 7] };
            let summary = Summary { splits: Vec::new(), mean: e, pooled: e, replicates: Vec::new() };
            Overall { validation: 0, model, traits: 1, summary }
        };
        let best_of = |all: &[Overall]| {
            best(&all.iter().collect::<Vec<_>>()).iter().map(|o| o.model).collect::<Vec<_>>()
        };
        assert_eq!(best_of(&[of(0, 0.2), of(1, f64::NAN), of(2, 0.3)]), [2]);
        assert_eq!(best_of(&[of(0, 0.3), of(1, 0.1), of(2, 0.3 + 1e-12)]), [0, 2]);
        assert_eq!(best_of(&[of(0, f64::NAN)]), [0; 0]);
    }

    #[test]
    fn base64_of_the_standards_examples() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
