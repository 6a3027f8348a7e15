//! The figures of a channel, put together from its state.

use crate::core::Shared;
use crate::seq::Seq;
use crate::state::{Phase, State};
use crate::stats::{Dropped, Stats};
use std::fmt;
use std::time::Duration;

impl<T> Shared<T> {
    /// Exact figures of this moment.
    pub(crate) fn stats(&self) -> Stats {
        self.state.lock().stats()
    }

    /// Items that wait.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.state.lock().pending()).unwrap_or(usize::MAX)
    }

    /// The intake has ended.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Open
            || state.intake_closed
            || state.senders == 0
            || state.receivers == 0
    }

    /// A handle in a debug print.
    pub(crate) fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("dir", &self.settings.dir)
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl<T> State<T> {
    fn stats(&self) -> Stats {
        let counters = self.ledger.counters();
        let figures = &self.figures;
        let pending = self.pending();
        let front = (self.front.len() + self.held.waiting()) as u64;
        let staging: u64 = self
            .staging
            .ranges()
            .map(|range| self.unfinished(&(range.start.max(self.read_next)..range.end)))
            .sum();
        Stats {
            accepted: self.ledger.accepted(self.next_seq),
            acknowledged: counters.acknowledged,
            pending,
            in_flight: self.held.out(),
            dropped: Dropped {
                full: counters.dropped_full,
                expired: counters.dropped_expired,
                unencodable: counters.dropped_unencodable,
            },
            dead_lettered: counters.dead_lettered,
            lost: counters.lost,
            unaccounted: counters.unaccounted,
            passed_through: figures.passed_through,
            spilled: figures.spilled,
            replayed: figures.replayed,
            redelivered: self.held.redelivered(),
            front_items: front,
            staging_items: staging,
            backlog_items: pending.saturating_sub(front + staging),
            disk_bytes: figures.disk_bytes,
            quarantined_bytes: figures.quarantined_bytes,
            blocks_written: figures.blocks_written,
            blocks_read: figures.blocks_read,
            bytes_written: figures.bytes_written,
            uncompressed_bytes_written: figures.plain_bytes_written,
            bytes_read: figures.bytes_read,
            syncs: figures.syncs,
            at_risk_items: self.at_risk(),
            unsynced_items: self.unsynced(figures.synced_end),
            oldest_age: self.oldest_age(),
            spilling: self.has_backlog(),
            stalled: self.stalled_since.map(|since| since.elapsed()),
            last_error: self.last_error.clone().or(self.letters_error.clone()),
        }
    }

    /// Unfinished items that no sync has covered. Items in front that were synced with it are counted all the same:
    /// this errs on the safe side.
    fn unsynced(&self, synced_end: Seq) -> u64 {
        let above = self.unfinished(&(synced_end..self.next_seq));
        above.max(self.at_risk())
    }

    fn oldest_age(&self) -> Option<Duration> {
        if self.pending() == 0 {
            return None;
        }
        let front = self.front.oldest().map(|run| run.earliest_ms);
        let refill = self.refill.front().map(crate::refill::Refill::earliest_ms);
        let earliest = front.or(refill).unwrap_or(self.front_empty_ms);
        let earliest = self
            .held
            .earliest_ms()
            .map_or(earliest, |held| held.min(earliest));
        Some(Duration::from_millis(
            self.clock.wall_ms().saturating_sub(earliest),
        ))
    }
}
