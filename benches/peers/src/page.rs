//! The figures as text, and their place in docs/performance.md.

use crate::args::Args;
use crate::machine;
use crate::table::Table;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- figures: written by `cargo run --release -- --write` -->";
const END: &str = "<!-- end of figures -->";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

pub(crate) fn picture() -> PathBuf {
    docs().join("performance.svg")
}

/// All tables, with what it takes to have them again.
pub(crate) fn figures(args: &Args, tables: &[Table]) -> String {
    let gib: Vec<String> = args.gib.iter().map(u64::to_string).collect();
    let tables: Vec<String> = tables.iter().map(Table::render).collect();
    format!(
        "`cargo run --release -- {} {} {} --rounds {} --gib {}` in `benches/peers`, {}, on {}. Medians of {} interleaved rounds.\n\n{}",
        args.workload,
        args.items,
        args.bytes,
        args.rounds,
        gib.join(","),
        machine::date(),
        machine::describe(),
        args.rounds,
        tables.join("\n"),
    )
}

/// Puts the figures between their marks.
pub(crate) fn write(figures: &str) -> io::Result<()> {
    let path = docs().join("performance.md");
    let page = fs::read_to_string(&path)?;
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = marks.ok_or_else(|| {
        io::Error::other("docs/performance.md has lost its marks around the figures")
    })?;
    fs::write(path, format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}
