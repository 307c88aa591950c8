//! Plots: horizontal bars, one for each contestant, drawn by plotters' SVG backend.
//!
//! They are drawn as wide as a phone, and a page puts them side by side where there is room. Colours
//! are stand-ins that a style sheet ([`STYLE`]) gives their values, light or dark. plotters knows no
//! fonts without its heavy features, so room for text is reckoned here.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Table;
use super::markdown::measured;
use crate::contest::{Figures, Role, Round};

/// The width of every plot in units that are pixels on a phone of 400.
const WIDTH: u32 = 368;

/// Height of a bar with the space around it.
const BAR_HEIGHT: u32 = 22;

/// Room below the bars for the axis.
const AXIS_HEIGHT: u32 = 26;

/// Text height, and what a letter is wide on average, at most.
const TEXT: u32 = 12;
const LETTER: f64 = 6.7;

/// An axis ends here if a bar is longer: at this many times the median, so that one slow peer does
/// not squeeze all the others.
const AXIS_MEDIANS: f64 = 3.0;

const INK: RGBColor = RGBColor(0, 0, 1);
const GRID: RGBColor = RGBColor(0, 0, 2);
const LIMIT: RGBColor = RGBColor(0, 0, 3);
const EPOLL: RGBColor = RGBColor(0, 0, 4);
const URING: RGBColor = RGBColor(0, 0, 5);
const PEER: RGBColor = RGBColor(0, 0, 6);

/// What gives the stand-ins their values. Contrast with the background is above 3 to 1 for bars,
/// above 7 to 1 for text, in both schemes.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1b1f;--paper:#fff;--grid:#d8d8de;--limit:#7d7d88;\
--epoll:#0b62c4;--uring:#b8490b;--peer:#8291a8}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e8ee;--paper:#16161a;--grid:#3a3a44;\
--limit:#90909c;--epoll:#5aa4f5;--uring:#f0904f;--peer:#6f7f98}}\
svg{font-family:system-ui,sans-serif}\
[fill='#000001']{fill:var(--ink)}[stroke='#000001']{stroke:var(--ink)}\
[stroke='#000002']{stroke:var(--grid)}\
[fill='#000003']{fill:var(--limit)}[fill='#000004']{fill:var(--epoll)}\
[fill='#000005']{fill:var(--uring)}[fill='#000006']{fill:var(--peer)}";

/// What a plot shows of each contestant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Measure {
    Processor,
    Speed,
    Stall,
}

impl Measure {
    /// Those that a table has values of.
    pub(super) fn all(table: &Table) -> Vec<Self> {
        let mut all = vec![Self::Speed, Self::Processor];
        if measured(table).any(|(_, figures)| figures.stall_millis.is_some()) {
            all.push(Self::Stall);
        }
        all
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Processor => "Processor seconds per GiB (less is better)",
            Self::Speed => "GB/s (more is better)",
            Self::Stall => "Longest stall of the server's thread, ms (less is better)",
        }
    }

    fn bar(self, figures: &Figures) -> Option<Spread> {
        let of_rounds = |median: f64, figure: fn(&Round) -> f64| {
            let values = || figures.rounds.iter().map(figure);
            Spread {
                median,
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(0.0, f64::max),
            }
        };
        Some(match self {
            Self::Processor => of_rounds(
                figures.processor_seconds_per_gib,
                Round::processor_seconds_per_gib,
            ),
            Self::Speed => of_rounds(figures.gigabytes_per_second, Round::gigabytes_per_second),
            Self::Stall => of_rounds(figures.stall_millis?, |round| {
                round.stall.as_secs_f64() * 1e3
            }),
        })
    }
}

/// The median, and the smallest and largest round.
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

struct Bar<'a> {
    name: &'a str,
    colour: RGBColor,
    spread: Spread,
}

/// A plot of one measure, or nothing if no contestant has it.
pub(super) fn bars(table: &Table, measure: Measure) -> Option<String> {
    let bars: Vec<Bar<'_>> = measured(table)
        .filter_map(|(name, figures)| {
            Some(Bar {
                name,
                colour: colour(table, name),
                spread: measure.bar(figures)?,
            })
        })
        .collect();
    let count = u32::try_from(bars.len()).ok().filter(|count| *count > 0)?;
    let mut svg = String::new();
    let height = count * BAR_HEIGHT + AXIS_HEIGHT;
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        // Writing to a String cannot fail.
        let _ = draw(&area, &bars);
    }
    // As wide as its place allows.
    let fixed = format!("<svg width=\"{WIDTH}\" height=\"{height}\"");
    Some(svg.replacen(&fixed, "<svg", 1))
}

/// The first measure of a table as a picture that needs nothing else.
pub(super) fn standalone(table: &Table) -> String {
    let svg = bars(table, Measure::Speed).unwrap_or_default();
    let style = format!("<style>{STYLE}</style>");
    match svg.split_once('>') {
        Some((tag, rest)) => format!("{tag} width=\"{}\">{style}{rest}", WIDTH * 2),
        None => svg,
    }
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    bars: &[Bar<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let end = axis_end(bars);
    let names = bars.iter().map(|bar| bar.name.len()).max().unwrap_or(0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a name is not that long"
    )]
    let names_width = (names as f64 * LETTER) as u32 + 8;
    // The label of the longest bar stands behind it.
    let label_width = 40;
    let count = bars.len();
    let mut chart = ChartBuilder::on(area)
        .margin_right(label_width)
        .margin_top(2)
        .y_label_area_size(names_width)
        .x_label_area_size(AXIS_HEIGHT - 4)
        .build_cartesian_2d(0.0..end, 0.0..count as f64)?;
    let text = ("sans-serif", TEXT).into_font().color(&INK);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(4)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style(text.clone())
        .x_label_formatter(&|value| number(*value))
        .draw()?;
    for (index, bar) in bars.iter().enumerate() {
        let middle = (count - index) as f64 - 0.5;
        let Spread { median, min, max } = bar.spread;
        let shown = median.min(end);
        chart.draw_series([Rectangle::new(
            [(0.0, middle - 0.34), (shown, middle + 0.34)],
            bar.colour.filled(),
        )])?;
        if median <= end {
            chart.draw_series([PathElement::new(
                [(min, middle), (max.min(end), middle)],
                INK.stroke_width(1),
            )])?;
        }
        let beyond = if median > end { "▸" } else { "" };
        let (x, y) = chart.backend_coord(&(shown.max(max.min(end)), middle));
        let label = format!("{}{beyond}", number(median));
        let half = i32::try_from(TEXT / 2)?;
        area.draw(&Text::new(label, (x + 4, y - half), text.clone()))?;
        area.draw(&Text::new(bar.name.to_owned(), (2, y - half), text.clone()))?;
    }
    area.present()?;
    Ok(())
}

/// Where the axis ends.
fn axis_end(bars: &[Bar<'_>]) -> f64 {
    let medians: Vec<f64> = bars.iter().map(|bar| bar.spread.median).collect();
    let longest = bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max);
    let sensible = crate::rounds::median(&medians).unwrap_or(0.0) * AXIS_MEDIANS;
    if sensible > 0.0 && longest > sensible {
        sensible
    } else if longest > 0.0 {
        longest
    } else {
        1.0
    }
}

/// Three digits at most.
fn number(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Whose bar it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Family {
    Epoll,
    Limit,
    Peer,
    Uring,
}

impl Family {
    pub(super) const ALL: [Self; 4] = [Self::Limit, Self::Epoll, Self::Uring, Self::Peer];

    pub(super) fn of(table: &Table, name: &str) -> Self {
        let rows = &table.standings.rows;
        let limit = |row: &&crate::contest::Row| row.name == name && row.role == Role::Limit;
        if name.contains("uring") || name.contains("ring-") {
            Self::Uring
        } else if name.starts_with("lendfile") {
            Self::Epoll
        } else if name.starts_with("bare") || rows.iter().any(|row| limit(&row)) {
            Self::Limit
        } else {
            Self::Peer
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Epoll => "lendfile, epoll",
            Self::Limit => "bare responders",
            Self::Peer => "peers",
            Self::Uring => "lendfile, io_uring",
        }
    }

    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Epoll => "--epoll",
            Self::Limit => "--limit",
            Self::Peer => "--peer",
            Self::Uring => "--uring",
        }
    }
}

fn colour(table: &Table, name: &str) -> RGBColor {
    match Family::of(table, name) {
        Family::Epoll => EPOLL,
        Family::Limit => LIMIT,
        Family::Peer => PEER,
        Family::Uring => URING,
    }
}
