//! The report of a study: one HTML file that needs nothing else, for screens light and dark and for paper.

use crate::evaluate::cells::Comparison;
use crate::evaluate::comparisons::Estimate;
use crate::evaluate::models::ModelConfig;
use crate::evaluate::scores::Scores;
use crate::report::answer::{answer, heritability, title_case};
use crate::report::html::{html_table, rounded, run, script, with_error};
use crate::report::methods::{methods, ranks_matter};
use crate::report::picture::{FONT, FONT_FILE, PALETTE};
use crate::report::record::RunRecord;
use crate::report::study::{Picture, Study};
use maud::{html, Markup, PreEscaped, DOCTYPE};
use std::collections::BTreeMap;

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
                    (answer(self.study, self.pictures))
                    @for v in 0..self.study.plan.validations.len() { (self.validation(v)) }
                    (self.side_by_side())
                    (self.genotypes())
                    (self.data_section())
                    (methods(self.models, self.replicates))
                    (self.timings())
                    (run(self.record, ranks_matter(self.models), "summary.tsv, scores.tsv, comparisons.tsv, lr.tsv, variances.tsv, timings.tsv, pictures/ and study.run.json"))
                } (script()) }
            }
        };
        body.into_string()
    }

    fn validation(&self, v: usize) -> Markup {
        let s = self.study;
        html! {
            section {
                h2 { (title_case(s.validation(v))) " validation" }
                p { (self.divisions[v]) }
                (self.score_table(v))
                (self.comparison_table(v))
                (self.weight_table(v))
                @for p in self.pictures.iter().filter(|p| p.validation == Some(v) && !p.first) { (figure(p)) }
            }
        }
    }

    fn score_table(&self, v: usize) -> Markup {
        let s = self.study;
        let mut head = vec![
            ("trait", "name in the file of records"),
            ("model", ""),
            ("records", "animals with a record"),
            ("h²", "heritability by additive REML, the same for all models, ± standard error; at boundary: REML stopped at 0 or 1"),
            ("r", "correlation of prediction and adjusted record, mean over folds ± standard error"),
            ("r in families", "of predictions and records less their family means"),
            ("sd of seeds", "standard deviation of r between fits that differ in their seed alone"),
            ("accuracy", "r / √h²: correlation with the true breeding value; its error counts that of h²; none where h² is below 1 % or two standard errors"),
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
                    heritability(&c.h2),
                    with_error(e.of("r"), 3),
                    with_error(e.of("r_within_family"), 3),
                    rounded(c.replicate_sd(), 3),
                    with_error(c.h2.accuracy(e.of("r")), 2),
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
        let mut idle = vec![("r total", !s.cells.iter().any(|c| apart(&c.summary.mean)))];
        let known = |name: &str| rows.iter().any(|row| row[place(&head, name)] != "–");
        idle.extend(["r in families", "sd of seeds"].map(|name| (name, !known(name))));
        for (name, _) in idle.into_iter().filter(|(_, idle)| *idle) {
            let k = place(&head, name);
            head.remove(k);
            rows.iter_mut().for_each(|row: &mut Vec<String>| drop(row.remove(k)));
        }
        html_table(&head, 2, &rows)
    }

    /// What stacked models are added from: mean weights over the splits.
    fn weight_table(&self, v: usize) -> Markup {
        let s = self.study;
        let mut sums: BTreeMap<(usize, usize, usize), (String, f64, usize)> = BTreeMap::new();
        for d in s.done.values().filter(|d| d.task.validation == v) {
            for p in &d.traits {
                for (k, (kind, weight)) in p.weights.iter().enumerate() {
                    let at = (p.number, d.task.model, k);
                    let sum = sums.entry(at).or_insert_with(|| (kind.clone(), 0.0, 0));
                    *sum = (kind.clone(), sum.1 + weight, sum.2 + 1);
                }
            }
        }
        if sums.is_empty() {
            return html! {};
        }
        let row =
            |((number, model, _), (kind, sum, count)): (&(usize, usize, usize), &(String, f64, usize))| {
                vec![
                    s.traits[*number].clone(),
                    s.model(*model).to_owned(),
                    kind.clone(),
                    rounded(sum / *count as f64, 2),
                ]
            };
        let head = [("trait", ""), ("model", ""), ("kind", ""), ("weight", "mean over the splits")];
        html! {
            details {
                summary { "What stacked models are added from" }
                (html_table(&head, 3, &sums.iter().map(row).collect::<Vec<_>>()))
            }
        }
    }

    fn comparison_table(&self, v: usize) -> Markup {
        let s = self.study;
        let all: Vec<&Comparison> = s.comparisons.iter().filter(|c| c.validation == v).collect();
        if all.is_empty() {
            return html! {};
        }
        let head = [
            ("trait", ""),
            ("model", ""),
            ("reference", "what it is compared with"),
            ("difference in r", "from the reference ± paired standard error"),
            ("95 % interval", "by Student's t"),
            ("p", "two-sided, by Student's t"),
            ("q", "Benjamini & Hochberg (1995), over the traits of the model"),
            ("verdict", ""),
        ];
        let row = |c: &&Comparison| {
            let d = c.differences[Scores::position("r")];
            let interval = format!("{} to {}", rounded(d.low, 4), rounded(d.high, 4));
            vec![
                s.traits[c.number].clone(),
                s.model(c.model).to_owned(),
                s.model(c.reference).to_owned(),
                with_error((d.difference, d.se), 4),
                if d.low.is_finite() { interval } else { rounded(d.low, 4) },
                probability(d.p),
                probability(d.q),
                c.verdict.label().to_owned(),
            ]
        };
        html! {
            h3 { "Models against " (s.references().unwrap_or("their references")) }
            p {
                "The same animals, the same bootstrap samples: these differences have smaller errors than the scores themselves. Where the \
                 interval contains 0 no difference was shown, which does not prove equality; a model is level with the reference where the interval \
                 lies within ± " (s.plan.margin) "."
            }
            (html_table(&head, 2, &all.iter().map(row).collect::<Vec<_>>()))
        }
    }

    /// All validations in one table, where there are several.
    fn side_by_side(&self) -> Markup {
        let s = self.study;
        let count = s.plan.validations.len();
        if count < 2 {
            return html! {};
        }
        let names = |what: &str| (0..count).map(|v| format!("{what}, {}", s.validation(v))).collect();
        let names: [Vec<String>; 3] = ["r", "slope", "verdict"].map(names);
        let told = [
            "correlation with adjusted records",
            "of record on prediction; 1 is right",
            "beside the reference",
        ];
        let mut head = vec![("trait", ""), ("model", "")];
        for (names, told) in names.iter().zip(told) {
            head.extend(names.iter().map(|name| (name.as_str(), told)));
        }
        let row = |(t, m): (usize, usize)| {
            let cell = |v| s.cells.iter().find(|c| (c.validation, c.model, c.number) == (v, m, t));
            let score = |v, name, digits| {
                cell(v).map_or("–".into(), |c| with_error(c.summary.mean.of(name), digits))
            };
            let verdict = |v| s.comparison(v, m, t).map_or("–", |c| c.verdict.label()).to_owned();
            let mut row = vec![s.traits[t].clone(), s.model(m).to_owned()];
            row.extend((0..count).map(|v| score(v, "r", 3)));
            row.extend((0..count).map(|v| score(v, "slope", 2)));
            row.extend((0..count).map(verdict));
            row
        };
        let models = s.plan.models.len();
        let pairs = (0..s.traits.len()).flat_map(|t| (0..models).map(move |m| (t, m)));
        html! {
            section {
                h2 { "Validations side by side" }
                p {
                    "What holds under one validation need not hold under another: random folds test animals whose relatives were trained on, whole \
                     families and the youngest animals are farther from what a model has seen."
                }
                (html_table(&head, 2, &pairs.map(row).collect::<Vec<_>>()))
            }
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
        let rows: Vec<Vec<String>> = (0..self.study.plan.models.len())
            .map(|m| {
                let (fits, cost) = self.study.cost(m);
                let name = format!("fits of {}", self.study.model(m));
                vec![name, fits.to_string(), rounded(cost.seconds, 1), rounded(cost.cpu_seconds, 1)]
            })
            .chain(self.record.phases.iter().map(|p| {
                vec![p.name.clone(), String::new(), rounded(p.seconds, 1), rounded(p.cpu_seconds, 1)]
            }))
            .collect();
        html! {
            section {
                h2 { "Timings" }
                p { "Fits run side by side on ranks and threads; their seconds and CPU seconds add up over all of them, also of earlier runs. Those of the steps are of this run's first rank." }
                (html_table(&[("step", ""), ("fits", ""), ("seconds", ""), ("CPU seconds", "")], 1, &rows))
            }
        }
    }
}

/// Place of a column.
fn place(head: &[(&str, &str)], name: &str) -> usize {
    head.iter().position(|(column, _)| *column == name).expect("a column of this table")
}

fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{} %", rounded(100.0 * share, 0))
    } else {
        rounded(share, 0)
    }
}

/// A probability for readers.
fn probability(p: f64) -> String {
    if p < 0.001 {
        return "< 0.001".into();
    }
    rounded(p, 3)
}

/// A picture whose colours follow the page.
pub(super) fn figure(p: &Picture) -> Markup {
    let coloured = PALETTE
        .iter()
        .enumerate()
        .fold(p.svg.clone(), |svg, (k, code)| svg.replace(code, &format!("var(--s{k})")));
    let class = p.first.then_some("wide");
    html! { figure id=(p.name) class=[class] { (PreEscaped(coloured)) figcaption { (p.caption) } } }
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
    fn small_probabilities_say_so() {
        assert_eq!([1e-9, 0.0012, 1.0, f64::NAN].map(probability), ["< 0.001", "0.001", "1.000", "–"]);
    }

    #[test]
    fn base64_of_the_standards_examples() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
