//! Axes: from values to pixels, round ticks, a quiet frame.

use super::canvas::{text_width, Anchor, Canvas, Pen};

/// Size of tick labels in pixels.
pub const SMALL: f64 = 11.0;
/// Size of axis titles and legends in pixels.
pub const TEXT: f64 = 12.0;

/// One axis: a range of values over a range of pixels.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// `low..high` (positive when `log`) over the pixels `from..to`.
    pub fn new(low: f64, high: f64, from: f64, to: f64, log: bool) -> Scale {
        Scale { low, high, from, to, log }
    }

    /// A linear axis that holds all `values` (and what is in `also`) with a little air around.
    pub fn around(values: impl Iterator<Item = f64>, also: &[f64], from: f64, to: f64) -> Scale {
        let all = values.chain(also.iter().copied()).filter(|v| v.is_finite());
        let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low >= high {
            let (low, high) = if low > high { (0.0, 1.0) } else { (low - 0.5, high + 0.5) };
            return Scale::new(low, high, from, to, false);
        }
        let air = 0.04 * (high - low);
        let edge = |v: f64, air: f64| if also.contains(&v) { v } else { v + air };
        Scale::new(edge(low, -air), edge(high, air), from, to, false)
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let t = if self.log { f64::ln } else { |v: f64| v };
        self.from + (t(value) - t(self.low)) / (t(self.high) - t(self.low)) * (self.to - self.from)
    }

    /// Lowest value.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Highest value.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Round values within the range, about `wanted` of them, and their labels.
    pub fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        if self.log {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            // Few decades have room for 2 and 5 as well.
            let steps: &[f64] = if (self.high / self.low).log10() < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let of = |d: i32| {
                let digits = d.min(0).unsigned_abs() as usize;
                steps.iter().map(move |k| k * 10f64.powi(d)).map(move |v| (v, label(v, digits)))
            };
            return decades.flat_map(of).filter(|(v, _)| (self.low..=self.high).contains(v)).collect();
        }
        let rough = (self.high - self.low) / wanted.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        // The round step nearest to that, on a logarithmic scale.
        let far = |step: &f64| (step / rough).ln().abs();
        let steps = [1.0, 2.0, 5.0, 10.0].map(|k| k * power);
        let step = steps.into_iter().min_by(|a, b| far(a).total_cmp(&far(b))).expect("four steps");
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) =
            ((self.low / step - 1e-9).ceil() as i64, (self.high / step + 1e-9).floor() as i64);
        (first..=last).map(|k| (k as f64 * step, label(k as f64 * step, digits))).collect()
    }
}

/// A number with a true minus sign and thin groups of thousands.
pub fn label(value: f64, digits: usize) -> String {
    let text = format!("{:.*}", digits, value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (k, c) in whole.chars().enumerate() {
        if k > 0 && (whole.len() - k) % 3 == 0 && whole.len() > 4 {
            grouped.push('\u{a0}');
        }
        grouped.push(c);
    }
    let sign = if value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c)) { "\u{2212}" } else { "" };
    format!("{sign}{grouped}{rest}")
}

/// The rectangle of a plot with its two axes.
pub struct Axes {
    /// Horizontal axis.
    pub x: Scale,
    /// Vertical axis (pixels grow downwards).
    pub y: Scale,
}

impl Axes {
    /// The pixels of a point.
    pub fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// Draws grid lines, tick labels and the base line, `ticks` of them a side.
    pub fn draw(&self, c: &mut Canvas, ticks: (usize, usize)) {
        let (left, right, bottom, top) = (self.x.from, self.x.to, self.y.from, self.y.to);
        for (value, text) in self.y.ticks(ticks.1) {
            let y = self.y.at(value);
            c.path(&[(left, y), (right, y)], 1.0, Pen::Ink(0.12));
            c.text(&text, (left - 6.0, y), SMALL, Pen::Ink(0.75), Anchor::Right);
        }
        for (value, text) in self.x.ticks(ticks.0) {
            let x = self.x.at(value);
            c.path(&[(x, bottom), (x, top)], 1.0, Pen::Ink(0.12));
            c.text(&text, (x, bottom + 6.0), SMALL, Pen::Ink(0.75), Anchor::Below);
        }
        c.path(&[(left, bottom), (right, bottom)], 1.0, Pen::Ink(0.55));
    }

    /// Writes what the axes mean.
    pub fn titles(&self, c: &mut Canvas, x: &str, y: &str) {
        let middle = (self.x.from + self.x.to) / 2.0;
        c.text(x, (middle, self.y.from + 24.0), TEXT, Pen::Ink(1.0), Anchor::Below);
        if !y.is_empty() {
            let at = (12.0, (self.y.from + self.y.to) / 2.0);
            c.text(y, at, TEXT, Pen::Ink(1.0), Anchor::Upwards);
        }
    }
}

/// A row of coloured dots with names, from `left` on, wrapped before `right`; returns the height used.
pub fn legend(c: &mut Canvas, names: &[String], left: f64, right: f64, top: f64) -> f64 {
    if names.len() < 2 {
        return 0.0;
    }
    let (mut x, mut y) = (left, top + 8.0);
    for (k, name) in names.iter().enumerate() {
        let width = text_width(name, TEXT) + 32.0;
        if x + width > right && x > left {
            (x, y) = (left, y + 18.0);
        }
        c.dot((x + 5.0, y), 4.5, Pen::Series(k, 1.0));
        c.text(name, (x + 14.0, y), TEXT, Pen::Ink(1.0), Anchor::Left);
        x += width;
    }
    y - top + 16.0
}

/// A text that fits into `room` pixels, its end cut if need be.
pub fn shortened(text: &str, room: f64) -> String {
    if text_width(text, TEXT) <= room {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while kept.len() > 3 && text_width(&format!("{}…", kept.iter().collect::<String>()), TEXT) > room {
        kept.pop();
    }
    format!("{}…", kept.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        let ticks = |low, high| {
            let s = Scale::new(low, high, 0.0, 100.0, false);
            s.ticks(5).into_iter().map(|(_, t)| t).collect::<Vec<_>>()
        };
        assert_eq!(ticks(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks(-0.13, 0.31), ["\u{2212}0.1", "0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(ticks(3.0, 47_000.0), ["10\u{a0}000", "20\u{a0}000", "30\u{a0}000", "40\u{a0}000"]);
        let log = Scale::new(0.9, 1100.0, 0.0, 300.0, true);
        assert_eq!(log.ticks(9).iter().map(|t| t.1.as_str()).collect::<Vec<_>>(), ["1", "10", "100", "1000"]);
        let log = Scale::new(0.15, 11.0, 0.0, 300.0, true);
        assert_eq!(
            log.ticks(9).iter().map(|t| t.1.as_str()).collect::<Vec<_>>(),
            ["0.2", "0.5", "1", "2", "5", "10"]
        );
        let log = Scale::new(0.9, 1100.0, 0.0, 300.0, true);
        assert!((log.at(0.9) - 0.0).abs() < 1e-9 && (log.at(1100.0) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn an_axis_without_values_or_with_one_value_still_works() {
        let none = Scale::around(std::iter::empty(), &[], 0.0, 10.0);
        assert!(none.at(0.5).is_finite());
        let one = Scale::around([3.0].into_iter(), &[], 0.0, 10.0);
        assert_eq!(one.at(3.0), 5.0);
    }
}
