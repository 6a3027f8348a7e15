//! The command line.

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use std::path::PathBuf;

/// Overspill beside other queues, in one run, on the same work.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// What to run: all, live, backlog, overflow, durable, wake, open or curve
    #[arg(default_value = "all", value_parser = ["all", "live", "backlog", "overflow", "durable", "wake", "open", "curve"])]
    pub(crate) workload: String,
    /// Items in a run; slow peers get a fraction, and figures are per item
    #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) items: u64,
    /// Bytes in an item, where it isn't a number; it begins with one
    #[arg(default_value_t = 256, value_parser = RangedU64ValueParser::<usize>::new().range(8..))]
    pub(crate) bytes: usize,
    /// Interleaved rounds, of which the medians are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Gibibytes that are behind when `open` opens, and the largest sizes of `curve`
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    pub(crate) gib: Vec<u64>,
    /// Only rows whose name contains this
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Where queues are put while they are measured
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Put the tables into docs/performance.md and the picture beside it
    #[arg(long)]
    pub(crate) write: bool,
    /// Draw what an item of a backlog costs, by the size of the backlog, into this file
    #[arg(long)]
    pub(crate) curve: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) child: Option<String>,
}
