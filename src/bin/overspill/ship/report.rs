//! What a running shipper says: notices on stderr, a progress line on a terminal, figures in a file.

use crate::ship::record::LogRecord;
use crate::stop::Flag;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use overspill::{DiskBufferedChannel, Stats};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(200);

/// Says things to the user, unless told to be quiet. Clones share the progress line.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    bar: ProgressBar,
    quiet: bool,
    counters: Arc<Counters>,
}

/// What the channel can't know.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Lines that the destination has taken.
    pub(crate) delivered: AtomicU64,
    /// Lines that came again and were dropped.
    pub(crate) repeated: AtomicU64,
    /// Lines that a crash had taken from the channel and that were read from the file again.
    pub(crate) reread: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, lines: usize) {
        counter.fetch_add(lines as u64, Ordering::Relaxed);
    }
}

#[derive(Serialize)]
struct Figures<'a> {
    delivered: u64,
    repeated: u64,
    reread: u64,
    channel: &'a Stats,
}

impl Reporter {
    pub(crate) fn new(quiet: bool) -> Self {
        // Where lines go to the same terminal, a progress line between them would be noise.
        let shows = !quiet && std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let bar = if shows {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            quiet,
            counters: Arc::default(),
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// One line on stderr.
    pub(crate) fn say(&self, message: impl AsRef<str>) {
        if !self.quiet {
            // There is nobody left to tell that stderr is gone.
            let _ = self
                .bar
                .suspend(|| writeln!(std::io::stderr(), "{}", message.as_ref()));
        }
    }

    /// Keeps the progress line and the figures current until `over` is raised.
    pub(crate) fn run(
        &self,
        channel: &DiskBufferedChannel<LogRecord>,
        file: Option<&Path>,
        over: &Flag,
    ) {
        if self.bar.is_hidden() && file.is_none() {
            return;
        }
        loop {
            let is_over = over.wait(INTERVAL);
            let stats = channel.stats();
            self.show(&stats);
            if let Some(path) = file {
                self.write(&stats, path);
            }
            if is_over {
                self.bar.finish_and_clear();
                return;
            }
        }
    }

    fn show(&self, stats: &Stats) {
        let delivered = self.counters.delivered.load(Ordering::Relaxed);
        self.bar.set_message(format!(
            "{} delivered · {} waiting · {} on disk",
            HumanCount(delivered),
            HumanCount(stats.pending + stats.in_flight),
            HumanBytes(stats.disk_bytes),
        ));
        self.bar.tick();
    }

    /// Renamed into place, so that a reader never sees half of it. Figures are no reason to stop shipping.
    fn write(&self, stats: &Stats, path: &Path) {
        let figures = Figures {
            delivered: self.counters.delivered.load(Ordering::Relaxed),
            repeated: self.counters.repeated.load(Ordering::Relaxed),
            reread: self.counters.reread.load(Ordering::Relaxed),
            channel: stats,
        };
        let temporary = path.with_extension("new");
        if let Ok(json) = serde_json::to_vec(&figures) {
            let _ =
                std::fs::write(&temporary, json).and_then(|()| std::fs::rename(&temporary, path));
        }
    }
}
