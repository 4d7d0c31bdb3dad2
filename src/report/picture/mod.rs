//! Pictures as SVG text: scatter, lines, histogram, estimates with error bars, small multiples.
//!
//! One quiet style for all: thin grey grid, one font, colours that every colour vision tells apart. The lines
//! and texts take the colour of the text around them (`currentColor`), so a picture suits light and dark pages.

mod axes;
mod canvas;
mod differences;
mod estimates;
mod panels;

pub use canvas::{FONT, FONT_FILE, PALETTE};
pub use differences::{differences, Difference, Side};
pub use estimates::{bars_with_errors, Estimates};
pub use panels::{small_multiples, Panel};

use crate::evaluate::diagnostics::Histogram;
use axes::{legend, Axes, Scale};
use canvas::{Canvas, Pen};

/// Points drawn one by one, at most; beyond, the plane is divided into cells shaded by their count.
const POINTS: usize = 4000;

/// What stands around a picture.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What the picture shows, for those who cannot see it.
    pub title: String,
    /// Horizontal axis, with its unit.
    pub x: String,
    /// Vertical axis, with its unit.
    pub y: String,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// A value of [`bars_with_errors`] that has a line of its own and is always in the picture.
    pub mark: Option<f64>,
    /// Range of the values of [`bars_with_errors`]; what lies beyond becomes an arrowhead at the edge.
    pub limits: Option<(f64, f64)>,
}

impl Frame {
    /// Linear axes.
    pub fn new(title: &str, x: &str, y: &str) -> Frame {
        Frame { title: title.into(), x: x.into(), y: y.into(), log_x: false, mark: None, limits: None }
    }
}

/// Named points.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// (x, y); points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Half widths of the error band of [`lines`], or empty.
    pub errors: Vec<f64>,
}

/// Size of an ordinary picture in pixels.
const SIZE: (f64, f64) = (560.0, 380.0);
/// Room for tick labels and titles: left, right, bottom.
const MARGIN: (f64, f64, f64) = (72.0, 16.0, 46.0);

/// An empty picture with axes around `points`; the vertical axis always holds `also`.
fn begin(frame: &Frame, series: &[Series], also: &[f64]) -> (Canvas, Axes) {
    let mut c = Canvas::new(SIZE.0, SIZE.1);
    let names: Vec<String> = series.iter().map(|s| s.name.clone()).collect();
    let (left, right, bottom) = (MARGIN.0, SIZE.0 - MARGIN.1, SIZE.1 - MARGIN.2);
    let top = 10.0 + legend(&mut c, &names, left, right, 4.0);
    let all = || series.iter().flat_map(|s| s.points.iter().copied()).filter(finite);
    let x = if frame.log_x {
        let (low, high) = all().fold((f64::INFINITY, 0.0f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
        let range = if low < high { (low / 1.1, high * 1.1) } else { (1.0, 10.0) };
        Scale::new(range.0, range.1, left, right, true)
    } else {
        Scale::around(all().map(|p| p.0), &[], left, right)
    };
    let spread =
        series.iter().flat_map(|s| s.points.iter().zip(&s.errors)).flat_map(|(p, e)| [p.1 - e, p.1 + e]);
    let y = Scale::around(all().map(|p| p.1).chain(spread), also, bottom, top);
    let axes = Axes { x, y };
    axes.draw(&mut c, (6, 5));
    axes.titles(&mut c, &frame.x, &frame.y);
    (c, axes)
}

fn finite(p: &(f64, f64)) -> bool {
    p.0.is_finite() && p.1.is_finite()
}

/// Points, or shaded cells when there are very many.
pub fn scatter(frame: &Frame, series: &[Series]) -> String {
    let (mut c, axes) = begin(frame, series, &[]);
    let total: usize = series.iter().map(|s| s.points.len()).sum();
    for (k, s) in series.iter().enumerate() {
        cloud(&mut c, &axes, &s.points, k, total > POINTS, 6.0);
    }
    c.finish(&frame.title)
}

/// One cloud of points: dots that let others shine through, or cells of `cell` pixels.
fn cloud(c: &mut Canvas, axes: &Axes, points: &[(f64, f64)], colour: usize, dense: bool, cell: f64) {
    let pixels = points.iter().copied().filter(finite).map(|p| axes.at(p));
    if !dense {
        let alpha = if points.len() > 400 { 0.35 } else { 0.55 };
        pixels.for_each(|p| c.dot(p, 2.0, Pen::Series(colour, alpha)));
        return;
    }
    let mut cells = std::collections::BTreeMap::<(i64, i64), usize>::new();
    pixels.for_each(|(x, y)| {
        *cells.entry(((x / cell).floor() as i64, (y / cell).floor() as i64)).or_default() += 1
    });
    let most = cells.values().copied().max().unwrap_or(1) as f64;
    for ((i, j), count) in cells {
        let (x, y) = (i as f64 * cell, j as f64 * cell);
        // Opacity by the square root of the count, in twelve steps: single animals stay visible.
        let alpha = 0.12 + 0.88 * (12.0 * (count as f64 / most).sqrt()).ceil() / 12.0;
        let alpha = (alpha * 100.0).round() / 100.0;
        c.rectangle((x, y), (x + cell, y + cell), Pen::Series(colour, alpha.min(1.0)));
    }
}

/// Lines through points, with a band of ± their errors. The vertical axis begins at zero.
pub fn lines(frame: &Frame, series: &[Series]) -> String {
    let (mut c, axes) = begin(frame, series, &[0.0]);
    for (k, s) in series.iter().enumerate() {
        let known: Vec<usize> = (0..s.points.len()).filter(|&i| finite(&s.points[i])).collect();
        let edge = |side: f64| {
            let e = |i: usize| s.errors.get(i).copied().filter(|e| e.is_finite()).unwrap_or(0.0);
            known.iter().map(|&i| axes.at((s.points[i].0, s.points[i].1 + side * e(i)))).collect::<Vec<_>>()
        };
        if !s.errors.is_empty() {
            let mut band = edge(1.0);
            band.extend(edge(-1.0).into_iter().rev());
            c.area(&band, Pen::Series(k, 0.2));
        }
        c.path(&edge(0.0), 1.8, Pen::Series(k, 1.0));
        if known.len() <= 60 {
            edge(0.0).into_iter().for_each(|p| c.dot(p, 2.2, Pen::Series(k, 1.0)));
        }
    }
    c.finish(&frame.title)
}

/// Counts as adjoining bars.
pub fn histogram(frame: &Frame, h: &Histogram) -> String {
    let high = h.low + h.width * h.counts.len() as f64;
    let most = h.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let frame_only = Series { points: vec![(h.low, 0.0), (high, most)], ..Series::default() };
    let (mut c, axes) = begin(frame, &[frame_only], &[0.0]);
    for (k, &count) in h.counts.iter().enumerate().filter(|(_, &count)| count > 0) {
        let left = h.low + h.width * k as f64;
        let ((x0, y0), (x1, y1)) = (axes.at((left, 0.0)), axes.at((left + h.width, count as f64)));
        c.rectangle((x0 + 0.4, y0), ((x1 - 0.4).max(x0 + 0.8), y1), Pen::Series(0, 0.8));
    }
    c.finish(&frame.title)
}

#[cfg(test)]
mod tests {
    use super::axes::TEXT;
    use super::canvas::text_width;
    use super::*;
    use crate::rng::{Purpose, Stream};

    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    fn points(n: usize) -> Vec<(f64, f64)> {
        let mut s = Stream::new(1, Purpose::Test, n as u64);
        (0..n).map(|_| (s.normal(), s.normal())).collect()
    }

    fn frame() -> Frame {
        Frame::new("A & B", "x", "y")
    }

    #[test]
    fn every_point_is_a_dot_until_there_are_too_many() {
        let mut some = points(50);
        some.push((f64::NAN, 1.0));
        let svg = scatter(&frame(), &[Series { points: some, ..Series::default() }]);
        assert_eq!(count(&svg, "<circle"), 50);
        assert!(
            svg.contains("aria-label=\"A &amp; B\"")
                && svg.contains("currentColor")
                && !svg.contains("#010203")
        );
        let svg = scatter(&frame(), &[Series { points: points(20_000), ..Series::default() }]);
        assert_eq!(count(&svg, "<circle"), 0);
        assert!((500..6000).contains(&count(&svg, "<rect")), "{}", count(&svg, "<rect"));
        assert!(svg.len() < 700_000);
    }

    #[test]
    fn lines_have_a_band_and_a_mark_a_point() {
        let line = Series {
            name: "a".into(),
            points: vec![(1.0, 0.5), (10.0, 0.3), (100.0, f64::NAN)],
            errors: vec![0.1; 3],
        };
        let svg = lines(&Frame { log_x: true, ..frame() }, &[line]);
        assert_eq!((count(&svg, "<circle"), count(&svg, "<polygon")), (2, 1));
    }

    #[test]
    fn a_histogram_has_a_bar_for_every_filled_bin() {
        let h = Histogram { low: 0.0, width: 0.1, counts: vec![3, 0, 5, 1] };
        assert_eq!(count(&histogram(&frame(), &h), "<rect"), 3);
    }

    #[test]
    fn estimates_have_a_dot_each_and_names_do_not_reach_into_the_plot() {
        let names: Vec<String> = (0..33).map(|k| format!("a trait with a rather long name {k}")).collect();
        let group = |name: &str| Estimates {
            name: name.into(),
            values: (0..33).map(|k| (0.02 * k as f64, 0.03)).collect(),
        };
        let svg = bars_with_errors(&frame(), &names, &[group("first"), group("second")]);
        assert_eq!(count(&svg, "<circle"), 2 * 33 + 2); // and two in the legend
        assert!(names.iter().all(|n| svg.contains(n.as_str())));
        assert!(text_width(&names[32], TEXT) > 150.0 && text_width(&names[32], TEXT) < 260.0);
    }

    #[test]
    fn pictures_of_nothing_are_still_pictures() {
        assert!(scatter(&frame(), &[]).starts_with("<svg"));
        assert!(lines(&frame(), &[Series::default()]).trim_end().ends_with("</svg>"));
        assert!(bars_with_errors(&frame(), &[], &[]).contains("</svg>"));
    }
}
