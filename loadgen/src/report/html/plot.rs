//! The frame that both plots share: size, grid, axes, curves and legend.

use std::fmt::Write as _;

use super::markup::Escaped;
use super::scale::Scale;

pub(super) const WIDTH: f64 = 1000.0;
pub(super) const HEIGHT: f64 = 360.0;
pub(super) const LEFT: f64 = 68.0;
pub(super) const RIGHT: f64 = 978.0;
pub(super) const TOP: f64 = 14.0;
pub(super) const BOTTOM: f64 = 304.0;
/// Colours that the style defines for series.
const COLOURS: usize = 6;

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    /// A thin dotted line for what the measured is held against.
    Dotted,
}

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Stroke::Solid => "solid",
            Stroke::Dashed => "dashed",
            Stroke::Dotted => "dotted",
        }
    }
}

/// An SVG plot being drawn.
pub(super) struct Plot {
    svg: String,
    legend: String,
}

impl Plot {
    pub(super) fn new(description: &str) -> Plot {
        let svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
            Escaped(description)
        );
        Plot {
            svg,
            legend: String::new(),
        }
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.svg
            .write_fmt(arguments)
            .expect("writing to a string does not fail");
        self.svg.push('\n');
    }

    /// A horizontal grid line with its label to the left.
    pub(super) fn y_tick(&mut self, y: f64, label: &str) {
        self.put(format_args!(
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"
        ));
        let (x, y) = (LEFT - 10.0, y + 4.0);
        self.put(format_args!(
            "<text class=\"tick\" text-anchor=\"end\" x=\"{x}\" y=\"{y:.1}\">{}</text>",
            Escaped(label)
        ));
    }

    /// A vertical grid line with its label below.
    pub(super) fn x_tick(&mut self, x: f64, label: &str) {
        self.put(format_args!(
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>"
        ));
        let y = BOTTOM + 20.0;
        self.put(format_args!(
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y}\">{}</text>",
            Escaped(label)
        ));
    }

    /// The name of the horizontal axis, and its base line.
    pub(super) fn x_axis(&mut self, name: &str) {
        self.put(format_args!(
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{BOTTOM}\" x2=\"{RIGHT}\" y2=\"{BOTTOM}\"/>"
        ));
        let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 44.0);
        self.put(format_args!(
            "<text class=\"name\" text-anchor=\"middle\" x=\"{x}\" y=\"{y}\">{}</text>",
            Escaped(name)
        ));
    }

    /// A curve through points in pixels, with its entry in the legend.
    pub(super) fn curve(
        &mut self,
        points: &[(f64, f64)],
        series: usize,
        stroke: Stroke,
        name: &str,
    ) {
        let path = path(points);
        let (colour, class) = (series % COLOURS, stroke.class());
        self.put(format_args!(
            "<path class=\"curve s{colour} {class}\" d=\"{path}\"/>"
        ));
        let _ = write!(
            self.legend,
            "<li><svg viewBox=\"0 0 28 10\" width=\"28\" height=\"10\" aria-hidden=\"true\"><path class=\"curve \
             s{colour} {class}\" d=\"M1 5H27\"/></svg>{}</li>",
            Escaped(name)
        );
    }

    /// The area between a curve and the base line.
    pub(super) fn area(&mut self, points: &[(f64, f64)], series: usize) {
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let colour = series % COLOURS;
            let (path, from, to) = (path(points), first.0, last.0);
            self.put(format_args!(
                "<path class=\"area a{colour}\" d=\"{path}L{to:.1} {BOTTOM}L{from:.1} {BOTTOM}Z\"/>"
            ));
        }
    }

    /// A dot that tells its value when pointed at.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), series: usize, title: &str) {
        let colour = series % COLOURS;
        let title = Escaped(title);
        self.put(format_args!(
            "<circle class=\"dot d{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"><title>{title}</title></circle>"
        ));
    }

    /// The legend and the plot.
    pub(super) fn finish(self) -> String {
        format!(
            "<ul class=\"legend\">{}</ul>\n<div class=\"scroll\">{}</svg></div>\n",
            self.legend, self.svg
        )
    }
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::with_capacity(points.len() * 14);
    for (at, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' });
    }
    path
}

/// The horizontal scale between the plot's edges.
pub(super) fn x_scale(low: f64, high: f64, is_log: bool) -> Scale {
    if is_log {
        Scale::log(low, high, LEFT, RIGHT)
    } else {
        Scale::linear(low, high, LEFT, RIGHT)
    }
}

/// The vertical scale between the plot's edges.
pub(super) fn y_scale(low: f64, high: f64, is_log: bool) -> Scale {
    if is_log {
        Scale::log(low, high, BOTTOM, TOP)
    } else {
        Scale::linear(low, high, BOTTOM, TOP)
    }
}
