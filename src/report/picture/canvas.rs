//! A sheet to draw on: sizes in CSS pixels, one font, one palette; it becomes the text of an SVG file.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{register_font, FontStyle};
use std::sync::Once;

/// The pictures' font. The file holds the Latin, Greek and mathematical signs of DejaVu Sans (see LICENSE.txt).
pub const FONT: &str = "DejaVu Sans";
/// The font's bytes, TrueType.
pub const FONT_FILE: &[u8] = include_bytes!("../font/DejaVuSans-subset.ttf");
/// What a viewer without that font should take.
const FONT_STACK: &str = "DejaVu Sans, Verdana, sans-serif";

/// Colours of series: Okabe & Ito 2008, told apart with any colour vision, on white and on black.
pub const PALETTE: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
/// Stands for the colour of the text around the picture; [`Canvas::finish`] writes `currentColor` for it.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_CODE: &str = "#010203";

/// Drawing units in a CSS pixel: plotters counts in whole units.
const UNITS: f64 = 10.0;

/// What to draw with.
#[derive(Debug, Clone, Copy)]
pub enum Pen {
    /// The colour of the text around, with this opacity.
    Ink(f64),
    /// The colour of a series, with this opacity.
    Series(usize, f64),
}

impl Pen {
    fn colour(self) -> RGBAColor {
        match self {
            Pen::Ink(alpha) => INK.mix(alpha),
            Pen::Series(k, alpha) => {
                let code = u32::from_str_radix(&PALETTE[k % PALETTE.len()][1..], 16).expect("hexadecimal");
                let [_, r, g, b] = code.to_be_bytes();
                RGBColor(r, g, b).mix(alpha)
            }
        }
    }
}

/// Where a text stands in relation to its point.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// Begins at the point, centred vertically.
    Left,
    /// Ends at the point, centred vertically.
    Right,
    /// Centred below the point.
    Below,
    /// Centred on the point, read from below.
    Upwards,
}

/// One picture in the making.
pub struct Canvas {
    width: f64,
    height: f64,
    items: Vec<Item>,
}

enum Item {
    Path(Vec<(i32, i32)>, ShapeStyle),
    Area(Vec<(i32, i32)>, RGBAColor),
    Box([(i32, i32); 2], RGBAColor),
    Dot((i32, i32), i32, RGBAColor),
    Text(String, (i32, i32), f64, RGBAColor, Anchor),
}

fn units((x, y): (f64, f64)) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

impl Canvas {
    /// An empty sheet.
    pub fn new(width: f64, height: f64) -> Self {
        Canvas { width, height, items: Vec::new() }
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], width: f64, pen: Pen) {
        let style = pen.colour().stroke_width((width * UNITS).round() as u32);
        self.items.push(Item::Path(points.iter().copied().map(units).collect(), style));
    }

    /// A filled shape.
    pub fn area(&mut self, points: &[(f64, f64)], pen: Pen) {
        self.items.push(Item::Area(points.iter().copied().map(units).collect(), pen.colour()));
    }

    /// A filled rectangle between two corners.
    pub fn rectangle(&mut self, a: (f64, f64), b: (f64, f64), pen: Pen) {
        let (a, b) = (units(a), units(b));
        let corners = [(a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1))];
        self.items.push(Item::Box(corners, pen.colour()));
    }

    /// A filled circle.
    pub fn dot(&mut self, centre: (f64, f64), radius: f64, pen: Pen) {
        self.items.push(Item::Dot(units(centre), (radius * UNITS).round() as i32, pen.colour()));
    }

    /// A text of `size` pixels.
    pub fn text(&mut self, text: &str, at: (f64, f64), size: f64, pen: Pen, anchor: Anchor) {
        self.items.push(Item::Text(text.to_owned(), units(at), size, pen.colour(), anchor));
    }

    /// The SVG, with `title` for those who cannot see it.
    pub fn finish(self, title: &str) -> String {
        prepare_font();
        let size = ((self.width * UNITS) as u32, (self.height * UNITS) as u32);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            for item in &self.items {
                draw(&root, item);
            }
            root.present().expect("a drawing in memory");
        }
        let head = format!("<svg width=\"{}\" height=\"{}\"", size.0, size.1);
        let label = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let better = format!(
            "<svg role=\"img\" aria-label=\"{label}\" width=\"{}\" height=\"{}\"",
            self.width, self.height
        );
        svg.replacen(&head, &better, 1)
            .replace(INK_CODE, "currentColor")
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\" stroke-width=\"1\"", "")
            .replace(" stroke=\"none\"", "")
            .replace(&format!("font-family=\"{FONT}\""), &format!("font-family=\"{FONT_STACK}\""))
    }
}

fn draw(root: &DrawingArea<SVGBackend, plotters::coord::Shift>, item: &Item) {
    let drawn = match item {
        Item::Path(points, style) => root.draw(&PathElement::new(points.clone(), *style)),
        Item::Area(points, colour) => root.draw(&Polygon::new(points.clone(), colour.filled())),
        Item::Box(corners, colour) => root.draw(&Rectangle::new(*corners, colour.filled())),
        Item::Dot(centre, radius, colour) => root.draw(&Circle::new(*centre, *radius, colour.filled())),
        Item::Text(text, at, size, colour, anchor) => {
            let (h, v) = match anchor {
                Anchor::Left => (HPos::Left, VPos::Center),
                Anchor::Right => (HPos::Right, VPos::Center),
                Anchor::Below => (HPos::Center, VPos::Top),
                Anchor::Upwards => (HPos::Center, VPos::Center),
            };
            let style = font(*size).color(colour).pos(Pos::new(h, v));
            let upwards = matches!(anchor, Anchor::Upwards);
            let style = if upwards { style.transform(FontTransform::Rotate270) } else { style };
            root.draw(&Text::new(text.clone(), *at, style))
        }
    };
    drawn.expect("a drawing in memory");
}

/// The font in pixels of CSS; plotters divides by 1.24 when it writes SVG.
fn font(size: f64) -> TextStyle<'static> {
    TextStyle::from((FONT, size * UNITS * 1.24).into_font())
}

/// Width of a text in pixels.
pub fn text_width(text: &str, size: f64) -> f64 {
    prepare_font();
    font(size).font.box_size(text).map_or(0.6 * size * text.len() as f64, |(w, _)| f64::from(w) / UNITS)
}

/// plotters draws no text without a registered font.
fn prepare_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only on a broken font file, which the tests would show.
        let _ = register_font(FONT, FontStyle::Normal, FONT_FILE);
    });
}
