//! What the dashboard shows.

use std::collections::VecDeque;

use burn_hunyuan_train::run::Event;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style},
    symbols::Marker,
    text::Line,
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph},
};

/// Lines that are kept, the latest.
const LINES: usize = 100;
/// Steps whose mean time tells the speed.
const RECENT: usize = 50;
/// Points at which a curve has too many, and pairs become one; even.
const POINTS: usize = 2000;

/// A run so far.
pub(super) struct View {
    steps: u64,
    step: u64,
    loss: Curve,
    learning_rate: Curve,
    grad_norm: Curve,
    /// Of the latest steps.
    seconds: VecDeque<f64>,
    lines: VecDeque<String>,
}

impl View {
    pub fn new(steps: u64) -> Self {
        Self {
            steps,
            step: 0,
            loss: Curve::default(),
            learning_rate: Curve::default(),
            grad_norm: Curve::default(),
            seconds: VecDeque::new(),
            lines: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    pub fn add(&mut self, event: Event) {
        match event {
            Event::Resumed(past) => {
                self.step = past.last;
                for curve in &past.steps {
                    for &(step, value) in &curve.points {
                        self.point(&curve.name, step, value);
                    }
                }
            }
            Event::Step {
                step,
                metrics,
                seconds,
            } => {
                self.step = step;
                push(&mut self.seconds, seconds, RECENT);
                self.point("loss", step, metrics.loss);
                for (name, value) in &metrics.terms {
                    self.point(name, step, *value);
                }
            }
            Event::Line(line) => push(&mut self.lines, line.to_string(), LINES),
        }
    }

    /// A number of a step, by its name in the log; those that have no curve here are passed over.
    fn point(&mut self, name: &str, step: u64, value: f64) {
        match name {
            "loss" => self.loss.add(step, value),
            "learning_rate" => self.learning_rate.add(step, value),
            "grad_norm" => self.grad_norm.add(step, value),
            _ => (),
        }
    }

    pub fn draw(&self, frame: &mut Frame) {
        let rows = [
            Constraint::Length(1),
            Constraint::Min(6),
            Constraint::Percentage(30),
        ];
        let [top, middle, bottom] = Layout::vertical(rows).areas(frame.area());
        let columns = [Constraint::Percentage(60), Constraint::Percentage(40)];
        let [left, right] = Layout::horizontal(columns).areas(middle);
        let [upper, lower] = Layout::vertical([Constraint::Percentage(50); 2]).areas(right);

        let share = (self.step as f64 / self.steps.max(1) as f64).clamp(0.0, 1.0);
        frame.render_widget(Gauge::default().ratio(share).label(self.status()), top);
        self.loss.draw("loss", frame, left);
        self.learning_rate.draw("learning rate", frame, upper);
        self.grad_norm.draw("gradient norm", frame, lower);
        let shown = usize::from(bottom.height.saturating_sub(2)).min(self.lines.len());
        let latest = self.lines.iter().skip(self.lines.len() - shown);
        let latest: Vec<Line> = latest.map(|line| Line::raw(line.as_str())).collect();
        frame.render_widget(Paragraph::new(latest).block(Block::bordered()), bottom);
    }

    /// How far the run is, how fast, and how long it will take.
    fn status(&self) -> String {
        let done = format!("step {}/{}", self.step, self.steps);
        let seconds = self.seconds.iter().sum::<f64>() / self.seconds.len().max(1) as f64;
        if seconds <= 0.0 {
            return done;
        }
        let left = duration(seconds * self.steps.saturating_sub(self.step) as f64);
        format!("{done}  {:.2} steps/s  {left} left", 1.0 / seconds)
    }
}

/// Seconds for people.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Appends, and forgets the oldest.
fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    queue.push_back(item);
    if queue.len() > most {
        queue.pop_front();
    }
}

/// The mean step and the mean value.
fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let add = |sum: (f64, f64), point: &(f64, f64)| (sum.0 + point.0, sum.1 + point.1);
    let sum = points.iter().fold((0.0, 0.0), add);
    (sum.0 / points.len() as f64, sum.1 / points.len() as f64)
}

/// A number over the steps.
#[derive(Default)]
struct Curve {
    /// Steps and values; each the mean of two to the power of `halvings` of those that came.
    points: Vec<(f64, f64)>,
    halvings: u32,
    /// What came since the last point.
    waiting: Vec<(f64, f64)>,
    latest: f64,
}

impl Curve {
    fn add(&mut self, step: u64, value: f64) {
        self.latest = value;
        if value.is_finite() {
            self.waiting.push((step as f64, value));
        }
        if self.waiting.len() == 1 << self.halvings {
            self.points.push(mean(&self.waiting));
            self.waiting.clear();
        }
        if self.points.len() == POINTS {
            self.points = self.points.chunks(2).map(mean).collect();
            self.halvings += 1;
        }
    }

    fn draw(&self, name: &str, frame: &mut Frame, area: Rect) {
        let values = || self.points.iter().map(|(_, value)| *value);
        let (low, high) = match self.points.is_empty() {
            true => (0.0, 1.0),
            false => (
                values().fold(f64::INFINITY, f64::min),
                values().fold(f64::NEG_INFINITY, f64::max),
            ),
        };
        let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-12);
        let first = self.points.first().map_or(0.0, |(step, _)| *step);
        let last = self.points.last().map_or(1.0, |(step, _)| *step);
        let data = Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(Color::Cyan))
            .data(&self.points);
        let steps = Axis::default()
            .bounds([first, last.max(first + 1.0)])
            .labels([format!("{first:.0}"), format!("{last:.0}")]);
        let range = Axis::default()
            .bounds([low - margin, high + margin])
            .labels([format!("{low:.2e}"), format!("{high:.2e}")]);
        let title = format!(" {name} {:.4e} ", self.latest);
        let chart = Chart::new(vec![data])
            .block(Block::bordered().title(title))
            .x_axis(steps)
            .y_axis(range);
        frame.render_widget(chart, area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_hunyuan_train::run::{Curve, Curves, Metrics};
    use ratatui::{Terminal, backend::TestBackend};

    /// What is on a screen of this size, a line for each row.
    fn screen(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect();
        buffer.content().chunks(width.into()).map(row).collect()
    }

    fn after(steps: u64) -> View {
        let mut view = View::new(10_000);
        for step in 1..=steps {
            let metrics = Metrics::new(1.0 / step as f64)
                .with("grad_norm", 2.0)
                .with("learning_rate", 1e-3);
            view.add(Event::Step {
                step,
                metrics: &metrics,
                seconds: 0.5,
            });
            view.add(Event::Line(&format!("line {step}")));
        }
        view
    }

    #[test]
    fn the_screen_tells_how_far_how_fast_and_what_happened() {
        let rows = screen(&after(4), 80, 24);
        let text = rows.join("\n");
        for part in [
            "step 4/10000  2.00 steps/s  1 h 23 min left",
            "loss 2.5000e-1",
            "learning rate 1.0000e-3",
            "gradient norm 2.0000e0",
            "line 4",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        // The loss falls: its curve is high at the left of the chart and low at its right.
        let is_braille = |c: &char| ('\u{2801}'..='\u{28ff}').contains(c);
        let height = |columns: std::ops::Range<usize>| {
            let drawn = |row: &String| {
                row.chars()
                    .skip(columns.start)
                    .take(columns.len())
                    .any(|c| is_braille(&c))
            };
            rows.iter().position(drawn).unwrap()
        };
        assert!(height(10..14) < height(40..44), "{text}");
    }

    /// A run that goes on shows what it was before, and then what follows.
    #[test]
    fn a_resumed_run_begins_with_its_past() {
        let curve = |name: &str, value: f64| Curve {
            name: name.into(),
            points: (1..=4).map(|step| (step, value / step as f64)).collect(),
        };
        let past = Curves {
            steps: ["loss", "grad_norm", "learning_rate", "kl"]
                .map(|n| curve(n, 1.0))
                .into(),
            last: 4,
            ..Curves::default()
        };
        let mut view = View::new(10_000);
        view.add(Event::Resumed(&past));
        let shown = |view: &View| screen(view, 80, 24).join("\n");
        assert!(shown(&view).contains("step 4/10000 "), "{}", shown(&view));
        assert!(shown(&view).contains("loss 2.5000e-1"), "{}", shown(&view));
        view.add(Event::Step {
            step: 5,
            metrics: &Metrics::new(0.2),
            seconds: 0.5,
        });
        let uninterrupted = after(5);
        assert_eq!(view.loss.points, uninterrupted.loss.points);
        assert!(
            shown(&view).contains("step 5/10000  2.00 steps/s"),
            "{}",
            shown(&view)
        );
    }

    #[test]
    fn any_terminal_will_do_and_any_number() {
        let mut view = after(3);
        let nothing = Metrics::new(f64::NAN).with("grad_norm", f64::INFINITY);
        view.add(Event::Step {
            step: 4,
            metrics: &nothing,
            seconds: 0.0,
        });
        for view in [&view, &View::new(0)] {
            for (width, height) in [(1, 1), (7, 3), (300, 2), (3, 90), (200, 60)] {
                screen(view, width, height);
            }
        }
    }

    #[test]
    fn long_runs_keep_few_points_from_first_to_last() {
        let view = after(100_000);
        let points = &view.loss.points;
        assert!(points.len() <= POINTS && view.lines.len() == LINES);
        assert!(points.is_sorted_by(|a, b| a.0 < b.0));
        assert!(points[0].0 < 200.0 && points.last().unwrap().0 > 99_900.0);
    }

    #[test]
    fn times_are_told_in_two_units() {
        let told = [0.4, 59.6, 3599.0, 90_061.0].map(duration);
        assert_eq!(told, ["0 s", "1 min 0 s", "59 min 59 s", "25 h 1 min"]);
    }
}
