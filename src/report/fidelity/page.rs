//! The report of `fidelity`: one HTML file that needs nothing else.

use crate::evaluate::fidelity::{Findings, Row};
use crate::report::html::{html_table, rounded, run, script};
use crate::report::page::{figure, style};
use crate::report::record::RunRecord;
use crate::report::study::Picture;
use maud::{html, Markup, PreEscaped, DOCTYPE};

/// What the page shows.
pub struct Page<'a> {
    /// The results.
    pub findings: &'a Findings,
    /// Their pictures.
    pub pictures: &'a [Picture],
    /// What the data are: a word and its explanation, line by line.
    pub data: &'a [(String, String)],
    /// The run so far.
    pub record: &'a RunRecord,
}

impl Page<'_> {
    /// The HTML.
    pub fn render(&self) -> String {
        let title = "Fidelity of synthetic genotypes";
        let body = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(style())) }
                }
                body { main {
                    h1 { (title) }
                    (self.answer())
                    (self.metrics())
                    section { h2 { "Pictures" } div.pair { @for p in self.pictures { (figure(p)) } } }
                    section { h2 { "Data" } dl { @for (word, text) in self.data { dt { (word) } dd { (text) } } } }
                    (methods(self.findings.large_k))
                    (run(self.record, "the table does not depend", "fidelity.tsv, pictures/ and fidelity.run.json"))
                } (script()) }
            }
        };
        body.into_string()
    }

    fn answer(&self) -> Markup {
        let f = self.findings;
        html! {
            section.answer {
                @if f.verdicts.is_empty() {
                    p { b { "No verdict: " } "no score that is judged lies far beyond what real animals score against other real animals." }
                }
                @for v in &f.verdicts { p { b { (v.name) ": " } (v.because) "." } }
                p.hint {
                    "Every score stands beside a baseline: two disjoint random halves of the real animals, " (f.animals[1])
                    " each, by the same code. A synthetic set that equals its baselines is as good as other real animals would be."
                }
            }
        }
    }

    fn metrics(&self) -> Markup {
        let f = self.findings;
        let whole = format!("{} real and as many synthetic animals", f.animals[0]);
        let half = format!("{} animals a set, as many as in the baseline", f.animals[1]);
        let head = [
            ("metric", "docs/fidelity.md defines each"),
            (
                "verdict",
                "what rests on this score; not judged: it has no limit, or real halves do not agree on it",
            ),
            ("value", whole.as_str()),
            ("same n", half.as_str()),
            ("real halves", "the baseline"),
            ("ideal", ""),
        ];
        let row = |r: &Row| {
            let mut cells = vec![r.metric.replace('_', " "), r.verdict.clone()];
            cells.extend([r.value, r.matched, r.baseline].map(|x| rounded(x, 4)));
            cells.push(r.ideal.into());
            cells
        };
        html! {
            section {
                h2 { "Metrics" }
                p {
                    "value: " (whole) "; same n: " (half) ". Compare the latter with the real halves, since many scores "
                    "depend on the number of animals. AA_truth and AA_syn belong together: both below 0.5 is copying, both above is "
                    "underfitting, one of each is collapse."
                }
                (html_table(&head, 2, &f.rows.iter().map(row).collect::<Vec<_>>()))
            }
        }
    }
}

fn methods(large_k: usize) -> Markup {
    html! {
        section {
            h2 { "Methods" }
            p {
                "Precision and recall: Kynkäänniemi et al. (2019, NeurIPS 32), Euclidean distances of allele counts, with k = 10 and k = "
                (large_k) " (large k). Adversarial accuracy: Yale et al. (2020, Neurocomputing 416:244), strict, self excluded. Linkage "
                "disequilibrium: Rogers & Huff (2009, Genetics 182:839). F_ST: Σ max(0, H_T − H_S) / Σ H_T. A call missing on either "
                "side adds nothing to a distance."
            }
            p {
                "Principal components are those of the real animals; the Wasserstein distance of first order in ten of them is exact "
                "up to 500 animals and the mean over 200 random directions beyond. Kinships by VanRaden (2008, J Dairy Sci 91:4414) with the "
                "frequencies of the real animals. tstr: GBLUP trained on synthetic animals and their conditions (Esteban et al. "
                "2017), tested on held-out real animals; seen: tested on half of the real animals that the generator learned from, which a "
                "generator that copies predicts too well. The baseline is trained on the other half of the real ones."
            }
        }
    }
}
