//! Medians, ratios and tables.

use crate::job::{Outcome, Step};
use crate::workloads::{Kind, Place, Row};
use std::fmt::Write;

/// The answers to one question.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) step: Step,
    pub(crate) lines: Vec<Line>,
}

/// The answer of one row.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    place: Place,
    item_bytes: usize,
    /// Medians, or why there are none.
    pub(crate) answer: Result<Outcome, String>,
}

impl Line {
    pub(crate) fn new(row: &Row, item_bytes: usize, runs: Result<&[Outcome], &String>) -> Self {
        Self {
            name: row.name.clone(),
            kind: row.kind,
            place: row.place,
            item_bytes,
            answer: runs.map_err(String::clone).and_then(summary),
        }
    }
}

/// What loses or reorders items in any run has no figure.
fn summary(runs: &[Outcome]) -> Result<Outcome, String> {
    let worst = |field: fn(&Outcome) -> u64| runs.iter().map(field).max().unwrap_or(0);
    let (lost, late) = (worst(|run| run.lost), worst(|run| run.late));
    if lost + late > 0 {
        let of = worst(|run| run.items);
        return Err(format!("of {of} items {lost} lost, {late} out of order"));
    }
    let whole = |field: fn(&Outcome) -> u64| median(runs.iter().map(field));
    let real = |field: fn(&Outcome) -> f64| median_real(runs.iter().map(field));
    let latency = runs.first().and_then(|run| run.latency).map(|_| {
        let at = |at: usize| {
            let all = runs.iter().filter_map(|run| run.latency?.get(at).copied());
            median_real(all)
        };
        [at(0), at(1), at(2)]
    });
    Ok(Outcome {
        items: whole(|run| run.items),
        seconds: real(|run| run.seconds),
        cpu: real(|run| run.cpu),
        rss: whole(|run| run.rss),
        disk: whole(|run| run.disk),
        written: whole(|run| run.written),
        lost,
        late,
        latency,
    })
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

fn median_real(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "figures are shown with three digits"
)]
pub(crate) fn real(whole: u64) -> f64 {
    whole as f64
}

impl Table {
    /// What is compared: items per second, or the other way round where a time is the question.
    pub(crate) fn speed(&self, outcome: &Outcome) -> f64 {
        match (self.step, outcome.latency) {
            (_, Some([p50, ..])) => 1.0 / p50,
            (Step::Open, _) => 1.0 / outcome.seconds,
            _ => real(outcome.items) / outcome.seconds,
        }
    }

    /// How long its bar is.
    pub(crate) fn length(&self, outcome: &Outcome) -> f64 {
        if self.step == Step::Open || outcome.latency.is_some() {
            1.0 / self.speed(outcome)
        } else {
            self.speed(outcome)
        }
    }

    pub(crate) fn unit(&self) -> &'static str {
        match (self.step, self.is_latency()) {
            (_, true) => "round trip, p50: less is better",
            (Step::Open, _) => "time: less is better",
            _ => "items/s",
        }
    }

    fn best(&self, wanted: impl Fn(&Line) -> bool) -> Option<f64> {
        let speeds = self
            .lines
            .iter()
            .filter(|line| wanted(line))
            .filter_map(|line| line.answer.as_ref().ok())
            .map(|outcome| self.speed(outcome));
        speeds.max_by(f64::total_cmp)
    }

    /// The main figure as people say it.
    pub(crate) fn figure(&self, outcome: &Outcome) -> String {
        match (self.step, outcome.latency) {
            (_, Some([p50, ..])) => format!("{:.1} µs", p50 * 1e6),
            (Step::Open, _) => format!("{:.2} ms", outcome.seconds * 1e3),
            _ => rate(self.speed(outcome)),
        }
    }

    /// As Markdown, which can be read as it is.
    pub(crate) fn render(&self) -> String {
        let mut rows = vec![self.head()];
        for line in &self.lines {
            rows.push(match &line.answer {
                Ok(outcome) => self.cells(line, outcome),
                Err(why) if self.step == Step::Open => vec![line.name.clone(), why.clone()],
                Err(why) => vec![line.name.clone(), "–".to_owned(), why.clone()],
            });
        }
        format!("### {}\n\n{}", self.title, aligned(rows))
    }

    fn is_latency(&self) -> bool {
        self.lines
            .iter()
            .filter_map(|line| line.answer.as_ref().ok())
            .any(|outcome| outcome.latency.is_some())
    }

    fn head(&self) -> Vec<String> {
        let names: &[&str] = match (self.step, self.is_latency()) {
            (_, true) => &[
                "",
                "trips",
                "p50",
                "of the best peer",
                "p99",
                "p99.9",
                "CPU µs a trip",
                "peak RSS, MiB",
            ],
            (Step::Open, _) => &[
                "",
                "open and first item",
                "of the best peer",
                "memory, MiB",
                "on disk, MB",
            ],
            _ => &[
                "",
                "items",
                "items/s",
                "of the best peer",
                "of the floor",
                "CPU ns an item",
                "peak RSS, MiB",
                "on disk, MB",
                "written / payload",
            ],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn cells(&self, line: &Line, outcome: &Outcome) -> Vec<String> {
        let speed = self.speed(outcome);
        let rival = self.best(|other| other.kind == Kind::Peer && other.place == line.place);
        let rival = rival.filter(|_| line.kind != Kind::Floor);
        let floor = self.best(|other| other.kind == Kind::Floor);
        let of_best = of(speed, rival);
        let rss = format!("{:.1}", real(outcome.rss) / 1_048_576.0);
        let disk = format!("{:.1}", real(outcome.disk) / 1e6);
        let cpu = outcome.cpu / real(outcome.items.max(1));
        let mut cells = vec![line.name.clone()];
        if self.step != Step::Open {
            cells.push(rate(real(outcome.items)));
        }
        cells.extend([self.figure(outcome), of_best]);
        match (self.step, outcome.latency) {
            (_, Some([_, p99, p999])) => cells.extend([
                format!("{:.1} µs", p99 * 1e6),
                format!("{:.1} µs", p999 * 1e6),
                format!("{:.1}", cpu * 1e6),
                rss,
            ]),
            (Step::Open, _) => cells.extend([rss, disk]),
            _ => cells.extend([
                of(speed, floor),
                format!("{:.0}", cpu * 1e9),
                rss,
                disk,
                written(outcome, line.item_bytes),
            ]),
        }
        cells
    }
}

fn written(outcome: &Outcome, item_bytes: usize) -> String {
    let payload = real(outcome.items) * real(item_bytes as u64);
    format!("{:.2}", real(outcome.written) / payload.max(1.0))
}

fn of(speed: f64, other: Option<f64>) -> String {
    other.map_or_else(|| "–".to_owned(), |other| format!("{:.2}", speed / other))
}

/// A number with two or three digits.
fn rate(rate: f64) -> String {
    match rate {
        1e6.. => format!("{:.2} M", rate / 1e6),
        1e4.. => format!("{:.0} k", rate / 1e3),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.0}"),
    }
}

fn aligned(mut rows: Vec<Vec<String>>) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    for row in &mut rows {
        row.resize(columns, String::new());
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_that_loses_or_reorders_takes_the_figure_away() {
        let good = Outcome {
            items: 10,
            seconds: 1.0,
            ..Outcome::default()
        };
        let bad = Outcome {
            lost: 2,
            late: 1,
            ..good.clone()
        };
        assert!(summary(&[good.clone(), good.clone()]).is_ok());
        let why = summary(&[good.clone(), bad, good]).unwrap_err();
        assert_eq!(why, "of 10 items 2 lost, 1 out of order");
    }

    #[test]
    fn a_median_is_in_the_middle_whatever_the_order() {
        assert_eq!(median([9, 1, 5].into_iter()), 5);
        assert!((median_real([0.9, 0.1, 0.5].into_iter()) - 0.5).abs() < 1e-9);
    }
}
