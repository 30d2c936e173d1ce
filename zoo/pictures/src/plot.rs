//! Line plots.

use image::DynamicImage;

use crate::canvas::{Canvas, Colour, INK, Text, WHITE};

/// The vertical axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; values that are not positive are left out.
    Log,
}

/// A named line through points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// x and y, in the order of x. A value that is not finite interrupts the line.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: i64 = 900;
const HEIGHT: i64 = 540;
const GRID: Colour = [226, 228, 232];
const FRAME: Colour = [150, 152, 158];
/// Okabe and Ito's palette, which colour-blind people can tell apart.
const COLOURS: [Colour; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [230, 159, 0],
    [86, 180, 233],
    [60, 60, 60],
];
/// From this many points on, the line is shown pale behind its running mean.
const MANY: usize = 150;
const TEXT: Text = Text::Small;

/// Draws lines over a common axis into 900x540 pixels, with ticks, and a legend with the last values. A line of 150 points or more is shown pale
/// behind its running mean over a thirtieth of it, because losses of single batches are noisy.
pub fn plot(title: &str, x_label: &str, series: &[Series], scale: Scale) -> DynamicImage {
    let mut canvas = Canvas::of(WIDTH as u32, HEIGHT as u32, WHITE);
    let seen = |y: f64| y.is_finite() && (scale == Scale::Linear || y > 0.0);
    let points = || {
        let all = series.iter().flat_map(|s| &s.points);
        all.filter(|(x, y)| x.is_finite() && seen(*y))
    };
    let x_axis = Axis::linear(points().map(|p| p.0), 8);
    let y_axis = match scale {
        Scale::Linear => Axis::linear(points().map(|p| p.1), 7).padded(),
        Scale::Log => Axis::log(points().map(|p| p.1)),
    };

    // What is drawn boldly.
    let bold: Vec<Vec<(f64, f64)>> = series
        .iter()
        .map(|s| match s.points.len() {
            MANY.. => running_mean(&s.points, scale),
            _ => s.points.clone(),
        })
        .collect();
    let legend = Legend::new(series, &bold);
    let ticks_width = y_axis.ticks.iter().map(|t| TEXT.width(&t.1)).max();
    let area = Area {
        left: ticks_width.unwrap_or(0) + 26,
        top: 52,
        right: WIDTH - 24 - legend.width,
        bottom: HEIGHT - 58,
    };
    canvas.text(area.left, 16, title, Text::Large, INK);
    area.axes(&mut canvas, &x_axis, &y_axis);
    let label_x = (area.left + area.right - TEXT.width(x_label)) / 2;
    canvas.text(label_x, HEIGHT - 26, x_label, TEXT, INK);

    if points().next().is_none() {
        let text = "no values to show";
        let x = (area.left + area.right - TEXT.width(text)) / 2;
        canvas.text(x, (area.top + area.bottom) / 2, text, TEXT, FRAME);
    }
    for ((s, bold), colour) in series.iter().zip(&bold).zip(COLOURS.iter().cycle()) {
        let at = |&(x, y): &(f64, f64)| {
            let there = x.is_finite() && seen(y);
            there.then(|| [area.x(x_axis.place(x)), area.y(y_axis.place(y))])
        };
        let runs = |points: &[(f64, f64)]| -> Vec<Vec<[f32; 2]>> {
            let places: Vec<_> = points.iter().map(at).collect();
            let runs = places.split(Option::is_none);
            runs.filter(|r| !r.is_empty())
                .map(|r| r.iter().flatten().copied().collect())
                .collect()
        };
        let clip = [area.left, area.top, area.right + 1, area.bottom + 1];
        if s.points.len() >= MANY {
            canvas.lines(&runs(&s.points), 1.2, *colour, 0.28, clip);
        }
        canvas.lines(&runs(bold), 2.2, *colour, 1.0, clip);
    }
    legend.draw(&mut canvas, &area);
    canvas.finish()
}

/// Names and last values, one a line, to the right of the plot, where they hide nothing.
struct Legend {
    lines: Vec<String>,
    width: i64,
}

impl Legend {
    fn new(series: &[Series], drawn: &[Vec<(f64, f64)>]) -> Self {
        const MOST: usize = 21;
        let longest = series.iter().map(|s| s.name.chars().count()).max();
        let longest = longest.unwrap_or(0).min(24);
        let mut lines: Vec<String> = series
            .iter()
            .zip(drawn)
            .map(|(s, drawn)| {
                let name: String = s.name.chars().take(longest).collect();
                let last = drawn.iter().rfind(|p| p.1.is_finite());
                let last = last.map_or(String::new(), |(_, y)| short(*y));
                format!("{name:longest$} {last}")
            })
            .collect();
        if lines.len() > MOST {
            let more = lines.len() + 1 - MOST;
            lines.truncate(MOST - 1);
            lines.push(format!("and {more} more"));
        }
        let widest = lines.iter().map(|l| TEXT.width(l.trim_end())).max();
        let width = widest.map_or(0, |w| w + 40);
        Self { lines, width }
    }

    fn draw(&self, canvas: &mut Canvas, area: &Area) {
        let left = area.right + 18;
        let places = (area.top..).step_by(20);
        for ((line, y), colour) in self.lines.iter().zip(places).zip(COLOURS.iter().cycle()) {
            canvas.fill(left, y + 6, 16, 4, *colour);
            canvas.text(left + 24, y, line.trim_end(), TEXT, INK);
        }
    }
}

/// Means over windows around each point; of logarithms where the axis is logarithmic. Gaps stay gaps.
fn running_mean(points: &[(f64, f64)], scale: Scale) -> Vec<(f64, f64)> {
    let half = (points.len() / 60).max(1);
    let value = |y: f64| match scale {
        Scale::Linear => y,
        Scale::Log => y.ln(),
    };
    let mean_at = |i: usize| {
        // Centred at the start, where losses fall fast; one-sided at the end, where they hardly do.
        let (before, after) = (half.min(i), half.min(i).min(points.len() - 1 - i));
        let window = points[i - before..=i + after].iter().map(|p| value(p.1));
        let (sum, n) = window
            .filter(|v| v.is_finite())
            .fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
        let mean = sum / n;
        match scale {
            Scale::Linear => mean,
            Scale::Log => mean.exp(),
        }
    };
    let at = |(i, &(x, y)): (usize, &(f64, f64))| (x, if y.is_finite() { mean_at(i) } else { y });
    points.iter().enumerate().map(at).collect()
}

/// Where the lines are drawn, in pixels.
struct Area {
    left: i64,
    top: i64,
    right: i64,
    bottom: i64,
}

impl Area {
    fn x(&self, place: f64) -> f32 {
        (self.left as f64 + 0.5 + place * (self.right - self.left) as f64) as f32
    }

    fn y(&self, place: f64) -> f32 {
        (self.bottom as f64 + 0.5 - place * (self.bottom - self.top) as f64) as f32
    }

    fn axes(&self, canvas: &mut Canvas, x_axis: &Axis, y_axis: &Axis) {
        let (width, height) = (self.right - self.left, self.bottom - self.top);
        for (value, text) in &x_axis.ticks {
            let x = self.x(x_axis.place(*value)).floor() as i64;
            canvas.fill(x, self.top, 1, height, GRID);
            canvas.fill(x, self.bottom, 1, 5, FRAME);
            canvas.text(x - TEXT.width(text) / 2, self.bottom + 9, text, TEXT, INK);
        }
        for (value, text) in &y_axis.ticks {
            let y = self.y(y_axis.place(*value)).floor() as i64;
            canvas.fill(self.left, y, width, 1, GRID);
            canvas.fill(self.left - 5, y, 5, 1, FRAME);
            let x = self.left - 10 - TEXT.width(text);
            canvas.text(x, y - TEXT.line() / 2, text, TEXT, INK);
        }
        canvas.fill(self.left, self.bottom, width + 1, 1, FRAME);
        canvas.fill(self.left, self.top, 1, height, FRAME);
    }
}

/// A range with its ticks; logarithms throughout where `log`.
struct Axis {
    from: f64,
    to: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Where a value lies between the ends, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.from) / (self.to - self.from)
    }

    fn linear(values: impl Iterator<Item = f64>, count: usize) -> Self {
        let (mut from, mut to) = extent(values);
        // Values beyond this would overflow in differences.
        (from, to) = (from.clamp(-1e300, 1e300), to.clamp(-1e300, 1e300));
        if (to - from) <= 1e-12 * from.abs().max(to.abs()) {
            let reach = (0.5 * from.abs()).max(0.5);
            (from, to) = (from - reach, to + reach);
        }
        let mut axis = Self {
            from,
            to,
            log: false,
            ticks: vec![],
        };
        axis.set_ticks(count);
        axis
    }

    /// A little room above and below the lines.
    fn padded(mut self) -> Self {
        let room = 0.04 * (self.to - self.from);
        // Losses that stay above zero keep it as their floor.
        let floor = if self.from >= 0.0 {
            0.0
        } else {
            f64::NEG_INFINITY
        };
        self.from = (self.from - room).max(floor);
        self.to += room;
        self.set_ticks(7);
        self
    }

    fn set_ticks(&mut self, count: usize) {
        let step = nice_step((self.to - self.from) / count as f64);
        let first = (self.from / step).ceil();
        let last = (self.to / step).floor();
        let n = (last - first).clamp(0.0, 40.0) as usize;
        self.ticks = (0..=n)
            .map(|i| (first + i as f64) * step)
            .map(|v| (v, tick(v, step)))
            .collect();
    }

    fn log(values: impl Iterator<Item = f64>) -> Self {
        let (from, to) = extent(values.map(f64::log10));
        let room = (0.04 * (to - from)).max(0.1);
        let (from, to) = (from - room, to + room);
        // Few decades have room for more ticks in each; many, only for some of the decades.
        let within: &[f64] = match to - from {
            d if d < 1.2 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            d if d < 3.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = ((to - from) / 10.0).ceil().max(1.0) as i64;
        let decades = (from.floor() as i64)..=(to.ceil() as i64);
        let ticks = decades
            .filter(|d| d % every == 0)
            .flat_map(|d| within.iter().map(move |m| m * 10f64.powi(d as i32)))
            .filter(|v| (from..=to).contains(&v.log10()))
            .map(|v| (v, short(v)))
            .collect();
        Self {
            from,
            to,
            log: true,
            ticks,
        }
    }
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (from, to) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
        (a.min(v), b.max(v))
    });
    if from <= to { (from, to) } else { (0.0, 1.0) }
}

/// The next 1, 2 or 5 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let decade = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * decade >= least);
    factor.unwrap_or(10.0) * decade
}

/// A tick with the decimals that its step needs.
fn tick(value: f64, step: f64) -> String {
    let value = if value.abs() < step / 2.0 { 0.0 } else { value };
    let decimals = (-step.log10().floor()).clamp(0.0, 7.0) as usize;
    if value.abs() >= 1e4 || (step < 1e-7 && value != 0.0) {
        return short(value);
    }
    format!("{value:.decimals$}")
}

/// Four significant digits at most: 12k, 1.5M, 0.02, 3e-5.
fn short(value: f64) -> String {
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match value.abs() {
        0.0 => "0".to_owned(),
        v if !(1e-3..1e9).contains(&v) => {
            let text = format!("{value:.2e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", trimmed(digits.to_owned()))
        }
        v if v >= 1e6 => format!("{}M", trimmed(format!("{:.2}", value / 1e6))),
        v if v >= 1e4 => format!("{}k", trimmed(format!("{:.1}", value / 1e3))),
        v if v >= 100.0 => trimmed(format!("{value:.1}")),
        v if v >= 10.0 => trimmed(format!("{value:.2}")),
        v if v >= 1.0 => trimmed(format!("{value:.3}")),
        _ => trimmed(format!("{value:.4}")),
    }
}

#[cfg(test)]
pub(super) fn tick_texts(from: f64, to: f64) -> Vec<String> {
    let axis = Axis::linear([from, to].into_iter(), 7);
    axis.ticks.into_iter().map(|(_, text)| text).collect()
}
