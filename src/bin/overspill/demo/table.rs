//! The table that the demo ends in.

use crate::demo::verdict::Verdict;
use crate::demo::watch::{Figures, Peaks};
use indicatif::{HumanBytes, HumanCount};
use std::fmt;
use std::time::Duration;

/// How often the demo starts its shipper: each run begins with a mark, which the channel counts as an item.
const RUNS: u64 = 3;
const KILLS: &str = "2 + 2";

pub(crate) struct Table {
    pub(crate) verdict: Verdict,
    pub(crate) figures: Figures,
    pub(crate) peaks: Peaks,
    /// Lines a second.
    pub(crate) rate: f64,
    pub(crate) took: Duration,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict,
            figures,
            peaks,
            ..
        } = self;
        let accepted = figures.channel.accepted.saturating_sub(RUNS);
        let again = accepted.saturating_sub(verdict.written);
        let note = match again {
            0 => String::new(),
            again => format!(
                "{} again after a kill, and dropped again",
                HumanCount(again)
            ),
        };
        writeln!(f)?;
        row(
            f,
            "written to the log",
            &HumanCount(verdict.written),
            "lines",
        )?;
        row(f, "accepted by the channel", &HumanCount(accepted), &note)?;
        row(f, "SIGKILLs", &KILLS, "shipper + receiver")?;
        row(f, "delivered", &HumanCount(verdict.delivered), "")?;
        row(f, "lost", &HumanCount(verdict.lost), "")?;
        row(f, "duplicated", &HumanCount(verdict.duplicated), "")?;
        row(f, "out of order", &HumanCount(verdict.out_of_order), "")?;
        row(f, "damaged", &HumanCount(verdict.damaged), "")?;
        if figures.reread > 0 {
            row(
                f,
                "taken from the log again",
                &HumanCount(figures.reread),
                "a kill took them from the channel",
            )?;
        }
        row(f, "peak backlog", &HumanCount(peaks.backlog), "lines")?;
        row(f, "peak spool on disk", &HumanBytes(peaks.spool), "")?;
        if peaks.memory > 0 {
            row(
                f,
                "peak memory of the shipper",
                &HumanBytes(peaks.memory),
                "",
            )?;
        }
        row(
            f,
            "throughput after the outage",
            &format!("{:.0}", self.rate),
            "lines/s",
        )?;
        row(
            f,
            "all in all",
            &format!("{:.1}", self.took.as_secs_f64()),
            "s",
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &impl ToString, note: &str) -> fmt::Result {
    let line = format!("   {name:<28}{:>12}  {note}", value.to_string());
    writeln!(f, "{}", line.trim_end())
}
