//! The picture: one panel of bars for each table.

use crate::table::Table;
use crate::workloads::Kind;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

const COLUMNS: usize = 2;
const WIDTH: i32 = 620;
const LINE: i32 = 18;
const TITLE: i32 = 34;
const MARGIN: i32 = 14;
/// Where bars begin, and how long the longest is.
const BAR_FROM: i32 = 290;
const BAR_WIDTH: i32 = 240;

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const PEER: RGBColor = RGBColor(0xb0, 0xb4, 0xba);
const FLOOR: RGBColor = RGBColor(0xe0, 0xa0, 0x40);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Panels fill the columns from the top, each into the one that is shortest so far.
pub(crate) fn draw(path: &Path, tables: &[Table]) -> Result<(), Box<dyn Error>> {
    let mut places = Vec::new();
    let mut heights = [0; COLUMNS];
    for table in tables {
        let left = (0..).zip(&mut heights).min_by_key(|(_, height)| **height);
        let Some((column, height)) = left else { break };
        places.push((column * WIDTH, *height));
        *height += TITLE + MARGIN + LINE * i32::try_from(table.lines.len())?;
    }
    let height = heights.into_iter().max().unwrap_or(0) + MARGIN;
    let columns = i32::try_from(COLUMNS)?;
    let size = (u32::try_from(WIDTH * columns)?, u32::try_from(height)?);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    for (table, place) in tables.iter().zip(places) {
        panel(&area, table, place)?;
    }
    area.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, table: &Table, (x, y): (i32, i32)) -> Result<(), Box<dyn Error>> {
    let title = ("sans-serif", 16).into_font().style(FontStyle::Bold);
    let text = ("sans-serif", 12).into_font();
    let heading = format!("{} ({})", table.title, table.unit());
    area.draw(&Text::new(heading, (x + MARGIN, y + MARGIN), title))?;
    let values = table.lines.iter().filter_map(|line| {
        let outcome = line.answer.as_ref().ok()?;
        Some(table.length(outcome))
    });
    let longest = values.fold(f64::MIN_POSITIVE, f64::max);
    for (line, at) in table.lines.iter().zip(0..) {
        let y = y + TITLE + at * LINE;
        area.draw(&Text::new(
            line.name.as_str(),
            (x + MARGIN, y),
            text.clone(),
        ))?;
        let (end, label) = match &line.answer {
            Ok(outcome) => {
                let end = x + BAR_FROM + pixels(table.length(outcome) / longest);
                let bar = [(x + BAR_FROM, y), (end, y + LINE - 5)];
                area.draw(&Rectangle::new(bar, colour(line.kind).filled()))?;
                (end, table.figure(outcome))
            }
            Err(why) => (x + BAR_FROM, why.clone()),
        };
        area.draw(&Text::new(label, (end + 5, y), text.clone()))?;
    }
    Ok(())
}

fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Ours => OURS,
        Kind::Peer => PEER,
        Kind::Floor => FLOOR,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "a share of a width of some hundred pixels"
)]
fn pixels(share: f64) -> i32 {
    (share * f64::from(BAR_WIDTH)).round().max(1.0) as i32
}
