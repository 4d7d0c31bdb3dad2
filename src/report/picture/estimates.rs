//! Estimates with error bars, category by category.

use super::axes::{legend, shortened, Scale, SMALL, TEXT};
use super::canvas::{text_width, Anchor, Canvas, Pen};
use super::{Frame, MARGIN};

/// Room for the names of the categories in pixels, at most.
const NAMES: f64 = 260.0;

/// One estimate for each category: a model, a method.
#[derive(Debug, Clone)]
pub struct Estimates {
    /// What the legend says.
    pub name: String,
    /// (value, standard error) of each category; NaN leaves a gap.
    pub values: Vec<(f64, f64)>,
}

/// Estimates with error bars of ± 1 standard error, one row a category, one dot a group within it.
pub fn bars_with_errors(frame: &Frame, categories: &[String], groups: &[Estimates]) -> String {
    let step = 13.0;
    let row = (step * groups.len() as f64 + 9.0).max(22.0);
    let widest = categories.iter().map(|n| text_width(n, TEXT)).fold(0.0, f64::max).min(NAMES);
    let (left, right) = (widest + 18.0, 720.0 - MARGIN.1);
    let names: Vec<String> = groups.iter().map(|g| g.name.clone()).collect();
    let mut probe = Canvas::new(1.0, 1.0);
    let top = 8.0 + legend(&mut probe, &names, left, right, 4.0);
    let bottom = top + row * categories.len() as f64;
    let mut c = Canvas::new(720.0, bottom + MARGIN.2);
    legend(&mut c, &names, left, right, 4.0);
    let ends = groups.iter().flat_map(|g| &g.values).flat_map(|(v, e)| [v - e.max(0.0), v + e.max(0.0)]);
    let x = match frame.limits {
        Some((low, high)) => Scale::new(low, high, left, right, false),
        None => Scale::around(ends.chain(frame.mark), &[], left, right),
    };
    for (k, name) in categories.iter().enumerate() {
        let y = top + row * (k as f64 + 0.5);
        c.text(&shortened(name, NAMES), (left - 8.0, y), TEXT, Pen::Ink(1.0), Anchor::Right);
        if k % 2 == 1 {
            c.rectangle((left, y - row / 2.0), (right, y + row / 2.0), Pen::Ink(0.045));
        }
    }
    for (value, text) in x.ticks(7) {
        c.path(&[(x.at(value), top), (x.at(value), bottom)], 1.0, Pen::Ink(0.12));
        c.text(&text, (x.at(value), bottom + 6.0), SMALL, Pen::Ink(0.75), Anchor::Below);
    }
    if let Some(mark) = frame.mark {
        c.path(&[(x.at(mark), top), (x.at(mark), bottom)], 1.2, Pen::Ink(0.6));
    }
    c.text(&frame.x, ((left + right) / 2.0, bottom + 24.0), TEXT, Pen::Ink(1.0), Anchor::Below);
    let middle = (groups.len() as f64 - 1.0) / 2.0;
    for (g, group) in groups.iter().enumerate() {
        for (k, &estimate) in group.values.iter().enumerate().filter(|(_, v)| v.0.is_finite()) {
            let y = top + row * (k as f64 + 0.5) + step * (g as f64 - middle);
            draw(&mut c, &x, y, estimate, g);
        }
    }
    c.finish(&frame.title)
}

/// A dot with its error bar. What lies beyond the picture, the dot or an end of the bar, is an arrowhead at its edge.
fn draw(c: &mut Canvas, x: &Scale, y: f64, (value, error): (f64, f64), colour: usize) {
    let inside = |v: f64| v.clamp(x.low(), x.high());
    if error.is_finite() {
        let ends = [value - error, value + error];
        c.path(&ends.map(|v| (x.at(inside(v)), y)), 1.6, Pen::Series(colour, 0.75));
        ends.into_iter().filter(|v| *v != inside(*v)).for_each(|v| arrowhead(c, x, y, v, colour));
    }
    if value == inside(value) {
        c.dot((x.at(value), y), 4.0, Pen::Series(colour, 1.0));
    } else if !error.is_finite() || inside(value - error) == inside(value + error) {
        arrowhead(c, x, y, value, colour);
    }
}

/// Outside the edge that `value` lies beyond, pointing there, so that no dot hides it.
fn arrowhead(c: &mut Canvas, x: &Scale, y: f64, value: f64, colour: usize) {
    let at = x.at(value.clamp(x.low(), x.high()));
    let way = if value > x.high() { 7.0 } else { -7.0 };
    c.area(&[(at + way, y), (at, y - 4.0), (at, y + 4.0)], Pen::Series(colour, 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_the_picture_has_an_arrowhead() {
        let drawn = |estimate: (f64, f64)| {
            let frame = Frame { mark: Some(1.0), limits: Some((-0.5, 2.5)), ..Frame::new("t", "x", "") };
            let group = Estimates { name: "m".into(), values: vec![estimate] };
            let svg = bars_with_errors(&frame, &["trait".into()], &[group]);
            (svg.matches("<circle").count(), svg.matches("<polygon").count())
        };
        assert_eq!(drawn((1.0, 0.2)), (1, 0));
        assert_eq!(drawn((2.0, 1.0)), (1, 1), "one end of the bar");
        assert_eq!(drawn((1.0, 9.0)), (1, 2), "both ends");
        assert_eq!([drawn((7.0, 1.0)).0, drawn((-7.0, f64::NAN)).0], [0, 0]);
        assert!(drawn((7.0, 1.0)).1 >= 1 && drawn((-7.0, f64::NAN)).1 == 1 && drawn((7.0, 6.0)).1 >= 1);
        assert_eq!(drawn((f64::NAN, 1.0)), (0, 0));
    }
}
