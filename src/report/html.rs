//! Tables and numbers for readers of the report page.

use crate::report::record::RunRecord;
use maud::{html, Markup, PreEscaped};

/// A number for readers, with `digits` decimals and a true minus sign.
pub fn rounded(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let text = format!("{:.*}", digits, value);
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().any(|c| ('1'..='9').contains(&c)) => format!("\u{2212}{rest}"),
        Some(rest) => rest.to_owned(),
        None => text,
    }
}

/// A value and its standard error, `0.412 ± 0.021`.
pub fn with_error((value, error): (f64, f64), digits: usize) -> String {
    if !value.is_finite() || !error.is_finite() {
        return rounded(value, digits);
    }
    format!("{} ± {}", rounded(value, digits), rounded(error, digits))
}

/// A table for readers. The first `words` columns are words, the others numbers; `hints` explain the columns.
pub fn html_table(head: &[(&str, &str)], words: usize, rows: &[Vec<String>]) -> Markup {
    let class = |k: usize| if k < words { "word" } else { "number" };
    let told: Vec<_> = head.iter().filter(|(_, hint)| !hint.is_empty()).collect();
    html! {
        div.table {
            table {
                thead { tr { @for (k, (name, hint)) in head.iter().enumerate() {
                    th class=(class(k)) scope="col" title=(hint) { (name) }
                } } }
                tbody { @for row in rows { tr { @for (k, cell) in row.iter().enumerate() {
                    td class=(class(k)) { (cell) }
                } } } }
            }
        }
        @if !told.is_empty() {
            details.columns {
                summary { "What the columns mean" }
                dl { @for (name, hint) in told { dt { (name) } dd { (hint) } } }
            }
        }
    }
}

/// What makes tables sort, filter and save: the only script of a page.
pub fn script() -> Markup {
    html! { script { (PreEscaped(include_str!("page.js"))) } }
}

/// How the run that made the page was started, what does not depend on its ranks, and the files beside the page.
pub fn run(r: &RunRecord, constant: &str, beside: &str) -> Markup {
    html! {
        section {
            h2 { "Run" }
            dl {
                dt { "program" } dd { "genialearn " (r.version) }
                dt { "command" } dd { code { (r.command_line.join(" ")) } }
                dt { "seed" } dd { (r.seed) }
                dt { "ranks × threads" } dd { (r.ranks) " × " (r.threads) " (" (constant) " on them)" }
                dt { "inputs" } dd { @for i in &r.inputs { div { code { (i.path) } " (" (i.bytes) " bytes, CRC-32 " (i.crc32) ")" } } }
            }
            p.hint { "Beside this page: " (beside) "." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_missing_ones_are_a_dash() {
        assert_eq!(
            [rounded(-0.0001, 2), rounded(-0.5, 2), rounded(f64::NAN, 2)],
            ["0.00", "\u{2212}0.50", "–"]
        );
        assert_eq!(with_error((0.4, 0.02), 2), "0.40 ± 0.02");
        assert_eq!(with_error((0.4, f64::NAN), 2), "0.40");
    }

    #[test]
    fn a_table_escapes_what_is_in_it() {
        let html = html_table(&[("trait", ""), ("r", "a & b")], 1, &[vec!["<x>".into(), "0.5".into()]])
            .into_string();
        assert!(html.contains("&lt;x&gt;") && html.contains("a &amp; b") && html.matches("<td").count() == 2);
    }
}
