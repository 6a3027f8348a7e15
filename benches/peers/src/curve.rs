//! The other picture: what an item of a backlog costs, against the size of the backlog.

use crate::table::Table;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

const SIZE: (u32, u32) = (860, 420);
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x6f, 0xb2),
    RGBColor(0x7f, 0xb6, 0xe0),
    RGBColor(0xb0, 0x5a, 0x20),
    RGBColor(0xe6, 0xb0, 0x80),
];

/// Backlogs in MiB, with the CPU time of an item in ns.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Draws the tables that ask for it; false when there are none.
pub(crate) fn draw(path: &Path, tables: &[Table]) -> Result<bool, Box<dyn Error>> {
    let lines = lines(tables);
    let points = || lines.values().flatten();
    if points().count() == 0 {
        return Ok(false);
    }
    let least = points().map(|(size, _)| *size).fold(f64::MAX, f64::min);
    let most = points().map(|(size, _)| *size).fold(0.0, f64::max);
    let highest = points().map(|(_, cost)| *cost).fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "CPU time of an item, by the size of the backlog",
            ("sans-serif", 16),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most * 4.0).log_scale(), 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("MiB behind")
        .y_desc("ns an item")
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|cost| format!("{cost:.0}"))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?;
        let dots: Vec<_> = points
            .iter()
            .map(|at| Circle::new(*at, 3, colour.filled()))
            .collect();
        chart.draw_series(dots)?;
        if let Some((size, cost)) = points.last() {
            let style = ("sans-serif", 13).into_font().color(colour);
            chart.draw_series([Text::new(name.clone(), (size * 1.1, *cost), style)])?;
        }
    }
    area.present()?;
    Ok(true)
}

/// One line for each store and step, of what has a figure.
fn lines(tables: &[Table]) -> Lines {
    let mut lines = Lines::new();
    for table in tables {
        let Some((_, step)) = table.title.split_once("items by its size: ") else {
            continue;
        };
        for line in &table.lines {
            let mut parts = line.name.split(", ").skip(1);
            let (Some(store), Some(size)) = (parts.next(), parts.next()) else {
                continue;
            };
            let size = size.split(' ').next().and_then(|size| size.parse().ok());
            if let (Some(size), Ok(outcome)) = (size, &line.answer) {
                let cost = outcome.cpu / outcome.items as f64 * 1e9;
                let points = lines.entry(format!("{store}, {step}")).or_default();
                points.push((size, cost));
            }
        }
    }
    lines
}
