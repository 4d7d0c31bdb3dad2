//! Many small pictures of the same kind in a grid.

use super::axes::{shortened, Axes, Scale, SMALL, TEXT};
use super::canvas::{text_width, Anchor, Canvas, Pen};
use super::{cloud, finite, Frame};

/// One of many: predicted against observed values of a trait.
#[derive(Debug, Clone, Default)]
pub struct Panel {
    /// Above the panel, on the left.
    pub title: String,
    /// Above the panel, on the right.
    pub note: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
    /// A line y = a + b x, as (a, b).
    pub line: Option<(f64, f64)>,
}

const COLUMNS: usize = 4;
const WIDTH: f64 = 222.0;
const HEIGHT: f64 = 208.0;

/// Panels in rows of four, each with its own axes; `frame` names the axes of all. The picture has about `marks`
/// points at most: beyond, cells shaded by their count, the larger the more panels there are.
pub fn small_multiples(frame: &Frame, panels: &[Panel], marks: usize) -> String {
    let rows = panels.len().div_ceil(COLUMNS).max(1);
    let columns = panels.len().clamp(1, COLUMNS);
    let mut c = Canvas::new(24.0 + WIDTH * columns as f64, HEIGHT * rows as f64 + 26.0);
    let total: usize = panels.iter().map(|p| p.points.len()).sum();
    let dense = total > marks;
    let cells = marks as f64 / panels.len().max(1) as f64;
    // A cloud of points fills about half of its panel.
    let cell = (170.0 / (2.0 * cells).sqrt()).clamp(3.0, 16.0).round();
    for (k, panel) in panels.iter().enumerate() {
        let corner = (24.0 + WIDTH * (k % COLUMNS) as f64, HEIGHT * (k / COLUMNS) as f64);
        draw(&mut c, panel, corner, dense, cell);
    }
    let (width, height) = (24.0 + WIDTH * columns as f64, HEIGHT * rows as f64);
    c.text(&frame.x, (width / 2.0 + 12.0, height + 6.0), TEXT, Pen::Ink(1.0), Anchor::Below);
    c.text(&frame.y, (10.0, HEIGHT / 2.0), TEXT, Pen::Ink(1.0), Anchor::Upwards);
    c.finish(&frame.title)
}

fn draw(c: &mut Canvas, panel: &Panel, (left, top): (f64, f64), dense: bool, cell: f64) {
    let (x0, x1, y0, y1) = (left + 40.0, left + WIDTH - 8.0, top + HEIGHT - 26.0, top + 26.0);
    let known = || panel.points.iter().copied().filter(finite);
    let x = Scale::around(known().map(|p| p.0), &[], x0, x1);
    let y = Scale::around(known().map(|p| p.1), &[], y0, y1);
    let axes = Axes { x, y };
    axes.draw(c, (3, 4));
    cloud(c, &axes, &panel.points, 0, dense, cell);
    if let Some((a, b)) = panel.line {
        let ends = [x.low(), x.high()].map(|v| (v, a + b * v));
        if ends.iter().all(|(_, v)| (y.low()..=y.high()).contains(v)) {
            c.path(&ends.map(|p| axes.at(p)), 1.8, Pen::Series(1, 1.0));
        }
    }
    let room = x1 - x0 - text_width(&panel.note, SMALL) - 8.0;
    c.text(&shortened(&panel.title, room), (x0, top + 14.0), TEXT, Pen::Ink(1.0), Anchor::Left);
    c.text(&panel.note, (x1, top + 14.0), SMALL, Pen::Ink(0.75), Anchor::Right);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn panel(k: usize, n: usize) -> Panel {
        let mut s = Stream::new(1, Purpose::Test, k as u64);
        let points = (0..n).map(|_| (s.normal(), s.normal())).collect();
        Panel { title: format!("trait {k}"), note: "r = 0.50".into(), points, line: Some((0.0, 0.1)) }
    }

    #[test]
    fn few_points_are_dots_and_many_are_cells_of_a_bounded_number() {
        let frame = Frame::new("t", "predicted", "observed");
        let few = small_multiples(&frame, &[panel(0, 100), panel(1, 100)], 7000);
        assert_eq!(few.matches("<circle").count(), 200);
        let all: Vec<Panel> = (0..33).map(|k| panel(k, 2000)).collect();
        let many = small_multiples(&frame, &all, 7000);
        let cells = many.matches("<rect").count();
        assert!((2000..2 * 7000).contains(&cells), "{cells}");
        let fewer = small_multiples(&frame, &all, 2000).matches("<rect").count();
        assert!(fewer < cells / 2, "{fewer} of {cells}");
        assert!(many.len() < 1_200_000 && all.iter().all(|p| many.contains(&p.title)));
    }

    #[test]
    fn long_titles_are_cut() {
        let cut = shortened("an extraordinarily long name of a trait", 90.0);
        assert!(cut.ends_with('…') && text_width(&cut, TEXT) <= 90.0 && cut.len() > 8);
        assert_eq!(shortened("milk", 90.0), "milk");
    }
}
