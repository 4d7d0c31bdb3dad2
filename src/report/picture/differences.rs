//! Differences from a reference, a row a category and a panel a group: what is above, below and undecided at one look.

use super::axes::{shortened, Scale, SMALL, TEXT};
use super::canvas::{text_width, Anchor, Canvas, Pen};
use super::Frame;

/// Room for the names of the categories in pixels, at most.
const NAMES: f64 = 190.0;
/// Height of a row.
const ROW: f64 = 17.0;
/// Width of all panels together, and of one at most.
const WIDTH: (f64, f64) = (1040.0, 260.0);
/// Between two panels.
const GAP: f64 = 14.0;

/// What a difference says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Above 0, surely.
    Above,
    /// Below 0, surely.
    Below,
    /// Neither.
    Open,
}

impl Side {
    fn pen(self, alpha: f64) -> Pen {
        match self {
            Side::Above => Pen::Series(2, alpha),
            Side::Below => Pen::Series(1, alpha),
            Side::Open => Pen::Ink(0.55 * alpha),
        }
    }
}

/// A difference with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// The interval.
    pub interval: (f64, f64),
    /// What it says.
    pub side: Side,
}

/// Differences of each group, (category), none where there is none; `margin` to both sides of 0 is shaded.
pub fn differences(
    frame: &Frame,
    categories: &[String],
    groups: &[(String, Vec<Option<Difference>>)],
    margin: f64,
) -> String {
    let widest = categories.iter().map(|name| text_width(name, SMALL)).fold(0.0, f64::max).min(NAMES);
    let left = widest + 14.0;
    let count = groups.len().max(1) as f64;
    let each = ((WIDTH.0 - left - GAP * count) / count).min(WIDTH.1);
    let width = left + (each + GAP) * count;
    let (top, bottom) = (30.0, 30.0 + ROW * categories.len() as f64);
    let mut c = Canvas::new(width, bottom + 46.0);
    let all = || groups.iter().flat_map(|(_, of)| of.iter().flatten());
    let ends = all().flat_map(|d| [d.value, d.interval.0, d.interval.1]);
    for (k, name) in categories.iter().enumerate() {
        let y = top + ROW * (k as f64 + 0.5);
        c.text(&shortened(name, NAMES), (left - 8.0, y), SMALL, Pen::Ink(1.0), Anchor::Right);
        if k % 2 == 1 {
            c.rectangle((left, y - ROW / 2.0), (width, y + ROW / 2.0), Pen::Ink(0.045));
        }
    }
    let range = Scale::around(ends, &[-margin, margin], 0.0, 1.0);
    for (g, (name, values)) in groups.iter().enumerate() {
        let from = left + (each + GAP) * g as f64;
        let x = Scale::new(range.low(), range.high(), from, from + each, false);
        let middle = from + each / 2.0;
        c.text(&shortened(name, each), (middle, 4.0), TEXT, Pen::Ink(1.0), Anchor::Below);
        c.rectangle((x.at(-margin), top), (x.at(margin), bottom), Pen::Ink(0.07));
        for (value, text) in x.ticks((each / 55.0) as usize) {
            c.path(&[(x.at(value), top), (x.at(value), bottom)], 0.8, Pen::Ink(0.1));
            c.text(&text, (x.at(value), bottom + 5.0), SMALL, Pen::Ink(0.75), Anchor::Below);
        }
        c.path(&[(x.at(0.0), top), (x.at(0.0), bottom)], 1.2, Pen::Ink(0.6));
        for (k, d) in values.iter().enumerate().filter_map(|(k, d)| d.map(|d| (k, d))) {
            let y = top + ROW * (k as f64 + 0.5);
            if d.interval.0.is_finite() && d.interval.1.is_finite() {
                let ends = [d.interval.0, d.interval.1].map(|v| (x.at(v), y));
                c.path(&ends, 1.6, d.side.pen(0.75));
            }
            c.dot((x.at(d.value), y), 3.6, d.side.pen(1.0));
        }
    }
    c.text(&frame.x, (left + (width - left) / 2.0, bottom + 24.0), TEXT, Pen::Ink(1.0), Anchor::Below);
    c.finish(&frame.title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_has_a_dot_and_what_is_sure_has_a_colour() {
        let of = |value: f64, side| Some(Difference { value, interval: (value - 0.1, value + 0.1), side });
        let groups = [
            ("a".to_owned(), vec![of(0.2, Side::Above), of(0.0, Side::Open), None]),
            ("b".to_owned(), vec![of(-0.2, Side::Below), None, of(0.01, Side::Open)]),
        ];
        let names = ["x", "y", "z"].map(str::to_owned);
        let svg = differences(&Frame::new("t", "difference in r", ""), &names, &groups, 0.02);
        assert_eq!(svg.matches("<circle").count(), 4);
        for (code, count) in [("#009E73", 1), ("#D55E00", 1)] {
            let dots = svg.split("<circle").skip(1).filter(|c| c.split("/>").next().unwrap().contains(code));
            assert_eq!(dots.count(), count, "{code}");
        }
        let none = differences(&Frame::new("t", "", ""), &[], &[], 0.02);
        assert!(none.contains("</svg>"));
    }
}
