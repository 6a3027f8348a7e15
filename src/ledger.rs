//! The conservation law: every accepted item is counted in exactly one place.
//!
//! Each number below `next` is either *finished* (acknowledged, dropped, lost or unaccounted) or still
//! pending. The finished ones are the numbers below `cursor` and those in `above`; a counter per reason
//! says why. The two views are changed together, here and nowhere else, so they can't drift apart.
//!
//! Of the unfinished ones it is also known how often a delivery failed; a number that is finished has no failures.

use crate::seq::{Seq, SeqSet};
use std::collections::BTreeMap;
use std::ops::Range;

/// Why a number is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A consumer took it.
    Acknowledged,
    /// Dropped by `WhenFull::DropOldest`.
    DroppedFull,
    /// Older than anybody wants it.
    Expired,
    /// Given up, and kept where it can be looked at.
    DeadLettered,
    /// It could not be encoded when it had to be.
    Unencodable,
    /// Its bytes were on disk and are gone or damaged.
    Lost,
    /// After an unclean stop in `Spill`: delivered or lost, nobody can tell.
    Unaccounted,
}

/// The counters that survive restarts, as they stand in the checkpoint and in each block header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Items that were accepted and dropped at once: they never get a number.
    pub(crate) accepted_unnumbered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) dropped_full: u64,
    pub(crate) dropped_expired: u64,
    pub(crate) dropped_unencodable: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) lost: u64,
    pub(crate) unaccounted: u64,
}

impl Counters {
    /// How many of the counted items had a number.
    pub(crate) fn finished_numbers(&self) -> u64 {
        self.acknowledged
            + self.dropped_full
            + self.dropped_expired
            + self.dropped_unencodable
            + self.dead_lettered
            + self.lost
            + self.unaccounted
            - self.accepted_unnumbered
    }

    /// Counts `items` less: what was taken first, the numbers that a checkpoint had no room for.
    fn forget(&mut self, mut items: u64) {
        for counter in [
            &mut self.acknowledged,
            &mut self.unaccounted,
            &mut self.lost,
            &mut self.dead_lettered,
            &mut self.dropped_expired,
            &mut self.dropped_unencodable,
            &mut self.dropped_full,
        ] {
            let less = items.min(*counter);
            *counter -= less;
            items -= less;
        }
    }
}

/// Which numbers are finished, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Every number below is finished; this one isn't.
    cursor: Seq,
    /// Finished numbers above the cursor.
    above: SeqSet,
    counters: Counters,
    /// How often a delivery failed, for unfinished numbers only; empty as long as all goes well.
    failures: BTreeMap<Seq, u32>,
    /// Unfinished numbers below may be in memory only, or may have been when a process died.
    memory_end: Seq,
}

impl Ledger {
    /// A ledger read from disk. Where counters and finished numbers disagree (a damaged
    /// checkpoint rebuilt from a block header), the difference is `unaccounted`.
    pub(crate) fn restore(cursor: Seq, above: SeqSet, mut counters: Counters) -> Self {
        let finished = cursor + above.len();
        let counted = counters.finished_numbers();
        if counted <= finished {
            counters.unaccounted += finished - counted;
        } else {
            counters.forget(counted - finished);
        }
        Self {
            cursor,
            above,
            counters,
            failures: BTreeMap::new(),
            memory_end: 0,
        }
    }

    /// Says up to where unfinished numbers may be in memory only. What an earlier process said is true until all of that
    /// is finished.
    pub(crate) fn with_memory_end(mut self, end: Seq) -> Self {
        self.memory_end = Some(self.memory_end)
            .filter(|earlier| *earlier > self.cursor)
            .unwrap_or_default()
            .max(end);
        self
    }

    /// Numbers from `end` on were never given out, or will be again.
    pub(crate) fn limit_memory_end(&mut self, end: Seq) {
        self.memory_end = self.memory_end.min(end);
    }

    /// Where such numbers end; 0 where there are none.
    pub(crate) fn memory_end(&self) -> Seq {
        self.memory_end
    }

    /// Adds failures read from disk. Those of finished numbers are over.
    pub(crate) fn with_failures(mut self, failures: BTreeMap<Seq, u32>) -> Self {
        self.failures = failures;
        self.failures
            .retain(|seq, count| *seq >= self.cursor && !self.above.contains(*seq) && *count > 0);
        self
    }

    pub(crate) fn cursor(&self) -> Seq {
        self.cursor
    }

    pub(crate) fn above(&self) -> &SeqSet {
        &self.above
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Finishes `count` numbers from `first` on. They must not be finished yet.
    pub(crate) fn acknowledge(&mut self, first: Seq, count: u64) {
        if first == self.cursor && self.above.is_empty() {
            self.cursor += count;
            self.counters.acknowledged += count;
            self.forget_failures(first..self.cursor);
        } else {
            self.finish(first..first + count, Outcome::Acknowledged);
        }
    }

    /// Finishes whatever of `range` is not finished yet; returns how many that were.
    pub(crate) fn finish(&mut self, range: Range<Seq>, outcome: Outcome) -> u64 {
        let added = self.above.insert(range.start.max(self.cursor)..range.end);
        if let Some(end) = self.above.take_first_at(self.cursor) {
            self.cursor = end;
        }
        self.forget_failures(range);
        *match outcome {
            Outcome::Acknowledged => &mut self.counters.acknowledged,
            Outcome::DroppedFull => &mut self.counters.dropped_full,
            Outcome::Expired => &mut self.counters.dropped_expired,
            Outcome::DeadLettered => &mut self.counters.dead_lettered,
            Outcome::Unencodable => &mut self.counters.dropped_unencodable,
            Outcome::Lost => &mut self.counters.lost,
            Outcome::Unaccounted => &mut self.counters.unaccounted,
        } += added;
        added
    }

    fn forget_failures(&mut self, range: Range<Seq>) {
        if self.failures.is_empty() || range.is_empty() {
            return;
        }
        while let Some((seq, _)) = self.failures.range(range.clone()).next() {
            let seq = *seq;
            self.failures.remove(&seq);
        }
    }

    /// Counts a failed delivery of an unfinished number; how many there were. A finished number has none.
    pub(crate) fn note_failure(&mut self, seq: Seq) -> u32 {
        if self.is_finished(seq) {
            return 0;
        }
        let count = self.failures.entry(seq).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// How often a delivery of that number failed. After a crash it may be less than it was, never more.
    pub(crate) fn failures(&self, seq: Seq) -> u32 {
        self.failures.get(&seq).copied().unwrap_or_default()
    }

    /// Those of `range` whose deliveries failed, with how often.
    pub(crate) fn failures_in(&self, range: Range<Seq>) -> BTreeMap<Seq, u32> {
        self.failures
            .range(range)
            .map(|(seq, count)| (*seq, *count))
            .collect()
    }

    /// All numbers whose deliveries failed, with how often.
    pub(crate) fn all_failures(&self) -> &BTreeMap<Seq, u32> {
        &self.failures
    }

    /// Counts an item that `WhenFull::DropNewest` accepted and dropped at once.
    pub(crate) fn drop_newest(&mut self) {
        self.counters.accepted_unnumbered += 1;
        self.counters.dropped_full += 1;
    }

    /// Counts items that a batch accepted and that then could not be encoded.
    pub(crate) fn drop_unencodable(&mut self, count: u64) {
        self.counters.accepted_unnumbered += count;
        self.counters.dropped_unencodable += count;
    }

    /// One past the highest number that it tells of.
    pub(crate) fn end(&self) -> Seq {
        let failed_end = self.failures.last_key_value().map_or(0, |(seq, _)| seq + 1);
        self.cursor.max(self.above.end()).max(failed_end)
    }

    pub(crate) fn is_finished(&self, seq: Seq) -> bool {
        seq < self.cursor || self.above.contains(seq)
    }

    /// The lowest unfinished number `>= seq`.
    pub(crate) fn next_unfinished(&self, seq: Seq) -> Seq {
        self.above.next_absent(seq.max(self.cursor))
    }

    /// True when every number of `range` is finished.
    pub(crate) fn covers(&self, range: &Range<Seq>) -> bool {
        range.end <= self.cursor
            || self
                .above
                .covers(&(range.start.max(self.cursor)..range.end))
    }

    /// The unfinished numbers of `range`.
    pub(crate) fn unfinished_in(&self, range: Range<Seq>) -> impl Iterator<Item = Range<Seq>> + '_ {
        let start = range.start.max(self.cursor);
        self.above.absent_in(start..range.end)
    }

    /// How many numbers below `next` are unfinished.
    pub(crate) fn pending(&self, next: Seq) -> u64 {
        next.saturating_sub(self.cursor + self.above.len())
    }

    /// How many items were ever accepted, when `next` is the next number to give out.
    pub(crate) fn accepted(&self, next: Seq) -> u64 {
        next + self.counters.accepted_unnumbered
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OUTCOMES: [Outcome; 7] = [
        Outcome::Acknowledged,
        Outcome::DroppedFull,
        Outcome::Expired,
        Outcome::DeadLettered,
        Outcome::Unencodable,
        Outcome::Lost,
        Outcome::Unaccounted,
    ];

    proptest! {
        #[test]
        fn every_number_is_finished_once_or_pending(
            steps in proptest::collection::vec((0u64..50, 0u64..9, 0usize..9), 0..30),
        ) {
            let mut ledger = Ledger::default();
            let mut finished = [false; 64];
            let mut failures = [0; 64];
            for (start, len, what) in steps {
                if let Some(outcome) = OUTCOMES.get(what) {
                    ledger.finish(start..start + len, *outcome);
                    for seq in start..start + len {
                        finished[seq as usize] = true;
                        failures[seq as usize] = 0;
                    }
                } else {
                    let count = ledger.note_failure(start);
                    failures[start as usize] += u32::from(!finished[start as usize]);
                    prop_assert_eq!(count, failures[start as usize]);
                }
                let count = finished.iter().filter(|done| **done).count() as u64;
                prop_assert_eq!(ledger.counters().finished_numbers(), count);
                prop_assert_eq!(ledger.pending(64), 64 - count);
                prop_assert_eq!(
                    ledger.cursor() as usize,
                    finished.iter().position(|done| !done).unwrap()
                );
                for seq in 0..64 {
                    prop_assert_eq!(ledger.is_finished(seq), finished[seq as usize]);
                    prop_assert_eq!(ledger.failures(seq), failures[seq as usize]);
                }
                let last = (0..64).rfind(|seq| finished[*seq] || failures[*seq] > 0);
                prop_assert_eq!(ledger.end() as usize, last.map_or(0, |last| last + 1));
                let restored = Ledger::restore(
                    ledger.cursor(),
                    ledger.above().clone(),
                    *ledger.counters(),
                );
                prop_assert_eq!(&restored.with_failures(ledger.all_failures().clone()), &ledger);
            }
        }
    }

    #[test]
    fn a_number_that_is_acknowledged_in_its_turn_has_no_failures_left() {
        let mut ledger = Ledger::default();
        ledger.note_failure(0);
        ledger.note_failure(2);
        ledger.acknowledge(0, 2);
        assert_eq!((ledger.failures(0), ledger.failures(2)), (0, 1));
    }

    #[test]
    fn failures_of_finished_numbers_are_not_restored() {
        let failures = BTreeMap::from([(3, 1), (4, 2), (5, 0), (8, 1), (9, 7)]);
        let above = SeqSet::from_ranges(std::iter::once(7..9));
        let ledger = Ledger::restore(4, above, Counters::default()).with_failures(failures);
        assert_eq!(*ledger.all_failures(), BTreeMap::from([(4, 2), (9, 7)]));
    }

    #[test]
    fn a_restored_ledger_whose_counters_are_behind_calls_the_rest_unaccounted() {
        let counters = Counters {
            acknowledged: 3,
            ..Counters::default()
        };
        let ledger = Ledger::restore(10, SeqSet::default(), counters);
        assert_eq!(ledger.counters().unaccounted, 7);
        assert_eq!(ledger.counters().finished_numbers(), 10);
    }

    #[test]
    fn a_restored_ledger_never_counts_more_than_was_finished() {
        let counters = Counters {
            accepted_unnumbered: 2,
            acknowledged: 3,
            dropped_full: 9,
            lost: 4,
            ..Counters::default()
        };
        for cursor in 0..14 {
            let ledger = Ledger::restore(cursor, SeqSet::default(), counters);
            assert_eq!(ledger.counters().finished_numbers(), cursor);
        }
    }
}
